// The rounding rule of the whole engine, in one place.
//
// A real factor r is executed as an integer multiplier m and a right shift s, r = m / 2^s; an
// addition constant b lives in the same fixed point, so that there is exactly one rounding:
//
//   code = clamp(((acc * m + b) >> s) + z)
//
// b holds the bias (round(bias_real * 2^s)) and the rounding constant 2^(s-1), which makes the
// arithmetic shift (floor) round half up.
#pragma once

#include <cstddef>
#include <cstdint>

namespace intaglio::kernels {

// The sizes for which the kernels' overflow proofs hold. graph/check refuses larger ones.
inline constexpr std::size_t kMaxGemmDepth = 65536;                // 255 * 128 * 2^16 < 2^31
inline constexpr std::size_t kMaxHeadDim = 256;                    // 255 * 255 * 2^8 < 2^24
inline constexpr std::size_t kMaxNormDim = 16384;                  // see scalar/layernorm.cpp
inline constexpr std::size_t kMaxMeanRows = std::size_t{1} << 23;  // 255 * 2^23 < 2^31
inline constexpr int kMaxExponent = 7;  // powers of two of a PTF grid: 0..7
inline constexpr int kMaxShift = 62;
inline constexpr int kNormFractionBits = 22;  // of a normalized channel, before gamma

/// How scores become codes of the attention map.
enum class SoftmaxForm : std::uint8_t {
  kLogInt,       ///< FQ-ViT's Log-Int-Softmax: the code of exp(d) / sum of the row's exp(d)
  kRowRelative,  ///< the code of exp(d) alone; rows are divided by the sum of their weights
  kUniform,      ///< exp(d) / sum of the row's exp(d) in equal steps, u8 with zero point 0
};

/// Arithmetic shift right that rounds half up: floor(value / 2^shift + 1/2). 1 <= shift <= 62;
/// value + 2^(shift-1) must not overflow.
constexpr std::int64_t rounding_shift_right(std::int64_t value, int shift) noexcept {
  return (value + (std::int64_t{1} << (shift - 1))) >> shift;
}

/// (acc * m + b) >> s without the zero point and the clamp. |acc * m + b| < 2^63, 1 <= s <= 62.
constexpr std::int64_t scale_accumulator(std::int32_t acc, std::int32_t multiplier,
                                         std::int64_t bias, int shift) noexcept {
  return (std::int64_t{acc} * multiplier + bias) >> shift;
}

constexpr std::int64_t clamp_to(std::int64_t value, std::int64_t low, std::int64_t high) noexcept {
  return value < low ? low : (value > high ? high : value);
}

/// Integer square root: the largest r with r * r <= value. One bit per step, no division.
constexpr std::uint64_t integer_sqrt(std::uint64_t value) noexcept {
  std::uint64_t root = 0;
  std::uint64_t rest = value;
  for (std::uint64_t bit = std::uint64_t{1} << 62; bit != 0; bit >>= 2) {
    if (rest >= root + bit) {
      rest -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return root;
}

// Halves round up, also below zero: one rule, no case for the sign.
static_assert(rounding_shift_right(3, 1) == 2);    //  1.5 ->  2
static_assert(rounding_shift_right(-3, 1) == -1);  // -1.5 -> -1
static_assert(rounding_shift_right(5, 2) == 1);    //  1.25
static_assert(rounding_shift_right(-5, 2) == -1);  // -1.25
// 0.3 as m / 2^s with s = 32, bias 10 in real units, rounding constant included: 0.3 * 7 + 10.
static_assert(scale_accumulator(7, 1288490189, (std::int64_t{10} << 32) + (std::int64_t{1} << 31),
                                32) == 12);
static_assert(clamp_to(-1, 0, 255) == 0 && clamp_to(256, 0, 255) == 255 &&
              clamp_to(7, 0, 255) == 7);
static_assert(integer_sqrt(0) == 0 && integer_sqrt(15) == 3 && integer_sqrt(16) == 4);
static_assert(integer_sqrt(0xffffffffffffffffULL) == 0xffffffffULL);

}  // namespace intaglio::kernels
