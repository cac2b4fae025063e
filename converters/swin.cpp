#include "converters/swin.h"

#include <utility>

#include "converters/network_builder.h"

namespace intaglio {
namespace {

/// Half of what a map has, where an odd one is filled up.
std::size_t half(std::size_t side) {
  return (side + 1) / 2;
}

/// The blocks of a stage, its feature, and the merge behind it.
std::size_t add_stage(NetworkBuilder& b, const std::string& name, const std::string& feature,
                      std::size_t x, SwinStage& s) {
  for (std::size_t i = 0; i < s.blocks.size(); ++i) {
    const std::size_t shift = i % 2 == 0 ? 0 : s.window / 2;
    SwinBlock& block = s.blocks[i];
    std::vector<float> beyond = block.qkv.bias;
    beyond.resize(block.qkv.n);  // zeros where there is no bias
    x = b.block(name + "blocks." + std::to_string(i) + ".", x, block,
                {s.heads, s.window, shift, std::move(block.bias), std::move(beyond)},
                {"attn.qact3", "attn.qact4"});
  }
  b.network.features.push_back({feature, x});
  if (s.feature_norm) {
    b.network.features.back().layer =
        b.norm(feature + ".norm", feature + ".qact", x, *s.feature_norm);
  }
  if (!s.merge) return x;
  const std::string merge = name + "downsample.";
  const std::size_t height = half(b.rows / b.width);
  b.width = half(b.width);
  b.rows = height * b.width;
  x = b.add(merge + "merge", merge + "merge", x, 4 * b.network.layers[x].channels, MergeLayer{});
  x = b.norm(merge + "norm", merge + "qact1", x, s.merge->norm);
  return b.linear(merge + "reduction", merge + "qact2", x, s.merge->reduction);
}

}  // namespace

Network network_of(Swin swin) {
  NetworkBuilder b;
  b.width = (swin.image_width + swin.patch - 1) / swin.patch;
  b.rows = (swin.image_height + swin.patch - 1) / swin.patch * b.width;
  std::size_t x = b.add("patches", "qact_input", 0, swin.patch_embed.k,
                        PatchesLayer{swin.patch, swin.preprocessing.mean, swin.preprocessing.std});
  const bool normed = swin.patch_norm.has_value();
  x = b.linear("patch_embed.proj", normed ? "patch_embed.qact_before_norm" : "patch_embed.qact", x,
               swin.patch_embed);
  if (normed) x = b.norm("patch_embed.norm", "patch_embed.qact", x, *swin.patch_norm);
  for (std::size_t i = 0; i < swin.stages.size(); ++i) {
    x = add_stage(b, "layers." + std::to_string(i) + ".", "stage" + std::to_string(i + 1), x,
                  swin.stages[i]);
  }
  x = b.norm("norm", "qact2", x, swin.norm);
  b.rows = 1;
  b.width = 0;
  x = b.add("mean", "qact3", x, b.network.layers[x].channels, MeanLayer{});
  b.linear("head", "logits", x, swin.head);
  b.network.image_height = swin.image_height;
  b.network.image_width = swin.image_width;
  b.network.preprocessing = swin.preprocessing;
  b.network.provenance = std::move(swin.provenance);
  return std::move(b.network);
}

}  // namespace intaglio
