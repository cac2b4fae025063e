#include "converters/integer_scores.h"

#include <algorithm>

#include "kernels/scalar/scalar.h"

namespace intaglio {

IntegerScores::IntegerScores(const Graph& graph, const AttentionOp& op)
    : op_(op),
      dim_(channels_of(graph.values[op.dst])),
      head_dim_(dim_ / static_cast<std::size_t>(op.heads)),
      scores_{graph.values[op.src].grid.zero_point, op.score_multiplier, op.score_shift,
              op.score_zero_point},
      bias_{.multiplier = op.bias_multiplier,
            .shift = op.bias_shift,
            .zero_point = op.bias_zero_point} {}

std::vector<std::int32_t> IntegerScores::bias_of(const AttentionPiece& piece, std::size_t head,
                                                 std::size_t query) const {
  const std::size_t size = op_.bias.size() / static_cast<std::size_t>(op_.heads);
  std::vector<std::int32_t> bias;
  for (const AttentionPiece::Token& key : piece.tokens) {
    const auto window = static_cast<std::size_t>(op_.window);
    bias.push_back(op_.bias[head * size + bias_index(window, piece.tokens[query], key)]);
  }
  return bias;
}

std::vector<std::uint8_t> IntegerScores::of(const AttentionPiece& piece, const std::uint8_t* qkv,
                                            std::size_t head, std::size_t rows) const {
  const std::size_t tokens = piece.tokens.size();
  const std::size_t stride = 2 * head_dim_;
  std::vector<std::uint8_t> gathered(tokens * stride);  // q and k of the head
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::uint8_t* row =
        t < piece.queries ? qkv + piece.tokens[t].row * 3 * dim_ : op_.padding.data();
    std::copy_n(row + head * head_dim_, head_dim_, &gathered[t * stride]);
    std::copy_n(row + dim_ + head * head_dim_, head_dim_, &gathered[t * stride + head_dim_]);
  }
  std::vector<std::uint8_t> codes(rows * tokens);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::vector<std::int32_t> bias =
        op_.bias.size() == 0 ? std::vector<std::int32_t>{} : bias_of(piece, head, r);
    std::uint8_t* out = &codes[r * tokens];
    const bool of_sums = !bias.empty() && bias_.shift == 0;
    kernels::scalar::attention_scores(scores_, &gathered[r * stride], 1, &gathered[head_dim_],
                                      tokens, head_dim_, stride, out,
                                      of_sums ? bias.data() : nullptr);
    if (!bias.empty() && !of_sums) {
      kernels::scalar::add_bias(bias_, op_.score_zero_point, bias.data(), out, tokens, out);
    }
  }
  return codes;
}

}  // namespace intaglio
