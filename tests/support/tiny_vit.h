// Small networks with random weights, as calibration would leave them, and checkpoints that hold
// them: model files of a few kB, of any shape, with every operation.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/vit.h"
#include "graph/graph.h"
#include "graph/safetensors.h"

namespace intaglio::test {

struct TinyShape {
  std::size_t image = 8, patch = 4, dim = 8, heads = 1, hidden = 16, depth = 1, classes = 3;
  bool input_quantizer = true;
  bool ptf = true;  ///< exponents 0..3; else one scale for all channels
  unsigned seed = 1;
};

struct CalibratedVit {
  Vit vit;
  Calibration calibration;
};

/// The same shape gives the same network.
CalibratedVit tiny_vit(const TinyShape& shape = {});

/// Its integer graph.
Graph lowered(const CalibratedVit& vit, std::vector<std::string> labels = {});

/// A checkpoint in memory, open to changes.
struct Checkpoint {
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<std::size_t> shape;
    std::vector<std::byte> bytes;

    template <typename T>
    static Tensor of(std::vector<std::size_t> shape, const std::vector<T>& values) {
      const auto bytes = std::as_bytes(std::span(values));
      return {kDTypeOf<T>, std::move(shape), {bytes.begin(), bytes.end()}};
    }
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;

  /// A copy of everything in a container.
  static Checkpoint copy_of(const Safetensors& file);
  std::vector<std::byte> bytes() const;
  /// bytes(), parsed again.
  Safetensors file() const;
};

/// The checkpoint that import_fqvit() reads back as `vit`.
Checkpoint export_checkpoint(const CalibratedVit& vit);

}  // namespace intaglio::test
