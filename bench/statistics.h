// Order statistics of measured times.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace intaglio {

/// The q-quantile, 0..1, linear between neighbours. `values` is not empty.
inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  const double part = at - static_cast<double>(below);
  return values[below] + part * (values[above] - values[below]);
}

inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

}  // namespace intaglio
