// The default method: what it moves about leaves the network's function alone, and outliers that
// somebody moved in do not hurt.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <random>

#include "converters/default_method.h"
#include "converters/equalize.h"
#include "converters/lower_network.h"
#include "engine/intaglio.h"
#include "graph/model_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

const TinyShape kShapes[] = {
    {.image = 16, .patch = 4, .dim = 32, .heads = 2, .hidden = 64, .depth = 3, .classes = 10},
    {.image = 12,
     .patch = 4,
     .dim = 24,
     .heads = 3,
     .hidden = 40,
     .depth = 2,
     .classes = 5,
     .input_quantizer = false,
     .seed = 3},
};

CalibrationImages tiny_images(std::size_t side, std::size_t count, std::size_t batch) {
  std::mt19937 random(7);
  std::vector<std::uint8_t> pixels(count * side * side * 3);
  for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(random());
  return {std::move(pixels), count, batch};
}

double rms(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * double{v};
  return std::sqrt(sum / static_cast<double>(values.size()));
}
double distance(std::span<const float> a, std::span<const float> b) {
  std::vector<float> difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return rms(difference);
}

std::vector<float> float_logits(const Network& network, const CalibrationImages& images) {
  return FloatExecutor(network).run(images.pixels, images.count);
}

std::vector<float> integer_logits(const Graph& graph, const CalibrationImages& images) {
  const Model model = Model::parse(serialize_model(graph), "quantized");
  Session session(model);
  std::vector<float> logits;
  const std::size_t size = images.pixels.size() / images.count;
  for (std::size_t i = 0; i < images.count; ++i) {
    const auto width = static_cast<int>(model.width());
    const ImageView view{images.pixels.data() + i * size, width, width, 3 * model.width()};
    for (const std::int32_t code : session.run(view)) {
      logits.push_back(static_cast<float>(code * model.logit_scale()));
    }
  }
  return logits;
}

/// Error of the default method's logits, as a share of the logits.
double loss_of(const Vit& vit) {
  const CalibrationImages images = tiny_images(vit.image_size, 48, 16);
  Network network = network_of(vit);
  const std::vector<float> expected = float_logits(network, images);
  const Calibration calibration = calibrate(network, images);
  return distance(integer_logits(lower(network, calibration, {}), images), expected) /
         rms(expected);
}
double loss_of_paper(const Vit& vit) {
  const CalibrationImages images = tiny_images(vit.image_size, 48, 16);
  const Network network = network_of(vit);
  const std::vector<float> expected = float_logits(network, images);
  const Calibration calibration = calibrate_as_paper(network, images, ObserverKind::kMinmax);
  return distance(integer_logits(lower(network, calibration, {}), images), expected) /
         rms(expected);
}

void scale_column(FloatLinear& layer, std::size_t c, float factor) {
  for (std::size_t j = 0; j < layer.n; ++j) layer.weight[j * layer.k + c] *= factor;
}
void scale_row(FloatLinear& layer, std::size_t j, float factor) {
  for (std::size_t c = 0; c < layer.k; ++c) layer.weight[j * layer.k + c] *= factor;
  layer.bias[j] *= factor;
}

/// The same function, with channels of LayerNorm and of v that are far out.
Vit with_moved_scales(Vit vit) {
  const std::size_t dim = vit.dim;
  for (FloatBlock& b : vit.blocks) {
    for (const auto& [c, factor] : {std::pair{1UL, 64.0F}, {dim / 2, 1000.0F}, {dim - 1, 0.01F}}) {
      b.norm1.gamma[c] *= factor, b.norm1.beta[c] *= factor;
      scale_column(b.qkv, c, 1 / factor);
      b.norm2.gamma[c] *= factor, b.norm2.beta[c] *= factor;
      scale_column(b.fc1, c, 1 / factor);
      scale_row(b.qkv, 2 * dim + c, factor);
      scale_column(b.proj, c, 1 / factor);
      scale_row(b.qkv, c, factor);
      scale_row(b.qkv, dim + c, 1 / factor);
    }
  }
  return vit;
}

}  // namespace

TEST_CASE("equalizing leaves the function as it is") {
  for (const TinyShape& shape : kShapes) {
    const Vit vit = with_moved_scales(tiny_vit(shape).vit);
    const CalibrationImages images = tiny_images(vit.image_size, 20, 10);
    Network network = network_of(vit);
    const std::vector<float> before = float_logits(network, images);
    fold_normalization(network);
    CHECK(distance(float_logits(network, images), before) < 1e-5 * rms(before));
    equalize(network, measure_ranges(network, images));
    CHECK(distance(float_logits(network, images), before) < 1e-4 * rms(before));
  }
}

TEST_CASE("features keep their meaning when the channels of their readers are equalized") {
  Vit vit = with_moved_scales(tiny_vit(kShapes[0]).vit);
  vit.norm.gamma[2] *= 100;
  scale_column(vit.head, 2, 0.01F);
  const CalibrationImages images = tiny_images(vit.image_size, kEnoughRows, 16);
  Network network = network_of(vit);
  const TensorRanges before = measure_ranges(network, images);
  equalize(network, before);
  REQUIRE(network.features.size() == 2);
  const TensorRanges after = measure_ranges(network, images);
  CHECK(after.at("qact2").high[2] < 0.5F * before.at("qact2").high[2]);
  for (const auto& [feature, was] : {std::pair{0, "qact2"}, {1, "blocks.2.qact4"}}) {
    const Layer& layer = network.layers[network.features[std::size_t(feature)].layer];
    INFO(layer.result);
    CHECK(distance(after.at(layer.result).high, before.at(was).high) <
          1e-4 * rms(before.at(was).high));
    CHECK(distance(after.at(layer.result).low, before.at(was).low) <
          1e-4 * rms(before.at(was).low));
  }
}

TEST_CASE("equalized channels lie around zero, and weights and ranges are in balance") {
  const Vit vit = with_moved_scales(tiny_vit(kShapes[0]).vit);
  const CalibrationImages images = tiny_images(vit.image_size, kEnoughRows, 16);
  Network network = network_of(vit);
  equalize(network, measure_ranges(network, images));
  const TensorRanges ranges = measure_ranges(network, images);
  for (const char* name : {"blocks.0.qact1", "blocks.1.qact3", "qact2"}) {
    INFO(name);
    const TensorRange& range = ranges.at(name);
    for (std::size_t c = 0; c < range.low.size(); ++c) {
      CHECK(std::abs(range.middle(c)) <= 1e-3F * range.highest());
    }
  }
  const TensorRange& qkv = ranges.at("blocks.0.attn.qact1");
  float largest[3] = {0, 0, 0};
  for (std::size_t c = 0; c < 3 * vit.dim; ++c) {
    float& part = largest[c / vit.dim];
    part = std::max({part, -qkv.low[c], qkv.high[c]});
  }
  CHECK(largest[1] == Approx(largest[0]).epsilon(0.5));
  CHECK(largest[2] == Approx(std::max(largest[0], largest[1])).epsilon(0.01));
}

TEST_CASE("scales moved between layers do not hurt the default method") {
  for (const TinyShape& shape : kShapes) {
    const Vit vit = tiny_vit(shape).vit;
    const double plain = loss_of(vit);
    const double moved = loss_of(with_moved_scales(vit));
    const double paper = loss_of_paper(with_moved_scales(vit));
    std::printf("loss: %.4f, with scales moved %.4f; the paper's recipe %.4f, %.4f\n", plain, moved,
                loss_of_paper(vit), paper);
    CHECK(plain < 0.05);
    CHECK(moved < 1.5 * plain);
    CHECK(moved < paper / 4);
  }
}

TEST_CASE("rows of fc2 fifty times larger do not hurt the default method") {
  Vit vit = tiny_vit(kShapes[0]).vit;
  for (FloatBlock& b : vit.blocks) {
    scale_row(b.fc2, 3, 50);
    scale_row(b.fc2, 17, 50);
  }
  const double loss = loss_of(vit);
  const double paper = loss_of_paper(vit);
  std::printf("loss with outliers in the stream: %.4f, the paper's recipe %.4f\n", loss, paper);
  CHECK(loss < 0.05);
  CHECK(loss < paper / 1.5);
}

TEST_CASE("one image is enough for a model that works") {
  const Vit vit = tiny_vit(kShapes[0]).vit;
  const CalibrationImages one = tiny_images(vit.image_size, 1, 16);
  const CalibrationImages others = tiny_images(vit.image_size, 24, 16);
  Network network = network_of(vit);
  const std::vector<float> expected = float_logits(network, others);
  const Calibration calibration = calibrate(network, one);
  const auto found = integer_logits(lower(network, calibration, {}), others);
  CHECK(distance(found, expected) < 0.25 * rms(expected));
}

TEST_CASE("floats that overflow are named") {
  Vit vit = tiny_vit(kShapes[0]).vit;
  for (float& w : vit.blocks[1].fc1.weight) w *= 1e38F;
  Network network = network_of(vit);
  check_error([&] { calibrate(network, tiny_images(vit.image_size, 2, 2)); },
              ErrorCode::kUnsupported, "blocks.1.mlp");
}

TEST_CASE("a channel far out behind GELU gets a power of two of its own") {
  Vit vit = tiny_vit(kShapes[0]).vit;
  scale_row(vit.blocks[1].fc1, 7, 30);
  scale_column(vit.blocks[1].fc2, 7, 1.0F / 30);
  const CalibrationImages images = tiny_images(vit.image_size, 20, 10);
  Network network = network_of(vit);
  const Calibration calibration = calibrate(network, images);
  const auto& exponents = calibration.grids.at("blocks.1.mlp.qact1").exponents;
  for (std::size_t c = 0; c < exponents.size(); ++c) {
    if (c == 7) {
      CHECK(int{exponents[c]} >= 3);
    } else {
      CHECK(int{exponents[c]} <= 1);
    }
  }
  CHECK(loss_of(vit) < 0.05);
}

TEST_CASE("scores that no row can see do not widen their grid") {
  Vit vit = tiny_vit(kShapes[0]).vit;
  for (std::size_t c = 0; c < vit.dim; ++c) scale_row(vit.blocks[0].qkv, c, 40);
  const CalibrationImages images = tiny_images(vit.image_size, 20, 10);
  Network network = network_of(vit);
  const Calibration calibration = calibrate(network, images);
  const TensorRange range = measure_ranges(network, images).at("blocks.0.attn.qact_attn1");
  const Grid& grid = calibration.grids.at("blocks.0.attn.qact_attn1");
  const double low = -grid.scale * grid.zero_point;
  CHECK(double{range.lowest()} < low - 1);
  CHECK(low <= double{range.lowest_row_maximum} - 7.27 + grid.scale);
}

}  // namespace intaglio::test
