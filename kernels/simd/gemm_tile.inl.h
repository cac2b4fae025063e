// A tile of a GEMM: products, then what becomes of the sums.
//
// Plain codes are made and stored from the registers. Everything else (a shift below 32, an odd
// zero point, a fused GELU or residual addition) goes through a few lines of first-level cache,
// where one loop serves tiles of every size: a store and a load per vector cost little beside the
// epilogue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/kernels.h"
#include "kernels/simd/elementwise.inl.h"
#include "kernels/simd/rescale.inl.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

/// One tile's work. The sums of a long inner dimension may be carried from chunk to chunk.
template <class V>
struct Tile {
  const std::byte* a;               ///< [rows, groups] dwords
  std::size_t a_stride;             ///< bytes
  std::size_t groups;               ///< whole dwords
  std::size_t tail_bytes;           ///< of `a` behind the last whole dword, 0..3
  const std::byte* b;               ///< panel
  std::size_t first_group;          ///< of the chunk, within the panel
  std::int32_t* carry;              ///< [kTileRows, kColumnStep]
  bool resume;                      ///< start from carry
  bool suspend;                     ///< leave the sums in carry
  const ColumnFactors<V>* factors;  ///< [vectors]
  const Rescale* rescale;
  int lift;  ///< the sums are shifted left by it before they are rescaled
  const GemmParams* params;
  const GeluWords<V>* gelu_words;  ///< kGelu, where it can be done so
  std::size_t column;              ///< of the first column, in the whole product
  const std::byte* residual;       ///< its element where the tile begins
  std::size_t residual_stride;     ///< bytes
  std::byte* dst;
  std::size_t dst_stride;  ///< bytes
  std::size_t columns;     ///< that exist in dst
};

/// Bytes of an element of the residual stream.
inline std::size_t residual_bytes(const GemmParams& params) noexcept {
  const bool words =
      params.epilogue == GemmEpilogue::kAddWords ||
      (params.epilogue == GemmEpilogue::kAddSums && params.residual_type == CodeType::kS16);
  return words ? 2 : 1;
}

/// Where row r, column c of the tile lies in dst.
template <class V>
inline std::size_t place_of(const Tile<V>& t, std::size_t r, std::size_t c) noexcept {
  return r * t.dst_stride + c * stored_bytes(*t.params);
}

/// The carried sums of a tile, rescaled. Holds its own copies: the stores of codes could alias what
/// the tile points to.
template <class V>
class CarriedSums {
 public:
  using I = typename V::I;
  explicit CarriedSums(const Tile<V>& t) noexcept
      : sums_(t.carry),
        factors_(t.factors),
        rescale_(*t.rescale),
        beyond_32_(V::count(t.rescale->shift - 32)),
        low_(V::set1_32(static_cast<std::int32_t>(t.rescale->low))),
        high_(V::set1_32(static_cast<std::int32_t>(t.rescale->high))),
        zero_point_(V::set1_32(t.rescale->zero_point)) {}

  /// Codes less the zero point, from row r, column c on, not clamped beyond s32: of the direct form
  /// alone. f: the columns' factors.
  [[gnu::always_inline]] I high(std::size_t r, std::size_t c,
                                const ColumnFactors<V>& f) const noexcept {
    return scale_high<V>(load(r, c), f, beyond_32_);
  }
  /// Codes, any shift and zero point.
  [[gnu::always_inline]] I exact(std::size_t r, std::size_t c,
                                 const ColumnFactors<V>& f) const noexcept {
    return scale_exact<V>(load(r, c), f, rescale_);
  }
  /// Codes less the zero point, within the output's range.
  [[gnu::always_inline]] I clamped(std::size_t r, std::size_t c,
                                   const ColumnFactors<V>& f) const noexcept {
    if (!rescale_.direct) return V::sub32(exact(r, c, f), zero_point_);
    return V::min32(V::max32(high(r, c, f), low_), high_);
  }
  /// The sums themselves.
  [[gnu::always_inline]] I load(std::size_t r, std::size_t c) const noexcept {
    return V::load(sums_ + r * kColumnStep + c);
  }
  const ColumnFactors<V>& factors(std::size_t c) const noexcept { return factors_[c / V::kLanes]; }

 private:
  const std::int32_t* const sums_;
  const ColumnFactors<V>* const factors_;
  const Rescale rescale_;
  const typename V::Count beyond_32_;
  const I low_, high_, zero_point_;
};

/// Any shift, any zero point; the sums are in t.carry.
template <class V>
[[gnu::noinline]] void finish_exact(const Tile<V>& t, std::size_t rows) noexcept {
  const CarriedSums<V> sums(t);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      store_codes<V>(t.rescale->output, t.dst + place_of(t, r, c),
                     sums.exact(r, c, sums.factors(c)), t.columns - c);
    }
  }
}

/// u8 codes of all rows, kRows of them and two vectors of columns at a time: what belongs to the
/// columns is loaded once for all rows. `per_columns(c)` gives a function of (first row,
/// pairs[kRows][2]) for the columns from c on, which makes halves (elementwise.inl.h); of rows and
/// columns that do not exist it may make anything.
template <std::size_t kRows, class V, class PerColumns>
[[gnu::always_inline]] inline void store_u8_pairs(const Tile<V>& t, std::size_t rows,
                                                  std::int32_t zero_point,
                                                  PerColumns&& per_columns) noexcept {
  const auto addend = halves_addend<V>(zero_point);
  auto* const dst = reinterpret_cast<std::uint8_t*>(t.dst);
  const std::size_t stride = t.dst_stride;
  const std::size_t columns = t.columns;
  for (std::size_t c = 0; c < columns; c += 2 * V::kLanes) {
    const auto make = per_columns(c);
    for (std::size_t r = 0; r < rows; r += kRows) {
      typename V::I pairs[kRows][2];
      make(r, pairs);
      unroll<kRows>([&](auto i) INTAGLIO_INLINE {
        if (r + i >= rows) return;
        V::pack_halves_u8(dst + (r + i) * stride + c, pairs[i], addend, columns - c);
      });
    }
  }
}

template <class V, class Gelu>
[[gnu::always_inline]] inline void finish_gelu_as(const Tile<V>& t, std::size_t rows,
                                                  const Gelu& gelu) noexcept {
  const CarriedSums<V> sums(t);
  const bool direct = t.rescale->direct;
  const std::size_t column = t.column;
  const std::size_t columns = t.columns;
  store_u8_pairs<kGeluPairs<V>>(
      t, rows, t.params->gelu->zero_point, [&](std::size_t c) INTAGLIO_INLINE {
        const auto by = pair_shifts<V>(gelu.shift, gelu.exponents, column + c, columns - c);
        return [&, c, by, f0 = sums.factors(c), f1 = sums.factors(c + V::kLanes)](
                   std::size_t first, typename V::I(&pairs)[kGeluPairs<V>][2]) INTAGLIO_INLINE {
          unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE {
            const std::size_t r = first + i < rows ? first + i : first;
            // GELU saturates to s16 itself, as the direct form leaves it to do.
            pairs[i][0] = direct ? sums.high(r, c, f0) : sums.exact(r, c, f0);
            pairs[i][1] =
                direct ? sums.high(r, c + V::kLanes, f1) : sums.exact(r, c + V::kLanes, f1);
          });
          gelu.sums(pairs);
          unroll<kGeluPairs<V>>([&](auto i) INTAGLIO_INLINE { shift_pair<V>(pairs[i], by); });
        };
      });
}

template <class V>
[[gnu::noinline]] void finish_gelu(const Tile<V>& t, std::size_t rows) noexcept {
  finish_gelu_as(t, rows, GeluDwords<V>(*t.params->gelu));
}

template <class V>
[[gnu::noinline]] void finish_gelu_words(const Tile<V>& t, std::size_t rows) noexcept {
  // Where the tables are registers, a copy: stores of codes could alias what the tile points to.
  std::conditional_t<V::kWordTablesAreRegisters, const GeluWords<V>, const GeluWords<V>&> gelu =
      *t.gelu_words;
  finish_gelu_as(t, rows, gelu);
}

template <class V>
[[gnu::noinline]] void finish_add(const Tile<V>& t, std::size_t rows) noexcept {
  const ResidualVectors<V> add(*t.params->add);
  const CarriedSums<V> sums(t);
  const std::size_t columns = t.columns;
  const std::size_t column = t.column;
  const std::size_t stride = t.residual_stride;
  const auto* residual = reinterpret_cast<const std::uint8_t*>(t.residual);
  store_u8_pairs<1>(t, rows, t.params->add->zero_point, [&](std::size_t c) INTAGLIO_INLINE {
    const std::size_t next = c + V::kLanes;
    const bool both = next < columns;
    const auto e0 = add.exponents(column + c, columns - c);
    const auto e1 = both ? add.exponents(column + next, columns - next) : e0;
    return [&, c, next, both, e0, e1, f0 = sums.factors(c), f1 = sums.factors(next)](
               std::size_t r, typename V::I(&pairs)[1][2]) INTAGLIO_INLINE {
      const std::uint8_t* b = residual + r * stride;
      pairs[0][0] = add.halves(sums.clamped(r, c, f0), V::load_u8(b + c, columns - c), e0);
      pairs[0][1] =
          both ? add.halves(sums.clamped(r, next, f1), V::load_u8(b + next, columns - next), e1)
               : V::zero();
    };
  });
}

/// Sums of accumulators and a residual stream: u8 less its zero point, or s16.
template <class V>
[[gnu::noinline]] void finish_sum(const Tile<V>& t, std::size_t rows) noexcept {
  const GemmParams& p = *t.params;
  const CarriedSums<V> sums(t);
  const auto zero = V::set1_32(p.residual_zero);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      const std::size_t left = t.columns - c;
      const std::byte* residual = t.residual + r * t.residual_stride + c * residual_bytes(p);
      const auto stream =
          p.residual_type == CodeType::kU8
              ? V::sub32(V::load_u8(reinterpret_cast<const std::uint8_t*>(residual), left), zero)
              : V::load_s16(reinterpret_cast<const std::int16_t*>(residual), left);
      const auto factor = V::load_s32(p.residual_multiplier + t.column + c, left);
      ColumnFactors<V> f = sums.factors(c);
      f.bias_even = V::add64(f.bias_even, V::mul_even(stream, factor));
      f.bias_odd = V::add64(f.bias_odd, V::mul_even(V::odd(stream), V::odd(factor)));
      const auto codes = scale_exact<V>(sums.load(r, c), f, *t.rescale);
      store_codes<V>(p.output, t.dst + place_of(t, r, c), codes, left);
    }
  }
}

/// Codes and a residual stream, both s16; any shift.
template <class V>
[[gnu::noinline]] void finish_words(const Tile<V>& t, std::size_t rows) noexcept {
  const CarriedSums<V> sums(t);
  const auto* residual = reinterpret_cast<const std::int16_t*>(t.residual);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      const std::size_t left = t.columns - c;
      const auto stream = V::load_s16(residual + r * (t.residual_stride / 2) + c, left);
      const auto codes = V::add32(sums.exact(r, c, sums.factors(c)), stream);
      V::store_s16(reinterpret_cast<std::int16_t*>(t.dst + place_of(t, r, c)), codes, left);
    }
  }
}

/// Stores rows that end within a vector; the scaled sums are in t.carry. V::store_s16 saturates,
/// and a s32 is in the range of s32: no clamp is left to do.
template <class V>
[[gnu::noinline]] void store_partial(const Tile<V>& t, std::size_t rows) noexcept {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      store_codes<V>(t.rescale->output, t.dst + place_of(t, r, c),
                     V::load(t.carry + r * kColumnStep + c), t.columns - c);
    }
  }
}

template <class V, class Dot, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void multiply(const Tile<V>& t,
                                            typename V::I (&acc)[kRows][kVectors]) noexcept {
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
      acc[r][v] = t.resume ? V::load(t.carry + r * kColumnStep + v * V::kLanes) : V::zero();
    });
  });
  const std::byte* a = t.a;
  const std::byte* b = t.b + t.first_group * kVectors * sizeof(typename V::I);
  const std::size_t a_stride = t.a_stride;
  for (std::size_t g = t.groups; g != 0; --g) {
    add_products<V, Dot>(
        acc, b, [&](auto r) INTAGLIO_INLINE { return broadcast_dword<V>(a + r * a_stride); });
    a += 4;
    b += kVectors * sizeof(typename V::I);
  }
  if (t.tail_bytes != 0) {
    add_products<V, Dot>(acc, b, [&](auto r) INTAGLIO_INLINE {
      return broadcast_tail<V>(a + r * a_stride, t.tail_bytes);
    });
  }
}

/// What the shift of rescaling lacks.
template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void lift(const Tile<V>& t,
                                        typename V::I (&acc)[kRows][kVectors]) noexcept {
  if (t.lift == 0) return;
  const auto bits = V::count(t.lift);
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = V::sll32(acc[r][v], bits); });
  });
}

template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void suspend(const Tile<V>& t,
                                           typename V::I (&acc)[kRows][kVectors]) noexcept {
  std::int32_t* const carry = t.carry;
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
      V::store(carry + r * kColumnStep + v * V::kLanes, acc[r][v]);
    });
  });
}

/// Stores s16 codes, saturating, or their sums with a residual stream.
template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void store_words(const Tile<V>& t,
                                               typename V::I (&acc)[kRows][kVectors]) noexcept {
  const bool add = t.params->epilogue == GemmEpilogue::kAddWords;
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<(kVectors + 1) / 2>([&](auto i) INTAGLIO_INLINE {
      constexpr std::size_t kFirst = 2 * i.kNumber;
      constexpr std::size_t kSecond = kFirst + 1 < kVectors ? kFirst + 1 : kFirst;
      const std::size_t left = 2 * (t.columns - kFirst * V::kLanes);
      auto words = V::join_words(acc[r][kFirst], acc[r][kSecond]);
      if (add) {
        const std::byte* residual = t.residual + r * t.residual_stride + kFirst * V::kLanes * 2;
        words =
            V::adds16(words, V::load_bytes(reinterpret_cast<const std::uint8_t*>(residual), left));
      }
      std::byte* dst = t.dst + r * t.dst_stride + kFirst * V::kLanes * 2;
      V::store_bytes(reinterpret_cast<std::uint8_t*>(dst), words, left);
    });
  });
}

/// Rescales in registers and stores: the direct form.
template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void finish_direct(const Tile<V>& t,
                                                 typename V::I (&acc)[kRows][kVectors]) noexcept {
  using I = typename V::I;
  const auto beyond_32 = V::count(t.rescale->shift - 32);
  unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
    const ColumnFactors<V> f = t.factors[v];
    unroll<kRows>([&](auto r)
                      INTAGLIO_INLINE { acc[r][v] = scale_high<V>(acc[r][v], f, beyond_32); });
  });
  if (t.rescale->output == CodeType::kU8) {
    const I zero = V::set1_16(static_cast<std::int16_t>(t.rescale->zero_point));
    unroll<kRows>([&](auto r) INTAGLIO_INLINE {
      I row[V::kTileVectors];
      unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
        row[v] = v < kVectors ? acc[r][v < kVectors ? v : 0] : V::zero();
      });
      V::pack_row_u8(reinterpret_cast<std::uint8_t*>(t.dst + r * t.dst_stride), row, zero,
                     t.columns);
    });
    return;
  }
  if (t.rescale->output == CodeType::kS16) {
    store_words<V>(t, acc);
    return;
  }
  suspend<V>(t, acc);
  store_partial<V>(t, kRows);
}

template <class V>
[[gnu::noinline]] void finish_carried(const Tile<V>& t, std::size_t rows) noexcept {
  switch (t.params->epilogue) {
    case GemmEpilogue::kGelu:
      if (t.gelu_words != nullptr) {
        finish_gelu_words<V>(t, rows);
      } else {
        finish_gelu<V>(t, rows);
      }
      break;
    case GemmEpilogue::kAddCodes:
      finish_add<V>(t, rows);
      break;
    case GemmEpilogue::kAddWords:
      finish_words<V>(t, rows);
      break;
    case GemmEpilogue::kAddSums:
      finish_sum<V>(t, rows);
      break;
    case GemmEpilogue::kNone:
      finish_exact<V>(t, rows);
      break;
  }
}

template <class V, class Dot, std::size_t kRows, std::size_t kVectors>
[[gnu::noinline]] void run_tile(const Tile<V>& t) noexcept {
  typename V::I acc[kRows][kVectors];
  multiply<V, Dot>(t, acc);
  if (!t.suspend) lift<V>(t, acc);
  const bool from_registers =
      t.params->epilogue == GemmEpilogue::kNone || t.params->epilogue == GemmEpilogue::kAddWords;
  if (!t.suspend && t.rescale->direct && from_registers) {
    finish_direct<V>(t, acc);
    return;
  }
  suspend<V>(t, acc);
  if (!t.suspend) finish_carried<V>(t, kRows);
}

template <class V, class Dot>
[[gnu::noinline]] void run_small_tile(const Tile<V>& t, std::size_t rows,
                                      std::size_t vectors) noexcept {
  unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
    unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
      if (rows == r + 1 && vectors == v + 1) run_tile<V, Dot, r.kNumber + 1, v.kNumber + 1>(t);
    });
  });
}

template <class V, class Dot>
[[gnu::always_inline]] inline void run_one(const Tile<V>& t, std::size_t rows) noexcept {
  const std::size_t vectors = (t.columns + V::kLanes - 1) / V::kLanes;
  if (rows == kTileRows && vectors == V::kTileVectors) {
    run_tile<V, Dot, kTileRows, V::kTileVectors>(t);
  } else {
    run_small_tile<V, Dot>(t, rows, vectors);
  }
}

/// The tiles of `rows` <= kTileRows rows over `columns` <= kColumnStep columns. `t` describes the
/// first one; it is not copied where there is no other, because loading whole what has just been
/// written in pieces stalls the CPU.
template <class V, class Dot>
[[gnu::always_inline]] inline void run_tiles(Tile<V>& t, std::size_t rows, std::size_t columns,
                                             std::size_t panel_bytes_per_column) noexcept {
  if constexpr (kPanelColumns<V> == kColumnStep) {
    t.columns = columns;
    run_one<V, Dot>(t, rows);
  } else {
    Tile<V> part = t;
    const std::size_t size = stored_bytes(*t.params);
    for (std::size_t c = 0; c < columns; c += kPanelColumns<V>) {
      part.columns = columns - c < kPanelColumns<V> ? columns - c : kPanelColumns<V>;
      run_one<V, Dot>(part, rows);
      part.b += kPanelColumns<V> * panel_bytes_per_column;
      part.factors += V::kTileVectors;
      part.dst += kPanelColumns<V> * size;
      part.residual += kPanelColumns<V> * residual_bytes(*t.params);
      part.column += kPanelColumns<V>;
      part.carry += kPanelColumns<V>;
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
