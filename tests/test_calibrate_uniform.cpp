// Calibration of the 8/8/8 variant: exact probabilities get grids, and become uniform attention.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "converters/calibrate.h"
#include "converters/float_executor.h"
#include "converters/lower_network.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

constexpr const char* kProbabilities = "blocks.1.attn.log_int_softmax";

Network tiny_network() {
  TinyShape shape;
  shape.heads = 2, shape.depth = 2;
  return network_of(tiny_vit(shape).vit);
}

CalibrationImages noise(const Network& network, std::size_t count, std::size_t batch) {
  std::mt19937 random(7);
  CalibrationImages images;
  images.pixels.resize(count * network.image_height * network.image_width * 3);
  for (std::uint8_t& pixel : images.pixels) pixel = static_cast<std::uint8_t>(random());
  images.count = count, images.batch = batch;
  return images;
}

/// Extremes of all probabilities, and whether each row of them sums to one.
struct Watcher : TensorObserver {
  void tensor(const std::string&, std::span<float>, std::size_t) override {}
  bool scores(const std::string&, std::span<float>, const ScoreLayout&) override { return false; }
  void probabilities(const std::string& name, std::span<float> values,
                     const ScoreLayout& layout) override {
    layout.each_row(values, [](std::span<const float> row, std::size_t) {
      double sum = 0;
      for (const float p : row) sum += double{p};
      CHECK(sum == Approx(1).epsilon(1e-5));
    });
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    auto& seen = extremes.try_emplace(name, *low, *high).first->second;
    seen = {std::min(seen.first, *low), std::max(seen.second, *high)};
  }
  std::map<std::string, std::pair<float, float>> extremes;
};

}  // namespace

TEST_CASE("uniform attention is calibrated on the exact softmax of every batch") {
  const Network network = tiny_network();
  const CalibrationImages images = noise(network, 5, 2);
  Watcher watcher;
  FloatExecutor(network).run(images.pixels, images.count, &watcher);
  const Calibration calibration =
      calibrate_as_paper(network, images, ObserverKind::kMinmax, SoftmaxForm::kUniform);
  CHECK(calibration.softmax == SoftmaxForm::kUniform);
  REQUIRE(watcher.extremes.size() == 2);
  for (const auto& [name, seen] : watcher.extremes) {
    const Grid& grid = calibration.grids.at(name);
    CHECK(grid.scale == Approx(seen.second / 255).epsilon(1e-5));
    CHECK(grid.exponents.empty());
  }
  const Calibration paper = calibrate_as_paper(network, images, ObserverKind::kMinmax);
  CHECK(paper.softmax == SoftmaxForm::kLogInt);
  CHECK(paper.grids.size() + 2 == calibration.grids.size());
  CHECK_FALSE(paper.grids.contains(kProbabilities));
}

TEST_CASE("uniform attention is lowered with the probabilities' grids") {
  const Network network = tiny_network();
  const CalibrationImages images = noise(network, 3, 3);
  Calibration calibration =
      calibrate_as_paper(network, images, ObserverKind::kMinmax, SoftmaxForm::kUniform);
  std::size_t layers = 0;
  Grid& grid = calibration.grids.at(kProbabilities);
  grid = {0.5 / 255, 0, {}};
  for (const Op& op : lower(network, calibration, {}).ops) {
    const auto* attention = std::get_if<AttentionOp>(&op.params);
    if (attention == nullptr) continue;
    ++layers;
    CHECK(attention->form == SoftmaxForm::kUniform);
    const bool second = op.name == "blocks.1.attn";
    if (second) CHECK(attention->probability_factor[0] == std::uint64_t{510} << 32);
  }
  CHECK(layers == 2);
  grid.zero_point = 1;
  check_error([&] { lower(network, calibration, {}); }, ErrorCode::kUnsupported, "zero point 0");
  calibration.grids.erase(kProbabilities);
  check_error([&] { lower(network, calibration, {}); }, ErrorCode::kInvalidArgument,
              "no grid for 'blocks.1.attn.log_int_softmax'");
}

}  // namespace intaglio::test
