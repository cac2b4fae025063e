// Full tiles of a GEMM, whose sums become codes between the products of the next tile.
//
// An epilogue of a short inner dimension is as long as the products, and more than the CPU looks
// ahead. Where its additions, shifts and lookups have units of their own (AMD's four, of which two
// multiply), it is free if cut into pieces that stand between chunks of the next tile's products.
// The sums wait in t.carry; what belongs to the columns comes from memory, because the registers
// hold the next sums. Where two units do everything (Intel), that is work on top.
//
// Weights of the next columns are fetched from between the products, too, into the second level of
// cache: otherwise the first rows wait for them, a model's weights being more than caches hold.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/gemm_tile.inl.h"

namespace intaglio::kernels {
namespace {

/// With 32 registers: a tile's sums leave eight of them to the pieces, which are made for rows of
/// four vectors.
template <class V>
inline constexpr bool kHasTilesBehind =
    V::kBytes&& V::kTileVectors == 4 && kPanelColumns<V> == kColumnStep;

inline constexpr std::size_t kLineBytes = 64;

/// Where the codes of a waiting tile go.
struct Waiting {
  std::byte* dst;  ///< null: none waits
  std::size_t dst_stride;
  const std::byte* residual;
  std::size_t residual_stride;
};

/// Memory that is fetched on the way, `lines` of cache between any two chunks of products. Numbers,
/// because what lies behind the weights may be nothing.
struct Ahead {
  std::uintptr_t at, end;
  std::size_t lines;

  [[gnu::always_inline]] void fetch() noexcept {
    if (at >= end) return;
    for (std::size_t line = 0; line < lines; ++line, at += kLineBytes) {
      __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
    }
  }
};

// The epilogues, made for a column group. run(i) makes piece i of kPieces.

/// u8 codes, a row at a time.
template <class V>
struct CodesBehind {
  static constexpr std::size_t kPieces = kTileRows;
  CarriedSums<V> sums;
  typename V::I zero;

  explicit CodesBehind(const Tile<V>& t) noexcept
      : sums(t), zero(V::set1_16(static_cast<std::int16_t>(t.rescale->zero_point))) {}
  [[gnu::always_inline]] void run(std::size_t r, const Waiting& out) const noexcept {
    typename V::I row[V::kTileVectors];
    unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
      row[v] = sums.high(r, v * V::kLanes, sums.factors(v * V::kLanes));
    });
    V::pack_row_u8(reinterpret_cast<std::uint8_t*>(out.dst + r * out.dst_stride), row, zero,
                   kColumnStep);
  }
};

/// s16 codes onto a s16 stream, half a row at a time.
template <class V>
struct WordsBehind {
  static constexpr std::size_t kPieces = 2 * kTileRows;
  CarriedSums<V> sums;

  explicit WordsBehind(const Tile<V>& t) noexcept : sums(t) {}
  [[gnu::always_inline]] void run(std::size_t i, const Waiting& out) const noexcept {
    const std::size_t r = i / 2;
    const std::size_t c = i % 2 * 2 * V::kLanes;
    const auto words = V::join_words(sums.high(r, c, sums.factors(c)),
                                     sums.high(r, c + V::kLanes, sums.factors(c + V::kLanes)));
    V::store(out.dst + r * out.dst_stride + 2 * c,
             V::adds16(words, V::load(out.residual + r * out.residual_stride + 2 * c)));
  }
};

/// u8 codes and a residual stream onto a PTF grid, half a row at a time.
template <class V>
struct AddBehind {
  static constexpr std::size_t kPieces = 2 * kTileRows;
  CarriedSums<V> sums;
  ResidualVectors<V> add;
  typename V::I addend;
  typename ResidualVectors<V>::Exponents exponents[V::kTileVectors];

  explicit AddBehind(const Tile<V>& t) noexcept
      : sums(t), add(*t.params->add), addend(halves_addend<V>(t.params->add->zero_point)) {
    for (std::size_t v = 0; v < V::kTileVectors; ++v) {
      exponents[v] = add.exponents(t.column + v * V::kLanes, V::kLanes);
    }
  }
  [[gnu::always_inline]] void run(std::size_t i, const Waiting& out) const noexcept {
    const std::size_t r = i / 2;
    const std::size_t v = i % 2 * 2;
    typename V::I pair[2];
    unroll<2>([&](auto j) INTAGLIO_INLINE {
      const std::size_t c = (v + j) * V::kLanes;
      const auto* residual =
          reinterpret_cast<const std::uint8_t*>(out.residual + r * out.residual_stride + c);
      pair[j] = add.halves(sums.clamped(r, c, sums.factors(c)), V::load_u8(residual, V::kLanes),
                           exponents[v + j]);
    });
    V::pack_halves_u8(reinterpret_cast<std::uint8_t*>(out.dst + r * out.dst_stride + v * V::kLanes),
                      pair, addend, 2 * V::kLanes);
  }
};

/// s16 codes through GELU, half a row at a time.
template <class V>
struct GeluBehind {
  static constexpr std::size_t kPieces = 2 * kTileRows;
  CarriedSums<V> sums;
  GeluWords<V> gelu;
  typename V::I addend;
  PairShifts<V> by[2];

  explicit GeluBehind(const Tile<V>& t) noexcept
      : sums(t), gelu(*t.gelu_words), addend(halves_addend<V>(t.params->gelu->zero_point)) {
    for (std::size_t half = 0; half < 2; ++half) {
      const std::size_t c = half * 2 * V::kLanes;
      by[half] = pair_shifts<V>(gelu.shift, gelu.exponents, t.column + c, kColumnStep - c);
    }
  }
  [[gnu::always_inline]] void run(std::size_t i, const Waiting& out) const noexcept {
    const std::size_t r = i / 2;
    const std::size_t c = i % 2 * 2 * V::kLanes;
    typename V::I pairs[1][2] = {{sums.high(r, c, sums.factors(c)),
                                  sums.high(r, c + V::kLanes, sums.factors(c + V::kLanes))}};
    gelu.sums(pairs);
    shift_pair<V>(pairs[0], by[i % 2]);
    V::pack_halves_u8(reinterpret_cast<std::uint8_t*>(out.dst + r * out.dst_stride + c), pairs[0],
                      addend, kColumnStep - c);
  }
};

/// The products of a full tile, into t.carry; between them the pieces of what waits there.
template <class V, class Finish>
[[gnu::noinline]] void run_tile_behind(const Tile<V>& t, const Finish& finish, const Waiting& out,
                                       Ahead& ahead) noexcept {
  typename V::I acc[kTileRows][V::kTileVectors];
  unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
    unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = V::zero(); });
  });
  const std::byte* a = t.a;
  const std::byte* b = t.b;
  const std::size_t a_stride = t.a_stride;
  const auto products = [&](std::size_t groups) INTAGLIO_INLINE {
    for (; groups != 0; --groups) {
      add_products<V, DotBytes<V>>(
          acc, b, [&](auto r) INTAGLIO_INLINE { return broadcast_dword<V>(a + r * a_stride); });
      a += 4;
      b += V::kTileVectors * sizeof(typename V::I);
    }
  };
  const std::size_t chunk = t.groups / Finish::kPieces;
  if (out.dst != nullptr) {
    for (std::size_t i = 0; i < Finish::kPieces; ++i) {
      products(chunk);
      ahead.fetch();
      finish.run(i, out);
    }
    products(t.groups - chunk * Finish::kPieces);
  } else {
    products(t.groups);
  }
  if (t.tail_bytes != 0) {
    add_products<V, DotBytes<V>>(acc, b, [&](auto r) INTAGLIO_INLINE {
      return broadcast_tail<V>(a + r * a_stride, t.tail_bytes);
    });
  }
  lift<V>(t, acc);
  suspend<V>(t, acc);
}

/// As many of the m rows as make full tiles, and their number. `t` goes on behind them.
template <class V, class Finish>
std::size_t multiply_behind(Tile<V>& t, const std::uint8_t* src, std::size_t m) noexcept {
  const Finish finish(t);
  Waiting out = {nullptr, t.dst_stride, nullptr, t.residual_stride};
  // Behind the last column lie, as a rule, the weights of the next product.
  const std::size_t panel_bytes = column_bytes<V>(t.groups * 4 + t.tail_bytes) * kColumnStep;
  const std::size_t tiles = m / kTileRows;
  const std::size_t pieces = (tiles - 1) * Finish::kPieces;  // there are none between the first's
  const std::uintptr_t next = reinterpret_cast<std::uintptr_t>(t.b) + panel_bytes;
  Ahead ahead = {next, next + panel_bytes, tiles < 2 ? 0 : panel_bytes / kLineBytes / pieces + 1};
  std::size_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows) {
    t.a = reinterpret_cast<const std::byte*>(src + i * t.a_stride);
    run_tile_behind<V>(t, finish, out, ahead);
    out.dst = t.dst;
    out.residual = t.residual;
    t.dst += kTileRows * t.dst_stride;
    t.residual += kTileRows * t.residual_stride;
  }
  for (std::size_t piece = 0; i != 0 && piece < Finish::kPieces; ++piece) finish.run(piece, out);
  return i;
}

/// The same with the epilogue that is asked for; no row where none of these is that one.
template <class V>
std::size_t multiply_full_tiles(Tile<V>& t, const std::uint8_t* src, std::size_t m) noexcept {
  if (!t.rescale->direct) return 0;
  switch (t.params->epilogue) {
    case GemmEpilogue::kNone:
      if (t.rescale->output != CodeType::kU8) return 0;
      return multiply_behind<V, CodesBehind<V>>(t, src, m);
    case GemmEpilogue::kGelu:
      if (t.gelu_words == nullptr) return 0;
      return multiply_behind<V, GeluBehind<V>>(t, src, m);
    case GemmEpilogue::kAddWords:
      return multiply_behind<V, WordsBehind<V>>(t, src, m);
    case GemmEpilogue::kAddCodes:
      return multiply_behind<V, AddBehind<V>>(t, src, m);
    case GemmEpilogue::kAddSums:
      return 0;
  }
  return 0;
}

}  // namespace
}  // namespace intaglio::kernels
