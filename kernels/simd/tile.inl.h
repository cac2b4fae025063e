// The register tile under every matrix product: rows x vectors of s32 accumulators, fed by
// one-dword broadcasts of the left operand and full vectors of the right one.
//
// A dword holds a group of the inner dimension: four u8 x s8 (DotBytes) or two s16 x s16
// (DotWords). The right operand is a panel: per group one dword of each column, columns side by
// side. The tile is the same code for both, and for GEMM, scores and P v.
//
// Nothing overflows: DotBytes adds 4 products of at most 255 * 128 per group, DotWords 2 of at most
// 255 * 2^15, both into a s32 whose total the callers bound below 2^31; neither instruction
// saturates in between, and partial sums may wrap without harm, as the total does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/simd/rescale.inl.h"

namespace intaglio::kernels {
namespace {

inline constexpr std::size_t kGroupColumns = 64;  ///< columns whose factors are kept at hand
inline constexpr std::size_t kTileRows = 6;

template <class V>
struct DotBytes {
  static constexpr std::size_t kDepth = 4;
  [[gnu::always_inline]] static typename V::I run(typename V::I acc, typename V::I a,
                                                  typename V::I b) noexcept {
    return V::dot_u8s8(acc, a, b);
  }
};

template <class V>
struct DotWords {
  static constexpr std::size_t kDepth = 2;
  [[gnu::always_inline]] static typename V::I run(typename V::I acc, typename V::I a,
                                                  typename V::I b) noexcept {
    return V::dot_s16(acc, a, b);
  }
};

/// One tile's work. The sums of a long inner dimension may be carried from chunk to chunk.
template <class V>
struct Tile {
  const std::byte* a;               ///< [rows, groups] dwords
  std::size_t a_stride;             ///< bytes
  std::size_t groups;               ///< whole dwords
  std::size_t tail_bytes;           ///< of `a` behind the last whole dword, 0..3
  const std::byte* b;               ///< panel
  std::size_t first_group;          ///< of the chunk, within the panel
  const std::int32_t* row_terms;    ///< [rows] where the sums start; not read when resuming
  std::int32_t* carry;              ///< [kTileRows, kGroupColumns]
  bool resume;                      ///< start from carry
  bool suspend;                     ///< leave the sums in carry
  const ColumnFactors<V>* factors;  ///< [vectors]
  const Rescale* rescale;
  std::byte* dst;
  std::size_t dst_stride;  ///< bytes
  std::size_t columns;     ///< that exist in dst
};

template <class V>
[[gnu::always_inline]] inline typename V::I broadcast_dword(const std::byte* p) noexcept {
  std::int32_t word;
  std::memcpy(&word, p, sizeof word);
  return V::set1_32(word);
}

/// The last 1..3 bytes of a row, zero above them; nothing behind them is read.
template <class V>
[[gnu::always_inline]] inline typename V::I broadcast_tail(const std::byte* p,
                                                           std::size_t bytes) noexcept {
  auto word = static_cast<std::uint32_t>(p[0]);
  if (bytes > 1) word |= static_cast<std::uint32_t>(p[1]) << 8;
  if (bytes > 2) word |= static_cast<std::uint32_t>(p[2]) << 16;
  return V::set1_32(static_cast<std::int32_t>(word));
}

/// A number that is a type. (std::integral_constant's conversion would be an external function.)
template <std::size_t kValue>
struct Index {
  constexpr operator std::size_t() const noexcept { return kValue; }
};

/// Calls f(Index<0>) ... f(Index<kCount - 1>). Compilers are not trusted with the unrolling: an
/// accumulator that is indexed by a variable lives in memory.
template <class F, std::size_t... kIndices>
[[gnu::always_inline]] inline void unroll_over(std::index_sequence<kIndices...>, F& f) noexcept {
  (f(Index<kIndices>{}), ...);
}
template <std::size_t kCount, class F>
[[gnu::always_inline]] inline void unroll(F&& f) noexcept {
  unroll_over(std::make_index_sequence<kCount>{}, f);
}

/// Any shift, any zero point; the sums are in t.carry.
template <class V>
[[gnu::noinline]] void finish_exact(const Tile<V>& t, std::size_t rows) noexcept {
  const std::size_t size = output_bytes(t.rescale->output);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      const auto codes = scale_exact<V>(V::load(t.carry + r * kGroupColumns + c),
                                        t.factors[c / V::kLanes], *t.rescale);
      store_codes<V>(t.rescale->output, t.dst + r * t.dst_stride + c * size, codes, t.columns - c);
    }
  }
}

/// Stores rows that end within a vector; the scaled sums are in t.carry. V::store_s16 saturates,
/// and a s32 is in the range of s32: no clamp is left to do.
template <class V>
[[gnu::noinline]] void store_partial(const Tile<V>& t, std::size_t rows) noexcept {
  const OutputType output = t.rescale->output;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < t.columns; c += V::kLanes) {
      store_codes<V>(output, t.dst + r * t.dst_stride + c * output_bytes(output),
                     V::load(t.carry + r * kGroupColumns + c), t.columns - c);
    }
  }
}

/// One group's products: a dword of each row, given by left(row), with a vector of each column.
template <class V, class Dot, std::size_t kRows, std::size_t kVectors, class Left>
[[gnu::always_inline]] inline void add_products(typename V::I (&acc)[kRows][kVectors],
                                                const std::byte* b, Left&& left) noexcept {
  using I = typename V::I;
  I right[kVectors];
  unroll<kVectors>([&](auto v) INTAGLIO_INLINE { right[v] = V::load(b + v * sizeof(I)); });
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    const I a = left(r);
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = Dot::run(acc[r][v], a, right[v]); });
  });
}

template <class V, class Dot, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void multiply(const Tile<V>& t,
                                            typename V::I (&acc)[kRows][kVectors]) noexcept {
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
      acc[r][v] = t.resume ? V::load(t.carry + r * kGroupColumns + v * V::kLanes)
                           : V::set1_32(t.row_terms[r]);
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
      V::store(carry + r * kGroupColumns + v * V::kLanes, acc[r][v]);
    });
  });
}

/// Rescales in registers and stores: the direct form.
template <class V, std::size_t kRows, std::size_t kVectors>
[[gnu::always_inline]] inline void finish_direct(const Tile<V>& t,
                                                 typename V::I (&acc)[kRows][kVectors]) noexcept {
  using I = typename V::I;
  unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
    const ColumnFactors<V> f = t.factors[v];
    unroll<kRows>(
        [&](auto r) INTAGLIO_INLINE { acc[r][v] = scale_high<V>(acc[r][v], f, t.rescale->shift); });
  });
  const OutputType output = t.rescale->output;
  if (output == OutputType::kU8) {
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
  if (t.columns < kVectors * V::kLanes) {
    suspend<V>(t, acc);
    store_partial<V>(t, kRows);
    return;
  }
  const std::size_t size = output_bytes(output);
  unroll<kRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
      store_codes<V>(output, t.dst + r * t.dst_stride + v * V::kLanes * size, acc[r][v], V::kLanes);
    });
  });
}

template <class V, class Dot, std::size_t kRows, std::size_t kVectors>
[[gnu::noinline]] void run_tile(const Tile<V>& t) noexcept {
  typename V::I acc[kRows][kVectors];
  multiply<V, Dot>(t, acc);
  if (!t.suspend && t.rescale->direct) {
    finish_direct<V>(t, acc);
    return;
  }
  suspend<V>(t, acc);
  if (!t.suspend) finish_exact<V>(t, kRows);
}

template <class V, class Dot, std::size_t kVectors>
[[gnu::always_inline]] inline void run_tile_rows(const Tile<V>& t, std::size_t rows) noexcept {
  switch (rows) {
    case 6:
      run_tile<V, Dot, 6, kVectors>(t);
      break;
    case 5:
      run_tile<V, Dot, 5, kVectors>(t);
      break;
    case 4:
      run_tile<V, Dot, 4, kVectors>(t);
      break;
    case 3:
      run_tile<V, Dot, 3, kVectors>(t);
      break;
    case 2:
      run_tile<V, Dot, 2, kVectors>(t);
      break;
    default:
      run_tile<V, Dot, 1, kVectors>(t);
      break;
  }
}

/// The tiles of `rows` <= kTileRows rows over `columns` <= kGroupColumns columns. `t` describes the
/// first one; panel_stride is the size of one column's vector lane in b, all groups of it.
template <class V, class Dot>
void run_tiles(Tile<V> t, std::size_t rows, std::size_t columns,
               std::size_t panel_bytes_per_column) noexcept {
  constexpr std::size_t kPanel = V::kTileVectors * V::kLanes;
  const std::size_t size = output_bytes(t.rescale->output);
  for (std::size_t c = 0; c < columns; c += kPanel) {
    t.columns = columns - c < kPanel ? columns - c : kPanel;
    const std::size_t vectors = (t.columns + V::kLanes - 1) / V::kLanes;
    if constexpr (V::kTileVectors == 4) {
      switch (vectors) {
        case 4:
          run_tile_rows<V, Dot, 4>(t, rows);
          break;
        case 3:
          run_tile_rows<V, Dot, 3>(t, rows);
          break;
        case 2:
          run_tile_rows<V, Dot, 2>(t, rows);
          break;
        default:
          run_tile_rows<V, Dot, 1>(t, rows);
          break;
      }
    } else {
      static_assert(V::kTileVectors == 2);
      if (vectors == 2) {
        run_tile_rows<V, Dot, 2>(t, rows);
      } else {
        run_tile_rows<V, Dot, 1>(t, rows);
      }
    }
    t.b += kPanel * panel_bytes_per_column;
    t.factors += V::kTileVectors;
    t.dst += kPanel * size;
    t.carry += kPanel;
  }
}

}  // namespace
}  // namespace intaglio::kernels
