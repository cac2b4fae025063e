// A calibrated ViT or DeiT: float parameters and the grids of all its quantizers, as an importer or
// a calibration makes it and lowering takes it. Names follow the layers; docs/arithmetic.md has the
// graph.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/preprocessing.h"

namespace intaglio {

/// real = scale * (code - zero_point), u8.
struct UniformGrid {
  float scale = 1;
  std::int32_t zero_point = 0;
};

/// real = scale * 2^exponents[c] * (code - zero_point), u8. The finest channel has exponent 0.
struct PtfGrid {
  float scale = 1;
  std::vector<std::uint8_t> exponents;
  std::int32_t zero_point = 0;
};

/// weight [n, k], bias [n] (empty: none), one scale per output channel [n].
struct FloatLinear {
  std::size_t n = 0;
  std::size_t k = 0;
  std::vector<float> weight;
  std::vector<float> bias;
  std::vector<float> weight_scale;
};

struct FloatNorm {
  std::vector<float> gamma;
  std::vector<float> beta;
};

struct CalibratedBlock {
  FloatNorm norm1, norm2;
  FloatLinear qkv, proj, fc1, fc2;
  UniformGrid norm1_grid, qkv_grid, score_grid, attend_grid, proj_grid;
  PtfGrid attention_stream;  ///< after the first residual addition
  UniformGrid norm2_grid, gelu_grid, fc2_grid;
  PtfGrid mlp_stream;  ///< after the second
};

struct CalibratedVit {
  std::size_t image_size = 0, patch = 0, dim = 0, heads = 0, classes = 0;
  std::optional<UniformGrid> input_grid;  ///< none: pixels are the codes
  FloatLinear patch_embed;                ///< k in order (y, x, channel)
  UniformGrid patch_grid, embed_grid, position_grid;
  std::vector<float> class_token;  ///< [dim]
  std::vector<float> position;     ///< [1 + patches, dim]
  PtfGrid embed_stream;
  std::vector<CalibratedBlock> blocks;
  FloatNorm norm;
  UniformGrid norm_grid;
  FloatLinear head;
  Preprocessing preprocessing;
  std::map<std::string, std::string> provenance;

  std::size_t patches() const { return (image_size / patch) * (image_size / patch); }
};

}  // namespace intaglio
