#include "tests/support/import_cases.h"

#include <map>

#include "converters/lower_network.h"
#include "graph/model_file.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {

const Checkpoint& golden_checkpoint(const std::string& name) {
  static std::map<std::string, Checkpoint> checkpoints;
  if (!checkpoints.contains(name)) {
    checkpoints[name] =
        Checkpoint::copy_of(Safetensors::open(golden_path(name) / "model.safetensors"));
  }
  return checkpoints.at(name);
}

CalibratedNetwork imported(const Checkpoint& checkpoint) {
  return import_fqvit(checkpoint.file());
}

std::vector<std::byte> model_bytes(const CalibratedNetwork& model) {
  return serialize_model(lower(model.network, model.calibration, {}));
}

std::vector<std::byte> model_bytes(const CalibratedVit& vit) {
  return serialize_model(lowered(vit));
}

void check_cases(const Checkpoint& golden, const std::vector<ImportCase>& cases) {
  for (const ImportCase& c : cases) {
    INFO(c.name);
    Checkpoint checkpoint = golden;
    c.apply(checkpoint);
    check_error([&] { imported(checkpoint); }, c.code, c.piece);
    CHECK_THAT(error_of([&] { imported(checkpoint); }).what(), Catch::StartsWith("checkpoint: "));
  }
}

std::function<void(Checkpoint&)> metadata(const char* key, const char* to) {
  return [=](Checkpoint& c) { c.metadata[key] = to; };
}

std::function<void(Checkpoint&)> without(const char* key) {
  return [=](Checkpoint& c) { REQUIRE(c.metadata.erase(key) == 1); };
}

std::function<void(Checkpoint&)> tensor(const char* name, const Checkpoint::Tensor& to) {
  return [=](Checkpoint& c) { c.tensors[name] = to; };
}

std::function<void(Checkpoint&)> without_tensor(const char* name) {
  return [=](Checkpoint& c) { REQUIRE(c.tensors.erase(name) == 1); };
}

Checkpoint::Tensor zeros(std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t n : shape) size *= n;
  return Checkpoint::Tensor::of(std::move(shape), std::vector<float>(size));
}

}  // namespace intaglio::test
