#include "converters/tensor_ranges.h"

#include <algorithm>
#include <limits>

namespace intaglio {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class RangeObserver : public TensorObserver {
 public:
  explicit RangeObserver(const Network& network) {
    const std::vector<std::size_t> needed = network.needed_rows();
    for (std::size_t id = 0; id < network.layers.size(); ++id) {
      const Layer& layer = network.layers[id];
      rows_[layer.result] = {layer.rows, needed[id]};
      if (std::holds_alternative<AttentionLayer>(layer.op)) {
        rows_[softmax_grid_of(layer)] = {layer.rows, needed[id]};
      }
    }
  }

  void tensor(const std::string& name, std::span<float> values, std::size_t channels) override {
    const auto it = rows_.find(name);
    if (it == rows_.end()) return;
    const auto [all, needed] = it->second;
    TensorRange& range = of(name, channels);
    for (std::size_t r = 0; r * channels < values.size(); ++r) {
      if (r % all >= needed) continue;
      ++range.rows;
      const auto row = values.subspan(r * channels, channels);
      for (std::size_t c = 0; c < channels; ++c) {
        range.low[c] = std::min(range.low[c], row[c]);
        range.high[c] = std::max(range.high[c], row[c]);
      }
    }
  }
  bool scores(const std::string& name, std::span<float> values,
              const ScoreLayout& layout) override {
    const std::size_t needed = rows_.at(name).needed;
    TensorRange& range = of(name, 1);
    layout.each_row(values, [&](std::span<const float> row, std::size_t query) {
      if (query >= needed) return;
      ++range.rows;
      const auto [low, high] = std::minmax_element(row.begin(), row.end());
      range.low[0] = std::min(range.low[0], *low);
      range.high[0] = std::max(range.high[0], *high);
      range.lowest_row_maximum = std::min(range.lowest_row_maximum, *high);
    });
    return false;
  }

  TensorRanges ranges;

 private:
  struct Rows {
    std::size_t all = 1, needed = 1;
  };

  TensorRange& of(const std::string& name, std::size_t channels) {
    TensorRange& range = ranges[name];
    if (range.low.empty()) {
      range.low.assign(channels, kInfinity);
      range.high.assign(channels, -kInfinity);
      range.lowest_row_maximum = kInfinity;
    }
    return range;
  }

  std::map<std::string, Rows> rows_;
};

}  // namespace

float TensorRange::lowest() const {
  return *std::min_element(low.begin(), low.end());
}
float TensorRange::highest() const {
  return *std::max_element(high.begin(), high.end());
}

TensorRanges measure_ranges(const Network& network, const CalibrationImages& images,
                            const ReportProgress& progress, std::size_t threads) {
  require_images(images);
  FloatExecutor executor(network, threads);
  RangeObserver observer(network);
  for (std::size_t i = 0; i < images.batches(); ++i) {
    executor.run(images.pixels_of(i), images.images_of(i), &observer);
    if (progress) progress(double(i + 1) / double(images.batches()));
  }
  return std::move(observer.ranges);
}

}  // namespace intaglio
