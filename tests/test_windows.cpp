// Windows against the cyclic shift with its mask, as Swin's authors describe it.
#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "engine/windows.h"
#include "kernels/kernels.h"

namespace intaglio::test {
namespace {

struct Map {
  std::size_t height, width, window, shift;
};

/// Where position `at` of a rolled and padded side comes from, which window it is in, and its
/// region: tokens of a window attend to each other within a region.
struct Place {
  std::size_t source, window, region;
};

std::vector<Place> roll_side(std::size_t size, std::size_t window, std::size_t shift) {
  const std::size_t padded = (size + window - 1) / window * window;
  if (padded == window) shift = 0;
  std::vector<Place> places;
  for (std::size_t at = 0; at < padded; ++at) {
    const std::size_t region = shift == 0             ? 0
                               : at < padded - window ? 0
                               : at < padded - shift  ? 1
                                                      : 2;
    places.push_back({(at + shift) % padded, at / window, region});
  }
  return places;
}

using Tokens = std::multiset<std::uint32_t>;

/// Per token of the map: what it attends to, kPaddingRow for what lies beyond.
std::vector<Tokens> by_cyclic_shift(const Map& m) {
  const auto rows = roll_side(m.height, m.window, m.shift);
  const auto columns = roll_side(m.width, m.window, m.shift);
  const auto row_of = [&](const Place& y, const Place& x) {
    return y.source < m.height && x.source < m.width
               ? static_cast<std::uint32_t>(y.source * m.width + x.source)
               : kernels::kPaddingRow;
  };
  std::vector<Tokens> tokens(m.height * m.width);
  for (const Place& y : rows) {
    for (const Place& x : columns) {
      const std::uint32_t query = row_of(y, x);
      if (query == kernels::kPaddingRow) continue;
      for (const Place& v : rows) {
        for (const Place& u : columns) {
          const bool together = y.window == v.window && x.window == u.window &&
                                y.region == v.region && x.region == u.region;
          if (together) tokens[query].insert(row_of(v, u));
        }
      }
    }
  }
  return tokens;
}

TEST_CASE("pieces of a map are the windows of a cyclic shift under its mask") {
  for (const Map& m : {Map{14, 14, 7, 0},
                       {14, 14, 7, 3},
                       {7, 7, 7, 3},
                       {8, 14, 7, 3},
                       {5, 21, 7, 3},
                       {15, 16, 7, 3},
                       {13, 9, 4, 2},
                       {1, 1, 7, 3},
                       {25, 38, 7, 3},
                       {24, 24, 12, 6},
                       {3, 9, 2, 1}}) {
    INFO(m.height << " x " << m.width << ", window " << m.window << ", shift " << m.shift);
    const std::vector<Tokens> expected = by_cyclic_shift(m);
    const Windows windows = cut_windows(m.height, m.width, m.window, m.shift);
    CHECK(windows.shapes.size() <= 9);
    std::vector<int> seen(expected.size());
    for (const WindowPiece& piece : windows.pieces) {
      const WindowShape& shape = windows.shapes[piece.shape];
      const auto first = windows.token_rows.begin() + static_cast<std::ptrdiff_t>(piece.first);
      const auto last = first + static_cast<std::ptrdiff_t>(shape.height * shape.width);
      const Tokens tokens(first, last);
      for (auto it = first; it != last; ++it) {
        if (*it == kernels::kPaddingRow) continue;
        ++seen[*it];
        REQUIRE(tokens == expected[*it]);
        // Neighbours within a piece are neighbours in the map.
        const auto at = static_cast<std::size_t>(it - first);
        if (at % shape.width != 0) REQUIRE(*(it - 1) == *it - 1);
        if (at >= shape.width) {
          REQUIRE(*(it - static_cast<std::ptrdiff_t>(shape.width)) == *it - m.width);
        }
      }
    }
    CHECK(seen == std::vector<int>(expected.size(), 1));
  }
}

}  // namespace
}  // namespace intaglio::test
