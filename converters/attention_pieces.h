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
    std::size_t row = 0;       ///< of the result; of one beyond the map, without meaning
    std::size_t y = 0, x = 0;  ///< in the rectangle; of a sequence, x counts tokens
  };
  std::vector<Token> tokens;  ///< those in the map first, row by row
  std::size_t queries = 0;    ///< those in the map; the others only are attended to
};

/// What the rows of scores of one attention are: for each image and piece [heads, queries, tokens].
struct ScoreLayout {
  std::size_t heads = 0;
  std::vector<AttentionPiece> pieces;

  std::size_t size() const;  ///< scores of one image
  /// Calls body(row of scores, row of the query in the result) for those of any number of images.
  template <typename Body>
  void each_row(std::span<float> scores, const Body& body) const {
    for (std::size_t at = 0; at < scores.size();) {
      for (const AttentionPiece& piece : pieces) {
        const std::size_t length = piece.tokens.size();
        for (std::size_t r = 0; r < heads * piece.queries; ++r, at += length) {
          body(scores.subspan(at, length), piece.tokens[r % piece.queries].row);
        }
      }
    }
  }
};

ScoreLayout score_layout(const Layer& attention);

/// Where the relative position bias of one head, [2 * window - 1, 2 * window - 1], has that of two
/// tokens of a piece.
inline std::size_t bias_index(std::size_t window, const AttentionPiece::Token& query,
                              const AttentionPiece::Token& key) {
  const std::size_t middle = window - 1;
  return (query.y + middle - key.y) * (2 * window - 1) + query.x + middle - key.x;
}

}  // namespace intaglio
