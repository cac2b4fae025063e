// Swin in float: windows, shift, padding and merging against plain loops in double; both ways of
// calibration.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <set>

#include "converters/accuracy.h"
#include "converters/default_method.h"
#include "converters/equalize.h"
#include "converters/float_executor.h"
#include "converters/lower_network.h"
#include "tests/support/naive_network.h"
#include "tests/support/random_swin.h"

namespace intaglio::test {
namespace {

using Floats = std::vector<float>;

CalibrationImages random_images(const Network& network, std::size_t count, std::size_t batch) {
  std::mt19937 random(7);
  std::vector<std::uint8_t> pixels(count * network.image_height * network.image_width * 3);
  for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(random() >> 24);
  return {std::move(pixels), count, batch};
}

/// Maps that fit and that do not, odd ones, maps below the window, images that end within a patch.
const SwinShape kShapes[] = {
    {},
    {.height = 48, .width = 24, .window = 3, .depths = {2, 2}},
    {.height = 19, .width = 30, .window = 4, .depths = {3, 1, 2}, .patch_norm = false, .seed = 2},
    {.height = 9, .width = 33, .patch = 2, .dim = 4, .window = 5, .depths = {2, 2, 2}, .seed = 3},
    {.height = 12, .width = 12, .window = 1, .depths = {2}, .seed = 4},
    {.height = 32, .width = 36, .window = 7, .depths = {2, 2}, .seed = 5},
};

double rms(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * double{v};
  return std::sqrt(sum / static_cast<double>(values.size()));
}
double distance(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  Floats difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return rms(difference);
}
Floats logits_of(const Network& network, const CalibrationImages& images) {
  return FloatExecutor(network, 2).run(images.pixels, images.count);
}

}  // namespace

TEST_CASE("the float Swin equals plain loops in double") {
  for (const SwinShape& shape : kShapes) {
    CAPTURE(shape.seed, shape.height);
    const Network network = network_of(random_swin(shape));
    const CalibrationImages images = random_images(network, 3, 1);
    const Floats together = logits_of(network, images);
    REQUIRE(together.size() == 3 * shape.classes);
    for (std::size_t i = 0; i < 3; ++i) {
      const std::vector<double> expected = naive_logits(network, images.pixels_of(i));
      for (std::size_t c = 0; c < shape.classes; ++c) {
        CHECK(double{together[i * shape.classes + c]} ==
              Approx(expected[c]).epsilon(1e-4).margin(1e-4));
      }
    }
  }
}

TEST_CASE("pieces of a map hold each token once, and those of whole windows every neighbour") {
  const Network network = network_of(random_swin({.height = 32, .width = 44, .window = 3}));
  std::size_t seen = 0;
  for (const Layer& layer : network.layers) {
    if (!std::holds_alternative<AttentionLayer>(layer.op)) continue;
    ++seen;
    const ScoreLayout layout = score_layout(layer);
    std::multiset<std::size_t> rows;
    std::size_t scores = 0;
    for (const AttentionPiece& piece : layout.pieces) {
      CHECK(piece.queries != 0);
      CHECK(piece.tokens.size() <= 9);
      scores += layout.heads * piece.queries * piece.tokens.size();
      for (std::size_t q = 0; q < piece.queries; ++q) rows.insert(piece.tokens[q].row);
    }
    CHECK(layout.size() == scores);
    CHECK(rows.size() == layer.rows);
    CHECK(*rows.rbegin() == layer.rows - 1);
    CHECK(std::set(rows.begin(), rows.end()).size() == layer.rows);
  }
  CHECK(seen == 4);
}

TEST_CASE("equalizing a Swin leaves its function as it is") {
  for (const SwinShape& shape : kShapes) {
    CAPTURE(shape.seed, shape.height);
    Network network = network_of(random_swin(shape));
    const CalibrationImages images = random_images(network, 70, 35);
    const Floats before = logits_of(network, images);
    fold_normalization(network);
    CHECK(distance(logits_of(network, images), before) < 1e-5 * rms(before));
    equalize(network, measure_ranges(network, images));
    CHECK(distance(logits_of(network, images), before) < 1e-4 * rms(before));
  }
}

TEST_CASE("observers see scores, bias and their sum") {
  struct Watcher : TensorObserver {
    void tensor(const std::string& name, std::span<float> values, std::size_t channels) override {
      CHECK(values.size() % channels == 0);
      seen[name].assign(values.begin(), values.end());
    }
    bool scores(const std::string& name, std::span<float> values,
                const ScoreLayout& layout) override {
      CHECK(values.size() % layout.size() == 0);
      std::size_t count = 0;
      layout.each_row(values, [&](std::span<float> row, std::size_t) { count += row.size(); });
      CHECK(count == values.size());
      seen[name].assign(values.begin(), values.end());
      return false;
    }
    std::map<std::string, Floats> seen;
  };
  const Network network = network_of(random_swin());
  const CalibrationImages images = random_images(network, 2, 2);
  Watcher watcher;
  FloatExecutor(network, 1).run(images.pixels, 2, &watcher);
  const std::string attention = "layers.0.blocks.1.attn.";
  const Floats& plain = watcher.seen.at(attention + "qact_attn1");
  const Floats& biased = watcher.seen.at(attention + "qact2");
  const Floats& bias = watcher.seen.at(attention + "qact_table");
  REQUIRE(plain.size() == biased.size());
  CHECK(bias.size() == 25);
  std::set<float> added;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const float difference = biased[i] - plain[i];
    CHECK(std::any_of(bias.begin(), bias.end(),
                      [&](float b) { return std::abs(b - difference) < 1e-5F; }));
    added.insert(std::round(difference * 1e4F));
  }
  CHECK(added.size() == 25);
}

TEST_CASE("the paper's recipe gives every quantizer of a Swin a grid") {
  const Network network = network_of(random_swin());
  const CalibrationImages images = random_images(network, 6, 3);
  const Calibration c = calibrate_as_paper(network, images, ObserverKind::kMinmax);
  for (const char* one :
       {"qact_input", "patch_embed.qact_before_norm", "patch_embed.qact", "layers.0.blocks.1.qact1",
        "layers.0.blocks.0.attn.qact1", "layers.0.blocks.0.attn.qact_attn1",
        "layers.1.blocks.1.attn.qact_table", "layers.1.blocks.0.attn.qact2",
        "layers.1.blocks.0.attn.qact3", "layers.0.blocks.0.attn.qact4", "layers.0.blocks.0.qact3",
        "layers.0.blocks.0.mlp.qact1", "layers.0.blocks.0.mlp.qact2", "layers.0.downsample.qact1",
        "qact2", "qact3"}) {
    CAPTURE(one);
    CHECK(c.grids.at(one).exponents.empty());
    CHECK(c.grids.at(one).scale > 0x1p-23);
  }
  for (const auto& [stream, channels] : {std::pair{"layers.0.blocks.0.qact2", 8UL},
                                         {"layers.0.blocks.1.qact4", 8},
                                         {"layers.0.downsample.qact2", 16},
                                         {"layers.1.blocks.1.qact4", 16}}) {
    CAPTURE(stream);
    CHECK(c.grids.at(stream).exponents.size() == channels);
  }
  // Of each block 12, before the first 3, between stages 2, at the end 2.
  CHECK(c.grids.size() == 4 * 12 + 3 + 2 + 2);
  CHECK(c.weights.size() == 4 * 4 + 3);
}

TEST_CASE("the default method gives each stage of a Swin a stream of its own") {
  Network network = network_of(random_swin());
  const CalibrationImages images = random_images(network, 6, 3);
  const Calibration c = calibrate(network, images);
  CHECK(c.stream == DType::kS16);
  const double first = c.grids.at("patch_embed.qact").scale;
  const double second = c.grids.at("layers.0.downsample.qact2").scale;
  CHECK(first != second);
  CHECK(c.grids.at("patch_embed.qact_before_norm").scale != first);
  for (const char* block :
       {"blocks.0.qact2", "blocks.0.qact4", "blocks.1.qact2", "blocks.1.qact4"}) {
    CHECK(c.grids.at(std::string("layers.0.") + block).scale == first);
    CHECK(c.grids.at(std::string("layers.1.") + block).scale == second);
  }
  CHECK(c.grids.contains("layers.0.blocks.0.attn.qact2"));
  for (const char* none : {"layers.0.blocks.0.attn.qact_attn1", "layers.0.blocks.0.attn.qact_table",
                           "layers.0.downsample.merge", "layers.0.blocks.0.attn.qact4"}) {
    CAPTURE(none);
    CHECK_FALSE(c.grids.contains(none));
  }
}

TEST_CASE("a quantized Swin is close to its float network, where there is padding too") {
  for (const SwinShape& shape : kShapes) {
    for (const bool paper : {false, true}) {
      CAPTURE(shape.seed, shape.height, paper);
      Network network = network_of(random_swin(shape));
      const CalibrationImages images = random_images(network, 48, 16);
      const Calibration calibration =
          paper ? calibrate_as_paper(network, images, ObserverKind::kMinmax)
                : calibrate(network, images);
      const Graph graph = lower(network, calibration, {});
      const Accuracy found = compare(network, calibration, graph, images.pixels, images.count);
      const double loss = found.summary.logit_rmse / rms(logits_of(network, images));
      std::printf("loss of Swin %u, %s: %.4f\n", shape.seed, paper ? "the paper's" : "default",
                  loss);
      CHECK(loss < (paper ? 0.15 : 0.05));
      std::size_t attentions = 0;
      for (const TensorAccuracy& tensor : found.tensors) {
        CAPTURE(tensor.name);
        CHECK(tensor.fit.snr_db > (paper ? 10 : 20));
        if (!tensor.attention) continue;
        ++attentions;
        // The paper's grid of a single bias holds 0 alone; no softmax of one score sees it.
        if (!paper || shape.window > 1) {
          CHECK(tensor.attention->scores.snr_db > (paper ? 10 : 20));
        }
      }
      CHECK(attentions == std::accumulate(shape.depths.begin(), shape.depths.end(), 0UL));
    }
  }
}

}  // namespace intaglio::test
