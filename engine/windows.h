// How a map of tokens is cut into pieces whose tokens attend to each other; AttentionOp has the
// rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace intaglio {

struct WindowShape {
  std::size_t height = 0, width = 0;
  bool operator==(const WindowShape&) const = default;
};

struct WindowPiece {
  std::size_t shape = 0;  ///< index into Windows::shapes
  std::size_t first = 0;  ///< of its tokens, in Windows::token_rows
};

struct Windows {
  std::vector<WindowShape> shapes;  ///< at most nine: three heights times three widths
  std::vector<WindowPiece> pieces;  ///< those with any token of the map
  /// Per piece the rows of its tokens, row by row; kernels::kPaddingRow beyond the map.
  std::vector<std::uint32_t> token_rows;
};

/// height, width: of the map, together below 2^32 - 1 tokens.
Windows cut_windows(std::size_t height, std::size_t width, std::size_t window, std::size_t shift);

}  // namespace intaglio
