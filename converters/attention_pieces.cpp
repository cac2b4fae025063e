#include "converters/attention_pieces.h"

#include <algorithm>

namespace intaglio {
namespace {

/// A side of a map, grown to a multiple of the window: [begin, end) of its pieces.
struct Range {
  std::size_t begin = 0, end = 0;
};

std::vector<Range> cut(std::size_t side, std::size_t window, std::size_t shift) {
  const std::size_t grown = (side + window - 1) / window * window;
  std::vector<Range> ranges;
  std::size_t begin = 0;
  for (std::size_t end = side <= window || shift == 0 ? window : shift; begin < grown;
       end += window) {
    ranges.push_back({begin, std::min(end, grown)});
    begin = ranges.back().end;
  }
  return ranges;
}

}  // namespace

std::size_t ScoreLayout::rows() const {
  std::size_t rows = 0;
  for (const AttentionPiece& piece : pieces) rows += heads * piece.queries;
  return rows;
}

std::size_t ScoreLayout::size() const {
  std::size_t size = 0;
  for (const AttentionPiece& piece : pieces) size += heads * piece.queries * piece.tokens.size();
  return size;
}

ScoreLayout score_layout(const Layer& attention) {
  const auto& op = std::get<AttentionLayer>(attention.op);
  ScoreLayout layout{op.heads, op.window == 0 ? attention.rows : attention.width, {}};
  const std::size_t height = attention.rows / layout.width;
  const auto all = [](std::size_t side) { return std::vector<Range>{{0, side}}; };
  const auto rows = op.window == 0 ? all(height) : cut(height, op.window, op.window_shift);
  const auto columns =
      op.window == 0 ? all(layout.width) : cut(layout.width, op.window, op.window_shift);
  for (const Range& ys : rows) {
    for (const Range& xs : columns) {
      AttentionPiece piece;
      std::vector<AttentionPiece::Token> beyond;
      for (std::size_t y = ys.begin; y < ys.end; ++y) {
        for (std::size_t x = xs.begin; x < xs.end; ++x) {
          (y < height && x < layout.width ? piece.tokens : beyond).push_back({y, x});
        }
      }
      piece.queries = piece.tokens.size();
      piece.tokens.insert(piece.tokens.end(), beyond.begin(), beyond.end());
      // Of a piece that lies beyond the map as a whole, nothing is read.
      if (piece.queries != 0) layout.pieces.push_back(std::move(piece));
    }
  }
  return layout;
}

}  // namespace intaglio
