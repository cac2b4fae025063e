// Attention of one head: tile by tile, or with the softmax of a tile between the products of
// another.
#pragma once

#include "kernels/simd/attention_behind.inl.h"
#include "kernels/simd/attention_tile.inl.h"

namespace intaglio::kernels {
namespace {

template <class V>
void attention(const AttentionParams& params, const AttentionOperands& operands, std::size_t rows,
               std::byte* scratch) noexcept {
  if constexpr (kHasTilesBehind<V> && kWeighsScores<V>) {
    if (has_pipeline<V>(params)) {
      return AttentionPipeline<V>(params, operands, scratch).run(rows);
    }
  }
  AttentionTile<V> tile(params, operands, scratch);
  tile.pack();
  for (std::size_t i = 0; i < rows; i += kTileRows) {
    const std::size_t here = rows - i < kTileRows ? rows - i : kTileRows;
    tile.make_scores(i, here);
    if (!tile.weighs_scores()) tile.make_map(here);
    tile.attend(i, here);
  }
}

template <class V>
void attention_bitshift(const AttentionParams& params, const AttentionOperands& operands,
                        std::size_t rows, std::byte* scratch) noexcept {
  AttentionTile<V> tile(params, operands, scratch);
  tile.pack_keys_only();
  for (std::size_t i = 0; i < rows; i += kTileRows) {
    const std::size_t here = rows - i < kTileRows ? rows - i : kTileRows;
    tile.make_scores(i, here);
    tile.make_map(here);
    tile.attend_bitshift(i, here);
  }
}

}  // namespace
}  // namespace intaglio::kernels
