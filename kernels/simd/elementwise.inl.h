// GELU and residual add; formulas and ranges in kernels/scalar/elementwise.cpp. All of it is 32-bit
// work that graph/check keeps within a s32.
//
// Both round once, at a shift s of each channel's own, without a rounding constant per channel:
//   floor(x / 2^s + 1/2) + z = (floor(x / 2^(s-1)) + 2 z + 1) >> 1
// What is left of a sum after s - 1 bits is called its halves. They may be saturated to s16 before
// the rest is done in words: beyond it the code is 0 or 255 either way, as 2 z + 1 < 2^9.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/rescale.inl.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

/// What V::pack_halves_u8 adds to halves, in words.
template <class V>
[[gnu::always_inline]] inline typename V::I halves_addend(std::int32_t zero_point) noexcept {
  return V::set1_16(static_cast<std::int16_t>(2 * zero_point + 1));
}

/// How far the sums of two vectors of channels are shifted to be halves.
template <class V>
struct PairShifts {
  typename V::I first, second;
};

/// Of the channels from c on, `left` of which exist. No exponents: the same shift for all.
template <class V>
[[gnu::always_inline]] inline PairShifts<V> pair_shifts(typename V::I shift,
                                                        const std::uint8_t* exponents,
                                                        std::size_t c, std::size_t left) noexcept {
  if (exponents == nullptr) return {shift, shift};
  const auto first = V::add32(shift, V::load_u8(exponents + c, left));
  if (left <= V::kLanes) return {first, shift};
  return {first, V::add32(shift, V::load_u8(exponents + c + V::kLanes, left - V::kLanes))};
}

/// Sums of a pair of vectors become halves.
template <class V>
[[gnu::always_inline]] inline void shift_pair(typename V::I (&pair)[2],
                                              const PairShifts<V>& by) noexcept {
  pair[0] = V::srav32(pair[0], by.first);
  pair[1] = V::srav32(pair[1], by.second);
}

/// How many pairs of vectors GELU takes at a time: as many as make the vectors of words that the
/// level looks up at once. Codes come as dwords of any size; GELU saturates them to s16 itself.
template <class V>
inline constexpr std::size_t kGeluPairs = V::kLookupVectors;

/// GELU in 32-bit lanes.
template <class V>
struct GeluDwords {
  using I = typename V::I;
  typename V::Table64 base, slope;
  I last, rest_mask, multiplier, shift;
  typename V::Count segment_bits;
  const std::uint8_t* exponents;

  explicit GeluDwords(const GeluParams& p) noexcept
      : base(V::make_table64(p.base)),
        slope(V::make_table64(p.slope)),
        last(V::set1_32((64 << p.segment_bits) - 1)),
        rest_mask(V::set1_32((1 << p.segment_bits) - 1)),
        multiplier(V::set1_32(p.multiplier)),
        shift(V::set1_32(p.shift - 1)),
        segment_bits(V::count(p.segment_bits)),
        exponents(p.exponents) {}

  /// Codes become sums, without the zero point.
  [[gnu::always_inline]] void sums(I (&pairs)[kGeluPairs<V>][2]) const noexcept {
    unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
      pairs[i][0] = sum(pairs[i][0]);
      pairs[i][1] = sum(pairs[i][1]);
    });
  }

 private:
  [[gnu::always_inline]] I sum(I x) const noexcept {
    const I h = V::min32(V::max32(x, V::set1_32(INT16_MIN)), V::set1_32(INT16_MAX));
    const I a = V::min32(V::abs32(h), last);
    const I segment = V::srl32(a, segment_bits);
    const I rest = V::and_bits(a, rest_mask);
    // Both factors are words that are not negative: a multiply-add of words is their product.
    const I linear = V::madd_s16(V::max32(h, V::zero()), multiplier);
    const I bend =
        V::add32(V::lookup64(base, segment), V::mullo32(V::lookup64(slope, segment), rest));
    return V::sub32(linear, bend);
  }
};

/// The same in 16-bit lanes, where words can be looked up among 64: a multiply-add of the words
/// (max(h, 0), a) and (multiplier, -slope) onto an addend. Pieces begin at a = 0 here, not where
/// they are used, so that a's remainder is not wanted; that wraps at most, as the sum does not.
/// Slopes must be words.
template <class V>
struct GeluWords {
  using I = typename V::I;
  typename V::WordTable64 addend_low, addend_high, falling;
  I last, multiplier, shift;
  typename V::Count segment_bits;
  const std::uint8_t* exponents;

  static bool fits(const GeluParams& p) noexcept {
    bool words = true;
    for (std::size_t i = 0; i < 64; ++i) {
      words = words && p.slope[i] >= -INT16_MAX && p.slope[i] <= INT16_MAX;
    }
    return words;
  }

  explicit GeluWords(const GeluParams& p) noexcept
      : last(V::set1_16(static_cast<std::int16_t>((64 << p.segment_bits) - 1))),
        multiplier(V::set1_16(static_cast<std::int16_t>(p.multiplier))),
        shift(V::set1_32(p.shift - 1)),
        segment_bits(V::count(p.segment_bits)),
        exponents(p.exponents) {
    std::uint16_t low[64], high[64], fall[64];
    for (std::size_t i = 0; i < 64; ++i) {
      const std::int32_t from = static_cast<std::int32_t>(i) << p.segment_bits;
      const auto addend = static_cast<std::uint32_t>(p.slope[i] * from - p.base[i]);
      low[i] = static_cast<std::uint16_t>(addend & 0xffff);
      high[i] = static_cast<std::uint16_t>(addend >> 16);
      fall[i] = static_cast<std::uint16_t>(-p.slope[i] & 0xffff);
    }
    addend_low = V::make_word_table64(low);
    addend_high = V::make_word_table64(high);
    falling = V::make_word_table64(fall);
  }

  [[gnu::always_inline]] void sums(I (&pairs)[kGeluPairs<V>][2]) const noexcept {
    I h[kGeluPairs<V>], a[kGeluPairs<V>], segment[kGeluPairs<V>];
    unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
      h[i] = V::packs_s32(pairs[i][0], pairs[i][1]);
      a[i] = V::min_u16(V::abs16(h[i]), last);
      segment[i] = V::srl16(a[i], segment_bits);
    });
    const auto places = V::places64(segment);
    I fall[kGeluPairs<V>], low[kGeluPairs<V>], high[kGeluPairs<V>];
    V::lookup64(falling, places, fall);
    V::lookup64(addend_low, places, low);
    V::lookup64(addend_high, places, high);
    unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
      const I positive = V::max16(h[i], V::zero());
      // Packing took turns within 128 bits, unpacking undoes it.
      pairs[i][0] = V::dot_s16(V::unpack_low16(low[i], high[i]), V::unpack_low16(positive, a[i]),
                               V::unpack_low16(multiplier, fall[i]));
      pairs[i][1] = V::dot_s16(V::unpack_high16(low[i], high[i]), V::unpack_high16(positive, a[i]),
                               V::unpack_high16(multiplier, fall[i]));
    });
  }
};

/// Calls f with the form of GELU that the parameters allow.
template <class V, class F>
[[gnu::always_inline]] inline void with_gelu(const GeluParams& params, F&& f) noexcept {
  if (GeluWords<V>::fits(params)) {
    f(GeluWords<V>(params));
  } else {
    f(GeluDwords<V>(params));
  }
}

template <class V>
void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t rows,
                std::uint8_t* dst) noexcept {
  const auto addend = halves_addend<V>(params.zero_point);
  // Without exponents all rows are one.
  const std::size_t dim = params.exponents == nullptr ? rows * params.dim : params.dim;
  with_gelu<V>(params, [&](const auto& gelu) INTAGLIO_INLINE {
    for (std::size_t begin = 0; begin < rows * params.dim; begin += dim) {
      constexpr std::size_t kPair = 2 * V::kLanes;
      for (std::size_t first = 0; first < dim; first += kGeluPairs<V> * kPair) {
        typename V::I pairs[kGeluPairs<V>][2];
        unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
          const std::size_t c = first + i * kPair;
          const std::int16_t* h = src + begin + c;
          pairs[i][0] = c < dim ? V::load_s16(h, dim - c) : V::zero();
          const std::size_t next = c + V::kLanes;
          pairs[i][1] = next < dim ? V::load_s16(h + V::kLanes, dim - next) : V::zero();
        });
        gelu.sums(pairs);
        unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
          const std::size_t c = first + i * kPair;
          if (c >= dim) return;
          shift_pair<V>(pairs[i], pair_shifts<V>(gelu.shift, gelu.exponents, c, dim - c));
          V::pack_halves_u8(dst + begin + c, pairs[i], addend, dim - c);
        });
      }
    }
  });
}

/// Sum of two streams.
template <class V>
struct ResidualVectors {
  using I = typename V::I;
  I zero_b, multiplier_a, multiplier_b, shift;
  const std::uint8_t *exponents_b, *exponents_dst;

  explicit ResidualVectors(const ResidualParams& p) noexcept
      : zero_b(V::set1_32(p.zero_b)),
        multiplier_a(V::set1_32(p.multiplier_a)),
        multiplier_b(V::set1_32(p.multiplier_b)),
        shift(V::set1_32(p.shift - 1)),
        exponents_b(p.exponents_b),
        exponents_dst(p.exponents_dst) {}

  /// Of the channels from c on: b's exponents, and how far their sums are shifted to be halves.
  struct Exponents {
    I raise, by;
  };
  [[gnu::always_inline]] Exponents exponents(std::size_t c, std::size_t left) const noexcept {
    return {V::load_u8(exponents_b + c, left),
            V::add32(shift, V::load_u8(exponents_dst + c, left))};
  }
  /// `a` less its zero point.
  [[gnu::always_inline]] I halves(I a, I b, const Exponents& e) const noexcept {
    const I raised = V::sllv32(V::sub32(b, zero_b), e.raise);
    const I sum = V::add32(V::mullo32(a, multiplier_a), V::mullo32(raised, multiplier_b));
    return V::srav32(sum, e.by);
  }
};

template <class V>
void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept {
  const ResidualVectors<V> add(params);
  const auto zero_a = V::set1_32(params.zero_a);
  const auto addend = halves_addend<V>(params.zero_point);
  const std::size_t dim = params.dim;
  const auto halves = [&](std::size_t at, std::size_t c) INTAGLIO_INLINE {
    const auto x = V::sub32(V::load_u8(a + at, dim - c), zero_a);
    return add.halves(x, V::load_u8(b + at, dim - c), add.exponents(c, dim - c));
  };
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t c = 0; c < dim; c += 2 * V::kLanes) {
      const std::size_t at = i * dim + c;
      const std::size_t next = c + V::kLanes;
      const typename V::I pair[2] = {halves(at, c),
                                     next < dim ? halves(at + V::kLanes, next) : V::zero()};
      V::pack_halves_u8(dst + at, pair, addend, dim - c);
    }
  }
}

template <class V>
void add_s16(const std::int16_t* a, const std::int16_t* b, std::size_t count,
             std::int16_t* dst) noexcept {
  const auto* bytes_a = reinterpret_cast<const std::uint8_t*>(a);
  const auto* bytes_b = reinterpret_cast<const std::uint8_t*>(b);
  auto* out = reinterpret_cast<std::uint8_t*>(dst);
  const std::size_t bytes = 2 * count;
  for (std::size_t i = 0; i < bytes; i += V::kLanes * 4) {
    const std::size_t left = bytes - i;
    V::store_bytes(out + i,
                   V::adds16(V::load_bytes(bytes_a + i, left), V::load_bytes(bytes_b + i, left)),
                   left);
  }
}

/// Pixels of one line of a patch; three channels in turn.
template <class V>
inline void map_pixels(const std::uint8_t* table, const std::uint8_t* src, std::size_t count,
                       std::uint8_t* dst) noexcept {
  if constexpr (V::kByteTables) {
    constexpr std::size_t kWhole = V::kLanes * 4 / 3 * 3;  // whole pixels of a vector
    const auto first = V::load_table256(table);
    const auto second = V::load_table256(table + 256);
    const auto third = V::load_table256(table + 512);
    for (std::size_t i = 0; i < count; i += kWhole) {
      const std::size_t left = count - i < kWhole ? count - i : kWhole;
      const auto x = V::load_bytes(src + i, left);
      V::store_bytes(
          dst + i,
          V::in_turn(V::lookup256(first, x), V::lookup256(second, x), V::lookup256(third, x)),
          left);
    }
  } else {
    for (std::size_t i = 0; i < count; i += 3) {
      dst[i] = table[src[i]];
      dst[i + 1] = table[256 + src[i + 1]];
      dst[i + 2] = table[512 + src[i + 2]];
    }
  }
}

template <class V>
void pixels_to_patches(const PatchParams& params, const std::uint8_t* src, std::size_t src_stride,
                       std::size_t first, std::size_t last, std::uint8_t* dst) noexcept {
  const std::size_t columns = (params.width + params.patch - 1) / params.patch;
  const std::size_t run = params.patch * 3;
  for (std::size_t index = first; index < last; ++index) {
    const std::size_t top = index / columns * params.patch;
    const std::size_t left = index % columns * run;
    const std::size_t rest = 3 * params.width - left;
    const std::size_t inside = rest < run ? rest : run;
    std::uint8_t* out = dst + index * params.patch * run;
    for (std::size_t y = 0; y < params.patch; ++y) {
      const std::size_t here = top + y < params.height ? inside : 0;
      if (here != 0) {
        map_pixels<V>(params.table, src + (top + y) * src_stride + left, here, out + y * run);
      }
      for (std::size_t i = here; i < run; ++i) out[y * run + i] = params.padding[i % 3];
    }
  }
}

template <class V>
void mean_rows(const MeanParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t rows, std::uint8_t* dst) noexcept {
  const int e = 63 - __builtin_clzll(rows);
  const auto m = static_cast<std::int32_t>((std::int64_t{params.multiplier} << e) /
                                           static_cast<std::int64_t>(rows));
  const int shift = params.shift + e;
  const Rescale rescale = make_rescale(shift, params.zero_point, CodeType::kU8);
  const auto half = V::set1_64(std::int64_t{1} << (shift - 1));
  const ColumnFactors<V> factors = {V::set1_32(m), V::set1_32(m), half, half};
  const auto zeros = V::set1_32(static_cast<std::int32_t>(rows) * params.zero_src);
  for (std::size_t c = columns.first; c < columns.last; c += V::kLanes) {
    auto sum = V::zero();
    for (std::size_t r = 0; r < rows; ++r) {
      sum = V::add32(sum, V::load_u8(src + r * params.dim + c, columns.last - c));
    }
    V::store_u8(dst + c, scale_exact<V>(V::sub32(sum, zeros), factors, rescale), columns.last - c);
  }
}

}  // namespace
}  // namespace intaglio::kernels
