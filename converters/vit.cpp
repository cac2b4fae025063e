#include "converters/vit.h"

#include <utility>

#include "converters/network_builder.h"

namespace intaglio {

Network network_of(Vit vit) {
  NetworkBuilder b;
  b.rows = vit.patches();
  std::size_t x = b.add("patches", "qact_input", 0, vit.patch_embed.k,
                        PatchesLayer{vit.patch, vit.preprocessing.mean, vit.preprocessing.std});
  x = b.linear("patch_embed.proj", "patch_embed.qact", x, vit.patch_embed);
  const std::size_t prefix = vit.prefix();
  b.rows += prefix;
  x = b.add("embed", "qact1", x, vit.dim,
            EmbedLayer{std::move(vit.tokens), std::move(vit.position)});
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    x = b.block("blocks." + std::to_string(i) + ".", x, vit.blocks[i], AttentionLayer{vit.heads},
                {"attn.qact2", "attn.qact3"});
  }
  const std::size_t tokens = x;
  b.rows = prefix;  // only these are classified
  x = b.add("class_token", "class_token", x, vit.dim, SelectLayer{prefix, false});
  x = b.norm("norm", "qact2", x, vit.norm);
  b.network.features = {{"class_token", x}};
  if (vit.token_feature) b.network.features.push_back({"tokens", tokens});
  b.rows = 1;
  if (prefix > 1) x = b.add("joined", "joined", x, prefix * vit.dim, SelectLayer{prefix, true});
  b.linear("head", "logits", x, vit.head);
  b.network.image_height = b.network.image_width = vit.image_size;
  b.network.preprocessing = vit.preprocessing;
  b.network.provenance = std::move(vit.provenance);
  return std::move(b.network);
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
