#include "tests/support/golden_model.h"

#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {

std::span<const std::uint8_t> GoldenModel::tap(const std::string& tap, std::size_t image) const {
  const TensorView& tensor = taps.at(tap);
  const std::size_t per_image = tensor.elements() / tensor.shape[0];
  const std::size_t index = tensor.shape[0] == 1 ? 0 : image;
  return {reinterpret_cast<const std::uint8_t*>(tensor.bytes.data()) + index * per_image,
          per_image};
}

std::vector<std::string> golden_model_names() {
  return {"vit_micro", "vit_micro_noinputquant", "vit_micro_p8_long", "deit_tiny"};
}

std::optional<GoldenModel> load_golden_model(const std::string& name) {
  std::filesystem::path folder = golden_path(name);
  if (!std::filesystem::exists(folder)) {
    const auto shared = shared_path("golden/" + name);
    if (!shared) return {};
    folder = *shared;
  }
  const Safetensors checkpoint = Safetensors::open(folder / "model.safetensors");
  CalibratedVit vit = import_fqvit(checkpoint);
  Graph graph = lower(network_of(vit.vit), vit.calibration, {});
  return GoldenModel{name, std::move(vit), std::move(graph),
                     Safetensors::open(folder / "taps.safetensors")};
}

}  // namespace intaglio::test
