#include "converters/float_attention.h"

#include <algorithm>
#include <cmath>

#include "converters/float_math.h"

namespace intaglio {

/// Columns from `first` on of a piece's tokens, in their order.
std::vector<float> FloatAttention::gather(const AttentionPiece& piece, const float* qkv,
                                          std::size_t first, std::size_t columns) const {
  std::vector<float> gathered(piece.tokens.size() * columns);
  for (std::size_t t = 0; t < piece.tokens.size(); ++t) {
    const float* row =
        t < piece.queries ? qkv + piece.tokens[t].row * 3 * layer_.channels : op_.beyond.data();
    std::copy_n(row + first, columns, &gathered[t * columns]);
  }
  return gathered;
}

void FloatAttention::scores(const float* qkv, float* scores) const {
  const std::size_t dim = layer_.channels;
  const std::size_t d = dim / op_.heads;
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  for (const AttentionPiece& piece : layout_.pieces) {
    const std::size_t tokens = piece.tokens.size();
    const std::vector<float> qk = gather(piece, qkv, 0, 2 * dim);
    for (std::size_t h = 0; h < op_.heads; ++h, scores += piece.queries * tokens) {
      const float* q = &qk[h * d];
      Product{piece.queries, tokens, d, q, q + dim, scores, 2 * dim, 2 * dim, tokens, scale}.run();
    }
  }
}

void FloatAttention::add_bias(std::span<const float> bias, float* scores) const {
  const std::size_t size = bias.size() / op_.heads;
  for (const AttentionPiece& piece : layout_.pieces) {
    for (std::size_t h = 0; h < op_.heads; ++h) {
      for (std::size_t q = 0; q < piece.queries; ++q) {
        for (const auto& key : piece.tokens) {
          *scores++ += bias[h * size + bias_index(op_.window, piece.tokens[q], key)];
        }
      }
    }
  }
}

void FloatAttention::softmax(float* scores) const {
  for (const AttentionPiece& piece : layout_.pieces) {
    const std::size_t rows = op_.heads * piece.queries;
    intaglio::softmax(scores, rows, piece.tokens.size());
    scores += rows * piece.tokens.size();
  }
}

void FloatAttention::attend(const float* qkv, const float* probabilities, float* dst) const {
  const std::size_t dim = layer_.channels;
  const std::size_t d = dim / op_.heads;
  for (const AttentionPiece& piece : layout_.pieces) {
    const std::size_t tokens = piece.tokens.size();
    const std::vector<float> v = gather(piece, qkv, 2 * dim, dim);
    std::vector<float> out(piece.queries * dim);
    for (std::size_t h = 0; h < op_.heads; ++h, probabilities += piece.queries * tokens) {
      Product{piece.queries, d,   tokens, probabilities, &v[h * d], &out[h * d], tokens,
              dim,           dim, 1,      true}
          .run();
    }
    for (std::size_t q = 0; q < piece.queries; ++q) {
      std::copy_n(&out[q * dim], dim, dst + piece.tokens[q].row * dim);
    }
  }
}

}  // namespace intaglio
