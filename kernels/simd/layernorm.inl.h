// LayerNorm over a PTF grid; formula and ranges in kernels/scalar/layernorm.cpp.
//
// In 32-bit lanes: a fits s16, so a^2 and C a are multiply-adds of words with a zero beside them;
// S1 and D = C a - S1 fit s32. In 64-bit lanes: S2, D * R (61 bits) and the rescaling. u has 30
// bits: the lower halves of its 64-bit lanes are all of it, and the rescaling takes them as they
// are.
//
// Four rows go together: they share what is loaded per channel, and the divisions of their roots
// overlap.
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

inline constexpr std::size_t kNormRows = 4;

/// What all rows of a call share.
template <class V>
struct NormVectors {
  using I = typename V::I;
  const LayerNormParams& params;
  I zero_src, channels, lower_words, lower_halves;

  explicit NormVectors(const LayerNormParams& p) noexcept
      : params(p),
        zero_src(V::set1_32(p.zero_src)),
        channels(V::set1_32(static_cast<std::int32_t>(p.dim))),
        lower_words(V::set1_32(0xffff)),
        lower_halves(V::set1_64(0xffffffff)) {}

  [[gnu::always_inline]] I exponents(std::size_t c, std::size_t left) const noexcept {
    return params.src_type == CodeType::kU8 ? V::load_u8(params.exponents + c, left) : V::zero();
  }
  /// a of the channels from element `at` on.
  [[gnu::always_inline]] I centered(const void* src, std::size_t at, std::size_t left,
                                    I exponent) const noexcept {
    if (params.src_type == CodeType::kS16) {
      return V::load_s16(static_cast<const std::int16_t*>(src) + at, left);
    }
    const I code = V::load_u8(static_cast<const std::uint8_t*>(src) + at, left);
    return V::sllv32(V::sub32(code, zero_src), exponent);
  }
};

/// 1 / sigma and mean of a row.
template <class V>
struct RowNorm {
  typename V::I s1, mantissa;
  int shift;
};

template <class V>
inline RowNorm<V> norm_of_row(const NormVectors<V>& n, const void* src, std::size_t row) noexcept {
  const std::size_t dim = n.params.dim;
  auto s1 = V::zero();
  auto s2 = V::zero();
  const auto add = [&](typename V::I a) INTAGLIO_INLINE {
    s1 = V::add32(s1, a);
    const auto squares = V::madd_s16(a, V::and_bits(a, n.lower_words));
    s2 = V::add64(s2, V::add64(V::and_bits(squares, n.lower_halves), V::odd(squares)));
  };
  std::size_t c = 0;
  for (; c + V::kLanes <= dim; c += V::kLanes) {
    add(n.centered(src, row * dim + c, V::kLanes, n.exponents(c, V::kLanes)));
  }
  if (c < dim) {
    const auto a = n.centered(src, row * dim + c, dim - c, n.exponents(c, dim - c));
    add(V::keep_first(a, dim - c));
  }
  const std::int64_t sum = V::sum_s32(s1);
  const RowScale scale = row_scale(
      static_cast<std::uint64_t>(static_cast<std::int64_t>(dim) * V::sum_s64(s2) - sum * sum));
  return {V::set1_32(static_cast<std::int32_t>(sum)), V::set1_32(scale.mantissa), scale.shift};
}

/// Normalized, scaled sums of V::kLanes channels: 64-bit lanes, to be shifted.
template <class V>
struct NormSums {
  typename V::I even, odd;
};

template <class V>
[[gnu::always_inline]] inline NormSums<V> norm_sums(const NormVectors<V>& n, const RowNorm<V>& r,
                                                    typename V::I a,
                                                    const ColumnFactors<V>& f) noexcept {
  const auto d = V::sub32(V::madd_s16(a, n.channels), r.s1);
  const auto even = V::sra64(V::mul_even(d, r.mantissa), r.shift);
  const auto odd = V::sra64(V::mul_even(V::odd(d), r.mantissa), r.shift);
  return {V::add64(V::mul_even(even, f.multiplier), f.bias_even),
          V::add64(V::mul_even(odd, f.multiplier_odd), f.bias_odd)};
}

/// Factors of the channels from c on; nothing behind the last channel is read.
template <class V>
[[gnu::always_inline]] inline ColumnFactors<V> norm_factors(const LayerNormParams& p,
                                                            std::size_t c) noexcept {
  if (c + V::kLanes <= p.dim) return load_factors<V>(p.multiplier + c, p.bias + c);
  std::int32_t multiplier[V::kLanes] = {};
  std::int64_t bias[V::kLanes] = {};
  for (std::size_t i = c; i < p.dim; ++i) {
    multiplier[i - c] = p.multiplier[i];
    bias[i - c] = p.bias[i];
  }
  return load_factors<V>(multiplier, bias);
}

/// kRows rows from `row` on; a panel's width of channels at a time, so that its codes are packed
/// together.
template <class V, std::size_t kRows>
inline void norm_rows(const NormVectors<V>& n, const Rescale& rescale, const void* src,
                      std::size_t row, void* dst) noexcept {
  using I = typename V::I;
  const std::size_t dim = n.params.dim;
  const auto zero = V::set1_16(static_cast<std::int16_t>(rescale.zero_point));
  const bool packed = rescale.direct && rescale.output == CodeType::kU8;
  const std::size_t element = rescale.output == CodeType::kU8 ? 1 : 2;
  RowNorm<V> norms[kRows];
  unroll<kRows>([&](auto r) INTAGLIO_INLINE { norms[r] = norm_of_row<V>(n, src, row + r); });
  for (std::size_t c = 0; c < dim; c += kPanelColumns<V>) {
    I codes[kRows][V::kTileVectors];
    unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
      const std::size_t at = c + v * V::kLanes;
      unroll<kRows>([&](auto r) INTAGLIO_INLINE { codes[r][v] = V::zero(); });
      if (at >= dim) return;
      const ColumnFactors<V> factors = norm_factors<V>(n.params, at);
      const I exponents = n.exponents(at, dim - at);
      unroll<kRows>([&](auto r) INTAGLIO_INLINE {
        const I a = n.centered(src, (row + r) * dim + at, dim - at, exponents);
        const NormSums<V> sums = norm_sums<V>(n, norms[r], a, factors);
        if (packed) {
          codes[r][v] = V::sra32(V::merge_high(sums.even, sums.odd), rescale.shift - 32);
        } else {
          store_codes<V>(rescale.output,
                         static_cast<std::byte*>(dst) + ((row + r) * dim + at) * element,
                         clamp_exact<V>(sums.even, sums.odd, rescale), dim - at);
        }
      });
    });
    if (!packed) continue;
    unroll<kRows>([&](auto r) INTAGLIO_INLINE {
      V::pack_row_u8(static_cast<std::uint8_t*>(dst) + (row + r) * dim + c, codes[r], zero,
                     dim - c);
    });
  }
}

template <class V>
void layernorm_ptf(const LayerNormParams& params, const void* src, std::size_t rows,
                   void* dst) noexcept {
  const NormVectors<V> n(params);
  const Rescale rescale = make_rescale(params.shift, params.zero_point, params.dst_type);
  std::size_t i = 0;
  for (; i + kNormRows <= rows; i += kNormRows) norm_rows<V, kNormRows>(n, rescale, src, i, dst);
  for (; i < rows; ++i) norm_rows<V, 1>(n, rescale, src, i, dst);
}

}  // namespace
}  // namespace intaglio::kernels
