// A Swin Transformer as checkpoints hold it.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "converters/network.h"
#include "graph/preprocessing.h"

namespace intaglio {

struct SwinBlock : FloatBlock {
  std::vector<float> bias;  ///< as AttentionLayer::bias
};

/// Squares of 2 x 2 tokens become one of twice the channels.
struct SwinMerge {
  FloatNorm norm;         ///< 4 * channels
  FloatLinear reduction;  ///< [2 * channels, 4 * channels]
};

struct SwinStage {
  std::size_t heads = 0;
  std::size_t window = 0;  ///< tokens of a side
  std::vector<SwinBlock> blocks;
  std::optional<SwinMerge> merge;         ///< behind it; none in the last stage
  std::optional<FloatNorm> feature_norm;  ///< of its output as a feature, in detectors
};

struct Swin {
  std::size_t image_height = 0, image_width = 0, patch = 0, dim = 0;
  std::size_t classes = 0;  ///< 0: no classifier; the head passes the pooled features on
  FloatLinear patch_embed;  ///< k in order (y, x, channel)
  std::optional<FloatNorm> patch_norm;
  std::vector<SwinStage> stages;
  FloatNorm norm;
  FloatLinear head;
  Preprocessing preprocessing;
  std::map<std::string, std::string> provenance;
};

/// Layers carry the names of timm's modules, results those of FQ-ViT's quantizers. The stages'
/// outputs are the features "stage1", "stage2", ...
Network network_of(Swin swin);

}  // namespace intaglio
