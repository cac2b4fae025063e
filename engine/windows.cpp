#include "engine/windows.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace intaglio {
namespace {

struct Interval {
  std::size_t begin, end;
};

/// Of one side: those with any token of the map.
std::vector<Interval> cut_side(std::size_t size, std::size_t window, std::size_t shift) {
  const std::size_t padded = (size + window - 1) / window * window;
  std::vector<Interval> intervals;
  std::size_t begin = 0;
  std::size_t end = size > window && shift != 0 ? shift : window;
  while (begin < size) {
    intervals.push_back({begin, std::min(end, padded)});
    begin = end;
    end += window;
  }
  return intervals;
}

}  // namespace

Windows cut_windows(std::size_t height, std::size_t width, std::size_t window, std::size_t shift) {
  Windows windows;
  const std::vector<Interval> columns = cut_side(width, window, shift);
  for (const Interval rows : cut_side(height, window, shift)) {
    for (const Interval cols : columns) {
      const WindowShape shape = {rows.end - rows.begin, cols.end - cols.begin};
      auto known = std::find(windows.shapes.begin(), windows.shapes.end(), shape);
      if (known == windows.shapes.end()) {
        windows.shapes.push_back(shape);
        known = windows.shapes.end() - 1;
      }
      windows.pieces.push_back(
          {static_cast<std::size_t>(known - windows.shapes.begin()), windows.token_rows.size()});
      for (std::size_t y = rows.begin; y < rows.end; ++y) {
        for (std::size_t x = cols.begin; x < cols.end; ++x) {
          const bool inside = y < height && x < width;
          windows.token_rows.push_back(inside ? static_cast<std::uint32_t>(y * width + x)
                                              : kernels::kPaddingRow);
        }
      }
    }
  }
  return windows;
}

}  // namespace intaglio
