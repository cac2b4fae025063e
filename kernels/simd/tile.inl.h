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
#include <type_traits>
#include <utility>

#include "kernels/kernels.h"

// A lambda that must become part of its caller.
#define INTAGLIO_INLINE __attribute__((always_inline))

namespace intaglio::kernels {
namespace {

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
  static constexpr std::size_t kNumber = kValue;
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

/// Nothing to do between products.
struct NoPiece {};

/// Products of `groups` groups; piece(r), if there is one, for every row between them.
template <class V, class Dot, std::size_t kVectors, class Piece = NoPiece>
[[gnu::always_inline]] inline void add_groups(typename V::I (&acc)[kTileRows][kVectors],
                                              const std::byte* const (&src)[kTileRows],
                                              std::size_t offset, std::size_t groups,
                                              const std::byte* panel, Piece&& piece = {}) noexcept {
  const std::byte* const a0 = src[0] + offset;
  const std::byte* const a1 = src[1] + offset;
  const std::byte* const a2 = src[2] + offset;
  const std::byte* const a3 = src[3] + offset;
  const std::byte* const a4 = src[4] + offset;
  const std::byte* const a5 = src[5] + offset;
  static_assert(kTileRows == 6);
  std::size_t g = 0;
  const auto products_up_to = [&](std::size_t end) INTAGLIO_INLINE {
    for (; g < end; ++g) {
      const std::byte* const a[kTileRows] = {a0, a1, a2, a3, a4, a5};
      add_products<V, Dot>(
          acc, panel, [&](auto r) INTAGLIO_INLINE { return broadcast_dword<V>(a[r] + 4 * g); });
      panel += kVectors * sizeof(typename V::I);
    }
  };
  if constexpr (!std::is_same_v<Piece, NoPiece>) {
    const std::size_t chunk = groups / kTileRows;
    for (std::size_t r = 0; r < kTileRows; ++r) {
      products_up_to(g + chunk);
      piece(r);
    }
  }
  products_up_to(groups);
}

/// Bytes of the inner dimension in a dword of the right operand; columns of a full panel.
template <class V>
inline constexpr std::size_t kPackDepth = V::kBytes ? 4 : 2;
template <class V>
inline constexpr std::size_t kPanelColumns = V::kTileVectors* V::kLanes;

template <class V>
inline constexpr std::size_t kVectorBytes = V::kLanes * 4;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

/// Bytes of one column in a panel.
template <class V>
constexpr std::size_t column_bytes(std::size_t k) noexcept {
  return round_up(k, kPackDepth<V>) / kPackDepth<V> * 4;
}

}  // namespace
}  // namespace intaglio::kernels
