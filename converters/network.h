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

/// Parameters of a transformer block.
struct FloatBlock {
  FloatNorm norm1, norm2;
  FloatLinear qkv, proj, fc1, fc2;
};

/// Normalized pixels, (p / 255 - mean) / std, patch by patch, in order (y, x, channel). The last
/// patches may reach beyond the image.
struct PatchesLayer {
  std::size_t patch = 0;
  std::array<double, 3> mean{}, std{1, 1, 1};
  std::array<double, 3> beyond{};  ///< result where there is no image
};
/// Prefix tokens (class token, and the distillation token of some), then the patches; plus
/// positions.
struct EmbedLayer {
  std::vector<float> tokens;    ///< [prefix, channels]
  std::vector<float> position;  ///< [prefix + patches, channels]
};
struct LinearLayer : FloatLinear {};
struct NormLayer : FloatNorm {};
/// Multi-head attention over q, k, v side by side; src is the linear layer that makes them. With
/// `window`, a token attends to those of its piece of the map (AttentionOp has the rules), of which
/// those beyond the map have q, k, v of their own.
struct AttentionLayer {
  std::size_t heads = 0;
  std::size_t window = 0;        ///< tokens of a side; 0: all tokens
  std::size_t window_shift = 0;  ///< of every second block
  /// Relative position bias, added to the scaled scores: [heads, 2 * window - 1, 2 * window - 1] by
  /// row and column of the query less those of the key, plus window - 1; or empty.
  std::vector<float> bias = {};
  /// Of tokens beyond the map [3 * channels]: what src makes of zeros, as a checkpoint has it.
  std::vector<float> beyond = {};
};
struct GeluLayer {};
/// src + stream.
struct AddLayer {
  std::size_t stream = 0;  ///< layer whose result is the residual stream
};
/// Squares of 2 x 2 rows of a map in one row: the channels of (0, 0), (1, 0), (0, 1), (1, 1) of
/// (row, column); zeros beyond the map. A LayerNorm reads it.
struct MergeLayer {};
/// The mean of all rows.
struct MeanLayer {};
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
               AddLayer, SelectLayer, MergeLayer, MeanLayer>
      op;
  std::size_t width = 0;  ///< of a map: positions of a row of it; 0: its rows are a sequence
};

/// A result that models give by name beside the logits: the output of a stage.
struct LayerFeature {
  std::string name;
  std::size_t layer = 0;
};

// Quantizers inside of layers.
inline constexpr const char* kTokenGrid = "qact_embed";   ///< EmbedLayer: tokens and patches
inline constexpr const char* kPositionGrid = "qact_pos";  ///< EmbedLayer: positions
std::string score_grid_of(const Layer& attention);        ///< scaled scores, before the bias
std::string bias_grid_of(const Layer& attention);         ///< relative position bias
std::string biased_grid_of(const Layer& attention);       ///< their sum, before the softmax
std::string softmax_grid_of(const Layer& attention);  ///< before the softmax, with a bias or not
std::string probability_grid_of(const Layer& attention);  ///< behind it; SoftmaxForm::kUniform's

/// Layers in order of execution; the result of the last one is the logits.
struct Network {
  std::size_t image_height = 0, image_width = 0;  ///< pixels
  std::vector<Layer> layers;
  std::vector<LayerFeature> features;
  Preprocessing preprocessing;
  std::map<std::string, std::string> provenance;

  /// Layers that read the result of layer `id`.
  std::vector<std::size_t> readers_of(std::size_t id) const;
  /// Whether the result of layer `id` is a residual stream: a LayerNorm reads it, or what selects
  /// or merges its rows.
  bool is_stream(std::size_t id) const;
  /// Per layer: how many of the first rows of its result the logits and features depend on.
  std::vector<std::size_t> needed_rows() const;
  /// Multiply-accumulates of one image.
  std::size_t multiply_accumulates() const;
};

/// "12 blocks, 192 channels, 3 heads", for people; of several stages "2+2+6+2 blocks,
/// 96/192/384/768 channels, 3/6/12/24 heads, windows of 7x7".
std::string sizes_text(const Network& network);

}  // namespace intaglio
