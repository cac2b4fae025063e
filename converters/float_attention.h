// Attention in float32, piece by piece: the steps between which observers look on.
#pragma once

#include <cstddef>
#include <span>

#include "converters/attention_pieces.h"

namespace intaglio {

/// Of one image; qkv, the result of the layer's source, is [rows, 3 * channels].
class FloatAttention {
 public:
  /// The layer must outlive it.
  explicit FloatAttention(const Layer& layer)
      : layer_(layer), op_(std::get<AttentionLayer>(layer.op)), layout_(score_layout(layer)) {}

  const ScoreLayout& layout() const { return layout_; }
  /// q k^T / sqrt(channels of a head); scores [layout().size()].
  void scores(const float* qkv, float* scores) const;
  /// Adds the relative position bias, in the order of AttentionLayer::bias.
  void add_bias(std::span<const float> bias, float* scores) const;
  void softmax(float* scores) const;
  /// dst [rows, channels].
  void attend(const float* qkv, const float* probabilities, float* dst) const;

 private:
  std::vector<float> gather(const AttentionPiece& piece, const float* qkv, std::size_t first,
                            std::size_t columns) const;

  const Layer& layer_;
  const AttentionLayer& op_;
  ScoreLayout layout_;
};

}  // namespace intaglio
