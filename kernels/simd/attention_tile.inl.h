// One head of attention, tile by tile of rows: scores, softmax, P v. Keys and values are laid out
// once per call; nothing larger than a tile's rows of scores and weights is stored. Where tokens
// are not neighbours in memory (windows of a map), they are found one by one as they are laid out.
//
// Scores. With b = k - c, c = key_center(z) the number that makes k fit the right operand
// (128 for s8, z itself for s16):
//   sum (q - z)(k - z) = sum q b + (c - z) sum q - z sum (k - z)
// The second term is a row's, the third a column's; both are where the sums start. |sum q b| <=
// 255 * 255 * 256, the other two the same: below 2^26 together.
//
// P v, kBytes levels. Weights 2^(unit - code) are two planes of bytes, upper and lower halves, and
// values s8, v - 128:
//   sum (v - z) w = 2^8 sum (v - 128) w_high + sum (v - 128) w_low + (128 - z) sum w
// The upper plane is multiplied first and shifted in the registers; the lower one goes on there.
// Sums may wrap modulo 2^32 in between, the total does not. A uniform softmax has the lower plane
// alone.
//
// P v, other levels. s16 holds -w and z - v: sum (v - z) w = sum (-w)(z - v), tokens in pairs. A
// uniform softmax has +w, negated sums and a negated factor.
//
// P v by literal shifts: (v - z) << (unit - code), added. Kept as a candidate for the bench.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/simd/attention_pack.inl.h"
#include "kernels/simd/rescale.inl.h"
#include "kernels/simd/softmax.inl.h"

namespace intaglio::kernels {
namespace {

/// Rescaling with one multiplier for a row and one rounding constant for all.
template <class V>
struct RowRescale {
  Rescale rescale;
  typename V::I half;  ///< 2^(shift-1), 64-bit lanes
  std::int32_t multiplier[kTileRows];

  RowRescale(int shift, std::int32_t zero_point) noexcept
      : rescale(make_rescale(shift, zero_point, CodeType::kU8)),
        half(V::set1_64(std::int64_t{1} << (shift - 1))) {}
};

template <class V>
inline ColumnFactors<V> uniform_factors(std::int32_t multiplier, typename V::I half) noexcept {
  const auto m = V::set1_32(multiplier);
  return {m, m, half, half};
}

/// Where a tile's rows are read and written.
struct TileRows {
  const std::byte* src[kTileRows];
  std::uint8_t* dst[kTileRows];
  std::int32_t term[kTileRows];              ///< added to every sum of the row
  const std::int32_t* bias[kTileRows] = {};  ///< added to the sums of scores; or null, all of them
  std::size_t first_plane = 0;               ///< of the weights
};

/// Any shift and zero point; sums [kTileRows, kVectors * V::kLanes].
template <class V>
[[gnu::noinline]] void store_rows_exact(const RowRescale<V>& r, const std::int32_t* sums,
                                        std::size_t sums_stride, const TileRows& rows,
                                        std::size_t offset, std::size_t columns) noexcept {
  for (std::size_t i = 0; i < kTileRows; ++i) {
    const ColumnFactors<V> factors = uniform_factors<V>(r.multiplier[i], r.half);
    for (std::size_t c = 0; c < columns; c += V::kLanes) {
      const auto codes = scale_exact<V>(V::load(sums + i * sums_stride + c), factors, r.rescale);
      V::store_u8(rows.dst[i] + offset + c, codes, columns - c);
    }
  }
}

/// A row of the direct form; sums(v) gives vector v of kVectors.
template <class V, std::size_t kVectors, class Sums>
[[gnu::always_inline]] inline void store_row(std::uint8_t* dst, Sums&& sums,
                                             const ColumnFactors<V>& factors,
                                             typename V::Count beyond_32, typename V::I zero,
                                             std::size_t columns) noexcept {
  typename V::I row[V::kTileVectors];
  unroll<V::kTileVectors>([&](auto v) INTAGLIO_INLINE {
    if constexpr (v < kVectors) {
      row[v] = scale_high<V>(sums(v), factors, beyond_32);
    } else {
      row[v] = V::zero();
    }
  });
  V::pack_row_u8(dst, row, zero, columns);
}

/// The first `columns` columns of the tile, as codes.
template <class V, std::size_t kVectors>
[[gnu::always_inline]] inline void store_rows(const RowRescale<V>& r,
                                              typename V::I (&acc)[kTileRows][kVectors],
                                              const TileRows& rows, std::size_t offset,
                                              std::size_t columns) noexcept {
  using I = typename V::I;
  if (!r.rescale.direct) {
    alignas(64) std::int32_t sums[kTileRows * kVectors * V::kLanes];
    unroll<kTileRows>([&](auto i) INTAGLIO_INLINE {
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
        V::store(sums + (i * kVectors + v) * V::kLanes, acc[i][v]);
      });
    });
    constexpr std::size_t kMade = kVectors * V::kLanes;
    store_rows_exact<V>(r, sums, kMade, rows, offset, columns < kMade ? columns : kMade);
    return;
  }
  const I zero = V::set1_16(static_cast<std::int16_t>(r.rescale.zero_point));
  const auto beyond_32 = V::count(r.rescale.shift - 32);
  unroll<kTileRows>([&](auto i) INTAGLIO_INLINE {
    store_row<V, kVectors>(
        rows.dst[i] + offset, [&](auto v) INTAGLIO_INLINE { return acc[i][v]; },
        uniform_factors<V>(r.multiplier[i], r.half), beyond_32, zero, columns);
  });
}

/// Where the sums of scores start.
template <class V, std::size_t kVectors>
[[gnu::always_inline]] inline void start_scores(typename V::I (&acc)[kTileRows][kVectors],
                                                const AttentionLayout& l, const TileRows& rows,
                                                std::size_t first,
                                                const std::byte* scratch) noexcept {
  using I = typename V::I;
  const auto* terms = reinterpret_cast<const std::int32_t*>(scratch + l.column_terms) + first;
  unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
    const I term = V::set1_32(rows.term[r]);
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
      acc[r][v] = V::add32(term, V::load(terms + v * V::kLanes));
    });
  });
  if (rows.bias[0] != nullptr) {
    static_assert(kBiasPadding >= V::kLanes - 1);
    unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
        acc[r][v] = V::add32(acc[r][v], V::load(rows.bias[r] + first + v * V::kLanes));
      });
    });
  }
}

/// Scores of one panel of keys.
template <class V, std::size_t kVectors>
[[gnu::noinline]] void score_tile(const AttentionParams& p, const AttentionLayout& l,
                                  const RowRescale<V>& rescale, const TileRows& rows,
                                  std::size_t first, const std::byte* scratch) noexcept {
  using I = typename V::I;
  const std::byte* panel = scratch + l.keys + first * l.key_groups * 4;
  I acc[kTileRows][kVectors];
  start_scores<V>(acc, l, rows, first, scratch);
  if constexpr (V::kBytes) {
    const std::size_t whole = p.head_dim / 4;
    add_groups<V, DotBytes<V>, kVectors>(acc, rows.src, 0, whole, panel);
    if (p.head_dim % 4 != 0) {
      add_products<V, DotBytes<V>>(
          acc, panel + whole * kVectors * sizeof(I), [&](auto r) INTAGLIO_INLINE {
            return broadcast_tail<V>(rows.src[r] + 4 * whole, p.head_dim % 4);
          });
    }
  } else {
    add_groups<V, DotWords<V>, kVectors>(acc, rows.src, 0, l.key_groups, panel);
  }
  // A whole panel's width, whatever it holds: the rows have room, and are read in whole vectors.
  store_rows<V, kVectors>(rescale, acc, rows, first, kPanelColumns<V>);
}

/// P v of one panel of channels.
template <class V, std::size_t kVectors>
[[gnu::noinline]] void attend_tile(const AttentionParams& p, const AttentionLayout& l,
                                   const RowRescale<V>& rescale, const TileRows& rows,
                                   std::size_t first, const std::byte* scratch) noexcept {
  using I = typename V::I;
  const std::byte* panel = scratch + l.values + first * l.value_groups * 4;
  I acc[kTileRows][kVectors];
  unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
    unroll<kVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = V::zero(); });
  });
  if constexpr (V::kBytes) {
    // One loop: gcc spills the sums of two.
    for (std::size_t plane = rows.first_plane; plane < 2; ++plane) {
      unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
        const I term = V::set1_32(plane == 0 ? 0 : rows.term[r]);
        unroll<kVectors>(
            [&](auto v) INTAGLIO_INLINE { acc[r][v] = V::add32(V::sll32(acc[r][v], 8), term); });
      });
      add_groups<V, DotBytes<V>, kVectors>(acc, rows.src, plane * l.row_bytes, l.value_groups,
                                           panel);
    }
  } else {
    add_groups<V, DotWords<V>, kVectors>(acc, rows.src, 0, l.value_groups, panel);
  }
  const std::size_t left = p.head_dim - first;
  store_rows<V, kVectors>(rescale, acc, rows, first,
                          left < kVectors * V::kLanes ? left : kVectors * V::kLanes);
}

/// A row of codes of scores with the bias of its query added, in place; what lies behind the tokens
/// has no meaning.
template <class V>
inline void add_bias_to_codes(const AttentionParams& p, const std::int32_t* bias,
                              std::uint8_t* codes) noexcept {
  const auto zero_scores = V::set1_32(p.scores.zero_point);
  const auto multiplier = V::set1_32(p.bias.multiplier);
  const auto half = V::set1_32(1 << (p.bias.shift - 1));
  const auto zero = V::set1_32(p.bias.zero_point);
  const auto shift = V::count(p.bias.shift);
  for (std::size_t c = 0; c < p.tokens; c += V::kLanes) {
    const auto code = V::sub32(V::load_u8(codes + c, V::kLanes), zero_scores);
    const auto addend = V::add32(V::load_s32(bias + c, p.tokens - c), half);
    const auto sum = V::sra32(V::add32(V::mullo32(code, multiplier), addend), shift);
    const auto clamped = V::min32(V::max32(V::add32(sum, zero), V::zero()), V::set1_32(255));
    V::store_u8(codes + c, clamped, V::kLanes);
  }
}

/// Calls f with the number of vectors, as a type, of each panel of `columns` columns.
template <class V, class F>
inline void for_each_panel(std::size_t columns, F&& f) noexcept {
  for (std::size_t first = 0; first < columns; first += kPanelColumns<V>) {
    const std::size_t vectors = panel_vectors<V>(columns, first);
    unroll<V::kTileVectors>([&](auto n) INTAGLIO_INLINE {
      if (vectors == n + 1) f(first, Index<n + 1>{});
    });
  }
}

/// A level that looks scores up in 256 entries and multiplies bytes.
template <class V>
inline constexpr bool kWeighsScores = V::kBytes&& V::kByteTables;

/// One tile of up to kTileRows rows at a time; the missing ones repeat the first and write nowhere.
template <class V>
class AttentionTile {
 public:
  AttentionTile(const AttentionParams& params, const AttentionOperands& operands,
                std::byte* scratch) noexcept
      : p_(params),
        o_(operands),
        l_(lay_out<V>(params)),
        table_(*reinterpret_cast<const SoftmaxTable*>(params.prepared)),
        scratch_(scratch),
        score_rescale_(params.scores.shift, params.scores.zero_point),
        attend_rescale_(params.attend.shift, params.attend.zero_point) {
    const std::size_t padding = l_.vectors * kVectorBytes<V> - params.tokens;
    last_mask_ = V::first_bytes(kVectorBytes<V> - padding);
    for (std::int32_t& m : score_rescale_.multiplier) m = params.scores.multiplier;
    const std::int32_t sign = !V::kBytes && uniform() ? -1 : 1;
    for (std::int32_t& m : attend_rescale_.multiplier) m = sign * params.attend.multiplier;
  }

  void pack() noexcept {
    pack_keys<V>(p_, l_, keys(), scratch_);
    pack_values<V>(p_, values(), scratch_ + l_.values);
  }
  void pack_keys_only() noexcept { pack_keys<V>(p_, l_, keys(), scratch_); }

  /// Scores of the queries from `first_query` on, as codes; behind the tokens they mean nothing.
  void make_scores(std::size_t first_query, std::size_t rows) noexcept {
    const TileRows tile = score_rows(first_query, rows);
    for_each_panel<V>(p_.tokens, [&](std::size_t first, auto vectors) INTAGLIO_INLINE {
      score_tile<V, vectors.kNumber>(p_, l_, score_rescale_, tile, first, scratch_);
    });
    for (std::size_t r = 0; p_.bias.side != 0 && p_.bias.shift != 0 && r < rows; ++r) {
      const std::size_t query = first_query + r;
      add_bias_to_codes<V>(p_, bias_of(query / p_.bias.width, query % p_.bias.width), codes(r));
    }
  }

  /// The scores become codes of the softmax.
  void make_map(std::size_t rows) noexcept {
    const std::size_t last = (l_.vectors - 1) * kVectorBytes<V>;
    for (std::size_t r = 0; r < rows; ++r) {
      V::store(codes(r) + last, V::and_bits(V::load(codes(r) + last), last_mask_));
    }
    const ScoreRows scores = {codes(0), l_.row_bytes, p_.tokens, l_.vectors};
    if (uniform()) {
      make_uniform_codes<V>(p_.softmax, table_, scores, rows);
    } else {
      make_codes<V>(p_.softmax, table_, scores, rows);
    }
  }

  /// Scores of a row-relative softmax become weights without being codes before.
  bool weighs_scores() const noexcept {
    return kWeighsScores<V> && p_.softmax.form == SoftmaxForm::kRowRelative;
  }

  /// P v; weighs scores, or the codes of the map.
  void attend(std::size_t first_query, std::size_t rows) noexcept {
    TileRows tile;
    tile.first_plane = uniform() ? 1 : 0;
    std::uint8_t nowhere[kMaxHeadDim];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.src[r] = weights(r < rows ? r : 0);
      tile.dst[r] = r < rows ? result(first_query + r, nowhere) : nowhere;
      tile.term[r] = 0;
    }
    std::int32_t sums[kTileRows];
    weigh(rows, sums);
    for (std::size_t r = 0; r < rows; ++r) {
      if constexpr (V::kBytes) tile.term[r] = (128 - p_.attend.zero_src) * sums[r];
      set_multiplier(r, sums[r]);
    }
    for_each_panel<V>(p_.head_dim, [&](std::size_t first, auto vectors) INTAGLIO_INLINE {
      attend_tile<V, vectors.kNumber>(p_, l_, attend_rescale_, tile, first, scratch_);
    });
  }

  /// The same by shifts of the values as they lie.
  void attend_bitshift(std::size_t first_query, std::size_t rows) noexcept {
    const auto zero = V::set1_32(p_.attend.zero_src);
    const TokenRows v = values();
    for (std::size_t r = 0; r < rows; ++r) {
      std::uint8_t* const dst = result(first_query + r, nullptr);
      if (dst == nullptr) continue;
      std::int32_t sum = 0;
      for (std::size_t j = 0; j < p_.tokens; ++j) {
        if (shift_of(codes(r)[j]) >= 0) sum += 1 << shift_of(codes(r)[j]);
      }
      set_multiplier(r, sum);
      alignas(64) std::int32_t sums[round_up(kMaxHeadDim, V::kLanes)];
      for (std::size_t c = 0; c < p_.head_dim; c += V::kLanes) {
        auto acc = V::zero();
        for (std::size_t j = 0; j < p_.tokens; ++j) {
          const int shift = shift_of(codes(r)[j]);
          if (shift < 0) continue;
          const auto value = V::load_u8(v[j] + c, p_.head_dim - c);
          acc = V::add32(acc, V::sll32(V::sub32(value, zero), shift));
        }
        V::store(sums + c, acc);
      }
      const ColumnFactors<V> factors =
          uniform_factors<V>(attend_rescale_.multiplier[r], attend_rescale_.half);
      for (std::size_t c = 0; c < p_.head_dim; c += V::kLanes) {
        V::store_u8(dst + c, scale_exact<V>(V::load(sums + c), factors, attend_rescale_.rescale),
                    p_.head_dim - c);
      }
    }
  }

 protected:
  /// Makes weights of all rows, and their sums.
  void weigh(std::size_t rows, std::int32_t* sums) noexcept {
    if constexpr (kWeighsScores<V>) {
      if (weighs_scores()) {
        std::uint8_t maximum[kTileRows];
        for (std::size_t r = 0; r < rows; ++r) maximum[r] = maximum_of(r);
        for (std::size_t r = 0; r < rows; ++r) {
          sums[r] = V::sum_s32(weigh_scores(r, maximum[r], weights(r)));
        }
        return;
      }
    }
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] =
          uniform()
              ? copy_weights<V>(codes(r), l_.vectors, last_mask_, weights(r), l_.row_bytes)
              : make_weights<V>(table_, codes(r), l_.vectors, last_mask_, weights(r), l_.row_bytes);
    }
  }

  /// Of a row of scores.
  [[gnu::always_inline]] std::uint8_t maximum_of(std::size_t r) const noexcept {
    const std::size_t last = (l_.vectors - 1) * kVectorBytes<V>;
    auto best = V::and_bits(V::load(codes(r) + last), last_mask_);
    for (std::size_t i = 0; i < last; i += kVectorBytes<V>) {
      best = V::max_u8(best, V::load(codes(r) + i));
    }
    return V::maximum_u8(best);
  }

  /// Weights of a row of scores, both planes. Returns their sum, spread over the lanes.
  [[gnu::always_inline]] typename V::I weigh_scores(std::size_t r, std::uint8_t maximum,
                                                    std::byte* upper) const noexcept {
    const std::uint8_t* const row = codes(r);
    const std::size_t last = (l_.vectors - 1) * kVectorBytes<V>;
    std::byte* const lower = upper + l_.row_bytes;
    const auto from = V::set1_8(maximum);
    auto high_sums = V::zero();
    auto low_sums = V::zero();
    for (std::size_t i = 0; i <= last; i += kVectorBytes<V>) {
      const auto distance = V::sub8(from, V::load(row + i));
      const auto code = V::lookup256(V::load_table256(table_.map), distance);
      const auto index = V::add8(code, V::set1_8(kZeroBehind));
      auto high = V::lookup16(V::load_table16(table_.high), index);
      auto low = V::lookup16(V::load_table16(table_.low), index);
      if (i == last) {
        high = V::and_bits(high, last_mask_);
        low = V::and_bits(low, last_mask_);
      }
      V::store(upper + i, high);
      V::store(lower + i, low);
      high_sums = V::dot_u8s8(high_sums, high, V::set1_8(1));
      low_sums = V::dot_u8s8(low_sums, low, V::set1_8(1));
    }
    return V::add32(V::sll32(high_sums, 8), low_sums);
  }

  /// The queries from `first_query` on as rows of scores.
  TileRows score_rows(std::size_t first_query, std::size_t rows) const noexcept {
    TileRows tile;
    // Whatever padding has as queries, nobody reads what comes of it.
    const TokenRows queries = {o_.q, p_.src_stride, o_.token_rows, o_.padding_key};
    const bool biased = p_.bias.side != 0;
    const std::int32_t factor = key_center<V>(p_.scores.zero_src) - p_.scores.zero_src;
    // One division for all rows.
    const std::size_t width = biased ? p_.bias.width : 1;
    std::size_t y = first_query / width;
    std::size_t x = first_query % width;
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const bool exists = r < rows;
      const std::uint8_t* row = queries[first_query + (exists ? r : 0)];
      if (biased && p_.bias.shift == 0) tile.bias[r] = exists ? bias_of(y, x) : tile.bias[0];
      if (++x == width) {
        x = 0;
        ++y;
      }
      tile.term[r] = factor == 0 ? 0 : factor * V::sum_u8(row, p_.head_dim);
      tile.dst[r] = codes(r);
      if constexpr (V::kBytes) {
        tile.src[r] = reinterpret_cast<const std::byte*>(row);
      } else {
        auto* wide = reinterpret_cast<std::int16_t*>(scratch_ + l_.queries) + r * kMaxHeadDim;
        widen_row<V>(row, p_.head_dim, wide);
        tile.src[r] = reinterpret_cast<const std::byte*>(wide);
      }
    }
    return tile;
  }
  TokenRows keys() const noexcept { return {o_.k, p_.src_stride, o_.token_rows, o_.padding_key}; }
  TokenRows values() const noexcept {
    return {o_.v, p_.src_stride, o_.token_rows, o_.padding_value};
  }
  /// Where the result of a query goes; `nowhere` for padding.
  std::uint8_t* result(std::size_t query, std::uint8_t* nowhere) const noexcept {
    if (o_.token_rows == nullptr) return o_.dst + query * p_.dst_stride;
    const std::uint32_t row = o_.token_rows[query];
    return row == kPaddingRow ? nowhere : o_.dst + row * p_.dst_stride;
  }
  /// Of the query in row y, column x of its window.
  const std::int32_t* bias_of(std::size_t y, std::size_t x) const noexcept {
    return o_.bias + (x * p_.bias.side + p_.bias.side / 2 - y) * p_.bias.width;
  }
  bool uniform() const noexcept { return p_.softmax.form == SoftmaxForm::kUniform; }
  std::uint8_t* codes(std::size_t row) const noexcept {
    return reinterpret_cast<std::uint8_t*>(scratch_ + l_.scores) + row * l_.row_bytes;
  }
  std::byte* weights(std::size_t row) const noexcept {
    return scratch_ + l_.weights + 2 * row * l_.row_bytes;
  }
  /// How far a value of this code is shifted; negative: its weight is 0.
  int shift_of(std::uint8_t code) const noexcept {
    return code < p_.softmax.zero_code ? p_.softmax.unit_bits - code : -1;
  }
  void set_multiplier(std::size_t row, std::int32_t weights) noexcept {
    if (p_.softmax.form != SoftmaxForm::kRowRelative) return;
    attend_rescale_.multiplier[row] = normalized_multiplier(weights);
  }
  /// Of a row-relative softmax, whose weights sum to `weights`.
  std::int32_t normalized_multiplier(std::int32_t weights) const noexcept {
    const std::int64_t reciprocal = (std::int64_t{1} << (p_.softmax.unit_bits + 30)) / weights;
    return static_cast<std::int32_t>((p_.attend.multiplier * reciprocal) >> 30);
  }

  const AttentionParams& p_;
  const AttentionOperands& o_;
  const AttentionLayout l_;
  const SoftmaxTable& table_;
  std::byte* scratch_;
  RowRescale<V> score_rescale_, attend_rescale_;
  typename V::I last_mask_;
};

}  // namespace
}  // namespace intaglio::kernels
