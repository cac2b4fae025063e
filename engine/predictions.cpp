// Rankings and probabilities: the edge where integer logits meet people.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/intaglio.h"

namespace intaglio {

std::vector<Prediction> top_k(std::span<const std::int32_t> logits, std::size_t k) {
  k = std::min(k, logits.size());
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](std::size_t x, std::size_t y) {
                      return logits[x] != logits[y] ? logits[x] > logits[y] : x < y;
                    });
  std::vector<Prediction> best(k);
  for (std::size_t i = 0; i < k; ++i) best[i] = {order[i], logits[order[i]]};
  return best;
}

std::vector<double> probabilities(std::span<const std::int32_t> logits, double logit_scale) {
  std::vector<double> p(logits.size());
  if (logits.empty()) return p;
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    p[i] = std::exp(logit_scale * (logits[i] - largest));
    sum += p[i];
  }
  for (double& value : p) value /= sum;
  return p;
}

}  // namespace intaglio
