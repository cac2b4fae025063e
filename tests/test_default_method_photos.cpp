// The default method on DeiT-Tiny: calibrated on 128 photographs, judged on 372 others.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "converters/accuracy.h"
#include "converters/checkpoint.h"
#include "converters/default_method.h"
#include "converters/float_import.h"
#include "converters/lower_network.h"
#include "engine/decode_image.h"
#include "engine/intaglio.h"
#include "engine/preprocess.h"
#include "graph/model_file.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {
namespace {

/// dB, of any tensor of any block.
constexpr double kLeastSnr = 10;

struct Photos {
  std::vector<std::uint8_t> pixels;
  std::vector<std::size_t> labels, indices;  ///< indices: rows of the list of photos

  std::size_t count() const { return labels.size(); }
  std::span<const std::uint8_t> image(std::size_t i) const {
    const std::size_t size = pixels.size() / count();
    return {pixels.data() + i * size, size};
  }
};

/// Photos named in `wanted`, or all others.
Photos load_photos(const std::filesystem::path& list, const Preprocessing& preprocessing,
                   const std::set<std::string>& names, bool wanted) {
  Photos photos;
  Preprocessor preprocessor(preprocessing);
  std::vector<std::uint8_t> one(preprocessor.size());
  std::ifstream file(list);
  std::string line;
  std::getline(file, line);
  for (std::size_t row = 0; std::getline(file, line); ++row) {
    const std::size_t comma = line.rfind(',');
    const std::string name = line.substr(0, comma);
    if (names.contains(name) != wanted) continue;
    preprocessor.run(load_image(list.parent_path() / name), one);
    photos.pixels.insert(photos.pixels.end(), one.begin(), one.end());
    photos.labels.push_back(std::stoul(line.substr(comma + 1)));
    photos.indices.push_back(row);
  }
  return photos;
}

std::size_t best(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct Score {
  double rmse = 0, agreement = 0, top1 = 0, float_top1 = 0;
};

Score score_of(const Graph& graph, const Photos& photos, std::span<const float> float_logits) {
  const Model model = Model::parse(serialize_model(graph), "deit_tiny");
  Session session(model);
  const std::size_t classes = model.classes();
  const auto width = static_cast<int>(model.width());
  Score score;
  for (std::size_t i = 0; i < photos.count(); ++i) {
    const auto codes =
        session.run(ImageView{photos.image(i).data(), width, width, 3 * model.width()});
    const auto expected = float_logits.subspan(photos.indices[i] * classes, classes);
    for (std::size_t c = 0; c < classes; ++c) {
      const double error = model.logit_scale() * codes[c] - double{expected[c]};
      score.rmse += error * error;
    }
    const std::size_t found = top_k(codes, 1)[0].index;
    score.agreement += found == best(expected) ? 1 : 0;
    score.top1 += found == photos.labels[i] ? 1 : 0;
    score.float_top1 += best(expected) == photos.labels[i] ? 1 : 0;
  }
  const auto count = static_cast<double>(photos.count());
  score.rmse = std::sqrt(score.rmse / (count * static_cast<double>(classes)));
  for (double* share : {&score.agreement, &score.top1, &score.float_top1}) *share *= 100 / count;
  return score;
}

}  // namespace

TEST_CASE("the default method keeps DeiT-Tiny's accuracy") {
  const auto checkpoint = shared_path("weights/deit_tiny_patch16_224.safetensors");
  const auto logits = shared_path("golden/deit_tiny/logits.safetensors");
  const auto results = shared_path("golden/deit_tiny/results.json");
  const auto list = shared_path("images/labels.csv");
  if (!checkpoint || !logits || !results || !list) return;
  Network network = network_of(import_float(Checkpoint::open(*checkpoint), {}));
  const auto json = nlohmann::json::parse(std::ifstream(*results));
  const auto names = json.at("calibration").get<std::set<std::string>>();
  const Photos seen = load_photos(*list, network.preprocessing, names, true);
  const Photos unseen = load_photos(*list, network.preprocessing, names, false);
  REQUIRE(seen.count() == 128);
  REQUIRE(unseen.count() == 372);

  const CalibrationImages images{seen.pixels, seen.count(), 16};
  const Calibration calibration = calibrate(network, images);
  const Graph graph = lower(network, calibration, {});
  const auto float_logits =
      Safetensors::open(*logits).at("float_logits").to_vector<float>("float_logits");
  const Score score = score_of(graph, unseen, float_logits);
  std::printf(
      "DeiT-Tiny, default method, 372 photos: RMSE of logits %.4f, agreement %.2f %%, top-1 %.2f "
      "%% (float %.2f %%)\n",
      score.rmse, score.agreement, score.top1, score.float_top1);
  CHECK(score.rmse < 0.15);
  // A photo is 0.27 %; floats of another CPU may move a few of them.
  CHECK(score.agreement >= 96);
  CHECK(score.top1 >= score.float_top1 - 1.5);

  // Tensor by tensor, run end to end: no kind falls below what is stated here.
  constexpr std::size_t kImages = 12;
  const std::span pixels(unseen.pixels.data(), kImages * unseen.pixels.size() / unseen.count());
  const Accuracy accuracy = compare(network, calibration, graph, pixels, kImages);
  std::map<std::string, double> least;
  for (const TensorAccuracy& tensor : accuracy.tensors) {
    const std::string kind = tensor.stream ? "stream" : tensor.kind;
    const auto [it, first] = least.try_emplace(kind, tensor.fit.snr_db);
    if (!first) it->second = std::min(it->second, tensor.fit.snr_db);
  }
  for (const auto& [kind, snr] : least)
    std::printf("  least SNR of %s: %.1f dB\n", kind.c_str(), snr);
  CHECK(least.size() >= 5);
  for (const auto& [kind, snr] : least) {
    INFO(kind);
    CHECK(snr >= kLeastSnr);
  }
}

}  // namespace intaglio::test
