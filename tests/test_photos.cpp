// DeiT-Tiny on real photographs, against the authors' reference. Needs the shared data.
#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>

#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "graph/model_file.h"
#include "tests/support/models.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {
namespace {

struct Photo {
  std::string file;
  std::size_t label;
};

std::vector<Photo> read_photos(const std::filesystem::path& csv) {
  std::ifstream file(csv);
  std::vector<Photo> photos;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    const std::size_t comma = line.rfind(',');
    photos.push_back({line.substr(0, comma), std::stoul(line.substr(comma + 1))});
  }
  return photos;
}

std::vector<std::byte> deit_tiny(const std::filesystem::path& checkpoint, int zero_code = 16) {
  CalibratedNetwork imported = import_fqvit(Safetensors::open(checkpoint));
  imported.calibration.zero_code = zero_code;
  return serialize_model(lower(imported.network, imported.calibration, {}));
}

std::size_t best(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

TEST_CASE("DeiT-Tiny classifies photographs as well as the reference") {
  const auto checkpoint = shared_path("golden/deit_tiny/model.safetensors");
  const auto golden = shared_path("golden/deit_tiny/logits.safetensors");
  const auto images = shared_path("images/labels.csv");
  if (!checkpoint || !golden || !images) return;
  const Model model = Model::parse(deit_tiny(*checkpoint), "deit_tiny");
  const std::vector<Photo> photos = read_photos(*images);
  REQUIRE(photos.size() == 500);
  const std::size_t classes = model.classes();
  const auto reference =
      Safetensors::open(*golden).at("quantized_logits").to_vector<float>("logits");
  Session session(model);
  Preprocessor preprocessor(model.preprocessing());
  std::vector<std::uint8_t> pixels(preprocessor.size());
  std::size_t top1 = 0, reference_top1 = 0, agree = 0;
  for (std::size_t i = 0; i < photos.size(); ++i) {
    preprocessor.run(load_image(images->parent_path() / photos[i].file), pixels);
    const auto logits = session.run(ImageView{pixels.data(), static_cast<int>(model.width()),
                                              static_cast<int>(model.height()), 3 * model.width()});
    const std::size_t ours = top_k(logits, 1)[0].index;
    const std::size_t theirs = best(std::span(reference).subspan(i * classes, classes));
    top1 += ours == photos[i].label;
    reference_top1 += theirs == photos[i].label;
    agree += ours == theirs;
  }
  std::printf(
      "DeiT-Tiny, 500 photos: top-1 %.1f %% (reference %.1f %%), same class as the reference %.1f "
      "%%\n",
      double(top1) / 5, double(reference_top1) / 5, double(agree) / 5);
  CHECK(double(top1) / 5 >= double(reference_top1) / 5 - 0.6);
  CHECK(double(agree) / 5 >= 95);
}

TEST_CASE("DeiT-Tiny gives the same logits on every instruction set") {
  const auto checkpoint = shared_path("golden/deit_tiny/model.safetensors");
  const auto crops = shared_path("golden/deit_tiny/crops.safetensors");
  if (!checkpoint || !crops) return;
  const std::vector<std::byte> bytes = deit_tiny(*checkpoint);
  const Safetensors file = Safetensors::open(*crops);
  std::vector<std::int32_t> expected;
  for (const Isa isa : kernels::kAllIsas) {
    if (!kernels::cpu_supports(isa)) {
      WARN("NOT TESTED: this CPU cannot run " << isa_name(isa));
      continue;
    }
    Session session(Model::parse(bytes, "deit_tiny", {isa}));
    std::vector<std::int32_t> logits;
    std::size_t count = 0;
    for (const auto& [name, crop] : file.tensors()) {
      const auto* data = reinterpret_cast<const std::uint8_t*>(crop.bytes.data());
      const auto row = session.run(ImageView{data, 224, 224, 3 * 224});
      logits.insert(logits.end(), row.begin(), row.end());
      if (++count == 3) break;  // scalar needs seconds for more
    }
    if (expected.empty()) expected = logits;
    INFO(isa_name(isa));
    CHECK(logits == expected);
    CHECK(signature(logits) == kDeitTinySignature);
  }
}

}  // namespace intaglio::test
