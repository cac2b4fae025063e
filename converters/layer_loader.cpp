#include "converters/layer_loader.h"

#include <utility>

#include "converters/vit.h"

namespace intaglio {
namespace {

std::size_t product(const ExpectedTensors::Shape& shape) {
  std::size_t product = 1;
  for (const std::size_t n : shape) product *= n;
  return product;
}

}  // namespace

void LayerLoader::floats(const std::string& tensor, Shape shape, std::vector<float>& to) {
  tensors_.expect(tensor, std::move(shape), [&to](const std::vector<float>& values) {
    to.insert(to.end(), values.begin(), values.end());
  });
}

void LayerLoader::norm(const std::string& module, std::size_t dim, FloatNorm& norm) {
  floats(module + naming_.scale, {dim}, norm.gamma);
  floats(module + naming_.bias, {dim}, norm.beta);
}

void LayerLoader::weight(const std::string& module, const Shape& outputs, const Shape& inputs,
                         FloatLinear& layer, const Place& place) {
  Shape shape = naming_.transposed ? inputs : outputs;
  const Shape& rest = naming_.transposed ? outputs : inputs;
  shape.insert(shape.end(), rest.begin(), rest.end());
  const auto take = [&layer, place, transposed = naming_.transposed](const auto& values) {
    layer.weight.resize(layer.n * layer.k);
    for (std::size_t j = 0; j < place.n; ++j) {
      float* to = &layer.weight[(place.row + j) * layer.k + place.column];
      for (std::size_t i = 0; i < place.k; ++i) {
        to[i] = place.factor * values[transposed ? i * place.n + j : j * place.k + i];
      }
    }
  };
  tensors_.expect(module + naming_.weight, shape, take);
}

void LayerLoader::bias(const std::string& module, const Shape& outputs, FloatLinear& layer,
                       const Place& place) {
  const auto take = [&layer, place](const std::vector<float>& values) {
    layer.bias.resize(layer.n);
    for (std::size_t j = 0; j < place.n; ++j) {
      layer.bias[place.row + j] += place.factor * values[j];
    }
  };
  tensors_.expect(module + naming_.bias, outputs, take);
}

void LayerLoader::linear(const std::string& module, const Shape& outputs, const Shape& inputs,
                         FloatLinear& layer, bool with_bias) {
  const Place whole{product(outputs), product(inputs)};
  layer.n = whole.n;
  layer.k = whole.k;
  weight(module, outputs, inputs, layer, whole);
  if (with_bias) bias(module, outputs, layer, whole);
}

void LayerLoader::patch_embed(const std::string& module, std::size_t dim, std::size_t patch,
                              FloatLinear& layer) {
  if (naming_.transposed) {
    linear(module, {dim}, {patch, patch, 3}, layer);
    return;
  }
  layer.n = dim;
  layer.k = 3 * patch * patch;
  tensors_.expect(module + naming_.weight, {dim, 3, patch, patch},
                  [&layer, dim, patch](const std::vector<float>& conv) {
                    layer.weight = patch_weight(conv, dim, patch);
                  });
  bias(module, {dim}, layer, {dim, layer.k});
}

void LayerLoader::qkv(const std::string& block, const BlockNames& names, const BlockSizes& sizes,
                      bool with_bias, FloatLinear& layer) {
  const Shape outputs = names.qkv.size() == 1 ? Shape{3 * sizes.dim} : sizes.channels;
  layer.n = 3 * sizes.dim;
  layer.k = sizes.dim;
  Place place{product(outputs), sizes.dim};
  for (const std::string& module : names.qkv) {
    weight(block + module, outputs, {sizes.dim}, layer, place);
    if (with_bias) bias(block + module, outputs, layer, place);
    place.row += place.n;
  }
}

void LayerLoader::block(const std::string& name, const BlockNames& names, const BlockSizes& sizes,
                        bool qkv_bias, FloatBlock& b) {
  norm(name + names.norm1, sizes.dim, b.norm1);
  qkv(name, names, sizes, qkv_bias, b.qkv);
  linear(name + names.proj, {sizes.dim}, sizes.channels, b.proj);
  norm(name + names.norm2, sizes.dim, b.norm2);
  linear(name + names.fc1, {sizes.hidden}, {sizes.dim}, b.fc1);
  linear(name + names.fc2, {sizes.dim}, {sizes.hidden}, b.fc2);
}

}  // namespace intaglio
