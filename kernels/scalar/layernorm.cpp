// LayerNorm over a PTF grid, with integers only.
//
// The scale of a row cancels in (x - mean) / sigma, so the kernel works in units of the finest
// channel: a_c = (q_c - z) << k_c, C channels. An s16 stream has one scale: a_c = q_c.
//
//   S1 = sum a            |S1| <= 2^14 * 2^15                 = 2^29
//   S2 = sum a^2                 <= 2^14 * 2^30               = 2^44
//   v  = C * S2 - S1^2           <= C^2 * (2^16 / 2)^2       <= 2^58   (sigma = sqrt(v) / C)
//   D_c = C * a_c - S1    |D_c| <  C * 2^16                  <= 2^30   (no two a differ by 2^16)
//   x_c = D_c / sqrt(v), |x_c| <= sqrt(C - 1) < 2^7: what a float LayerNorm computes, without eps.
//
// Reciprocal of the root: v is shifted left by an even 2e into [2^60, 2^62), its integer root r
// then has 31 bits, R = floor(2^61 / r) (at most 2^31, taken as 2^31 - 1), and 1 / sqrt(v) = R *
// 2^e / 2^61 within 2^-29 of itself. u_c = floor(D_c * R / 2^(39-e)) is x_c with 22 fractional
// bits, in s32; |D_c * R| < 2^61.
//   y_c = clamp(((u_c * multiplier_c + bias_c) >> shift) + zero_point)
//
// A row with v = 0 (all channels at the mean) has D = 0 and gives beta. The reference divides by
// zero there, and cuts gamma / sigma to an 8-bit mantissa elsewhere: that is why it is farther from
// the exact result than this kernel. gamma may be negative.
#include <bit>

#include "kernels/fixed_point.h"
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels::scalar {
namespace {

/// 1 / sqrt(v) = mantissa / 2^(shift + 22), so that D * mantissa >> shift has 22 fractional bits.
struct ReciprocalRoot {
  std::int64_t mantissa;
  int shift;
};

ReciprocalRoot reciprocal_sqrt(std::uint64_t v) noexcept {
  if (v == 0) return {0, 1};
  const int e = (std::countl_zero(v) - 2) / 2;  // v <= 2^58, so at least two
  const std::uint64_t root = integer_sqrt(v << (2 * e));
  const auto mantissa = static_cast<std::int64_t>((std::uint64_t{1} << 61) / root);
  return {mantissa > INT32_MAX ? INT32_MAX : mantissa, 61 - kNormFractionBits - e};
}

}  // namespace

void layernorm_ptf(const LayerNormParams& params, const void* src, std::size_t rows,
                   void* dst) noexcept {
  const auto dim = static_cast<std::int64_t>(params.dim);
  for (std::size_t i = 0; i < rows; ++i) {
    const auto centered = [&](std::size_t c) {
      const std::size_t at = i * params.dim + c;
      if (params.src_type == CodeType::kS16) {
        return std::int64_t{static_cast<const std::int16_t*>(src)[at]};
      }
      const std::int64_t code = static_cast<const std::uint8_t*>(src)[at];
      return (code - params.zero_src) * (1 << params.exponents[c]);
    };
    std::int64_t s1 = 0;
    std::int64_t s2 = 0;
    for (std::size_t c = 0; c < params.dim; ++c) {
      s1 += centered(c);
      s2 += centered(c) * centered(c);
    }
    const auto [mantissa, shift] = reciprocal_sqrt(static_cast<std::uint64_t>(dim * s2 - s1 * s1));
    for (std::size_t c = 0; c < params.dim; ++c) {
      const std::int64_t u = ((dim * centered(c) - s1) * mantissa) >> shift;
      const std::int64_t y = (u * params.multiplier[c] + params.bias[c]) >> params.shift;
      const std::size_t at = i * params.dim + c;
      if (params.dst_type == CodeType::kS16) {
        static_cast<std::int16_t*>(dst)[at] =
            static_cast<std::int16_t>(clamp_to(y + params.zero_point, INT16_MIN, INT16_MAX));
      } else {
        static_cast<std::uint8_t*>(dst)[at] =
            static_cast<std::uint8_t>(clamp_to(y + params.zero_point, 0, 255));
      }
    }
  }
}

}  // namespace intaglio::kernels::scalar
