#include "converters/default_method.h"

#include <algorithm>
#include <cmath>

#include "converters/equalize.h"
#include "converters/lower.h"
#include "converters/tensor_ranges.h"

namespace intaglio {
namespace {

/// Beyond ten halvings of the row's maximum, a score weighs 0 (row_relative_codes).
constexpr float kDeepestScore = 10.5F * 0.6931472F;
/// s16 reaches so much farther than what calibration has seen.
constexpr double kStreamMargin = 1.5;
/// Share of GELU's channels that the finest scale is for. Not fewer: a channel that answers to few
/// classes may never have been seen at its largest.
constexpr double kBulk = 0.99;
constexpr int kLargestExponent = 7;
/// A channel takes the next power of two when less than this share of its range would be kept.
constexpr double kKeptShare = 0.8;
/// Of n rows, the range is widened by kRangeMargin / sqrt(n): the fewer, the less they tell.
constexpr float kRangeMargin = 1.5F;

double largest_magnitude(const TensorRange& range) {
  return double{std::max(std::abs(range.lowest()), std::abs(range.highest()))};
}

/// Scales of residual streams by layer; 0 for other layers. Streams that additions join have the
/// scale of the widest, which makes additions cheap.
std::vector<double> stream_scales(const Network& network, const TensorRanges& ranges) {
  std::vector<std::size_t> first(network.layers.size());  // layer that begins the stream
  std::vector<double> reach(network.layers.size());       // of the stream that begins there
  for (std::size_t id = 0; id < network.layers.size(); ++id) {
    const Layer& layer = network.layers[id];
    const auto* add = std::get_if<AddLayer>(&layer.op);
    first[id] = add != nullptr                                  ? first[add->stream]
                : std::holds_alternative<SelectLayer>(layer.op) ? first[layer.src]
                                                                : id;
    if (!network.is_stream(id)) continue;
    double& widest = reach[first[id]];
    widest = std::max(widest, largest_magnitude(ranges.at(layer.result)));
  }
  std::vector<double> scales(network.layers.size());
  for (std::size_t id = 0; id < network.layers.size(); ++id) {
    if (!network.is_stream(id)) continue;
    scales[id] = std::max(kStreamMargin * reach[first[id]] / 32767, 0x1p-23);
  }
  return scales;
}

double channel_top(const Grid& grid, std::size_t c) {
  return channel_scale(grid, c) * (255 - grid.zero_point);
}

/// Norms, qkv, attention, the mean: a u8 grid. Linear layers onto the stream and before GELU have
/// none, the input's codes are the pixels, and selected rows have the grid of their source.
bool has_own_grid(const Network& network, std::size_t id) {
  const auto& op = network.layers[id].op;
  if (std::holds_alternative<NormLayer>(op) || std::holds_alternative<AttentionLayer>(op) ||
      std::holds_alternative<MeanLayer>(op)) {
    return true;
  }
  if (!std::holds_alternative<LinearLayer>(op) || id + 1 == network.layers.size()) return false;
  const auto& reader = network.layers[network.readers_of(id).at(0)].op;
  return std::holds_alternative<AttentionLayer>(reader);
}

/// What was seen, and the more beyond it the fewer rows that were; and `others`.
Grid margin_grid(const TensorRange& range, std::span<const float> others = {}) {
  const float margin =
      1 + kRangeMargin / std::sqrt(static_cast<float>(std::max<std::size_t>(range.rows, 1)));
  float low = margin * std::min(range.lowest(), 0.0F);
  float high = margin * std::max(range.highest(), 0.0F);
  for (const float v : others) low = std::min(low, v), high = std::max(high, v);
  return range_grid(low, high);
}

Grid score_grid(const TensorRange& scores) {
  const float low = std::max(scores.lowest(), scores.lowest_row_maximum - kDeepestScore);
  return range_grid(std::min(low, 0.0F), std::max(scores.highest(), 0.0F));
}

/// Behind GELU: the finest scale serves most channels, powers of two those that reach beyond.
Grid gelu_grid(const TensorRange& range) {
  constexpr float kGeluMinimum = -0.17F;
  std::vector<float> tops = range.high;
  const auto bulk = tops.begin() + std::ptrdiff_t(kBulk * double(tops.size() - 1));
  std::nth_element(tops.begin(), bulk, tops.end());
  const float top = std::max(*bulk, std::ldexp(range.highest(), -kLargestExponent));
  Grid grid = range_grid(kGeluMinimum, std::max(top, -kGeluMinimum));
  grid.exponents.resize(range.high.size());
  for (std::size_t c = 0; c < range.high.size(); ++c) {
    const double high = kKeptShare * double{range.high[c]};
    while (channel_top(grid, c) < high && grid.exponents[c] < kLargestExponent) {
      ++grid.exponents[c];
    }
  }
  return grid;
}

}  // namespace

Calibration calibrate(Network& network, const CalibrationImages& images,
                      const ReportProgress& progress, std::size_t threads) {
  const auto half = [&](double done) {
    return [&progress, done](double share) {
      if (progress) progress(done + share / 2);
    };
  };
  fold_normalization(network);
  equalize(network, measure_ranges(network, images, half(0), threads));
  const TensorRanges ranges = measure_ranges(network, images, half(0.5), threads);

  Calibration calibration;
  calibration.softmax = SoftmaxForm::kRowRelative;
  calibration.stream = DType::kS16;
  const std::vector<double> scales = stream_scales(network, ranges);
  for (std::size_t id = 0; id < network.layers.size(); ++id) {
    const Layer& layer = network.layers[id];
    if (std::holds_alternative<MergeLayer>(layer.op)) continue;  // rows of its source
    const TensorRange& range = ranges.at(layer.result);
    Grid& grid = calibration.grids[layer.result];
    if (network.is_stream(id)) {
      grid = {scales[id], 0, {}};
    } else if (std::holds_alternative<GeluLayer>(layer.op)) {
      grid = gelu_grid(range);
    } else if (has_own_grid(network, id)) {
      grid = margin_grid(range);
    } else {
      calibration.grids.erase(layer.result);
    }
    if (const auto* attention = std::get_if<AttentionLayer>(&layer.op)) {
      const std::string scores = softmax_grid_of(layer);
      calibration.grids[scores] = score_grid(ranges.at(scores));
      const std::string& qkv = network.layers[layer.src].result;
      calibration.grids[qkv] = margin_grid(ranges.at(qkv), attention->beyond);
    }
    if (const auto* linear = std::get_if<LinearLayer>(&layer.op)) {
      const auto src = calibration.grids.find(network.layers[layer.src].result);
      const std::vector<float> weight =
          folded_weight(*linear, src == calibration.grids.end() ? std::vector<std::uint8_t>{}
                                                                : src->second.exponents);
      calibration.weights[layer.name] = {weight_scales(weight, linear->n), {}};
    }
  }
  return calibration;
}

}  // namespace intaglio
