// From tensors to layers: what the networks of all families are loaded with.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "converters/expected_tensors.h"
#include "converters/network.h"
#include "converters/tensor_names.h"

namespace intaglio {

/// What a module's tensors are called: its name + one of these.
struct LayerNaming {
  std::string weight = ".weight", scale = ".weight", bias = ".bias";
  /// Weights are [in, out], the convolution's [y, x, in, out]; else [out, in] and [out, in, y, x].
  bool transposed = false;
};

/// Sizes of a block; how its attention's output channels are shaped.
struct BlockSizes {
  std::size_t dim = 0, hidden = 0;
  ExpectedTensors::Shape channels;
};

/// Collects what is expected of a checkpoint, and where it goes. What the layers are must outlive
/// the loader.
class LayerLoader {
 public:
  using Shape = ExpectedTensors::Shape;

  /// A rectangle [n, k] of a layer's weight, times a factor.
  struct Place {
    std::size_t n, k, row = 0, column = 0;
    float factor = 1;
  };

  LayerLoader(const Checkpoint& checkpoint, LayerNaming naming)
      : tensors_(checkpoint), naming_(std::move(naming)) {}

  ExpectedTensors& tensors() { return tensors_; }

  /// Appended to `to`.
  void floats(const std::string& tensor, Shape shape, std::vector<float>& to);
  void norm(const std::string& module, std::size_t dim, FloatNorm& norm);
  /// A module's weight, of `outputs` by `inputs`, becomes part of a layer's.
  void weight(const std::string& module, const Shape& outputs, const Shape& inputs,
              FloatLinear& layer, const Place& place);
  void bias(const std::string& module, const Shape& outputs, FloatLinear& layer,
            const Place& place);
  void linear(const std::string& module, const Shape& outputs, const Shape& inputs,
              FloatLinear& layer, bool with_bias = true);
  /// The convolution that makes tokens of patches.
  void patch_embed(const std::string& module, std::size_t dim, std::size_t patch,
                   FloatLinear& layer);
  /// q, k, v from one module or one each.
  void qkv(const std::string& block, const BlockNames& names, const BlockSizes& sizes,
           bool with_bias, FloatLinear& layer);
  /// All but layer scale and position bias.
  void block(const std::string& name, const BlockNames& names, const BlockSizes& sizes,
             bool qkv_bias, FloatBlock& b);

 private:
  ExpectedTensors tensors_;
  LayerNaming naming_;
};

}  // namespace intaglio
