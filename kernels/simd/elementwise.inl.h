// GELU and residual add; formulas and ranges in kernels/scalar/elementwise.cpp. All of it is 32-bit
// work that graph/check keeps within a s32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

/// codes + zero_point, clamped to u8. |codes| <= 2^30, so the sum cannot wrap.
template <class V>
[[gnu::always_inline]] inline typename V::I clamp_u8(typename V::I codes,
                                                     typename V::I zero_point) noexcept {
  return V::min32(V::max32(V::add32(codes, zero_point), V::zero()), V::set1_32(255));
}

/// GELU in 32-bit lanes. Codes come as dwords of any size and are saturated to s16 first.
template <class V>
struct GeluDwords {
  using I = typename V::I;
  typename V::Table64 base, slope;
  I last, rest_mask, multiplier, half;
  typename V::Count segment_bits, shift;

  explicit GeluDwords(const GeluParams& p) noexcept
      : base(V::make_table64(p.base)),
        slope(V::make_table64(p.slope)),
        last(V::set1_32((64 << p.segment_bits) - 1)),
        rest_mask(V::set1_32((1 << p.segment_bits) - 1)),
        multiplier(V::set1_32(p.multiplier)),
        half(V::set1_32(1 << (p.shift - 1))),
        segment_bits(V::count(p.segment_bits)),
        shift(V::count(p.shift)) {}

  /// Two vectors of h become codes less the zero point, not clamped.
  [[gnu::always_inline]] void codes(I& first, I& second) const noexcept {
    first = one(first);
    second = one(second);
  }

 private:
  [[gnu::always_inline]] I one(I x) const noexcept {
    const I h = V::min32(V::max32(x, V::set1_32(INT16_MIN)), V::set1_32(INT16_MAX));
    const I a = V::min32(V::abs32(h), last);
    const I segment = V::srl32(a, segment_bits);
    const I rest = V::and_bits(a, rest_mask);
    // Both factors are words that are not negative: a multiply-add of words is their product.
    const I linear = V::madd_s16(V::max32(h, V::zero()), multiplier);
    const I bend =
        V::add32(V::lookup64(base, segment), V::mullo32(V::lookup64(slope, segment), rest));
    return V::sra32(V::add32(V::sub32(linear, bend), half), shift);
  }
};

/// The same in 16-bit lanes, where words can be looked up among 64: a multiply-add of the words
/// (max(h, 0), rest) and (multiplier, -slope) onto half - base. Slopes must be words.
template <class V>
struct GeluWords {
  using I = typename V::I;
  typename V::WordTable64 addend_low, addend_high, falling;
  I last, rest_mask, multiplier;
  typename V::Count segment_bits, shift;

  static bool fits(const GeluParams& p) noexcept {
    bool words = true;
    for (std::size_t i = 0; i < 64; ++i) {
      words = words && p.slope[i] >= -INT16_MAX && p.slope[i] <= INT16_MAX;
    }
    return words;
  }

  explicit GeluWords(const GeluParams& p) noexcept
      : last(V::set1_16(static_cast<std::int16_t>((64 << p.segment_bits) - 1))),
        rest_mask(V::set1_16(static_cast<std::int16_t>((1 << p.segment_bits) - 1))),
        multiplier(V::set1_16(static_cast<std::int16_t>(p.multiplier))),
        segment_bits(V::count(p.segment_bits)),
        shift(V::count(p.shift)) {
    std::uint16_t low[64], high[64], fall[64];
    for (std::size_t i = 0; i < 64; ++i) {
      const auto addend = static_cast<std::uint32_t>((1 << (p.shift - 1)) - p.base[i]);
      low[i] = static_cast<std::uint16_t>(addend & 0xffff);
      high[i] = static_cast<std::uint16_t>(addend >> 16);
      fall[i] = static_cast<std::uint16_t>(-p.slope[i] & 0xffff);
    }
    addend_low = V::make_word_table64(low);
    addend_high = V::make_word_table64(high);
    falling = V::make_word_table64(fall);
  }

  [[gnu::always_inline]] void codes(I& first, I& second) const noexcept {
    const I h = V::packs_s32(first, second);
    const I a = V::min_u16(V::abs16(h), last);
    const I segment = V::srl16(a, segment_bits);
    const I rest = V::and_bits(a, rest_mask);
    const I positive = V::max16(h, V::zero());
    const I fall = V::lookup64(falling, segment);
    const I low = V::lookup64(addend_low, segment);
    const I high = V::lookup64(addend_high, segment);
    // Packing took turns within 128 bits, unpacking undoes it.
    first = V::sra32(V::dot_s16(V::unpack_low16(low, high), V::unpack_low16(positive, rest),
                                V::unpack_low16(multiplier, fall)),
                     shift);
    second = V::sra32(V::dot_s16(V::unpack_high16(low, high), V::unpack_high16(positive, rest),
                                 V::unpack_high16(multiplier, fall)),
                      shift);
  }
};

/// Calls f with the form of GELU that the level and the parameters allow.
template <class V, class F>
[[gnu::always_inline]] inline void with_gelu(const GeluParams& params, F&& f) noexcept {
  if constexpr (V::kWordTables) {
    if (GeluWords<V>::fits(params)) {
      f(GeluWords<V>(params));
      return;
    }
  }
  f(GeluDwords<V>(params));
}

template <class V>
void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t count,
                std::uint8_t* dst) noexcept {
  const auto zero_point = V::set1_32(params.zero_point);
  with_gelu<V>(params, [&](const auto& gelu) INTAGLIO_INLINE {
    for (std::size_t i = 0; i < count; i += 2 * V::kLanes) {
      const std::size_t left = count - i;
      const bool both = left > V::kLanes;
      auto first = V::load_s16(src + i, left);
      auto second = both ? V::load_s16(src + i + V::kLanes, left - V::kLanes) : V::zero();
      gelu.codes(first, second);
      V::store_u8(dst + i, clamp_u8<V>(first, zero_point), left);
      if (both) {
        V::store_u8(dst + i + V::kLanes, clamp_u8<V>(second, zero_point), left - V::kLanes);
      }
    }
  });
}

/// Sum of two streams. floor(x / 2^s + 1/2) = (floor(x / 2^(s-1)) + 1) >> 1: no rounding constant
/// per channel.
template <class V>
struct ResidualVectors {
  using I = typename V::I;
  I zero_b, multiplier_a, multiplier_b, shift, one;
  const std::uint8_t *exponents_b, *exponents_dst;

  explicit ResidualVectors(const ResidualParams& p) noexcept
      : zero_b(V::set1_32(p.zero_b)),
        multiplier_a(V::set1_32(p.multiplier_a)),
        multiplier_b(V::set1_32(p.multiplier_b)),
        shift(V::set1_32(p.shift - 1)),
        one(V::set1_32(1)),
        exponents_b(p.exponents_b),
        exponents_dst(p.exponents_dst) {}

  /// Codes less the zero point, not clamped, of channels c...; `a` less its zero point.
  [[gnu::always_inline]] I codes(I a, I b, std::size_t c, std::size_t left) const noexcept {
    const I raised = V::sllv32(V::sub32(b, zero_b), V::load_u8(exponents_b + c, left));
    const I sum = V::add32(V::mullo32(a, multiplier_a), V::mullo32(raised, multiplier_b));
    const I by = V::add32(shift, V::load_u8(exponents_dst + c, left));
    return V::sra32(V::add32(V::srav32(sum, by), one), 1);
  }
};

template <class V>
void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept {
  const ResidualVectors<V> add(params);
  const auto zero_a = V::set1_32(params.zero_a);
  const auto zero_point = V::set1_32(params.zero_point);
  const std::size_t dim = params.dim;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t c = 0; c < dim; c += V::kLanes) {
      const std::size_t at = i * dim + c;
      const std::size_t left = dim - c;
      const auto x = V::sub32(V::load_u8(a + at, left), zero_a);
      const auto codes = add.codes(x, V::load_u8(b + at, left), c, left);
      V::store_u8(dst + at, clamp_u8<V>(codes, zero_point), left);
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
