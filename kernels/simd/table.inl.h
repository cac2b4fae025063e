// A level's table: every kernel of kernels/simd over its vector policy.
#pragma once

#include "kernels/kernels.h"
#include "kernels/simd/attention.inl.h"
#include "kernels/simd/elementwise.inl.h"
#include "kernels/simd/gemm.inl.h"
#include "kernels/simd/layernorm.inl.h"
#include "kernels/simd/peak.inl.h"

namespace intaglio::kernels {
namespace {

/// `base` with the entries replaced that templates give for V.
template <class V>
KernelTable make_table(const KernelTable& base, Isa isa) noexcept {
  KernelTable table = base;
  table.isa = isa;
  table.gemm_packed_bytes = gemm_packed_bytes<V>;
  table.gemm_pack = gemm_pack<V>;
  table.gemm_u8s8 = gemm_u8s8<V>;
  table.softmax_prepare = softmax_prepare<V>;
  table.attention_scratch_bytes = attention_scratch_bytes<V>;
  table.attention = attention<V>;
  table.attention_bitshift = attention_bitshift<V>;
  table.layernorm_ptf = layernorm_ptf<V>;
  table.gelu_table = gelu_table<V>;
  table.residual_add = residual_add<V>;
  table.mean_rows = mean_rows<V>;
  table.add_s16 = add_s16<V>;
  table.pixels_to_patches = pixels_to_patches<V>;
  table.peak_macs_per_round = kPeakMacsPerRound<V>;
  table.peak_mac = peak_mac<V>;
  return table;
}

}  // namespace
}  // namespace intaglio::kernels
