// The normative kernels, as kernels.h describes them.
#pragma once

#include "kernels/kernels.h"

namespace intaglio::kernels::scalar {

std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept;
void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k, std::byte* packed) noexcept;
void gemm_u8s8(const GemmParams& params, const std::uint8_t* src, std::size_t src_stride,
               std::size_t m, void* dst, std::size_t dst_stride) noexcept;

void attention_scores(const ScoreParams& params, const std::uint8_t* q, std::size_t rows,
                      const std::uint8_t* k, std::size_t tokens, std::size_t head_dim,
                      std::size_t stride, std::uint8_t* dst) noexcept;
void softmax_log2(const SoftmaxParams& params, const std::uint8_t* src, std::size_t rows,
                  std::size_t cols, std::uint8_t* dst) noexcept;
void attend_log2(const AttendParams& params, const std::uint8_t* codes, std::size_t rows,
                 const std::uint8_t* v, std::size_t tokens, std::size_t head_dim,
                 std::size_t v_stride, std::uint8_t* dst, std::size_t dst_stride) noexcept;

void layernorm_ptf(const LayerNormParams& params, const std::uint8_t* src, std::size_t rows,
                   std::uint8_t* dst) noexcept;

void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t count,
                std::uint8_t* dst) noexcept;
void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept;
void pixels_to_patches(const PatchParams& params, const std::uint8_t* src, std::size_t src_stride,
                       std::size_t first, std::size_t last, std::uint8_t* dst) noexcept;
void lookup_u8(const std::uint8_t* table, const std::uint8_t* src, std::size_t count,
               std::uint8_t* dst) noexcept;

inline constexpr std::size_t kPeakMacsPerRound = 1;
std::uint32_t peak_mac(std::size_t rounds) noexcept;

}  // namespace intaglio::kernels::scalar
