// What the softmax of an integer attention takes, which no value of the graph holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converters/attention_pieces.h"
#include "graph/graph.h"
#include "kernels/kernels.h"

namespace intaglio {

/// Codes of the scores of one attention, with its bias, as the kernels make them. Graph and
/// operation must outlive it.
class IntegerScores {
 public:
  IntegerScores(const Graph& graph, const AttentionOp& op);

  /// [rows, tokens] of the first queries of a piece, for one head; qkv of one image.
  std::vector<std::uint8_t> of(const AttentionPiece& piece, const std::uint8_t* qkv,
                               std::size_t head, std::size_t rows) const;

 private:
  std::vector<std::int32_t> bias_of(const AttentionPiece& piece, std::size_t head,
                                    std::size_t query) const;

  const AttentionOp& op_;
  std::size_t dim_, head_dim_;
  kernels::ScoreParams scores_;
  kernels::BiasParams bias_;
};

}  // namespace intaglio
