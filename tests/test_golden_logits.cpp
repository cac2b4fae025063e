// Small models from pixels to logits, against the reference's logits.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>

#include "bench/own_form.h"
#include "converters/lower_network.h"
#include "engine/intaglio.h"
#include "graph/model_file.h"
#include "tests/support/golden_model.h"

namespace intaglio::test {
namespace {

std::vector<double> logits_of(const GoldenModel& golden, const CalibratedNetwork& calibrated) {
  const Graph graph = lower(calibrated.network, calibrated.calibration, {});
  const Model model = Model::parse(serialize_model(graph), golden.name);
  Session session(model);
  std::vector<double> logits;
  for (std::size_t image = 0; image < golden.images(); ++image) {
    const auto pixels = golden.tap("input_u8", image);
    for (const std::int32_t code :
         session.run({pixels.data(), static_cast<int>(model.width()),
                      static_cast<int>(model.height()), 3 * model.width()})) {
      logits.push_back(code * model.logit_scale());
    }
  }
  return logits;
}

double rms(const std::vector<double>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(b.size()));
}

template <typename T>
std::ptrdiff_t best(const std::vector<T>& logits, std::size_t image, std::size_t classes) {
  const auto first = logits.begin() + static_cast<std::ptrdiff_t>(image * classes);
  return std::max_element(first, first + static_cast<std::ptrdiff_t>(classes)) - first;
}

}  // namespace

TEST_CASE("a Swin's logits are the reference's, and nearer to float in our own form") {
  const std::string name = GENERATE("swin_micro", "swin_micro_3stage");
  const auto golden = load_golden_model(name);
  if (!golden) return;
  const auto quantized = golden->taps.at("logits").to_vector<float>("logits");
  const auto exact = golden->taps.at("float_logits").to_vector<float>("float_logits");
  const double size = rms(std::vector<double>(exact.size()), exact);
  const std::vector<double> paper = logits_of(*golden, golden->model);
  const std::vector<double> own = logits_of(*golden, own_form(golden->model));
  REQUIRE(paper.size() == quantized.size());
  const double theirs = rms(std::vector<double>(quantized.begin(), quantized.end()), exact) / size;
  const double from_reference = rms(paper, quantized) / size;
  const double paper_error = rms(paper, exact) / size;
  const double own_error = rms(own, exact) / size;
  std::printf(
      "%s: from the reference %.4f of the logits; from float: reference %.4f, imported %.4f, own "
      "form %.4f\n",
      name.c_str(), from_reference, theirs, paper_error, own_error);
  CHECK(from_reference < 0.05);
  CHECK(paper_error <= theirs);
  CHECK(own_error < 0.6 * paper_error);
  const std::size_t classes = exact.size() / golden->images();
  for (std::size_t image = 0; image < golden->images(); ++image) {
    CHECK(best(paper, image, classes) == best(quantized, image, classes));
  }
}

}  // namespace intaglio::test
