#include "converters/logit_sums.h"

#include <algorithm>
#include <cmath>

namespace intaglio {
namespace {

template <typename RangeT>
std::size_t best(const RangeT& logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

void LogitSums::add(std::span<const float> reals, std::span<const std::int32_t> codes, double scale,
                    std::optional<std::size_t> label) {
  const std::size_t of_float = best(reals);
  const std::size_t of_integer = best(codes);
  fit_.images += 1;
  fit_.agreeing += of_float == of_integer;
  if (label) {
    fit_.labelled += 1;
    fit_.float_right += of_float == *label;
    fit_.integer_right += of_integer == *label;
  }
  logits_ += reals.size();
  for (std::size_t c = 0; c < reals.size(); ++c) {
    const double error = scale * codes[c] - double{reals[c]};
    squares_ += error * error;
    fit_.logit_max_error = std::max(fit_.logit_max_error, std::abs(error));
  }
}

LogitFit LogitSums::result() const {
  LogitFit fit = fit_;
  if (logits_ != 0) fit.logit_rmse = std::sqrt(squares_ / static_cast<double>(logits_));
  return fit;
}

}  // namespace intaglio
