// LayerNorm over a PTF grid; formula and ranges in kernels/scalar/layernorm.cpp.
//
// In 32-bit lanes: a = (q - z) << k fits s16 (255 * 2^7 = 32640), so a^2 is one multiply-add of
// words and two squares add up below 2^31; S1 < 2^30 and D = C a - S1 < 2^30 fit s32. In 64-bit
// lanes: S2, D * R (61 bits) and the rescaling. u has 30 bits, so its lower half is all of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/rescale.inl.h"

namespace intaglio::kernels {
namespace {

/// First guesses of a root from the argument's upper 8 bits.
struct RootGuesses {
  std::uint8_t root[256];
};

constexpr RootGuesses make_root_guesses() noexcept {
  RootGuesses table = {};
  for (unsigned i = 0; i < 256; ++i) {
    unsigned root = 0;
    while (root < 255 && (root + 1) * (root + 1) <= (i << 8) + 128) ++root;
    table.root[i] = static_cast<std::uint8_t>(root);
  }
  return table;
}

constexpr RootGuesses kRootGuesses = make_root_guesses();

/// Largest r with r * r <= value, 2^60 <= value < 2^62. Each of Newton's steps doubles the 8 bits
/// of the guess; the last loops make the result exact whatever the guess was.
inline std::uint64_t root_of_60_bits(std::uint64_t value) noexcept {
  const auto upper = static_cast<std::uint32_t>(value >> 30);
  const std::uint32_t guess = std::uint32_t{kRootGuesses.root[upper >> 24]} << 8;
  const std::uint64_t half = (guess + upper / guess) / 2;  // 16 bits of the root
  const std::uint64_t start = half << 15;
  std::uint64_t root = (start + value / start) / 2;
  while (root * root > value) --root;
  while ((root + 1) * (root + 1) <= value) ++root;
  return root;
}

/// 1 / sqrt(v) as in the scalar definition: D * mantissa >> shift has 22 fractional bits.
struct RowScale {
  std::int32_t mantissa;
  int shift;
};

inline RowScale row_scale(std::uint64_t v) noexcept {
  if (v == 0) return {0, 1};
  const int e = (__builtin_clzll(v) - 2) / 2;
  const std::uint64_t mantissa = (std::uint64_t{1} << 61) / root_of_60_bits(v << (2 * e));
  return {mantissa > INT32_MAX ? INT32_MAX : static_cast<std::int32_t>(mantissa), 39 - e};
}

template <class V>
[[gnu::always_inline]] inline typename V::I centered(const LayerNormParams& params,
                                                     const std::uint8_t* row,
                                                     std::size_t c) noexcept {
  const auto q = V::load_u8(row + c, params.dim - c);
  const auto k = V::load_u8(params.exponents + c, params.dim - c);
  return V::sllv32(V::sub32(q, V::set1_32(params.zero_src)), k);
}

template <class V>
struct RowSums {
  std::int64_t s1;
  std::int64_t s2;
};

template <class V>
inline RowSums<V> sum_row(const LayerNormParams& params, const std::uint8_t* row) noexcept {
  const auto lower_words = V::set1_32(0xffff);
  const auto lower_halves = V::set1_64(0xffffffff);
  auto s1 = V::zero();
  auto s2 = V::zero();
  const std::size_t whole = params.dim / V::kLanes * V::kLanes;
  const auto add = [&](typename V::I a) INTAGLIO_INLINE {
    s1 = V::add32(s1, a);
    const auto squares = V::madd_s16(a, V::and_bits(a, lower_words));
    s2 = V::add64(s2, V::add64(V::and_bits(squares, lower_halves), V::odd(squares)));
  };
  for (std::size_t c = 0; c < whole; c += V::kLanes) add(centered<V>(params, row, c));
  if (whole < params.dim) {
    add(V::keep_first(centered<V>(params, row, whole), params.dim - whole));
  }
  return {V::sum_s32(s1), V::sum_s64(s2)};
}

template <class V>
void layernorm_ptf(const LayerNormParams& params, const std::uint8_t* src, std::size_t rows,
                   std::uint8_t* dst) noexcept {
  const std::size_t dim = params.dim;
  const std::size_t whole = dim / V::kLanes * V::kLanes;
  const Rescale rescale = make_rescale(params.shift, params.zero_point, OutputType::kU8);
  ColumnFactors<V> last = {};
  if (whole < dim) {
    std::int32_t multiplier[V::kLanes] = {};
    std::int64_t bias[V::kLanes] = {};
    for (std::size_t c = whole; c < dim; ++c) {
      multiplier[c - whole] = params.multiplier[c];
      bias[c - whole] = params.bias[c];
    }
    last = load_factors<V>(multiplier, bias);
  }
  const auto channels = V::set1_32(static_cast<std::int32_t>(dim));
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint8_t* row = src + i * dim;
    std::uint8_t* out = dst + i * dim;
    const RowSums<V> sums = sum_row<V>(params, row);
    const RowScale scale = row_scale(
        static_cast<std::uint64_t>(static_cast<std::int64_t>(dim) * sums.s2 - sums.s1 * sums.s1));
    const auto s1 = V::set1_32(static_cast<std::int32_t>(sums.s1));
    const auto mantissa = V::set1_32(scale.mantissa);
    const auto norm = [&](std::size_t c) INTAGLIO_INLINE {
      const auto d = V::sub32(V::mullo32(centered<V>(params, row, c), channels), s1);
      return V::merge_low(V::sra64(V::mul_even(d, mantissa), scale.shift),
                          V::sra64(V::mul_even(V::odd(d), mantissa), scale.shift));
    };
    for (std::size_t c = 0; c < whole; c += V::kLanes) {
      const auto f = load_factors<V>(params.multiplier + c, params.bias + c);
      V::store_u8(out + c, scale_u8<V>(norm(c), f, rescale), V::kLanes);
    }
    if (whole < dim) V::store_u8(out + whole, scale_u8<V>(norm(whole), last, rescale), dim - whole);
  }
}

}  // namespace
}  // namespace intaglio::kernels
