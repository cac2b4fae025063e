// Which tokens attend to each other, and how their scores lie in memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "converters/network.h"

namespace intaglio {

/// Tokens that attend to each other: all of a sequence, or a rectangle of a map that windows cut.
struct AttentionPiece {
  struct Token {
    std::size_t y = 0, x = 0;  ///< in the map; of a sequence, x counts tokens
  };
  std::vector<Token> tokens;  ///< those in the map first, row by row
  std::size_t queries = 0;    ///< those in the map; the others only are attended to
};

/// What the rows of scores of one attention are: for each image and piece, [heads, queries,
/// tokens].
struct ScoreLayout {
  std::size_t heads = 0;
  std::size_t width = 0;  ///< of the map; of a sequence, its tokens
  std::vector<AttentionPiece> pieces;

  std::size_t rows() const;  ///< of one image
  std::size_t size() const;  ///< scores of one image
  /// Row of a result that a token has; of one in the map.
  std::size_t row_of(const AttentionPiece::Token& token) const { return token.y * width + token.x; }
  /// Calls body(row of scores, row of the query in the result) for rows of scores of any number of
  /// images.
  template <typename Float, typename Body>
  void each_row(std::span<Float> scores, const Body& body) const {
    for (std::size_t at = 0; at < scores.size();) {
      for (const AttentionPiece& piece : pieces) {
        const std::size_t length = piece.tokens.size();
        for (std::size_t r = 0; r < heads * piece.queries; ++r, at += length) {
          body(scores.subspan(at, length), row_of(piece.tokens[r % piece.queries]));
        }
      }
    }
  }
};

ScoreLayout score_layout(const Layer& attention);

}  // namespace intaglio
