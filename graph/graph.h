// What a model is: a typed integer graph. Values have shapes and grids, operations have integer
// parameters; reals occur as documentation only (scales), never in what is executed.
//
// A graph is a straight list in execution order, as Vision Transformers are: every value is made
// once, by one operation, before it is used. docs/file_format.md describes its form on disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "graph/page_memory.h"
#include "graph/preprocessing.h"
#include "graph/safetensors.h"
#include "kernels/fixed_point.h"

namespace intaglio {

using kernels::SoftmaxForm;

/// Immutable array of parameters, row-major: a view into a model file's content, or owned.
template <typename T>
class Constant {
 public:
  Constant() = default;
  Constant(std::vector<std::size_t> shape, std::vector<T> elements) : shape_(std::move(shape)) {
    auto owned = std::make_shared<const std::vector<T>>(std::move(elements));
    data_ = *owned;
    owner_ = std::move(owned);
  }
  Constant(std::vector<std::size_t> shape, std::span<const T> view,
           std::shared_ptr<const void> owner)
      : shape_(std::move(shape)), data_(view), owner_(std::move(owner)) {}

  const std::vector<std::size_t>& shape() const { return shape_; }
  std::span<const T> view() const { return data_; }
  const T* data() const { return data_.data(); }
  std::size_t size() const { return data_.size(); }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  std::vector<std::size_t> shape_;
  std::span<const T> data_;
  std::shared_ptr<const void> owner_;
};

/// What codes mean: real = scale * 2^exponents[channel] * (code - zero_point). Exponents (the
/// Powers-of-Two Factor of a LayerNorm input) are 0..7, or empty for one scale per value. The
/// runtime uses zero_point and exponents; scale is documentation, and the meaning of the logits.
struct Grid {
  double scale = 1;
  std::int32_t zero_point = 0;
  std::vector<std::uint8_t> exponents;
};

/// Index into Graph::values.
using ValueId = std::size_t;

/// An activation: [rows, channels]; or a map, [height, width, channels], whose rows are those of
/// its positions in row-major order; the image is one. u8 everywhere, except s16 before GELU and
/// s32 for logits. A residual stream is u8 with PTF exponents, or s16 with one scale.
struct Value {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<std::size_t> shape;
  Grid grid;
};

/// All elements but those of one row.
std::size_t rows_of(const Value& value);
/// Elements of a row.
std::size_t channels_of(const Value& value);

/// Image -> [patches, patch * patch * 3] or a map of patches, order (y, x, channel) within a patch,
/// through one table per channel: normalization and input quantizer are in the table. With
/// `padding`, codes of what lies beyond the image, the last patches may reach beyond it.
struct PatchesOp {
  ValueId src = 0, dst = 0;
  std::int32_t patch = 0;          ///< pixels of a side
  Constant<std::uint8_t> table;    ///< [3, 256]
  Constant<std::uint8_t> padding;  ///< [3], or empty
};

/// u8 -> u8 through a table: from one grid to another.
struct LookupOp {
  ValueId src = 0, dst = 0;
  Constant<std::uint8_t> table;  ///< [256]
};

/// The token sequence: constant rows first (class token with its position, already codes of dst),
/// then patches + positions. dst begins a residual stream of either type. u8: src and position have
/// one scale each, and their multipliers bring them onto dst's PTF grid. s16: all have one scale
/// and are added, saturating; multipliers, shift and zero point are 0.
struct EmbedOp {
  ValueId src = 0, dst = 0;
  Constant<std::int16_t> prefix;    ///< [prefix rows, dim], codes of dst
  Constant<std::int16_t> position;  ///< [patches, dim], codes
  std::int32_t position_zero_point = 0;
  std::int32_t src_multiplier = 0;
  std::int32_t position_multiplier = 0;
  std::int32_t shift = 0;
};

/// A stream -> u8 or s16 with one scale; src is u8 with a PTF grid (or one scale), or s16. With
/// merge = 2, src is a map [h, w, dim / 4] and dst [ceil(h / 2), ceil(w / 2), dim]: a row of dst
/// has the channels of (0, 0), (1, 0), (0, 1), (1, 1) of its square of (row, column), and what lies
/// beyond the map is 0.
struct LayerNormOp {
  ValueId src = 0, dst = 0;
  std::int32_t merge = 1;             ///< rows and columns of src in one of dst
  Constant<std::int32_t> multiplier;  ///< [dim]
  Constant<std::int64_t> bias;        ///< [dim]
  std::int32_t shift = 0;
};

/// A linear layer: u8 [m, k] -> u8, s16 or s32 [m, n]. The weights are those of codes: where src
/// has a PTF grid, its powers of two are in them. With `residual`, the accumulators are added to
/// that stream without a grid of their own, and dst is the new stream; multiplier, bias and
/// residual_multiplier then carry the exponents of the new stream's channels. Between s16 streams
/// of one scale there is no residual_multiplier: s16 codes are added to the stream, saturating.
struct LinearOp {
  ValueId src = 0, dst = 0;
  Constant<std::int8_t> weight;       ///< [n, k]
  Constant<std::int32_t> multiplier;  ///< [n]
  Constant<std::int64_t> bias;        ///< [n]
  std::int32_t shift = 0;
  std::optional<ValueId> residual;
  Constant<std::int32_t> residual_multiplier;  ///< [n], at the same shift; or empty
};

/// Multi-head attention: u8 [tokens, 3 * dim] (q, k, v side by side) -> u8 [tokens, dim]. With
/// `window`, both are maps. The map, grown to a multiple of the window, is cut before row and
/// column `window_shift` and every `window` of them on, and a token attends to those of its own
/// piece: what a cyclic shift with its mask comes to. Tokens beyond the map have the codes
/// `padding` and are attended to like others. kernels.h has the arithmetic of `bias`, the relative
/// position bias.
struct AttentionOp {
  ValueId src = 0, dst = 0;
  std::int32_t heads = 0;
  SoftmaxForm form = SoftmaxForm::kLogInt;
  /// First code of weight 0: 16, or 15 for a strictly 4-bit map. kUniform: no meaning, 16.
  std::int32_t zero_code = 16;
  double score_scale = 1;  ///< grid of the scores; documentation
  std::int32_t score_zero_point = 0;
  std::int32_t score_multiplier = 0;
  std::int32_t score_shift = 0;
  /// kLogInt, kUniform: [256], exp(-d * score scale) in fixed point.
  Constant<std::uint64_t> exponentials;
  Constant<std::uint8_t> codes;  ///< kRowRelative: [256], round(d * score scale * log2 e)
  /// kUniform: [1], 2^32 / scale of the probabilities' codes.
  Constant<std::uint64_t> probability_factor;
  /// kRowRelative: [16], weight of each code, the first 2^unit_bits, the last 0; or empty:
  /// 2^(unit_bits
  /// - c). A weight is a power of two, or three of them.
  Constant<std::uint16_t> weights;
  std::int32_t unit_bits = 15;  ///< a code c weighs 2^(unit_bits - c); kUniform: c
  std::int32_t attend_multiplier = 0;
  std::int32_t attend_shift = 0;
  std::int32_t window = 0;        ///< tokens of a side; 0: all tokens attend to each other
  std::int32_t window_shift = 0;  ///< 0..window - 1; 0 across a side no longer than the window
  /// [heads, 2 * window - 1, 2 * window - 1] by row and column of the query less those of the key,
  /// plus window - 1; or empty.
  Constant<std::int32_t> bias;
  std::int32_t bias_multiplier = 0;
  std::int32_t bias_shift = 0;       ///< 0: the bias is added to the sums before their rescaling
  std::int32_t bias_zero_point = 0;  ///< of the codes behind the bias
  Constant<std::uint8_t> padding;    ///< [3 * dim], or empty: maps must be multiples of the window
};

/// s16 -> u8 on a PTF grid (or one scale).
struct GeluOp {
  ValueId src = 0, dst = 0;
  std::int32_t multiplier = 0;  ///< of the finest channel, as are shift and table
  std::int32_t shift = 0;
  std::int32_t segment_bits = 0;
  Constant<std::int32_t> base;   ///< [64]
  Constant<std::int32_t> slope;  ///< [64]
};

/// a + b onto the PTF grid of dst; b is the residual stream.
struct ResidualAddOp {
  ValueId a = 0, b = 0, dst = 0;
  std::int32_t multiplier_a = 0;
  std::int32_t multiplier_b = 0;
  std::int32_t shift = 0;
};

/// Rows from `first` on of src [rows, channels]: dst [count, channels], or [1, count * channels]
/// with the rows side by side. dst has the grid of src. Costs nothing at run time.
struct SelectRowsOp {
  ValueId src = 0, dst = 0;
  std::int32_t first = 0;
};

/// The mean of all rows, u8 -> u8 [1, channels]: multiplier and shift are those of one row; see
/// MeanParams in kernels.h.
struct MeanRowsOp {
  ValueId src = 0, dst = 0;
  std::int32_t multiplier = 0;
  std::int32_t shift = 0;
};

using OpParams = std::variant<PatchesOp, LookupOp, EmbedOp, LayerNormOp, LinearOp, AttentionOp,
                              GeluOp, ResidualAddOp, SelectRowsOp, MeanRowsOp>;

/// An operation with the name of the layer it comes from ("blocks.0.attn.qkv").
struct Op {
  std::string name;
  OpParams params;
};

/// A value that others may ask for by name: the output of a stage, tokens of the last block.
struct Feature {
  std::string name;
  ValueId value = 0;
};

/// A model: graph, what its input and output mean, where it comes from.
struct Graph {
  std::vector<Value> values;
  std::vector<Op> ops;
  ValueId input = 0;   ///< u8 [height, width, 3], RGB
  ValueId output = 0;  ///< s32 [1, classes]; real logit = grid.scale * code

  std::vector<Feature> features;

  Preprocessing preprocessing;
  std::vector<std::string> labels;                ///< one per class, or none
  std::map<std::string, std::string> provenance;  ///< free text, for people

  /// The file's content, which the constants are views into; null for a graph made otherwise.
  std::shared_ptr<PageMemory> memory;
};

/// "linear", "attention", ...: the name of an operation's kind, as the file has it.
const char* kind_name(const OpParams& params);
/// Multiply-accumulates of one inference; for attention both products, all rows.
std::size_t multiply_accumulates(const Graph& graph, const Op& op);
/// Values that an operation reads, in the order of its fields.
std::vector<ValueId> inputs_of(const Op& op);
/// The value that it makes.
ValueId result_of(const Op& op);
/// Bytes of the parameters of an operation, of all operations.
std::size_t constant_bytes(const Op& op);
std::size_t constant_bytes(const Graph& graph);

}  // namespace intaglio
