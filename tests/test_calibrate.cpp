// Calibration: observers against their formulas, the float network against plain loops in double,
// and both against the reference on DeiT-Tiny.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <set>

#include "converters/calibrate.h"
#include "converters/calibration_images.h"
#include "converters/float_executor.h"
#include "converters/lower_network.h"
#include "engine/decode_image.h"
#include "engine/image_paths.h"
#include "engine/preprocess.h"
#include "graph/check.h"
#include "tests/support/expect_error.h"
#include "tests/support/float_checkpoints.h"
#include "tests/support/naive_network.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

using Floats = std::vector<float>;

constexpr ObserverKind kKinds[] = {ObserverKind::kMinmax, ObserverKind::kEma,
                                   ObserverKind::kPercentile, ObserverKind::kOmse};

/// Of a skewed distribution with few large values, as activations are.
std::vector<Floats> random_batches(std::mt19937& random, std::size_t batches, std::size_t count) {
  std::vector<Floats> all(batches, Floats(count));
  for (Floats& batch : all) {
    const float spread = std::uniform_real_distribution<float>(0.5F, 2)(random);
    std::normal_distribution<float> normal(0.3F, spread);
    for (float& v : batch) {
      const float x = normal(random);
      v = x * x * x / 3 + x;
    }
  }
  return all;
}

struct Range {
  double low, high;
};

double quantile(Floats values, double q) {
  std::sort(values.begin(), values.end());
  const auto at = double{static_cast<float>(q) * static_cast<float>(values.size() - 1)};
  const auto lower = static_cast<std::size_t>(std::floor(at));
  const auto upper = static_cast<std::size_t>(std::ceil(at));
  const double a = double{values[lower]};
  return a + (at - std::floor(at)) * (double{values[upper]} - a);
}

/// The range before omse shrinks it.
Range expected_range(ObserverKind kind, const std::vector<Floats>& batches) {
  Range all{};
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const bool tails = kind != ObserverKind::kPercentile;
    const Range r{quantile(batches[i], tails ? 0 : 0.00001),
                  quantile(batches[i], tails ? 1 : 0.99999)};
    if (i == 0) {
      all = r;
    } else if (kind == ObserverKind::kMinmax || kind == ObserverKind::kOmse) {
      all = {std::min(all.low, r.low), std::max(all.high, r.high)};
    } else {
      all = {0.99 * all.low + 0.01 * r.low, 0.99 * all.high + 0.01 * r.high};
    }
  }
  return all;
}

double mean_squared_error(const Floats& values, double scale, double zero, std::size_t channel = 0,
                          std::size_t channels = 1) {
  double sum = 0;
  for (std::size_t i = channel; i < values.size(); i += channels) {
    const double code = std::clamp(std::round(double{values[i]} / scale) + zero, 0.0, 255.0);
    sum += std::pow((code - zero) * scale - double{values[i]}, 2);
  }
  return sum;
}

Grid observed(Observer& observer, const std::vector<Floats>& batches, std::size_t channels) {
  for (const Floats& batch : batches) observer.observe(batch, channels);
  return observer.grid(batches.back(), channels);
}

std::vector<std::uint8_t> random_pixels(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> pixels(count);
  for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(random() >> 24);
  return pixels;
}

CalibrationImages tiny_images(std::size_t side, std::size_t count, std::size_t batch) {
  return {random_pixels(count * side * side * 3, 5), count, batch};
}

std::set<std::string> names_of(const std::map<std::string, Grid>& grids) {
  std::set<std::string> names;
  for (const auto& [name, grid] : grids) names.insert(name);
  return names;
}

}  // namespace

TEST_CASE("observers give the grids of their formulas") {
  std::mt19937 random(11);
  for (int round = 0; round < 12; ++round) {
    const auto batches = random_batches(random, 1 + random() % 5, 500 + random() % 40000);
    for (const ObserverKind kind : kKinds) {
      const Grid grid = observed(*make_observer(kind), batches, 1);
      CAPTURE(round, static_cast<int>(kind), grid.scale, grid.zero_point);
      CHECK(grid.exponents.empty());
      const Range range = expected_range(kind, batches);
      if (kind != ObserverKind::kOmse) {
        const double scale = (range.high - range.low) / 255;
        CHECK(grid.scale == Approx(scale).epsilon(1e-5));
        CHECK(std::abs(grid.zero_point + range.low / scale) <= 0.5001);
        continue;
      }
      double least = std::numeric_limits<double>::infinity();
      double nearest = least;
      for (int i = 0; i < 90; ++i) {
        const double share = 1 - i / 100.0;
        const double scale = share * (range.high - range.low) / 255;
        const double zero = std::clamp(std::round(-share * range.low / scale), 0.0, 255.0);
        least = std::min(least, mean_squared_error(batches.back(), scale, zero));
        nearest = std::min(nearest, std::abs(grid.scale / scale - 1));
      }
      CHECK(nearest < 1e-5);
      CHECK(mean_squared_error(batches.back(), grid.scale, grid.zero_point) <= least * (1 + 1e-4));
    }
  }
}

TEST_CASE("percentile ranks in float32, as the reference, and in double beyond 2^24 values") {
  struct Case {
    std::size_t count;
    float rest;  ///< of the rank; of the first, in double 0.948, of the second, in float32 0
  };
  for (const Case& c : {Case{605184, 0.9375F}, Case{16'850'001, 0.5F}}) {
    Floats values(c.count, 0.0F);
    const auto above = static_cast<std::size_t>(0.99999 * static_cast<double>(c.count - 1)) + 1;
    std::fill(values.begin() + static_cast<std::ptrdiff_t>(above), values.end(), 1.0F);
    CAPTURE(c.count);
    CHECK(observed(*make_observer(ObserverKind::kPercentile), {values}, 1).scale * 255 ==
          Approx(double{c.rest}).epsilon(1e-5));
  }
}

TEST_CASE("grids of ranges that do not hold zero") {
  const Floats positive{2, 3, 7}, zeros(5, 0.0F);
  CHECK(observed(*make_observer(ObserverKind::kMinmax), {positive}, 1).zero_point == 0);
  CHECK(observed(*make_observer(ObserverKind::kMinmax), {{-7, -3, -2}}, 1).zero_point == 255);
  for (const ObserverKind kind : kKinds) {
    const Grid grid = observed(*make_observer(kind), {zeros, zeros}, 1);
    CHECK(grid.scale == 0x1p-23);
    CHECK(grid.zero_point == 0);
  }
}

TEST_CASE("powers-of-two factors are the best of each channel") {
  std::mt19937 random(3);
  constexpr std::size_t kChannels = 13;
  auto batches = random_batches(random, 3, 200 * kChannels);
  for (Floats& batch : batches) {
    for (std::size_t i = 0; i < batch.size(); ++i) {
      batch[i] *= std::exp2(-static_cast<float>(i % kChannels) / 3);
    }
  }
  const Grid grid = observed(*make_ptf_observer(), batches, kChannels);
  const Range range = expected_range(ObserverKind::kMinmax, batches);
  CHECK(grid.scale == Approx((range.high - range.low) / 255 / 8).epsilon(1e-5));
  REQUIRE(grid.exponents.size() == kChannels);
  for (std::size_t c = 0; c < kChannels; ++c) {
    double errors[4];
    for (int k = 0; k < 4; ++k) {
      errors[k] = mean_squared_error(batches.back(), std::ldexp(grid.scale, k), grid.zero_point, c,
                                     kChannels);
    }
    CAPTURE(c);
    REQUIRE(grid.exponents[c] < 4);
    CHECK(errors[grid.exponents[c]] <= *std::min_element(errors, errors + 4) * (1 + 1e-4));
  }
  CHECK(std::set(grid.exponents.begin(), grid.exponents.end()).size() > 2);
}

TEST_CASE("scales of weights are their largest magnitude") {
  const Floats scales = weight_scales(Floats{1, -2, 0.5F, 0.25F, 0, 0}, 3);
  REQUIRE(scales.size() == 3);
  CHECK(scales[0] == 2 / 127.5F);
  CHECK(scales[1] == 0.5F / 127.5F);
  CHECK(weight_scales(Floats{0, -2, 0}, 1)[0] == 2 / 127.0F);
  CHECK(scales[2] == 0x1p-23F);
}

TEST_CASE("the float network equals plain loops in double") {
  const TinyShape shapes[] = {{}, {16, 4, 24, 3, 40, 2, 7, false}, {12, 6, 10, 2, 9, 3, 5}};
  for (const TinyShape& shape : shapes) {
    for (const bool two_tokens : {false, true}) {
      const Vit vit = tiny_vit(shape).vit;
      Network network = network_of(two_tokens ? distilled(vit) : vit);
      for (Layer& layer : network.layers) {
        // Large enough to matter.
        if (auto* norm = std::get_if<NormLayer>(&layer.op)) norm->epsilon = 0.05F;
      }
      const std::size_t per_image = shape.image * shape.image * 3;
      const auto pixels = random_pixels(5 * per_image, shape.seed);
      const Floats together = FloatExecutor(network, 3).run(pixels, 5);
      REQUIRE(together.size() == 5 * shape.classes);
      FloatExecutor alone(network, 1);
      for (std::size_t i = 0; i < 5; ++i) {
        const auto image = std::span(pixels).subspan(i * per_image, per_image);
        const std::vector<double> expected = naive_logits(network, image);
        const Floats one = alone.run(image, 1);
        for (std::size_t c = 0; c < shape.classes; ++c) {
          CHECK(double{together[i * shape.classes + c]} ==
                Approx(expected[c]).epsilon(1e-4).margin(1e-4));
          CHECK(double{one[c]} == Approx(expected[c]).epsilon(1e-4).margin(1e-4));
        }
      }
    }
  }
}

TEST_CASE("the float network goes on with what an observer writes") {
  struct Uniform : TensorObserver {
    void tensor(const std::string& name, std::span<float> values, std::size_t channels) override {
      ++seen[name];
      CHECK(values.size() % channels == 0);
      if (name == zeroed) std::fill(values.begin(), values.end(), 0.0F);
    }
    bool scores(const std::string&, std::span<float> values, const ScoreLayout& layout) override {
      layout.each_row(values, [](std::span<float> row, std::size_t) {
        std::fill(row.begin(), row.end(), 1 / static_cast<float>(row.size()));
      });
      return true;
    }
    std::string zeroed;
    std::map<std::string, int> seen;
  };
  const Network network = network_of(tiny_vit({8, 4, 8, 2, 16, 2, 3}).vit);
  const auto pixels = random_pixels(8 * 8 * 3, 4);
  Uniform uniform;
  FloatExecutor executor(network, 2);
  const Floats logits = executor.run(pixels, 1, &uniform);
  const std::vector<double> expected = naive_logits(network, pixels, true);
  for (std::size_t c = 0; c < 3; ++c) CHECK(double{logits[c]} == Approx(expected[c]).margin(1e-4));
  for (const auto& [name, times] : uniform.seen) CHECK(times == 1);
  for (const char* name : {kTokenGrid, kPositionGrid, "blocks.1.mlp.qact1"}) {
    CHECK(uniform.seen.contains(name));
  }
  uniform.zeroed = "qact2";
  CHECK(executor.run(pixels, 1, &uniform) == std::get<LinearLayer>(network.layers.back().op).bias);
}

TEST_CASE("the paper's recipe gives every quantizer a grid, and lowers") {
  for (const bool input_quantizer : {false, true}) {
    const TinyShape shape{16, 4, 24, 3, 48, 2, 7, input_quantizer};
    const CalibratedVit reference = tiny_vit(shape);
    const Network network = network_of(reference.vit);
    for (const ObserverKind kind : kKinds) {
      double share = 0;
      const Calibration calibration = calibrate_as_paper(
          network, tiny_images(16, 11, 4), kind, SoftmaxForm::kLogInt,
          [&](double now) {
            CHECK(now > share);
            share = now;
          },
          2);
      CHECK(share == 1);
      CHECK(names_of(calibration.grids) == names_of(reference.calibration.grids));
      CHECK(calibration.weights.size() == reference.calibration.weights.size());
      for (const auto& [layer, weights] : reference.calibration.weights) {
        CHECK(calibration.weights.at(layer).scale == weights.scale);
      }
      for (const auto& [name, grid] : reference.calibration.grids) {
        CAPTURE(name);
        CHECK(calibration.grids.at(name).exponents.size() == grid.exponents.size());
      }
      CHECK_NOTHROW(check(lower(network, calibration, {})));
    }
  }
}

TEST_CASE("images are taken in a stated order") {
  const Folder folder;
  for (const char* name : {"b.png", "a.png", "c.png", "d.jpg", "notes.md"}) folder.write(name, "x");
  const auto list = folder.write("order.lst", "c.png\r\n\na.png\nmissing.png\n");
  const auto names = [](const SelectedImages& selected) {
    std::vector<std::string> names;
    for (const auto& path : selected.paths) names.push_back(path.filename().string());
    return names;
  };
  using Names = std::vector<std::string>;
  const std::string all = (folder / ".").string();
  CHECK(names(select_images({list.string()}, {})) == Names{"c.png", "a.png", "missing.png"});
  CHECK(select_images({list.string()}, 1).paths.at(0) == folder / "c.png");
  CHECK(names(select_images({list.string()}, 2)) == Names{"c.png", "a.png"});
  Names shuffled = names(select_images({all}, {}));
  CHECK(shuffled == names(select_images({all, all}, {})));
  const SelectedImages mixed = select_images({all, list.string()}, 4);
  CHECK(names(mixed) == Names{"c.png", "a.png", "missing.png", shuffled[0]});
  CHECK(mixed.found == 7);
  std::sort(shuffled.begin(), shuffled.end());
  CHECK(shuffled == Names{"a.png", "b.png", "c.png", "d.jpg"});
  check_error([&] { select_images({(folder / "none.txt").string()}, {}); }, ErrorCode::kIo,
              "none.txt");
  const auto endless = folder.write("endless.txt", std::string(5000, 'x'));
  check_error([&] { select_images({endless.string()}, {}); }, ErrorCode::kLimit, "endless.txt");
}

TEST_CASE("a folder of many images gives the same random part of them") {
  const Folder folder;
  for (int i = 0; i < 300; ++i) folder.write(std::to_string(1000 + i) + ".png", "");
  const SelectedImages some = select_images({(folder / "").string()}, {});
  CHECK(some.found == 300);
  REQUIRE(some.paths.size() == kFolderImages);
  CHECK_FALSE(std::is_sorted(some.paths.begin(), some.paths.end()));
  const auto more = select_images({(folder / "").string()}, 200).paths;
  REQUIRE(more.size() == 200);
  CHECK(std::equal(some.paths.begin(), some.paths.end(), more.begin()));
}

TEST_CASE("pixels do not depend on threads, and errors name the image") {
  Preprocessing p;
  p.resize = 40, p.height = p.width = 32;
  std::vector<std::filesystem::path> paths;
  for (const std::filesystem::path& image : list_images({INTAGLIO_GLYPHS "/samples"})) {
    if (paths.size() < 20) paths.push_back(image);
  }
  std::size_t done = 0;
  const auto pixels = load_pixels(paths, p, 4, [&](std::size_t now) {
    CHECK(now == done + 1);
    done = now;
  });
  CHECK(done == 20);
  CHECK(pixels == load_pixels(paths, p, 1));
  const Image last = preprocess(load_image(paths.back()), p);
  CHECK(std::equal(last.pixels.begin(), last.pixels.end(), pixels.end() - 3 * 32 * 32));
  paths[7] = "no such image.png";
  paths[9] = "nor this.png";
  check_error([&] { load_pixels(paths, p, 3); }, ErrorCode::kIo, "no such image.png");
}

}  // namespace intaglio::test
