#include "converters/calibrate.h"

#include <algorithm>
#include <cmath>

#include "converters/float_executor.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr double kSmallestScoreScale = 0x1p-16;

/// Probabilities of one row of scaled scores by the reference's Log-Int-Softmax, in its float32.
void log_int_softmax(std::span<float> row, float scale) {
  constexpr double kA = 0.35815147;
  constexpr double kB = 0.96963238;
  constexpr float kLargestPower = 30;
  constexpr float kCodes = 16;
  const float x0 = std::floor(-0.6931F / scale);
  const float b = std::floor(static_cast<float>(kB / kA) / scale);
  const float c = std::floor(static_cast<float>(1 / kA) / (scale * scale));
  const float largest = *std::max_element(row.begin(), row.end()) / scale;
  std::vector<float> exponentials;
  double sum = 0;
  for (const float score : row) {
    const float x = std::max(score / scale - largest, kLargestPower * x0);
    const float q = std::floor(x / x0);
    const float r = x - x0 * q;
    const float e = std::max(0.0F, std::floor((r * (r + b) + c) * std::exp2(kLargestPower - q)));
    exponentials.push_back(e);
    sum += double{e};
  }
  for (std::size_t j = 0; j < row.size(); ++j) {
    const float share = std::nearbyint(static_cast<float>(sum) / exponentials[j]);
    float code = std::floor(std::log2(share));
    if (share - std::exp2(code) >= std::exp2(code - 1)) ++code;
    row[j] = code >= kCodes ? 0.0F : std::exp2(-code);
  }
}

/// One observer for each quantizer.
class PaperCalibrator : public TensorObserver {
 public:
  PaperCalibrator(const Network& network, ObserverKind kind, SoftmaxForm softmax) {
    calibration.softmax = softmax;
    for (std::size_t id = 0; id + 1 < network.layers.size(); ++id) {
      const Layer& layer = network.layers[id];
      if (!has_quantizer(network, id)) continue;
      observers_[layer.result] =
          has_factors(network, id) ? make_ptf_observer() : make_observer(kind);
      if (const auto* attention = std::get_if<AttentionLayer>(&layer.op)) {
        observers_[score_grid_of(layer)] = make_observer(kind);
        if (!attention->bias.empty()) {
          observers_[bias_grid_of(layer)] = make_observer(kind);
          observers_[biased_grid_of(layer)] = make_observer(kind);
        }
        if (softmax == SoftmaxForm::kUniform) {
          observers_[probability_grid_of(layer)] = make_observer(kind, true);
        }
      }
      if (std::holds_alternative<EmbedLayer>(layer.op)) {
        observers_[kTokenGrid] = make_observer(kind);
        observers_[kPositionGrid] = make_observer(kind);
      }
    }
  }

  void set_last(bool last) { last_ = last; }

  void tensor(const std::string& name, std::span<float> values, std::size_t channels) override {
    const auto it = observers_.find(name);
    if (it == observers_.end()) return;
    it->second->observe(values, channels);
    if (last_) calibration.grids[name] = it->second->grid(values, channels);
  }
  bool scores(const std::string& name, std::span<float> values,
              const ScoreLayout& layout) override {
    tensor(name, values, 1);
    if (!last_) return false;
    // Of constant scores: a scale that the integer exponential still takes.
    Grid& grid = calibration.grids.at(name);
    grid.scale = std::max(grid.scale, kSmallestScoreScale);
    if (calibration.softmax != SoftmaxForm::kLogInt) return false;
    // The reference has the scale by now, and goes on with its own softmax in the last batch.
    const auto scale = static_cast<float>(grid.scale);
    layout.each_row(values,
                    [scale](std::span<float> row, std::size_t) { log_int_softmax(row, scale); });
    return true;
  }
  void probabilities(const std::string& name, std::span<float> values,
                     const ScoreLayout&) override {
    tensor(name, values, 1);
  }

  Calibration calibration;

 private:
  /// Streams, but those of the patch embedding before and behind its norm.
  static bool has_factors(const Network& network, std::size_t id) {
    return network.is_stream(id) && !network.layers[id].name.starts_with("patch_embed.");
  }
  /// fc1's result goes to GELU as it is, selected and merged rows have the grid of their source.
  static bool has_quantizer(const Network& network, std::size_t id) {
    const auto& op = network.layers[id].op;
    if (std::holds_alternative<SelectLayer>(op) || std::holds_alternative<MergeLayer>(op)) {
      return false;
    }
    if (const auto* patches = std::get_if<PatchesLayer>(&op)) {
      const auto alike = [](const std::array<double, 3>& a) {
        return a[0] == a[1] && a[0] == a[2];
      };
      return !alike(patches->mean) || !alike(patches->std);
    }
    const std::vector<std::size_t> readers = network.readers_of(id);
    return readers.empty() || !std::holds_alternative<GeluLayer>(network.layers[readers[0]].op);
  }

  std::map<std::string, std::unique_ptr<Observer>> observers_;
  bool last_ = false;
};

}  // namespace

void describe_calibration(Network& network, const std::string& method, std::size_t images,
                          std::size_t batch) {
  network.provenance["method"] = method;
  network.provenance["calibration"] =
      std::to_string(images) + " images in batches of " + std::to_string(batch);
}

void require_images(const CalibrationImages& images) {
  if (images.count == 0 || images.batch == 0) {
    throw Error(ErrorCode::kInvalidArgument, "calibration needs images, in batches of one or more");
  }
}

Calibration calibrate_as_paper(const Network& network, const CalibrationImages& images,
                               ObserverKind kind, SoftmaxForm softmax,
                               const ReportProgress& progress, std::size_t threads) {
  require_images(images);
  FloatExecutor executor(network, threads);
  PaperCalibrator calibrator(network, kind, softmax);
  for (std::size_t i = 0; i < images.batches(); ++i) {
    calibrator.set_last(i + 1 == images.batches());
    executor.run(images.pixels_of(i), images.images_of(i), &calibrator);
    if (progress) progress(double(i + 1) / double(images.batches()));
  }
  for (const Layer& layer : network.layers) {
    if (const auto* linear = std::get_if<LinearLayer>(&layer.op)) {
      calibrator.calibration.weights[layer.name] = {weight_scales(linear->weight, linear->n), {}};
    }
  }
  return std::move(calibrator.calibration);
}

}  // namespace intaglio
