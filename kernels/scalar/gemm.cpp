// GEMM u8 x s8 with requantization.
//
//   acc[i][j] = sum_k src[i][k] * weight[j][k]
//   dst[i][j] = clamp(((acc * multiplier[j] + bias[j]) >> shift) + zero_point)
//
// Ranges: |acc| <= 255 * 128 * k < 2^31 for k <= 65536. The product has at most 62 bits and a sign;
// graph/check proves from the weights themselves that adding bias stays below 2^63.
// Rounding: once, half up (fixed_point.h). The reference (FQ-ViT) rounds the same real value half
// to even in float32; the two differ on ties and where float32 itself rounds.
#include <cstring>

#include "kernels/fixed_point.h"
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels::scalar {
namespace {

std::int32_t dot(const std::uint8_t* a, const std::int8_t* w, std::size_t k) noexcept {
  std::int32_t acc = 0;
  for (std::size_t i = 0; i < k; ++i) acc += std::int32_t{a[i]} * std::int32_t{w[i]};
  return acc;
}

std::int64_t clamp_code(CodeType type, std::int64_t code) noexcept {
  switch (type) {
    case CodeType::kU8:
      return clamp_to(code, 0, 255);
    case CodeType::kS16:
      return clamp_to(code, INT16_MIN, INT16_MAX);
    case CodeType::kS32:
      break;
  }
  return clamp_to(code, INT32_MIN, INT32_MAX);
}

/// Writes an element of `bytes` bytes.
void store(std::size_t bytes, void* dst, std::size_t index, std::int64_t value) noexcept {
  switch (bytes) {
    case 1:
      static_cast<std::uint8_t*>(dst)[index] = static_cast<std::uint8_t>(value);
      break;
    case 2:
      static_cast<std::int16_t*>(dst)[index] = static_cast<std::int16_t>(value);
      break;
    default:
      static_cast<std::int32_t*>(dst)[index] = static_cast<std::int32_t>(value);
      break;
  }
}

/// What kAddSums adds to the product of column j.
std::int64_t residual_term(const GemmParams& params, const void* residual, std::size_t index,
                           std::size_t j) noexcept {
  const std::int64_t code = params.residual_type == CodeType::kU8
                                ? static_cast<const std::uint8_t*>(residual)[index]
                                : static_cast<const std::int16_t*>(residual)[index];
  return (code - params.residual_zero) * params.residual_multiplier[j];
}

}  // namespace

std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept {
  return n * k;
}

void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k,
               std::byte* packed) noexcept {
  std::memcpy(packed, weight, n * k);
}

void gemm_u8s8(const GemmParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t src_stride, std::size_t m, const void* residual, void* dst,
               std::size_t dst_stride) noexcept {
  const auto* weight = reinterpret_cast<const std::int8_t*>(params.packed);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = columns.first; j < columns.last; ++j) {
      const std::size_t at = i * dst_stride + j;
      const std::int32_t acc = dot(src + i * src_stride, weight + j * params.k, params.k);
      std::int64_t addend = params.bias[j];
      if (params.epilogue == GemmEpilogue::kAddSums) {
        addend += residual_term(params, residual, at, j);
      }
      const std::int64_t scaled =
          scale_accumulator(acc, params.multiplier[j], addend, params.shift);
      std::int64_t code = clamp_code(params.output, scaled + params.zero_point);
      if (params.epilogue == GemmEpilogue::kGelu) {
        code = gelu_code(*params.gelu, j, static_cast<std::int32_t>(code));
      } else if (params.epilogue == GemmEpilogue::kAddCodes) {
        code = residual_code(*params.add, j, static_cast<std::int32_t>(code),
                             static_cast<const std::uint8_t*>(residual)[at]);
      } else if (params.epilogue == GemmEpilogue::kAddWords) {
        code = clamp_code(CodeType::kS16, code + static_cast<const std::int16_t*>(residual)[at]);
      }
      store(stored_bytes(params), dst, at, code);
    }
  }
}

}  // namespace intaglio::kernels::scalar
