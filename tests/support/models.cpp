#include "tests/support/models.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fstream>
#include <random>

#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "graph/model_file.h"
#include "tests/support/forms.h"
#include "tests/support/shared_data.h"
#include "tests/support/swin_micro.h"

namespace intaglio::test {
namespace {

namespace fs = std::filesystem;

const fs::path kGlyphs = INTAGLIO_GLYPHS;

std::vector<std::string> read_lines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  if (lines.empty()) throw Error(ErrorCode::kIo, path.string() + ": cannot be read");
  return lines;
}

Graph import_graph(const fs::path& checkpoint, std::vector<std::string> labels) {
  const CalibratedNetwork imported = import_fqvit(Safetensors::open(checkpoint));
  return lower(imported.network, imported.calibration, std::move(labels));
}

TestModel import_model(std::string name, const fs::path& checkpoint) {
  return {std::move(name), serialize_model(import_graph(checkpoint, {}))};
}

Graph embedded_graph() {
  return import_graph(kGlyphs / "glyphs.safetensors", read_lines(kGlyphs / "labels.txt"));
}

}  // namespace

TestModel embedded_model() {
  return {"glyphs", serialize_model(embedded_graph())};
}

TestModel embedded_model_beyond(DType stream) {
  const Graph graph = with_row_relative_softmax(with_direct_sums(embedded_graph(), stream));
  return {"glyphs beyond, " + std::string(dtype_name(stream)), serialize_model(graph)};
}

TestModel embedded_model_uniform() {
  return {"glyphs, uniform", serialize_model(with_uniform_softmax(embedded_graph()))};
}

TestModel embedded_model_of_token(int row) {
  Graph graph = embedded_graph();
  std::get<SelectRowsOp>(graph.ops.end()[-3].params).first = row;
  return {"glyphs, token " + std::to_string(row), serialize_model(graph)};
}

TestModel embedded_model_with_two_tokens(int row, int first, int second) {
  return {"glyphs, two tokens",
          serialize_model(with_two_tokens(embedded_graph(), row, first, second))};
}

std::vector<TestModel> small_models() {
  std::vector<TestModel> models;
  models.push_back(embedded_model());
  models.push_back(embedded_model_beyond(DType::kU8));
  models.push_back(embedded_model_beyond(DType::kS16));
  models.push_back(embedded_model_uniform());
  models.push_back(
      {"glyphs, GELU's exponents", serialize_model(with_gelu_exponents(embedded_graph()))});
  models.push_back(embedded_model_with_two_tokens(0, 1, 1));
  for (const char* name : {"vit_micro", "vit_micro_noinputquant", "swin_micro"}) {
    models.push_back(import_model(name, golden_path(name) / "model.safetensors"));
  }
  models.push_back({"swin_micro, own form", serialize_model(swin_micro(true))});
  return models;
}

std::vector<Image> test_images(const Model& model, std::size_t count) {
  std::mt19937 random(20260101);
  std::vector<Image> images;
  for (std::size_t i = 0; i < count; ++i) {
    Image image(static_cast<int>(model.width()), static_cast<int>(model.height()));
    for (std::size_t at = 0; at < image.pixels.size(); ++at) {
      switch (i % 5) {
        case 0:
          image.pixels[at] = static_cast<std::uint8_t>(random());
          break;
        case 1:
          image.pixels[at] = 0;
          break;
        case 2:
          image.pixels[at] = 255;
          break;
        case 3:
          image.pixels[at] = static_cast<std::uint8_t>(at * 255 / image.pixels.size());
          break;
        default:
          image.pixels[at] = (random() & 1) != 0 ? 255 : 0;
          break;
      }
    }
    images.push_back(std::move(image));
  }
  return images;
}

std::vector<Image> sample_images(const Model& model) {
  const std::vector<std::string> lines = read_lines(kGlyphs / "samples/labels.csv");
  std::vector<Image> images;
  for (std::size_t i = 1; i < lines.size(); ++i) {  // line 0 names the columns
    const Image image = load_image(kGlyphs / "samples" / lines[i].substr(0, lines[i].find(',')));
    images.push_back(preprocess(image, model.preprocessing()));
  }
  return images;
}

std::uint64_t signature(std::span<const std::int32_t> logits) {
  return XXH3_64bits(logits.data(), logits.size_bytes());
}

}  // namespace intaglio::test
