#include "converters/grid_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "converters/lower.h"

namespace intaglio {

double CodeMeaning::lowest_code() const {
  return dtype == DType::kU8 ? 0 : dtype == DType::kS16 ? INT16_MIN : INT32_MIN;
}

double CodeMeaning::highest_code() const {
  return dtype == DType::kU8 ? UINT8_MAX : dtype == DType::kS16 ? INT16_MAX : INT32_MAX;
}

CodeMeaning meaning_of(const Grid& grid, DType dtype, std::size_t channels) {
  CodeMeaning meaning{std::vector<double>(channels), double(grid.zero_point), dtype};
  for (std::size_t c = 0; c < channels; ++c) meaning.step[c] = channel_scale(grid, c);
  return meaning;
}

void FitSums::add(const CodeMeaning& meaning, std::span<const float> reals,
                  const std::byte* codes) {
  if (meaning.dtype == DType::kU8) {
    add_codes(meaning, reals, reinterpret_cast<const std::uint8_t*>(codes));
  } else if (meaning.dtype == DType::kS16) {
    add_codes(meaning, reals, reinterpret_cast<const std::int16_t*>(codes));
  } else {
    add_codes(meaning, reals, reinterpret_cast<const std::int32_t*>(codes));
  }
}

template <typename Code>
void FitSums::add_codes(const CodeMeaning& meaning, std::span<const float> reals,
                        const Code* codes) {
  constexpr bool kCountsCodes = sizeof(Code) <= 2;
  constexpr int kLowest = std::numeric_limits<Code>::min();
  if (kCountsCodes) used_.resize(std::size_t{1} << (8 * sizeof(Code)));
  if (count_ == 0 && !reals.empty()) low_ = high_ = double{reals[0]};
  const double lowest = meaning.lowest_code();
  const double highest = meaning.highest_code();
  const std::size_t channels = meaning.step.size();
  for (std::size_t row = 0; row < reals.size(); row += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      const double step = meaning.step[c];
      const double real = double{reals[row + c]};
      const Code code = codes[row + c];
      const double nearest = std::nearbyint(real / step + meaning.zero);
      const double local = (std::clamp(nearest, lowest, highest) - meaning.zero) * step - real;
      const double error = (double(code) - meaning.zero) * step - real;
      signal_ += real * real;
      error_ += error * error;
      local_error_ += local * local;
      low_ = std::min(low_, real);
      high_ = std::max(high_, real);
      below_ += nearest < lowest;
      above_ += nearest > highest;
      if constexpr (kCountsCodes) used_[std::size_t(code - kLowest)] = 1;
    }
  }
  count_ += reals.size();
}

void FitSums::merge(const FitSums& other) {
  if (other.count_ == 0) return;
  low_ = count_ == 0 ? other.low_ : std::min(low_, other.low_);
  high_ = count_ == 0 ? other.high_ : std::max(high_, other.high_);
  count_ += other.count_;
  below_ += other.below_;
  above_ += other.above_;
  signal_ += other.signal_;
  error_ += other.error_;
  local_error_ += other.local_error_;
  used_.resize(other.used_.size());
  for (std::size_t i = 0; i < used_.size(); ++i) used_[i] |= other.used_[i];
}

GridFit FitSums::result(const CodeMeaning& meaning) const {
  const double widest = *std::max_element(meaning.step.begin(), meaning.step.end());
  const double count = std::max(1.0, double(count_));
  GridFit fit;
  fit.snr_db = decibels(signal_, error_);
  fit.local_snr_db = decibels(signal_, local_error_);
  fit.float_low = low_;
  fit.float_high = high_;
  fit.grid_low = (meaning.lowest_code() - meaning.zero) * widest;
  fit.grid_high = (meaning.highest_code() - meaning.zero) * widest;
  fit.clipped_low = double(below_) / count;
  fit.clipped_high = double(above_) / count;
  fit.codes_used = static_cast<std::size_t>(std::count(used_.begin(), used_.end(), 1));
  fit.codes_all = used_.size();
  return fit;
}

double decibels(double signal, double error) {
  return error == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / error);
}

}  // namespace intaglio
