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

void store(OutputType type, void* dst, std::size_t index, std::int64_t value) noexcept {
  switch (type) {
    case OutputType::kU8:
      static_cast<std::uint8_t*>(dst)[index] = static_cast<std::uint8_t>(clamp_to(value, 0, 255));
      break;
    case OutputType::kS16:
      static_cast<std::int16_t*>(dst)[index] =
          static_cast<std::int16_t>(clamp_to(value, INT16_MIN, INT16_MAX));
      break;
    case OutputType::kS32:
      static_cast<std::int32_t*>(dst)[index] =
          static_cast<std::int32_t>(clamp_to(value, INT32_MIN, INT32_MAX));
      break;
  }
}

}  // namespace

std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept {
  return n * k;
}

void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k,
               std::byte* packed) noexcept {
  std::memcpy(packed, weight, n * k);
}

void gemm_u8s8(const GemmParams& params, const std::uint8_t* src, std::size_t src_stride,
               std::size_t m, void* dst, std::size_t dst_stride) noexcept {
  const auto* weight = reinterpret_cast<const std::int8_t*>(params.packed);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < params.n; ++j) {
      const std::int32_t acc = dot(src + i * src_stride, weight + j * params.k, params.k);
      const std::int64_t scaled =
          scale_accumulator(acc, params.multiplier[j], params.bias[j], params.shift);
      store(params.output, dst, i * dst_stride + j, scaled + params.zero_point);
    }
  }
}

}  // namespace intaglio::kernels::scalar
