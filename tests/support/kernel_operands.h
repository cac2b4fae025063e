// How the operands of a case are filled and placed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/guarded_buffer.h"

namespace intaglio::test {

enum class Fill : std::uint8_t { kRandom, kLow, kHigh, kOneHot };

/// The fills of two operands: random, one-hot, and all corners (min, max) x (min, max).
struct FillPair {
  const char* name;
  Fill a;
  Fill b;
};
inline constexpr std::array<FillPair, 7> kFillPairs = {{
    {"random", Fill::kRandom, Fill::kRandom},
    {"min,min", Fill::kLow, Fill::kLow},
    {"min,max", Fill::kLow, Fill::kHigh},
    {"max,min", Fill::kHigh, Fill::kLow},
    {"max,max", Fill::kHigh, Fill::kHigh},
    {"one-hot", Fill::kOneHot, Fill::kRandom},
    {"random,one-hot", Fill::kRandom, Fill::kOneHot},
}};

using Rng = std::mt19937_64;

/// low..high, both included.
inline std::int64_t pick(Rng& rng, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(rng);
}

template <class T>
std::vector<T> make_values(Rng& rng, std::size_t count, Fill fill,
                           std::int64_t low = std::numeric_limits<T>::min(),
                           std::int64_t high = std::numeric_limits<T>::max()) {
  std::vector<T> values(count, static_cast<T>(fill == Fill::kHigh  ? high
                                              : fill == Fill::kLow ? low
                                                                   : 0));
  if (fill == Fill::kRandom) {
    std::generate(values.begin(), values.end(),
                  [&] { return static_cast<T>(pick(rng, low, high)); });
  }
  if (fill == Fill::kOneHot && count != 0) {
    values[static_cast<std::size_t>(pick(rng, 0, static_cast<std::int64_t>(count) - 1))] =
        static_cast<T>(high);
  }
  return values;
}

/// Where a case puts its operands: the three placements in turn, at every misalignment.
struct Layout {
  Placement placement;
  std::size_t misalignment;

  static Layout of(std::size_t index) {
    constexpr Placement kAll[] = {Placement::kEndsAtGuard, Placement::kMiddle,
                                  Placement::kBeginsAtGuard};
    return {kAll[index % 3], index * 7 % 64};
  }
  template <class T>
  GuardedBuffer<T> place(const std::vector<T>& values) const {
    return GuardedBuffer<T>(values, placement, misalignment);
  }
};

/// Elements of `rows` rows of `cols`, `stride` apart, without what lies behind the last one.
inline std::size_t extent(std::size_t rows, std::size_t cols, std::size_t stride) {
  return rows == 0 ? 0 : (rows - 1) * stride + cols;
}

}  // namespace intaglio::test
