// A tile of a GEMM: products, then what becomes of the sums.
//
// Plain codes are made and stored from the registers. Everything else (a shift below 32, an odd
// zero point, a fused GELU or residual addition) goes through a few lines of first-level cache,
// where one loop serves tiles of every size: a store and a load per vector cost little beside the
// epilogue.
#pragma once

#include <cstddef>
#include <cstdint>

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
      params.epilogue == GemmEpilogue::kAddSums && params.residual_type == CodeType::kS16;
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
        lift_(V::count(t.lift)),
        beyond_32_(V::count(t.rescale->shift - 32)),
        low_(V::set1_32(static_cast<std::int32_t>(t.rescale->low))),
        high_(V::set1_32(static_cast<std::int32_t>(t.rescale->high))),
        zero_point_(V::set1_32(t.rescale->zero_point)) {}

  /// Codes less the zero point, from row r, column c on. Not clamped beyond s32: of the direct form
  /// alone.
  [[gnu::always_inline]] I high(std::size_t r, std::size_t c) const noexcept {
    return scale_high<V>(load(r, c), factors_[c / V::kLanes], beyond_32_);
  }
  /// Codes, any shift and zero point.
  [[gnu::always_inline]] I exact(std::size_t r, std::size_t c) const noexcept {
    return scale_exact<V>(load(r, c), factors_[c / V::kLanes], rescale_);
  }
  /// Codes less the zero point, within the output's range.
  [[gnu::always_inline]] I clamped(std::size_t r, std::size_t c) const noexcept {
    if (!rescale_.direct) return V::sub32(exact(r, c), zero_point_);
    return V::min32(V::max32(high(r, c), low_), high_);
  }
  /// The sums themselves.
  [[gnu::always_inline]] I load(std::size_t r, std::size_t c) const noexcept {
    return V::sll32(V::load(sums_ + r * kColumnStep + c), lift_);
  }
  const ColumnFactors<V>& factors(std::size_t c) const noexcept { return factors_[c / V::kLanes]; }

 private:
  const std::int32_t* const sums_;
  const ColumnFactors<V>* const factors_;
  const Rescale rescale_;
  const typename V::Count lift_, beyond_32_;
  const I low_, high_, zero_point_;
};

/// Any shift, any zero point; the sums are in t.carry.
template <class V>
[[gnu::noinline]] void finish_exact(const Tile<V>& t, std::size_t rows) noexcept {
  const CarriedSums<V> sums(t);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      store_codes<V>(t.rescale->output, t.dst + place_of(t, r, c), sums.exact(r, c), t.columns - c);
    }
  }
}

/// Rows of u8 codes. codes(r, c, row) fills a panel's width of row r from column c on, less
/// `zero_point`; columns that do not exist may hold anything.
template <class V, class Codes>
[[gnu::always_inline]] inline void store_u8_rows(const Tile<V>& t, std::size_t rows,
                                                 std::int32_t zero_point, Codes&& codes) noexcept {
  const auto zero = V::set1_16(static_cast<std::int16_t>(zero_point));
  std::byte* dst = t.dst;
  const std::size_t stride = t.dst_stride;
  const std::size_t columns = t.columns;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; c += kPanelColumns<V>) {
      typename V::I row[V::kTileVectors];
      codes(r, c, row);
      V::pack_row_u8(reinterpret_cast<std::uint8_t*>(dst + c), row, zero, columns - c);
    }
    dst += stride;
  }
}

template <class V, class Gelu>
[[gnu::always_inline]] inline void finish_gelu_as(const Tile<V>& t, std::size_t rows,
                                                  const Gelu& gelu) noexcept {
  const CarriedSums<V> sums(t);
  const bool direct = t.rescale->direct;
  store_u8_rows(t, rows, t.params->gelu->zero_point,
                [&](std::size_t r, std::size_t c, typename V::I(&row)[V::kTileVectors])
                    INTAGLIO_INLINE {
                      unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
                        // GELU saturates to s16 itself, as the direct form leaves it to do.
                        const std::size_t at = c + v * V::kLanes;
                        row[v] = direct ? sums.high(r, at) : sums.exact(r, at);
                      });
                      unroll<V::kTileVectors / 2>(
                          [&](auto v) INTAGLIO_INLINE { gelu.codes(row[2 * v], row[2 * v + 1]); });
                    });
}

template <class V>
[[gnu::noinline]] void finish_gelu(const Tile<V>& t, std::size_t rows) noexcept {
  finish_gelu_as(t, rows, GeluDwords<V>(*t.params->gelu));
}

template <class V>
[[gnu::noinline]] void finish_gelu_words(const Tile<V>& t, std::size_t rows) noexcept {
  const GeluWords<V> gelu = *t.gelu_words;
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
  store_u8_rows(t, rows, t.params->add->zero_point,
                [&](std::size_t r, std::size_t c, typename V::I(&row)[V::kTileVectors])
                    INTAGLIO_INLINE {
                      unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
                        const std::size_t at = c + v * V::kLanes;
                        row[v] = V::zero();
                        if (at >= columns) return;
                        const std::size_t left = columns - at;
                        const auto b = V::load_u8(residual + r * stride + at, left);
                        row[v] = add.codes(sums.clamped(r, at), b, column + at, left);
                      });
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

/// Rescales in registers and stores: the direct form.
template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void finish_direct(const Tile<V>& t,
                                                 typename V::I (&acc)[kRows][kVectors]) noexcept {
  using I = typename V::I;
  if (t.lift != 0) {
    unroll<kRows>([&](auto r) INTAGLIO_INLINE {
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = V::sll32(acc[r][v], t.lift); });
    });
  }
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
  suspend<V>(t, acc);
  store_partial<V>(t, kRows);
}

template <class V>
[[gnu::noinline]] void finish_carried(const Tile<V>& t, std::size_t rows) noexcept {
  switch (t.params->epilogue) {
    case GemmEpilogue::kGelu:
      if constexpr (V::kWordTables) {
        if (t.gelu_words != nullptr) {
          finish_gelu_words<V>(t, rows);
          break;
        }
      }
      finish_gelu<V>(t, rows);
      break;
    case GemmEpilogue::kAddCodes:
      finish_add<V>(t, rows);
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
  if (!t.suspend && t.rescale->direct && t.params->epilogue == GemmEpilogue::kNone) {
    finish_direct<V>(t, acc);
    return;
  }
  suspend<V>(t, acc);
  if (!t.suspend) finish_carried<V>(t, kRows);
}

/// The tiles of `rows` <= kTileRows rows over `columns` <= kColumnStep columns. `t` describes the
/// first one.
template <class V, class Dot>
void run_tiles(Tile<V> t, std::size_t rows, std::size_t columns,
               std::size_t panel_bytes_per_column) noexcept {
  const std::size_t size = stored_bytes(*t.params);
  for (std::size_t c = 0; c < columns; c += kPanelColumns<V>) {
    t.columns = columns - c < kPanelColumns<V> ? columns - c : kPanelColumns<V>;
    const std::size_t vectors = (t.columns + V::kLanes - 1) / V::kLanes;
    unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
      unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
        if (rows == r + 1 && vectors == v + 1) run_tile<V, Dot, r.kNumber + 1, v.kNumber + 1>(t);
      });
    });
    t.b += kPanelColumns<V> * panel_bytes_per_column;
    t.factors += V::kTileVectors;
    t.dst += kPanelColumns<V> * size;
    t.residual += kPanelColumns<V> * residual_bytes(*t.params);
    t.column += kPanelColumns<V>;
    t.carry += kPanelColumns<V>;
  }
}

}  // namespace
}  // namespace intaglio::kernels
