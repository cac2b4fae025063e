// The float network and the paper's calibration against the reference on DeiT-Tiny.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "converters/calibrate.h"
#include "converters/calibration_images.h"
#include "converters/checkpoint.h"
#include "converters/float_executor.h"
#include "converters/float_import.h"
#include "converters/fqvit_import.h"
#include "engine/labelled_images.h"
#include "graph/safetensors.h"
#include "kernels/cpu.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {
namespace {

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

Network deit_tiny(const std::filesystem::path& checkpoint) {
  return network_of(import_float(Checkpoint::open(checkpoint), {}));
}

/// How a grid differs from the reference's, which it does not where the zero point is the same and
/// every scale within a thousandth; then empty.
std::string difference(const Grid& grid, const nlohmann::json& scales,
                       const nlohmann::json& zero_points) {
  const std::size_t channels = std::max<std::size_t>(1, grid.exponents.size());
  if (scales.size() != channels) return "channels";
  int zero = 0;
  for (const auto& expected : zero_points) {
    zero = std::max(zero, std::abs(expected.get<int>() - grid.zero_point));
  }
  double worst = 0;
  std::size_t other = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    const int exponent = grid.exponents.empty() ? 0 : grid.exponents[c];
    const double expected = scales[c].get<double>();
    const double relative = std::abs(std::ldexp(grid.scale, exponent) / expected - 1);
    worst = std::max(worst, relative);
    other += relative > 1e-3;
  }
  if (zero == 0 && other == 0) return {};
  std::ostringstream text;
  text << "zero point by " << zero << ", " << other << " of " << channels << " scales, by up to "
       << worst;
  return text.str();
}

}  // namespace

TEST_CASE("float logits of DeiT-Tiny are the reference's") {
  const auto weights = shared_path("weights/deit_tiny_patch16_224.safetensors");
  const auto golden = shared_path("golden/deit_tiny/logits.safetensors");
  const auto labels = shared_path("images/labels.csv");
  if (!weights || !golden || !labels) return;
  const Network network = deit_tiny(*weights);
  std::vector<std::string> classes;
  for (int i = 0; i < 1000; ++i) classes.push_back(std::to_string(i));
  const Safetensors file = Safetensors::open(*golden);
  const auto expected = file.at("float_logits").to_vector<float>("float_logits");
  const std::vector<LabelledImage> images = list_labelled_images(*labels, {}, classes);
  REQUIRE(expected.size() == images.size() * 1000);

  FloatExecutor executor(network);
  double squares = 0, errors = 0;
  constexpr std::size_t kBatch = 20;
  for (std::size_t first = 0; first < images.size(); first += kBatch) {
    std::vector<std::filesystem::path> paths;
    for (std::size_t i = 0; i < kBatch; ++i) paths.push_back(images.at(first + i).path);
    const auto pixels = load_pixels(paths, network.preprocessing, 2);
    const std::vector<float> logits = executor.run(pixels, kBatch);
    double image_squares = 0, image_errors = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double reference = double{expected[first * 1000 + i]};
      image_squares += reference * reference;
      image_errors += std::pow(double{logits[i]} - reference, 2);
    }
    CAPTURE(first);
    CHECK(std::sqrt(image_errors / image_squares) < 1e-4);
    squares += image_squares, errors += image_errors;
  }
  std::cout << "DeiT-Tiny, float logits: relative error " << std::sqrt(errors / squares) << '\n';
}

TEST_CASE("grids of DeiT-Tiny are the reference's") {
  // The Log-Int-Softmax of the last batch turns last bits of scores, which depend on the order of
  // sums, into errors of a percent; those of another instruction set are farther from the
  // reference's (docs/calibration.md).
  struct Case {
    const char* name;
    ObserverKind kind;
    double share, share_below_avx512;
  };
  const auto weights = shared_path("weights/deit_tiny_patch16_224.safetensors");
  const auto results = shared_path("golden/deit_tiny/results.json");
  const auto photos = shared_path("images");
  const auto calibrated = shared_path("golden/deit_tiny/model.safetensors");
  if (!weights || !results || !photos || !calibrated) return;
  const bool wide = kernels::cpu_supports(kernels::Isa::kAvx512Bw);
  const auto weight_grids = import_fqvit(Safetensors::open(*calibrated)).calibration.weights;
  const Network network = deit_tiny(*weights);
  std::vector<std::filesystem::path> paths;
  const nlohmann::json reference = read_json(*results);
  for (const auto& name : reference.at("calibration")) {
    paths.push_back(*photos / name.get<std::string>());
  }
  REQUIRE(paths.size() == 128);
  const CalibrationImages images{load_pixels(paths, network.preprocessing, 2), 128, 16};
  for (const Case& c : {Case{"minmax", ObserverKind::kMinmax, 0.99, 0.95},
                        Case{"ema", ObserverKind::kEma, 0.976, 0.95},
                        Case{"percentile", ObserverKind::kPercentile, 0.976, 0.95},
                        Case{"omse", ObserverKind::kOmse, 0.92, 0.87}}) {
    const auto golden = shared_path(std::string("golden/deit_tiny/scales_") + c.name + ".json");
    if (!golden) continue;
    const nlohmann::json scales = read_json(*golden);
    const Calibration calibration = calibrate_as_paper(network, images, c.kind);
    CHECK(2 * calibration.grids.size() + 2 == scales.size());  // act_out: the logits have none
    CHECK(calibration.weights.size() == weight_grids.size());
    for (const auto& [name, grid] : weight_grids) {
      CAPTURE(name);
      CHECK(calibration.weights.at(name).scale == grid.scale);
    }
    std::size_t same = 0;
    for (const auto& [name, grid] : calibration.grids) {
      const std::string other = difference(grid, scales.at(name + ".quantizer.scale"),
                                           scales.at(name + ".quantizer.zero_point"));
      same += other.empty();
      if (!other.empty()) std::cout << "  " << name << ": " << other << '\n';
    }
    const double share = static_cast<double>(same) / static_cast<double>(calibration.grids.size());
    std::cout << "DeiT-Tiny, " << c.name << ": " << same << " of " << calibration.grids.size()
              << " grids are the reference's\n";
    CAPTURE(c.name, same);
    CHECK(share >= (wide ? c.share : c.share_below_avx512));
  }
}

}  // namespace intaglio::test
