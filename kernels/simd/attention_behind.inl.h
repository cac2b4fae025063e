// Attention whose softmax stands between products.
//
// As in gemm_behind.inl.h: where products leave vector units idle, other work is free if it stands
// in pieces between them. Sums of a tile wait in memory and become codes between the products of
// the next one, and while P v of a tile is made, the softmax of the next, a row to a piece:
//
//   products                      between them
//   scores of tile i + 1          codes of P v of tile i - 1, codes of the scores' panel before
//   P v of tile i, upper bytes    sums of tile i's weights; codes of the scores' last panel, maxima
//   P v of tile i, lower bytes    weights of tile i + 1
//
// For row-relative codes, whose rows are short work of equal length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/simd/attention_tile.inl.h"
#include "kernels/simd/gemm_behind.inl.h"

namespace intaglio::kernels {
namespace {

/// Sums of a tile that wait to become codes.
template <class V>
struct SuspendedRows {
  static constexpr std::size_t kVectors = V::kTileVectors;

  alignas(64) std::int32_t sums[kTileRows * kVectors * V::kLanes];
  std::uint8_t* dst[kTileRows];
  std::int32_t multiplier[kTileRows];
  bool wait = false;
  typename V::I half, zero;
  typename V::Count beyond_32;

  explicit SuspendedRows(const RowRescale<V>& r) noexcept
      : half(r.half),
        zero(V::set1_16(static_cast<std::int16_t>(r.rescale.zero_point))),
        beyond_32(V::count(r.rescale.shift - 32)) {}

  [[gnu::always_inline]] void suspend(const typename V::I (&acc)[kTileRows][kVectors]) noexcept {
    unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
        V::store(sums + (r * kVectors + v) * V::kLanes, acc[r][v]);
      });
    });
    wait = true;
  }
  [[gnu::always_inline]] void finish(std::size_t r) const noexcept {
    store_row<V, kVectors>(
        dst[r],
        [&](auto v) INTAGLIO_INLINE { return V::load(sums + (r * kVectors + v) * V::kLanes); },
        uniform_factors<V>(multiplier[r], half), beyond_32, zero, kVectors * V::kLanes);
  }
  [[gnu::noinline]] void finish_all() noexcept {
    for (std::size_t r = 0; wait && r < kTileRows; ++r) finish(r);
    wait = false;
  }
};

/// The head's channels are a panel's columns.
template <class V>
class AttentionPipeline : AttentionTile<V> {
 public:
  using I = typename V::I;
  static constexpr std::size_t kVectors = V::kTileVectors;

  AttentionPipeline(const AttentionParams& params, const AttentionOperands& operands,
                    std::byte* scratch) noexcept
      : AttentionTile<V>(params, operands, scratch),
        scores_(this->score_rescale_),
        results_(this->attend_rescale_) {
    for (std::int32_t& m : scores_.multiplier) m = params.scores.multiplier;
  }

  void run(std::size_t rows) noexcept {
    if (rows == 0) return;
    this->pack();
    Weighed tiles[2];
    begin_scores(0, rows);
    scores_.finish_all();
    begin_weights(0, rows, tiles[0]);
    for (std::size_t r = 0; r < tiles[0].rows; ++r) {
      find_maximum(r, tiles[0]);
      weigh_row(r, tiles[0]);
    }
    for (std::size_t i = 0; i < rows; i += kTileRows) {
      Weighed& now = tiles[i / kTileRows % 2];
      Weighed& next = tiles[(i / kTileRows + 1) % 2];
      next.rows = 0;
      if (i + kTileRows < rows) {
        begin_scores(i + kTileRows, rows - i - kTileRows);
        begin_weights(i + kTileRows, rows - i - kTileRows, next);
      }
      attend_upper(now, next);
      attend_lower(now, next);
    }
    results_.finish_all();
  }

 private:
  /// A tile's softmax, and what is to come of its weights.
  struct Weighed {
    alignas(64) std::int32_t sums[kTileRows][V::kLanes];  ///< of weights, over lanes a row's
    std::size_t rows;
    std::byte* weights;               ///< [rows, 2, row_bytes]
    const std::byte* src[kTileRows];  ///< the same; missing rows are the first
    std::uint8_t* dst[kTileRows];
    std::int32_t term[kTileRows];
    std::int32_t multiplier[kTileRows];
    std::uint8_t maximum[kTileRows];
  };

  /// Scores of a tile; those of its last full panel wait. `left`: queries from the first on.
  void begin_scores(std::size_t first_query, std::size_t left) noexcept {
    const TileRows tile = this->score_rows(first_query, left < kTileRows ? left : kTileRows);
    for_each_panel<V>(this->p_.tokens, [&](std::size_t first, auto vectors) INTAGLIO_INLINE {
      if constexpr (vectors.kNumber == V::kTileVectors) {
        scores_.wait ? score_panel<true>(tile, first) : score_panel<false>(tile, first);
      } else {
        score_tile<V, vectors.kNumber>(this->p_, this->l_, this->score_rescale_, tile, first,
                                       this->scratch_);
      }
    });
  }

  /// kSecond: there was a panel before it.
  template <bool kSecond>
  [[gnu::noinline]] void score_panel(const TileRows& rows, std::size_t first) noexcept {
    I acc[kTileRows][V::kTileVectors];
    start_scores<V>(acc, this->l_, rows, first, this->scratch_);
    const std::byte* panel = this->scratch_ + this->l_.keys + first * this->l_.key_groups * 4;
    add_groups<V, DotBytes<V>, kVectors>(acc, rows.src, 0, this->l_.key_groups, panel,
                                         [&](std::size_t r) INTAGLIO_INLINE {
                                           if constexpr (kSecond) {
                                             scores_.finish(r);
                                           } else if (results_.wait) {
                                             results_.finish(r);
                                           }
                                         });
    if (!kSecond) results_.wait = false;
    scores_.suspend(acc);
    for (std::size_t r = 0; r < kTileRows; ++r) scores_.dst[r] = rows.dst[r] + first;
  }

  void begin_weights(std::size_t first_query, std::size_t left, Weighed& tile) noexcept {
    tile.rows = left < kTileRows ? left : kTileRows;
    tile.weights = this->scratch_ + this->l_.weights +
                   first_query / kTileRows % 2 * 2 * kTileRows * this->l_.row_bytes;
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const bool exists = r < tile.rows;
      tile.src[r] = tile.weights + 2 * (exists ? r : 0) * this->l_.row_bytes;
      tile.dst[r] = exists ? this->result(first_query + r, nowhere_) : nowhere_;
      tile.term[r] = 0;
      tile.multiplier[r] = 0;
    }
  }

  // The softmax of a row is in three pieces, because a chain of dependent instructions is not to be
  // longer than what the CPU looks ahead.

  [[gnu::always_inline]] void find_maximum(std::size_t r, Weighed& tile) const noexcept {
    tile.maximum[r] = this->maximum_of(r);
  }
  [[gnu::always_inline]] void weigh_row(std::size_t r, Weighed& tile) const noexcept {
    std::byte* const weights = tile.weights + 2 * r * this->l_.row_bytes;
    V::store(tile.sums[r], this->weigh_scores(r, tile.maximum[r], weights));
  }
  [[gnu::always_inline]] void normalize(std::size_t r, Weighed& tile) const noexcept {
    const std::int32_t sum = V::sum_s32(V::load(tile.sums[r]));
    tile.term[r] = (128 - this->p_.attend.zero_src) * sum;
    tile.multiplier[r] = this->normalized_multiplier(sum);
  }

  // Two functions, because gcc spills the sums of two loops in one.

  [[gnu::noinline]] void attend_upper(Weighed& now, Weighed& next) noexcept {
    I acc[kTileRows][kVectors];
    unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE { acc[r][v] = V::zero(); });
    });
    add_groups<V, DotBytes<V>, kVectors>(acc, now.src, 0, this->l_.value_groups,
                                         this->scratch_ + this->l_.values,
                                         [&](std::size_t r) INTAGLIO_INLINE {
                                           if (r < now.rows) normalize(r, now);
                                           if (scores_.wait) scores_.finish(r);
                                           if (r < next.rows) find_maximum(r, next);
                                         });
    scores_.wait = false;
    if (results_.wait) results_.finish_all();
    results_.suspend(acc);
  }

  [[gnu::noinline]] void attend_lower(const Weighed& now, Weighed& next) noexcept {
    I acc[kTileRows][kVectors];
    unroll<kTileRows>([&](auto r) INTAGLIO_INLINE {
      const I term = V::set1_32(now.term[r]);
      unroll<kVectors>([&](auto v) INTAGLIO_INLINE {
        const I upper = V::load(results_.sums + (r * kVectors + v) * V::kLanes);
        acc[r][v] = V::add32(V::sll32(upper, 8), term);
      });
    });
    add_groups<V, DotBytes<V>, kVectors>(acc, now.src, this->l_.row_bytes, this->l_.value_groups,
                                         this->scratch_ + this->l_.values,
                                         [&](std::size_t r) INTAGLIO_INLINE {
                                           if (r < next.rows) weigh_row(r, next);
                                         });
    results_.suspend(acc);
    for (std::size_t r = 0; r < kTileRows; ++r) {
      results_.dst[r] = now.dst[r];
      results_.multiplier[r] = now.multiplier[r];
    }
  }

  SuspendedRows<V> scores_, results_;
  std::uint8_t nowhere_[kMaxHeadDim];
};

/// There is a pipeline for these.
template <class V>
inline bool has_pipeline(const AttentionParams& p) noexcept {
  const auto direct = [](int shift, std::int32_t zero_point) {
    return make_rescale(shift, zero_point, CodeType::kU8).direct;
  };
  return p.interleave && p.softmax.form == SoftmaxForm::kRowRelative && p.bias.shift == 0 &&
         p.head_dim == kPanelColumns<V> && direct(p.scores.shift, p.scores.zero_point) &&
         direct(p.attend.shift, p.attend.zero_point);
}

}  // namespace
}  // namespace intaglio::kernels
