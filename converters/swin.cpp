#include "converters/swin.h"

#include <utility>

namespace intaglio {
namespace {

/// Appends layers; each call returns the id of the one it made.
class Builder {
 public:
  explicit Builder(Swin& swin)
      : swin_(swin),
        width_((swin.image_width + swin.patch - 1) / swin.patch),
        rows_((swin.image_height + swin.patch - 1) / swin.patch * width_) {}

  Network build() {
    std::size_t x =
        add("patches", "qact_input", 0, swin_.patch_embed.k,
            PatchesLayer{swin_.patch, swin_.preprocessing.mean, swin_.preprocessing.std});
    const bool normed = swin_.patch_norm.has_value();
    x = linear("patch_embed.proj", normed ? "patch_embed.qact_before_norm" : "patch_embed.qact", x,
               swin_.patch_embed);
    if (normed) x = norm("patch_embed.norm", "patch_embed.qact", x, *swin_.patch_norm);
    for (std::size_t i = 0; i < swin_.stages.size(); ++i) {
      x = stage("layers." + std::to_string(i) + ".", "stage" + std::to_string(i + 1), x,
                swin_.stages[i]);
    }
    x = norm("norm", "qact2", x, swin_.norm);
    rows_ = 1;
    width_ = 0;
    x = add("mean", "qact3", x, network_.layers[x].channels, MeanLayer{});
    linear("head", "logits", x, swin_.head);
    network_.image_height = swin_.image_height;
    network_.image_width = swin_.image_width;
    network_.preprocessing = swin_.preprocessing;
    network_.provenance = std::move(swin_.provenance);
    return std::move(network_);
  }

 private:
  template <typename OpT>
  std::size_t add(std::string name, std::string result, std::size_t src, std::size_t channels,
                  OpT op) {
    network_.layers.push_back(
        {std::move(name), std::move(result), src, rows_, channels, std::move(op), width_});
    return network_.layers.size() - 1;
  }
  std::size_t linear(std::string name, std::string result, std::size_t src, FloatLinear& layer) {
    const std::size_t n = layer.n;
    return add(std::move(name), std::move(result), src, n, LinearLayer{std::move(layer)});
  }
  std::size_t norm(std::string name, std::string result, std::size_t src, FloatNorm& layer) {
    const std::size_t channels = layer.gamma.size();
    return add(std::move(name), std::move(result), src, channels, NormLayer{std::move(layer)});
  }
  std::size_t stage(const std::string& name, const std::string& feature, std::size_t x,
                    SwinStage& s) {
    for (std::size_t i = 0; i < s.blocks.size(); ++i) {
      const std::size_t shift = i % 2 == 0 ? 0 : s.window / 2;
      SwinBlock& b = s.blocks[i];
      std::vector<float> beyond = b.qkv.bias;
      beyond.resize(b.qkv.n);  // zeros where there is no bias
      x = block(name + "blocks." + std::to_string(i) + ".", x, b,
                {s.heads, s.window, shift, std::move(b.bias), std::move(beyond)});
    }
    network_.features.push_back({feature, x});
    if (s.feature_norm) {
      network_.features.back().layer =
          norm(feature + ".norm", feature + ".qact", x, *s.feature_norm);
    }
    if (!s.merge) return x;
    const std::string merge = name + "downsample.";
    const std::size_t height = (rows_ / width_ + 1) / 2;
    width_ = (width_ + 1) / 2;
    rows_ = height * width_;
    x = add(merge + "merge", merge + "merge", x, 4 * network_.layers[x].channels, MergeLayer{});
    x = norm(merge + "norm", merge + "qact1", x, s.merge->norm);
    return linear(merge + "reduction", merge + "qact2", x, s.merge->reduction);
  }
  std::size_t block(const std::string& name, std::size_t x, SwinBlock& b,
                    AttentionLayer attention) {
    const std::size_t hidden = b.fc1.n;
    const std::size_t dim = b.proj.n;
    std::size_t y = norm(name + "norm1", name + "qact1", x, b.norm1);
    y = linear(name + "attn.qkv", name + "attn.qact1", y, b.qkv);
    y = add(name + "attn", name + "attn.qact3", y, dim, std::move(attention));
    y = linear(name + "attn.proj", name + "attn.qact4", y, b.proj);
    x = add(name + "add1", name + "qact2", y, dim, AddLayer{x});
    y = norm(name + "norm2", name + "qact3", x, b.norm2);
    y = linear(name + "mlp.fc1", name + "mlp.fc1", y, b.fc1);
    y = add(name + "mlp.act", name + "mlp.qact1", y, hidden, GeluLayer{});
    y = linear(name + "mlp.fc2", name + "mlp.qact2", y, b.fc2);
    return add(name + "add2", name + "qact4", y, dim, AddLayer{x});
  }

  Swin& swin_;
  std::size_t width_, rows_;  ///< of the map at this point
  Network network_;
};

}  // namespace

Network network_of(Swin swin) {
  return Builder(swin).build();
}

}  // namespace intaglio
