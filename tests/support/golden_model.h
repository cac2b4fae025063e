// A calibrated checkpoint of the reference with the codes its quantizers gave ("taps").
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "converters/fqvit_import.h"
#include "graph/graph.h"
#include "graph/safetensors.h"

namespace intaglio::test {

struct GoldenModel {
  std::string name;
  CalibratedVit vit;
  Graph graph;
  Safetensors taps;

  std::size_t images() const { return taps.at("input_u8").shape[0]; }
  bool has_tap(const std::string& tap) const { return taps.find(tap) != nullptr; }
  /// Codes of image `image`; constants that are the same for all images are stored once.
  std::span<const std::uint8_t> tap(const std::string& tap, std::size_t image) const;
};

/// Names of all golden ViT models: those in the repository, and those of the shared data.
std::vector<std::string> golden_model_names();
/// Empty, and said loudly, where the data is absent.
std::optional<GoldenModel> load_golden_model(const std::string& name);

}  // namespace intaglio::test
