#include "converters/accuracy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "converters/float_executor.h"
#include "converters/grid_fit.h"
#include "converters/integer_run.h"
#include "converters/integer_scores.h"
#include "converters/lower.h"
#include "engine/thread_pool.h"
#include "graph/error.h"
#include "graph/parallel.h"
#include "kernels/scalar/scalar.h"

namespace intaglio {
namespace {

constexpr std::size_t kSoftmaxCodes = kernels::kZeroCode + 1;
/// Images at a time: every one has its activations in memory, in floats and in codes.
constexpr std::size_t kLargestBatch = 8;

void require(bool condition, const std::string& complaint) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, "cannot compare: " + complaint);
}

/// How often the softmax gave each code.
using CodeCounts = std::array<std::uint64_t, kSoftmaxCodes>;

/// What is found out about a value of the graph.
struct Watched {
  const Op* op = nullptr;
  ValueId value = 0;
  bool stream = false;
  std::size_t rows = 0;  ///< that the logits depend on: the others may be anything
  CodeMeaning meaning;
  FitSums sums;
  CodeMeaning score_meaning;
  FitSums score_sums;
  CodeCounts code_counts{};
};

/// Follows a float run with integer runs of the same images, and compares tensor by tensor as they
/// come: neither side has to be kept.
class Comparison : public TensorObserver {
 public:
  Comparison(const Network& network, const Calibration& calibration, const Graph& graph,
             std::size_t threads)
      : graph_(graph), steps_(graph), threads_(threads) {
    std::map<std::string, const Op*> makers;
    for (const Op& op : graph.ops) makers[graph.values[result_of(op)].name] = &op;
    const std::vector<std::size_t> needed = network.needed_rows();
    for (std::size_t id = 0; id < network.layers.size(); ++id) {
      const auto it = makers.find(network.layers[id].result);
      if (it == makers.end()) continue;
      watch(network.layers[id], *it->second, calibration);
      watched_.back().stream = network.is_stream(id);
      watched_.back().rows = needed[id];
    }
    require(names_.contains(network.layers.back().result), "the graph has no logits of that name");
  }

  void begin(std::span<const std::uint8_t> pixels, std::size_t images) {
    runs_.clear();
    for (std::size_t i = 0; i < images; ++i) {
      const std::size_t bytes = pixels.size() / images;
      runs_.push_back(std::make_unique<IntegerRun>(steps_, pixels.subspan(i * bytes, bytes)));
    }
  }

  void tensor(const std::string& name, std::span<float> values, std::size_t channels) override {
    const auto it = names_.find(name);
    if (it == names_.end()) return;
    Watched& watched = watched_[it->second];
    std::vector<FitSums> sums(runs_.size());
    run_pieces(runs_.size(), threads_, [&](std::size_t image) {
      const auto codes = runs_[image]->value(watched.value);
      const auto floats = part(values, image).first(watched.rows * channels);
      sums[image].add(watched.meaning, floats, codes.data());
    });
    for (const FitSums& of_image : sums) watched.sums.merge(of_image);
  }

  bool scores(const std::string& name, std::span<float> values,
              const ScoreLayout& layout) override {
    const auto it = score_names_.find(name);
    if (it == score_names_.end()) return false;
    Watched& watched = watched_[it->second];
    std::vector<FitSums> sums(runs_.size());
    std::vector<CodeCounts> counts(runs_.size());
    run_pieces(runs_.size(), threads_, [&](std::size_t image) {
      const auto& attention = std::get<AttentionOp>(watched.op->params);
      const auto qkv = runs_[image]->value(attention.src);
      add_scores(watched, layout, reinterpret_cast<const std::uint8_t*>(qkv.data()),
                 part(values, image), sums[image], counts[image]);
    });
    for (std::size_t image = 0; image < runs_.size(); ++image) {
      watched.score_sums.merge(sums[image]);
      for (std::size_t c = 0; c < kSoftmaxCodes; ++c) watched.code_counts[c] += counts[image][c];
    }
    return false;
  }

  /// Integer logits of an image of this batch.
  std::span<const std::int32_t> logits(std::size_t image) {
    const auto bytes = runs_[image]->value(graph_.output);
    return {reinterpret_cast<const std::int32_t*>(bytes.data()),
            bytes.size() / sizeof(std::int32_t)};
  }
  const std::vector<Watched>& watched() const { return watched_; }

 private:
  void watch(const Layer& layer, const Op& op, const Calibration& calibration) {
    Watched watched;
    watched.op = &op;
    watched.value = result_of(op);
    const Value& value = graph_.values[watched.value];
    require(rows_of(value) == layer.rows && channels_of(value) == layer.channels,
            "value " + printable(value.name) + " has another shape than the layer's result");
    watched.meaning = meaning_of(value.grid, value.dtype, layer.channels);
    if (const auto* patches = std::get_if<PatchesLayer>(&layer.op);
        patches != nullptr && !calibration.grids.contains(layer.result)) {
      // The pixels are the codes; what they mean is in the next layer's constants.
      watched.meaning.step.assign(layer.channels, 1 / (255 * patches->std[0]));
      watched.meaning.zero = 255 * patches->mean[0];
    }
    if (const auto* attention = std::get_if<AttentionOp>(&op.params)) {
      // Codes that a bias was added to have a grid of their own, which the graph does not tell.
      const Grid scores = attention->bias_shift == 0
                              ? Grid{attention->score_scale, attention->score_zero_point, {}}
                              : calibration.grids.at(softmax_grid_of(layer));
      watched.score_meaning = meaning_of(scores, DType::kU8, 1);
      score_names_[softmax_grid_of(layer)] = watched_.size();
    }
    names_[layer.result] = watched_.size();
    watched_.push_back(std::move(watched));
  }

  std::span<const float> part(std::span<const float> values, std::size_t image) const {
    const std::size_t size = values.size() / runs_.size();
    return values.subspan(image * size, size);
  }

  /// Scores and softmax codes of one image, as the kernel makes them; values as `layout` has them.
  void add_scores(const Watched& watched, const ScoreLayout& layout, const std::uint8_t* qkv,
                  std::span<const float> values, FitSums& sums, CodeCounts& counts) const {
    const auto& op = std::get<AttentionOp>(watched.op->params);
    const IntegerScores scores(graph_, op);
    const kernels::SoftmaxParams softmax = {
        .form = op.form, .exponentials = op.exponentials.data(), .codes = op.codes.data()};
    for (const AttentionPiece& piece : layout.pieces) {
      const std::size_t tokens = piece.tokens.size();
      // Queries that the logits do not depend on are the last ones.
      const std::size_t rows = std::min(piece.queries, watched.rows);
      for (std::size_t h = 0; h < layout.heads; ++h) {
        std::vector<std::uint8_t> map = scores.of(piece, qkv, h, rows);
        sums.add(watched.score_meaning, values.first(map.size()),
                 reinterpret_cast<const std::byte*>(map.data()));
        values = values.subspan(piece.queries * tokens);
        if (op.form == SoftmaxForm::kUniform) continue;  // 256 codes tell nothing at a glance
        kernels::scalar::softmax_codes(softmax, map.data(), rows, tokens, map.data());
        for (const std::uint8_t code : map) ++counts[std::min(code, kernels::kZeroCode)];
      }
    }
  }

  const Graph& graph_;
  IntegerSteps steps_;
  std::size_t threads_;
  std::vector<Watched> watched_;
  std::map<std::string, std::size_t> names_, score_names_;  ///< index into watched_
  std::vector<std::unique_ptr<IntegerRun>> runs_;           ///< per image of the batch
};

/// Weights as the input's codes meet them, against codes times scale.
double weight_snr(const Graph& graph, const Op& op, const FloatLinear& layer,
                  const WeightGrid& grid) {
  const auto& linear = std::get<LinearOp>(op.params);
  require(linear.weight.size() == layer.weight.size() && grid.scale.size() == layer.n,
          "the weights of " + printable(op.name) + " have another shape than the layer's");
  const std::vector<float> weight = folded_weight(layer, graph.values[linear.src].grid.exponents);
  double signal = 0, error = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const double real = double{weight[i]};
    const double lost = double{grid.scale[i / layer.k]} * linear.weight[i] - real;
    signal += real * real;
    error += lost * lost;
  }
  return decibels(signal, error);
}

std::optional<double> weight_snr(const Network& network, const Calibration& calibration,
                                 const Graph& graph, const Op& op) {
  if (!std::holds_alternative<LinearOp>(op.params)) return {};
  const auto grid = calibration.weights.find(op.name);
  for (const Layer& layer : network.layers) {
    const auto* linear = std::get_if<LinearLayer>(&layer.op);
    if (linear == nullptr || layer.name != op.name || grid == calibration.weights.end()) continue;
    return weight_snr(graph, op, *linear, grid->second);
  }
  return {};
}

TensorAccuracy describe(const Graph& graph, const Watched& watched) {
  const Value& value = graph.values[watched.value];
  TensorAccuracy tensor;
  tensor.name = value.name;
  tensor.layer = watched.op->name;
  tensor.kind = kind_name(watched.op->params);
  tensor.rows = watched.rows;
  tensor.channels = channels_of(value);
  tensor.codes = dtype_name(value.dtype);
  tensor.stream = watched.stream;
  tensor.fit = watched.sums.result(watched.meaning);
  for (const std::uint8_t exponent : value.grid.exponents) {
    if (tensor.exponent_counts.size() <= exponent) tensor.exponent_counts.resize(exponent + 1U);
    ++tensor.exponent_counts[exponent];
  }
  if (const auto* op = std::get_if<AttentionOp>(&watched.op->params)) {
    double all = 0;
    for (const std::uint64_t n : watched.code_counts) all += double(n);
    AttentionFit fit{watched.score_sums.result(watched.score_meaning), op->form, op->zero_code, {}};
    if (all > 0) {
      for (const std::uint64_t n : watched.code_counts) fit.code_shares.push_back(double(n) / all);
    }
    tensor.attention = std::move(fit);
  }
  return tensor;
}

std::size_t parameters_of(const Network& network) {
  std::size_t count = 0;
  for (const Layer& layer : network.layers) {
    if (const auto* linear = std::get_if<LinearLayer>(&layer.op)) {
      count += linear->weight.size() + linear->bias.size();
    } else if (const auto* norm = std::get_if<NormLayer>(&layer.op)) {
      count += norm->gamma.size() + norm->beta.size();
    } else if (const auto* embed = std::get_if<EmbedLayer>(&layer.op)) {
      count += embed->tokens.size() + embed->position.size();
    } else if (const auto* attention = std::get_if<AttentionLayer>(&layer.op)) {
      count += attention->bias.size();
    }
  }
  return count;
}

void require_images(const Network& network, const Graph& graph, std::size_t bytes,
                    std::size_t count, std::span<const std::size_t> labels) {
  const std::size_t height = network.image_height;
  const std::size_t width = network.image_width;
  require(graph.values[graph.input].shape == std::vector<std::size_t>{height, width, 3},
          "the graph takes images of another size");
  const std::size_t per_image = 3 * height * width;
  require(count != 0 && bytes / count == per_image && bytes % count == 0,
          "expected " + std::to_string(count) + " images of " + std::to_string(per_image) +
              " bytes, found " + std::to_string(bytes) + " bytes");
  require(labels.empty() || labels.size() == count, "expected a label for each of " +
                                                        std::to_string(count) + " images, found " +
                                                        std::to_string(labels.size()));
}

}  // namespace

Accuracy compare(const Network& network, const Calibration& calibration, const Graph& graph,
                 std::span<const std::uint8_t> pixels, std::size_t count,
                 std::span<const std::size_t> labels, std::size_t threads,
                 const std::function<void(double share)>& progress) {
  require_images(network, graph, pixels.size(), count, labels);
  if (threads == 0) threads = available_cpus();
  Comparison comparison(network, calibration, graph, threads);
  FloatExecutor executor(network, threads);
  Accuracy accuracy;
  LogitSums sums;
  const double scale = graph.values[graph.output].grid.scale;
  const std::size_t per_image = pixels.size() / count;
  const std::size_t classes = network.layers.back().channels;
  const std::size_t batch = std::min(threads, kLargestBatch);
  for (std::size_t first = 0; first < count; first += batch) {
    const std::size_t images = std::min(batch, count - first);
    const auto part = pixels.subspan(first * per_image, images * per_image);
    comparison.begin(part, images);
    const std::vector<float> logits = executor.run(part, images, &comparison);
    for (std::size_t i = 0; i < images; ++i) {
      sums.add(std::span(logits).subspan(i * classes, classes), comparison.logits(i), scale,
               labels.empty() ? std::nullopt : std::optional(labels[first + i]));
    }
    if (progress) progress(double(first + images) / double(count));
  }
  for (const Watched& watched : comparison.watched()) {
    accuracy.tensors.push_back(describe(graph, watched));
    accuracy.tensors.back().weight_snr_db = weight_snr(network, calibration, graph, *watched.op);
  }
  AccuracySummary& summary = accuracy.summary;
  static_cast<LogitFit&>(summary) = sums.result();
  summary.classes = classes;
  summary.float_bytes = parameters_of(network) * sizeof(float);
  summary.integer_bytes = constant_bytes(graph);
  return accuracy;
}

}  // namespace intaglio
