#include "converters/resample_position.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

namespace intaglio {
namespace {

/// The four source rows of one output row, and what they weigh.
struct Taps {
  std::array<std::size_t, 4> index;
  std::array<double, 4> weight;
};

double cubic_real(double x) {
  constexpr double a = -0.75;
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((x - 5) * x + 8) * a * x - 4 * a;
  return 0;
}

std::vector<Taps> taps_of(std::size_t from, std::size_t to) {
  std::vector<Taps> all(to);
  const auto last = static_cast<std::ptrdiff_t>(from) - 1;
  for (std::size_t i = 0; i < to; ++i) {
    const double center =
        (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
    const auto floor = static_cast<std::ptrdiff_t>(std::floor(center));
    for (std::ptrdiff_t t = 0; t < 4; ++t) {
      const std::ptrdiff_t source = floor - 1 + t;
      all[i].index[static_cast<std::size_t>(t)] =
          static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(source, 0, last));
      all[i].weight[static_cast<std::size_t>(t)] = cubic_real(center - static_cast<double>(source));
    }
  }
  return all;
}

}  // namespace

std::vector<float> resample_position(const std::vector<float>& position, std::size_t prefix,
                                     std::size_t from, std::size_t to, std::size_t dim) {
  assert(from > 0 && to > 0 && position.size() == (prefix + from * from) * dim);
  if (from == to) return position;
  const std::vector<Taps> taps = taps_of(from, to);
  std::vector<float> result(position.begin(),
                            position.begin() + static_cast<std::ptrdiff_t>(prefix * dim));
  result.reserve((prefix + to * to) * dim);
  const float* grid = position.data() + prefix * dim;
  for (const Taps& y : taps) {
    for (const Taps& x : taps) {
      for (std::size_t c = 0; c < dim; ++c) {
        double sum = 0;
        for (std::size_t i = 0; i < 4; ++i) {
          double row = 0;
          for (std::size_t j = 0; j < 4; ++j) {
            row += x.weight[j] * grid[(y.index[i] * from + x.index[j]) * dim + c];
          }
          sum += y.weight[i] * row;
        }
        constexpr double kLargest = std::numeric_limits<float>::max();
        result.push_back(std::abs(sum) <= kLargest ? static_cast<float>(sum)
                                                   : std::numeric_limits<float>::infinity());
      }
    }
  }
  return result;
}

}  // namespace intaglio
