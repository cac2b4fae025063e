// A ViT or DeiT as checkpoints hold it.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "converters/network.h"
#include "graph/preprocessing.h"

namespace intaglio {

struct Vit {
  std::size_t image_size = 0, patch = 0, dim = 0, heads = 0, classes = 0;
  FloatLinear patch_embed;      ///< k in order (y, x, channel)
  std::vector<float> tokens;    ///< [prefix, dim]: class token, distillation token
  std::vector<float> position;  ///< [prefix + patches, dim]
  std::vector<FloatBlock> blocks;
  FloatNorm norm;
  bool token_feature = true;  ///< the last block's tokens are a feature, and calibrated for
  FloatLinear head;           ///< k = prefix * dim: of two prefix tokens, both are classified
  Preprocessing preprocessing;
  std::map<std::string, std::string> provenance;

  std::size_t patches() const { return (image_size / patch) * (image_size / patch); }
  std::size_t prefix() const { return tokens.size() / dim; }
};

/// Layers carry the names of timm's modules, results those of FQ-ViT's quantizers. Features are
/// "class_token" (the prefix tokens behind the last norm, as the head reads them) and "tokens" (all
/// tokens before it).
Network network_of(Vit vit);

/// Conv weight [n, 3, patch, patch] in the order of Vit::patch_embed: runs that lie side by side in
/// an image stay together.
std::vector<float> patch_weight(const std::vector<float>& conv, std::size_t n, std::size_t patch);

}  // namespace intaglio
