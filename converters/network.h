// A float network, layer by layer: the one description that the float executor runs, calibration
// observes and lowering turns into integers. docs/arithmetic.md has the graph.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "graph/preprocessing.h"

namespace intaglio {

/// weight [n, k], bias [n] (empty: none).
struct FloatLinear {
  std::size_t n = 0;
  std::size_t k = 0;
  std::vector<float> weight;
  std::vector<float> bias;
};

struct FloatNorm {
  std::vector<float> gamma;
  std::vector<float> beta;
  float epsilon = 1e-6F;
};

/// Normalized pixels, (p / 255 - mean) / std, patch by patch, in order (y, x, channel).
struct PatchesLayer {
  std::size_t patch = 0;
  std::array<double, 3> mean{}, std{1, 1, 1};
};
/// Prefix tokens (class token, and the distillation token of some), then the patches; plus
/// positions.
struct EmbedLayer {
  std::vector<float> tokens;    ///< [prefix, channels]
  std::vector<float> position;  ///< [prefix + patches, channels]
};
struct LinearLayer : FloatLinear {};
struct NormLayer : FloatNorm {};
/// Multi-head attention over q, k, v side by side.
struct AttentionLayer {
  std::size_t heads = 0;
};
struct GeluLayer {};
/// src + stream.
struct AddLayer {
  std::size_t stream = 0;  ///< layer whose result is the residual stream
};
/// The first rows; joined: side by side in one row.
struct SelectLayer {
  std::size_t count = 1;
  bool joined = false;
};

struct Layer {
  std::string name;          ///< of the layer: "blocks.0.attn.qkv"
  std::string result;        ///< of its result, and of the quantizer there: "blocks.0.attn.qact1"
  std::size_t src = 0;       ///< layer whose result it reads; the first reads the image
  std::size_t rows = 0;      ///< of its result, for one image
  std::size_t channels = 0;  ///< of its result
  std::variant<PatchesLayer, EmbedLayer, LinearLayer, NormLayer, AttentionLayer, GeluLayer,
               AddLayer, SelectLayer>
      op;
};

// Quantizers inside of layers.
inline constexpr const char* kTokenGrid = "qact_embed";   ///< EmbedLayer: tokens and patches
inline constexpr const char* kPositionGrid = "qact_pos";  ///< EmbedLayer: positions
std::string score_grid_of(const Layer& attention);        ///< scaled scores, before the softmax
std::string probability_grid_of(const Layer& attention);  ///< behind it; SoftmaxForm::kUniform's

/// Layers in order of execution; the result of the last one is the logits.
struct Network {
  std::size_t image_size = 0;  ///< pixels of a side
  std::vector<Layer> layers;
  Preprocessing preprocessing;
  std::map<std::string, std::string> provenance;

  /// Layers that read the result of layer `id`.
  std::vector<std::size_t> readers_of(std::size_t id) const;
  /// Whether the result of layer `id` is a residual stream: a LayerNorm reads it.
  bool is_stream(std::size_t id) const;
  /// Per layer: how many of the first rows of its result the logits depend on.
  std::vector<std::size_t> needed_rows() const;
  /// Multiply-accumulates of one image.
  std::size_t multiply_accumulates() const;
};

}  // namespace intaglio
