#include "converters/vit_loader.h"

#include <utility>

#include "converters/expected_tensors.h"

namespace intaglio {
namespace {

using Shape = ExpectedTensors::Shape;

/// A rectangle [n, k] of a layer's weight, times a factor.
struct Place {
  std::size_t n, k, row = 0, column = 0;
  float factor = 1;
};

std::size_t product(const Shape& shape) {
  std::size_t product = 1;
  for (const std::size_t n : shape) product *= n;
  return product;
}

/// Puts each parameter of a Vit in its place.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const VitNames& names, const VitSizes& sizes, Vit& vit)
      : names_(names), sizes_(sizes), vit_(vit), tensors_(checkpoint) {}

  void load(float epsilon) {
    embedding();
    vit_.blocks.resize(sizes_.depth);
    for (std::size_t i = 0; i < sizes_.depth; ++i) block(names_.block(i), vit_.blocks[i]);
    norm(names_.norm, vit_.norm);
    head();
    tensors_.check([this](const std::string& tensor) { return names_.ignores(tensor); });
    tensors_.load();
    set_epsilon(epsilon);
  }

 private:
  void floats(const std::string& tensor, Shape shape, std::vector<float>& to) {
    tensors_.expect(tensor, std::move(shape), [&to](const std::vector<float>& values) {
      to.insert(to.end(), values.begin(), values.end());
    });
  }
  void norm(const std::string& module, FloatNorm& norm) {
    floats(module + names_.scale, {sizes_.dim}, norm.gamma);
    floats(module + names_.bias, {sizes_.dim}, norm.beta);
  }
  /// A module's weight, of `outputs` by `inputs`, becomes part of a layer's.
  void weight(const std::string& module, const Shape& outputs, const Shape& inputs,
              FloatLinear& layer, const Place& place) {
    Shape shape = names_.transposed ? inputs : outputs;
    const Shape& rest = names_.transposed ? outputs : inputs;
    shape.insert(shape.end(), rest.begin(), rest.end());
    const auto take = [&layer, place, transposed = names_.transposed](const auto& values) {
      layer.weight.resize(layer.n * layer.k);
      for (std::size_t j = 0; j < place.n; ++j) {
        float* to = &layer.weight[(place.row + j) * layer.k + place.column];
        for (std::size_t i = 0; i < place.k; ++i) {
          to[i] = place.factor * values[transposed ? i * place.n + j : j * place.k + i];
        }
      }
    };
    tensors_.expect(module + names_.weight, shape, take);
  }
  void bias(const std::string& module, const Shape& outputs, FloatLinear& layer,
            const Place& place) {
    const auto take = [&layer, place](const std::vector<float>& values) {
      layer.bias.resize(layer.n);
      for (std::size_t j = 0; j < place.n; ++j) {
        layer.bias[place.row + j] += place.factor * values[j];
      }
    };
    tensors_.expect(module + names_.bias, outputs, take);
  }
  void linear(const std::string& module, const Shape& outputs, const Shape& inputs,
              FloatLinear& layer) {
    const Place whole{product(outputs), product(inputs)};
    layer.n = whole.n;
    layer.k = whole.k;
    weight(module, outputs, inputs, layer, whole);
    bias(module, outputs, layer, whole);
  }
  void embedding() {
    const std::size_t patch = sizes_.patch;
    const std::size_t dim = sizes_.dim;
    FloatLinear& layer = vit_.patch_embed;
    if (names_.transposed) {
      linear(names_.patch_embed, {dim}, {patch, patch, 3}, layer);
    } else {
      layer.n = dim;
      layer.k = 3 * patch * patch;
      tensors_.expect(names_.patch_embed + names_.weight, {dim, 3, patch, patch},
                      [&layer, dim, patch](const std::vector<float>& conv) {
                        layer.weight = patch_weight(conv, dim, patch);
                      });
      bias(names_.patch_embed, {dim}, layer, {dim, layer.k});
    }
    floats(names_.cls_token, {1, 1, dim}, vit_.tokens);
    if (!names_.dist_token.empty()) floats(names_.dist_token, {1, 1, dim}, vit_.tokens);
    const std::size_t without = sizes_.prefix + sizes_.grid * sizes_.grid - sizes_.position_rows;
    vit_.position.assign(without * dim, 0);
    floats(names_.position, {1, sizes_.position_rows, dim}, vit_.position);
  }
  void attention(const std::string& name, VitBlock& b) {
    const auto& modules = names_.in_block.qkv;
    const std::size_t dim = sizes_.dim;
    const Shape channels = names_.transposed ? Shape{sizes_.heads, sizes_.head_dim()} : Shape{dim};
    const Shape outputs = modules.size() == 1 ? Shape{3 * dim} : channels;
    b.qkv.n = 3 * dim;
    b.qkv.k = dim;
    Place place{product(outputs), dim};
    for (const std::string& module : modules) {
      weight(name + module, outputs, {dim}, b.qkv, place);
      if (names_.qkv_bias) bias(name + module, outputs, b.qkv, place);
      place.row += place.n;
    }
    linear(name + names_.in_block.proj, {dim}, channels, b.proj);
  }
  /// Every output channel is scaled before it is added to the stream.
  void layer_scale(const std::string& tensor, FloatLinear& layer) {
    tensors_.expect(tensor, {sizes_.dim}, [&layer](const std::vector<float>& gamma) {
      for (std::size_t j = 0; j < layer.n; ++j) {
        for (std::size_t i = 0; i < layer.k; ++i) layer.weight[j * layer.k + i] *= gamma[j];
        layer.bias[j] *= gamma[j];
      }
    });
  }
  void block(const std::string& name, VitBlock& b) {
    const auto& in = names_.in_block;
    norm(name + in.norm1, b.norm1);
    attention(name, b);
    if (!in.scale_attention.empty()) layer_scale(name + in.scale_attention, b.proj);
    norm(name + in.norm2, b.norm2);
    linear(name + in.fc1, {sizes_.hidden}, {sizes_.dim}, b.fc1);
    linear(name + in.fc2, {sizes_.dim}, {sizes_.hidden}, b.fc2);
    if (!in.scale_mlp.empty()) layer_scale(name + in.scale_mlp, b.fc2);
  }
  /// Two heads give the mean of their logits; a token that no head reads weighs nothing.
  void head() {
    FloatLinear& layer = vit_.head;
    const bool two = !names_.head_dist.empty();
    layer.n = sizes_.classes;
    layer.k = sizes_.prefix * sizes_.dim;
    Place place{sizes_.classes, sizes_.dim, 0, 0, two ? 0.5F : 1.0F};
    for (const std::string& module : {names_.head, names_.head_dist}) {
      if (module.empty()) continue;
      weight(module, {sizes_.classes}, {sizes_.dim}, layer, place);
      bias(module, {sizes_.classes}, layer, place);
      place.column += sizes_.dim;
    }
  }
  void set_epsilon(float epsilon) {
    for (VitBlock& b : vit_.blocks) b.norm1.epsilon = b.norm2.epsilon = epsilon;
    vit_.norm.epsilon = epsilon;
  }

  const VitNames& names_;
  const VitSizes& sizes_;
  Vit& vit_;
  ExpectedTensors tensors_;
};

}  // namespace

void load_vit(const Checkpoint& checkpoint, const VitNames& names, const VitSizes& sizes,
              float epsilon, Vit& vit) {
  Loader(checkpoint, names, sizes, vit).load(epsilon);
}

}  // namespace intaglio
