// Fills a checkpoint layer by layer, in the layouts of PyTorch's modules.
#pragma once

#include <string>
#include <vector>

#include "converters/network.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {

/// `count` rows of a layer.
FloatLinear rows(const FloatLinear& layer, std::size_t first, std::size_t count);

class TorchExporter {
 public:
  Checkpoint checkpoint;

  void add(const std::string& name, std::vector<std::size_t> shape,
           const std::vector<float>& values);
  void norm(const std::string& module, const FloatNorm& norm);
  void linear(const std::string& module, const FloatLinear& layer);
  void patch_embed(const std::string& module, const FloatLinear& layer, std::size_t patch);
  /// Modules "query", "key", "value" in `attention`.
  void query_key_value(const std::string& attention, const FloatLinear& qkv);
};

}  // namespace intaglio::test
