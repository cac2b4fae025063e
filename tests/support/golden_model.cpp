#include "tests/support/golden_model.h"

#include <algorithm>

#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {

std::span<const std::uint8_t> GoldenModel::tap(const std::string& tap, std::size_t image) const {
  const TensorView& tensor = taps.at(tap);
  const auto* data = reinterpret_cast<const std::uint8_t*>(tensor.bytes.data());
  if (tensor.shape[0] == 1) return {data, tensor.elements()};
  const std::size_t per_image = tensor.elements() / images();
  return {data + image * per_image, per_image};
}

std::vector<std::uint8_t> GoldenModel::rows(const std::string& tap, std::size_t image) const {
  const std::span<const std::uint8_t> codes = this->tap(tap, image);
  for (const Op& op : graph.ops) {
    const auto* attention = std::get_if<AttentionOp>(&op.params);
    if (attention != nullptr && tap.starts_with(op.name + ".")) {
      return Windows(graph, *attention).map_of(codes);
    }
  }
  return {codes.begin(), codes.end()};
}

Windows::Windows(const Graph& graph, const AttentionOp& op)
    : count_(1), tokens_(rows_of(graph.values[op.dst])) {
  const auto& shape = graph.values[op.dst].shape;
  if (op.window == 0) {
    for (std::size_t row = 0; row < tokens_; ++row) places_.push_back({row, 0});
    return;
  }
  const std::size_t height = shape[0], width = shape[1];
  const auto side = static_cast<std::size_t>(op.window);
  const auto shift = height > side ? static_cast<std::size_t>(op.window_shift) : 0;
  count_ = height / side * (width / side);
  tokens_ = side * side;
  for (std::size_t w = 0; w < count_; ++w) {
    for (std::size_t t = 0; t < tokens_; ++t) {
      const std::size_t y = w / (width / side) * side + t / side + shift;
      const std::size_t x = w % (width / side) * side + t % side + shift;
      places_.push_back({y % height * width + x % width, 2 * (y >= height) + (x >= width)});
    }
  }
}

std::vector<std::uint8_t> Windows::map_of(std::span<const std::uint8_t> tokens) const {
  std::vector<std::uint8_t> rows(tokens.size());
  const std::size_t channels = tokens.size() / places_.size();
  for (std::size_t i = 0; i < places_.size(); ++i) {
    std::copy_n(&tokens[i * channels], channels, &rows[places_[i].row * channels]);
  }
  return rows;
}

std::vector<std::string> golden_model_names() {
  return {"vit_micro",  "vit_micro_noinputquant", "vit_micro_p8_long", "deit_tiny",
          "swin_micro", "swin_micro_3stage"};
}

std::optional<GoldenModel> load_golden_model(const std::string& name) {
  std::filesystem::path folder = golden_path(name);
  if (!std::filesystem::exists(folder)) {
    const auto shared = shared_path("golden/" + name);
    if (!shared) return {};
    folder = *shared;
  }
  const Safetensors checkpoint = Safetensors::open(folder / "model.safetensors");
  CalibratedNetwork model = import_fqvit(checkpoint);
  Graph graph = lower(model.network, model.calibration, {});
  return GoldenModel{name, std::move(model), std::move(graph),
                     Safetensors::open(folder / "taps.safetensors")};
}

}  // namespace intaglio::test
