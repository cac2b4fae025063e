#include "converters/vit.h"

#include <utility>

namespace intaglio {
namespace {

/// Appends layers; each call returns the id of the one it made.
class Builder {
 public:
  explicit Builder(Vit& vit) : vit_(vit) {}

  Network build() {
    const std::size_t patches = vit_.patches();
    std::size_t x = add("patches", "qact_input", 0, patches, vit_.patch_embed.k,
                        PatchesLayer{vit_.patch, vit_.preprocessing.mean, vit_.preprocessing.std});
    x = linear("patch_embed.proj", "patch_embed.qact", x, vit_.patch_embed);
    const std::size_t prefix = vit_.prefix();
    x = add("embed", "qact1", x, prefix + patches, vit_.dim,
            EmbedLayer{std::move(vit_.tokens), std::move(vit_.position)});
    for (std::size_t i = 0; i < vit_.blocks.size(); ++i) {
      x = block("blocks." + std::to_string(i) + ".", x, vit_.blocks[i]);
    }
    const std::size_t tokens = x;
    // Only the prefix tokens are classified.
    x = add("class_token", "class_token", x, prefix, vit_.dim, SelectLayer{prefix, false});
    x = norm("norm", "qact2", x, vit_.norm);
    network_.features = {{"class_token", x}};
    if (vit_.token_feature) network_.features.push_back({"tokens", tokens});
    if (prefix > 1) {
      x = add("joined", "joined", x, 1, prefix * vit_.dim, SelectLayer{prefix, true});
    }
    linear("head", "logits", x, vit_.head);
    network_.image_height = network_.image_width = vit_.image_size;
    network_.preprocessing = vit_.preprocessing;
    network_.provenance = std::move(vit_.provenance);
    return std::move(network_);
  }

 private:
  template <typename OpT>
  std::size_t add(std::string name, std::string result, std::size_t src, std::size_t rows,
                  std::size_t channels, OpT op) {
    network_.layers.push_back(
        {std::move(name), std::move(result), src, rows, channels, std::move(op)});
    return network_.layers.size() - 1;
  }
  std::size_t rows(std::size_t id) const { return network_.layers[id].rows; }
  std::size_t linear(std::string name, std::string result, std::size_t src, FloatLinear& layer) {
    const std::size_t n = layer.n;
    return add(std::move(name), std::move(result), src, rows(src), n,
               LinearLayer{std::move(layer)});
  }
  std::size_t norm(std::string name, std::string result, std::size_t src, FloatNorm& layer) {
    return add(std::move(name), std::move(result), src, rows(src), vit_.dim,
               NormLayer{std::move(layer)});
  }
  std::size_t block(const std::string& name, std::size_t x, VitBlock& b) {
    const std::size_t hidden = b.fc1.n;
    std::size_t y = norm(name + "norm1", name + "qact1", x, b.norm1);
    y = linear(name + "attn.qkv", name + "attn.qact1", y, b.qkv);
    y = add(name + "attn", name + "attn.qact2", y, rows(y), vit_.dim, AttentionLayer{vit_.heads});
    y = linear(name + "attn.proj", name + "attn.qact3", y, b.proj);
    x = add(name + "add1", name + "qact2", y, rows(y), vit_.dim, AddLayer{x});
    y = norm(name + "norm2", name + "qact3", x, b.norm2);
    y = linear(name + "mlp.fc1", name + "mlp.fc1", y, b.fc1);
    y = add(name + "mlp.act", name + "mlp.qact1", y, rows(y), hidden, GeluLayer{});
    y = linear(name + "mlp.fc2", name + "mlp.qact2", y, b.fc2);
    return add(name + "add2", name + "qact4", y, rows(y), vit_.dim, AddLayer{x});
  }

  Vit& vit_;
  Network network_;
};

}  // namespace

Network network_of(Vit vit) {
  return Builder(vit).build();
}

std::vector<float> patch_weight(const std::vector<float>& conv, std::size_t n, std::size_t patch) {
  std::vector<float> weight(conv.size());
  const std::size_t area = patch * patch;
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t yx = 0; yx < area; ++yx) {
        weight[(j * area + yx) * 3 + c] = conv[(j * 3 + c) * area + yx];
      }
    }
  }
  return weight;
}

}  // namespace intaglio
