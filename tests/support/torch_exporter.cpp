#include "tests/support/torch_exporter.h"

#include <utility>

namespace intaglio::test {

/// `count` rows of a layer.
FloatLinear rows(const FloatLinear& layer, std::size_t first, std::size_t count) {
  const auto slice = [](const std::vector<float>& all, std::size_t begin, std::size_t size) {
    const auto it = all.begin() + static_cast<std::ptrdiff_t>(begin);
    return std::vector<float>(it, it + static_cast<std::ptrdiff_t>(size));
  };
  FloatLinear part{count, layer.k, slice(layer.weight, first * layer.k, count * layer.k), {}};
  if (!layer.bias.empty()) part.bias = slice(layer.bias, first, count);
  return part;
}

void TorchExporter::add(const std::string& name, std::vector<std::size_t> shape,
                        const std::vector<float>& values) {
  checkpoint.tensors[name] = Checkpoint::Tensor::of(std::move(shape), values);
}

void TorchExporter::norm(const std::string& module, const FloatNorm& norm) {
  add(module + ".weight", {norm.gamma.size()}, norm.gamma);
  add(module + ".bias", {norm.beta.size()}, norm.beta);
}

void TorchExporter::linear(const std::string& module, const FloatLinear& layer) {
  add(module + ".weight", {layer.n, layer.k}, layer.weight);
  if (!layer.bias.empty()) add(module + ".bias", {layer.n}, layer.bias);
}

void TorchExporter::patch_embed(const std::string& module, const FloatLinear& layer,
                                std::size_t patch) {
  const std::size_t area = patch * patch;
  std::vector<float> conv;
  for (std::size_t n = 0; n < layer.n; ++n) {
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t yx = 0; yx < area; ++yx) {
        conv.push_back(layer.weight[(n * area + yx) * 3 + c]);
      }
    }
  }
  add(module + ".weight", {layer.n, 3, patch, patch}, conv);
  add(module + ".bias", {layer.n}, layer.bias);
}

void TorchExporter::query_key_value(const std::string& attention, const FloatLinear& qkv) {
  const std::size_t dim = qkv.k;
  linear(attention + "query", rows(qkv, 0, dim));
  linear(attention + "key", rows(qkv, dim, dim));
  linear(attention + "value", rows(qkv, 2 * dim, dim));
}

}  // namespace intaglio::test
