#include "converters/observers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace intaglio {
namespace {

constexpr float kSmallestScale = 0x1p-23F;
constexpr float kMomentum = 0.01F;
constexpr double kQuantile = 0.99999;
constexpr int kShrinkSteps = 90;  ///< of omse, one percent each
constexpr int kPtfChoices = 4;

struct Extremes {
  float low = std::numeric_limits<float>::infinity();
  float high = -std::numeric_limits<float>::infinity();
};

Extremes extremes_of(std::span<const float> values) {
  Extremes e;
  for (const float v : values) e.low = std::min(e.low, v), e.high = std::max(e.high, v);
  return e;
}

/// Rounds half to even, for |x| < 2^22; a call of the library for every element would take ten
/// times as long.
float round_even(float x) {
  constexpr float kShift = 0x1.8p23F;
  return (x + kShift) - kShift;
}

/// Squared error of `values`, `step` apart, on a u8 grid.
double squared_error(std::span<const float> values, std::size_t step, float scale, float zero) {
  double total = 0;
  constexpr std::size_t kBlock = 4096;  // summed in float32, whose lanes are wide
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock * step) {
    const std::size_t end = std::min(values.size(), begin + kBlock * step);
    float sum = 0;
    for (std::size_t i = begin; i < end; i += step) {
      const float code = std::min(std::max(values[i] / scale + zero, 0.0F), 255.0F);
      const float error = values[i] - (round_even(code) - zero) * scale;
      sum += error * error;
    }
    total += double{sum};
  }
  return total;
}

/// Of observers that keep one range.
class RangeObserver : public Observer {
 public:
  explicit RangeObserver(bool from_zero) : from_zero_(from_zero) {}
  Grid grid(std::span<const float>, std::size_t) const override { return shrunk(1); }

 protected:
  Grid shrunk(float share) const {
    const float low = from_zero_ ? std::min(seen_.low, 0.0F) : seen_.low;
    return range_grid(low * share, seen_.high * share);
  }

  Extremes seen_;

 private:
  bool from_zero_;
};

class MinmaxObserver : public RangeObserver {
 public:
  using RangeObserver::RangeObserver;
  void observe(std::span<const float> values, std::size_t) override {
    const Extremes e = extremes_of(values);
    seen_ = {std::min(seen_.low, e.low), std::max(seen_.high, e.high)};
  }
};

/// Range of each batch, averaged.
class MovingObserver : public RangeObserver {
 public:
  using RangeObserver::RangeObserver;
  void observe(std::span<const float> values, std::size_t) override {
    const Extremes e = range_of(values);
    if (seen_.low > seen_.high) {
      seen_ = e;
      return;
    }
    seen_.low += kMomentum * (e.low - seen_.low);
    seen_.high += kMomentum * (e.high - seen_.high);
  }

 private:
  virtual Extremes range_of(std::span<const float> values) const { return extremes_of(values); }
};

class PercentileObserver : public MovingObserver {
 public:
  using MovingObserver::MovingObserver;

 private:
  Extremes range_of(std::span<const float> values) const override {
    std::vector<float> copy(values.begin(), values.end());
    return {quantile(copy, 1 - kQuantile), quantile(copy, kQuantile)};
  }
  /// With linear interpolation between neighbours. Reorders `values`. The authors' quantile has its
  /// rank in float32, coarse enough to move the result; of more values than it takes they ask one
  /// with a rank in double.
  static float quantile(std::vector<float>& values, double q) {
    constexpr std::size_t kMostOfFloatRank = std::size_t{1} << 24;
    const auto last = static_cast<double>(values.size() - 1);
    const double rank = values.size() > kMostOfFloatRank
                            ? q * last
                            : double{static_cast<float>(q) * static_cast<float>(last)};
    const auto below = static_cast<std::size_t>(rank);
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(below);
    std::nth_element(values.begin(), at, values.end());
    if (at + 1 == values.end()) return *at;
    const float next = *std::min_element(at + 1, values.end());
    const auto rest = static_cast<float>(rank - static_cast<double>(below));
    return rest < 0.5F ? *at + rest * (next - *at) : next - (next - *at) * (1 - rest);
  }
};

class OmseObserver : public MinmaxObserver {
 public:
  using MinmaxObserver::MinmaxObserver;
  Grid grid(std::span<const float> last, std::size_t) const override {
    Grid best;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kShrinkSteps; ++i) {
      const auto share = static_cast<float>(1 - 0.01 * i);  // last bits as the authors'
      const Grid grid = shrunk(share);
      const double error = squared_error(last, 1, static_cast<float>(grid.scale),
                                         static_cast<float>(grid.zero_point));
      if (error < least) least = error, best = grid;
    }
    return best;
  }
};

class PtfObserver : public MinmaxObserver {
 public:
  using MinmaxObserver::MinmaxObserver;
  Grid grid(std::span<const float> last, std::size_t channels) const override {
    const Grid coarsest = range_grid(seen_.low, seen_.high);
    const auto finest = static_cast<float>(std::ldexp(coarsest.scale, 1 - kPtfChoices));
    Grid grid{finest, coarsest.zero_point, std::vector<std::uint8_t>(channels)};
    for (std::size_t c = 0; c < channels; ++c) {
      double least = std::numeric_limits<double>::infinity();
      for (int k = 0; k < kPtfChoices; ++k) {
        const double error = squared_error(last.subspan(c), channels, std::ldexp(finest, k),
                                           static_cast<float>(grid.zero_point));
        if (error < least) least = error, grid.exponents[c] = static_cast<std::uint8_t>(k);
      }
    }
    return grid;
  }
};

}  // namespace

std::unique_ptr<Observer> make_observer(ObserverKind kind, bool from_zero) {
  switch (kind) {
    case ObserverKind::kEma:
      return std::make_unique<MovingObserver>(from_zero);
    case ObserverKind::kPercentile:
      return std::make_unique<PercentileObserver>(from_zero);
    case ObserverKind::kOmse:
      return std::make_unique<OmseObserver>(from_zero);
    case ObserverKind::kMinmax:
      break;
  }
  return std::make_unique<MinmaxObserver>(from_zero);
}

std::unique_ptr<Observer> make_ptf_observer() {
  return std::make_unique<PtfObserver>(false);
}

std::vector<float> weight_scales(std::span<const float> weight, std::size_t n) {
  std::vector<float> scales(n);
  const std::size_t k = weight.size() / n;
  for (std::size_t j = 0; j < n; ++j) {
    float largest = 0;
    std::size_t used = 0;
    for (const float w : weight.subspan(j * k, k)) {
      largest = std::max(largest, std::abs(w));
      used += w != 0 ? 1 : 0;
    }
    // 127.5 costs the largest weight 0.4 %, which the others are worth; alone it is exact.
    scales[j] = std::max(largest / (used == 1 ? 127.0F : 127.5F), kSmallestScale);
  }
  return scales;
}

Grid range_grid(float low, float high) {
  const float scale = std::max((high - low) / 255.0F, kSmallestScale);
  const float zero = std::clamp(-std::nearbyint(low / scale), 0.0F, 255.0F);
  return {scale, static_cast<std::int32_t>(zero), {}};
}

}  // namespace intaglio
