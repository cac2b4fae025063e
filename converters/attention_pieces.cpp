#include "converters/attention_pieces.h"

#include "engine/windows.h"
#include "kernels/kernels.h"

namespace intaglio {
namespace {

AttentionPiece piece_of(const std::uint32_t* rows, const WindowShape& shape) {
  AttentionPiece piece;
  std::vector<AttentionPiece::Token> beyond;
  for (std::size_t t = 0; t < shape.height * shape.width; ++t) {
    const bool inside = rows[t] != kernels::kPaddingRow;
    (inside ? piece.tokens : beyond).push_back({rows[t], t / shape.width, t % shape.width});
  }
  piece.queries = piece.tokens.size();
  piece.tokens.insert(piece.tokens.end(), beyond.begin(), beyond.end());
  return piece;
}

}  // namespace

std::size_t ScoreLayout::size() const {
  std::size_t size = 0;
  for (const AttentionPiece& piece : pieces) size += heads * piece.queries * piece.tokens.size();
  return size;
}

ScoreLayout score_layout(const Layer& attention) {
  const auto& op = std::get<AttentionLayer>(attention.op);
  ScoreLayout layout{op.heads, {}};
  if (op.window == 0) {
    AttentionPiece all;
    for (std::size_t t = 0; t < attention.rows; ++t) all.tokens.push_back({t, 0, t});
    all.queries = attention.rows;
    layout.pieces.push_back(std::move(all));
    return layout;
  }
  const std::size_t height = attention.rows / attention.width;
  const Windows windows = cut_windows(height, attention.width, op.window, op.window_shift);
  for (const WindowPiece& piece : windows.pieces) {
    layout.pieces.push_back(
        piece_of(&windows.token_rows[piece.first], windows.shapes[piece.shape]));
  }
  return layout;
}

}  // namespace intaglio
