#include "converters/network_builder.h"

#include <utility>

namespace intaglio {

std::size_t NetworkBuilder::linear(std::string name, std::string result, std::size_t src,
                                   FloatLinear& layer) {
  const std::size_t n = layer.n;
  return add(std::move(name), std::move(result), src, n, LinearLayer{std::move(layer)});
}

std::size_t NetworkBuilder::norm(std::string name, std::string result, std::size_t src,
                                 FloatNorm& layer) {
  const std::size_t channels = layer.gamma.size();
  return add(std::move(name), std::move(result), src, channels, NormLayer{std::move(layer)});
}

std::size_t NetworkBuilder::block(const std::string& name, std::size_t x, FloatBlock& b,
                                  AttentionLayer attention, AttentionResults results) {
  const std::size_t hidden = b.fc1.n;
  const std::size_t dim = b.proj.n;
  std::size_t y = norm(name + "norm1", name + "qact1", x, b.norm1);
  y = linear(name + "attn.qkv", name + "attn.qact1", y, b.qkv);
  y = add(name + "attn", name + results.attention, y, dim, std::move(attention));
  y = linear(name + "attn.proj", name + results.proj, y, b.proj);
  x = add(name + "add1", name + "qact2", y, dim, AddLayer{x});
  y = norm(name + "norm2", name + "qact3", x, b.norm2);
  y = linear(name + "mlp.fc1", name + "mlp.fc1", y, b.fc1);
  y = add(name + "mlp.act", name + "mlp.qact1", y, hidden, GeluLayer{});
  y = linear(name + "mlp.fc2", name + "mlp.qact2", y, b.fc2);
  return add(name + "add2", name + "qact4", y, dim, AddLayer{x});
}

}  // namespace intaglio
