// The normative kernels, as kernels.h describes them.
#pragma once

#include "kernels/kernels.h"

namespace intaglio::kernels::scalar {

std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept;
void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k, std::byte* packed) noexcept;
void gemm_u8s8(const GemmParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t src_stride, std::size_t m, const void* residual, void* dst,
               std::size_t dst_stride) noexcept;

/// GELU of one code and a sum of two streams, both at channel c: what their kernels and GEMM's
/// epilogues do.
std::uint8_t gelu_code(const GeluParams& params, std::size_t c, std::int32_t h) noexcept;
std::uint8_t residual_code(const ResidualParams& params, std::size_t c, std::int32_t a,
                           std::int32_t b) noexcept;

// Attention, stage by stage: what `attention` composes, and what the reference's codes are compared
// with. dst [rows, tokens] and codes [rows, tokens] are dense. `bias`, null or [tokens], is added
// to the sums of every row.
void attention_scores(const ScoreParams& params, const std::uint8_t* q, std::size_t rows,
                      const std::uint8_t* k, std::size_t tokens, std::size_t head_dim,
                      std::size_t stride, std::uint8_t* dst,
                      const std::int32_t* bias = nullptr) noexcept;
/// The bias of the keys of query `query`: element j is key j's.
const std::int32_t* bias_row(const BiasParams& params, const std::int32_t* strips,
                             std::size_t query) noexcept;
/// With a shift: a query's codes of scores, the bias added. src and dst may be the same.
void add_bias(const BiasParams& params, std::int32_t zero_scores, const std::int32_t* bias,
              const std::uint8_t* src, std::size_t tokens, std::uint8_t* dst) noexcept;
void softmax_codes(const SoftmaxParams& params, const std::uint8_t* src, std::size_t rows,
                   std::size_t cols, std::uint8_t* dst) noexcept;
void attend_codes(const SoftmaxParams& softmax, const AttendParams& params,
                  const std::uint8_t* codes, std::size_t rows, const std::uint8_t* v,
                  std::size_t tokens, std::size_t head_dim, std::size_t v_stride, std::uint8_t* dst,
                  std::size_t dst_stride) noexcept;

void softmax_prepare(const SoftmaxParams& params, std::byte* prepared) noexcept;
std::size_t attention_scratch_bytes(const AttentionParams& params) noexcept;
void attention(const AttentionParams& params, const AttentionOperands& operands, std::size_t rows,
               std::byte* scratch) noexcept;

void layernorm_ptf(const LayerNormParams& params, const void* src, std::size_t rows,
                   void* dst) noexcept;

void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t rows,
                std::uint8_t* dst) noexcept;
void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept;
void mean_rows(const MeanParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t rows, std::uint8_t* dst) noexcept;
void add_s16(const std::int16_t* a, const std::int16_t* b, std::size_t count,
             std::int16_t* dst) noexcept;
void pixels_to_patches(const PatchParams& params, const std::uint8_t* src, std::size_t src_stride,
                       std::size_t first, std::size_t last, std::uint8_t* dst) noexcept;
void lookup_u8(const std::uint8_t* table, const std::uint8_t* src, std::size_t count,
               std::uint8_t* dst) noexcept;

inline constexpr std::size_t kPeakMacsPerRound = 1;
std::uint32_t peak_mac(std::size_t rounds) noexcept;

}  // namespace intaglio::kernels::scalar
