#include "converters/lower_network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "converters/lower.h"
#include "graph/check.h"
#include "graph/error.h"

namespace intaglio {
namespace {

/// Adds the operations of one layer after the other.
class Lowering {
 public:
  Lowering(const Network& network, const Calibration& calibration)
      : network_(network), calibration_(calibration), made_(network.layers.size()) {}

  Graph run() {
    graph_.input =
        add_value("image", DType::kU8, {network_.image_height, network_.image_width, 3}, {});
    for (std::size_t i = 0; i < network_.layers.size(); ++i) {
      std::visit([&](const auto& op) { lower_layer(i, network_.layers[i], op); },
                 network_.layers[i].op);
    }
    graph_.output = made_.back().value;
    for (const LayerFeature& feature : network_.features) {
      graph_.features.push_back({feature.name, made_[feature.layer].value});
    }
    return std::move(graph_);
  }

 private:
  /// What became of a layer's result.
  struct Made {
    ValueId value = 0;
    InputGrid input;        ///< what one code is worth to a linear layer
    bool deferred = false;  ///< a linear layer whose sums the addition behind it makes
  };

  ValueId add_value(std::string name, DType dtype, std::vector<std::size_t> shape, Grid grid) {
    graph_.values.push_back({std::move(name), dtype, std::move(shape), std::move(grid)});
    return graph_.values.size() - 1;
  }
  template <typename OpT>
  ValueId add(const std::string& name, OpT op, const std::string& value, DType dtype,
              std::vector<std::size_t> shape, Grid grid) {
    op.dst = add_value(value, dtype, std::move(shape), std::move(grid));
    graph_.ops.push_back({name, std::move(op)});
    return graph_.values.size() - 1;
  }
  /// The op of a layer, and its result.
  template <typename OpT>
  void make(std::size_t id, OpT op, DType dtype, Grid grid) {
    const Layer& layer = network_.layers[id];
    made_[id].input = {grid.scale, double(grid.zero_point), grid.exponents};
    made_[id].value =
        add(layer.name, std::move(op), layer.result, dtype, shape_of(layer), std::move(grid));
  }
  static std::vector<std::size_t> shape_of(const Layer& layer) {
    if (layer.width == 0) return {layer.rows, layer.channels};
    return {layer.rows / layer.width, layer.width, layer.channels};
  }
  /// Of a result that has a grid of its own.
  DType type_of(std::size_t id) const {
    return network_.is_stream(id) ? calibration_.stream : DType::kU8;
  }
  const Grid* find_grid(const std::string& name) const {
    const auto it = calibration_.grids.find(name);
    return it == calibration_.grids.end() ? nullptr : &it->second;
  }
  const Grid& grid(const std::string& name) const {
    const Grid* found = find_grid(name);
    if (found == nullptr) throw Error(ErrorCode::kInvalidArgument, "no grid for '" + name + "'");
    return *found;
  }
  const WeightGrid& weights(const Layer& layer) const {
    const auto it = calibration_.weights.find(layer.name);
    if (it == calibration_.weights.end()) {
      throw Error(ErrorCode::kInvalidArgument, "no weight scales for '" + layer.name + "'");
    }
    return it->second;
  }
  const Grid& grid_of(ValueId value) const { return graph_.values[value].grid; }

  void lower_layer(std::size_t id, const Layer& layer, const PatchesLayer& patches) {
    PatchesOp op;
    op.src = graph_.input;
    op.patch = static_cast<std::int32_t>(patches.patch);
    std::vector<std::uint8_t> table(3 * 256);
    const Grid* input = find_grid(layer.result);
    InputGrid codes;
    if (input != nullptr) {
      for (std::size_t i = 0; i < table.size(); ++i) {
        const float pixel = static_cast<float>(i % 256) / 255.0F;
        table[i] = quantize((pixel - static_cast<float>(patches.mean[i / 256])) /
                                static_cast<float>(patches.std[i / 256]),
                            *input);
      }
      codes = {input->scale, double(input->zero_point), input->exponents};
    } else {
      codes = pixel_codes(patches);
      for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(i);
    }
    op.table = Constant<std::uint8_t>({3, 256}, std::move(table));
    if (layer.width != 0) {
      std::vector<std::uint8_t> padding;
      for (const double beyond : patches.beyond) {
        const double code = std::nearbyint(beyond / codes.scale + codes.zero_point);
        padding.push_back(static_cast<std::uint8_t>(std::clamp(code, 0.0, 255.0)));
      }
      op.padding = vector_constant(std::move(padding));
    }
    make(id, std::move(op), DType::kU8, input != nullptr ? *input : Grid{});
    made_[id].input = std::move(codes);
  }

  /// The pixel is the code; scale and zero point of the normalization fold into patch_embed.
  static InputGrid pixel_codes(const PatchesLayer& patches) {
    if (patches.mean != std::array{patches.mean[0], patches.mean[0], patches.mean[0]} ||
        patches.std != std::array{patches.std[0], patches.std[0], patches.std[0]}) {
      throw Error(ErrorCode::kUnsupported,
                  "without an input quantizer, mean and std must be the same for all channels");
    }
    return {1 / (255 * patches.std[0]), 255 * patches.mean[0], {}};
  }

  /// Requantizes codes from one grid to another; nothing to do where they are the same.
  ValueId regrid(ValueId src, const std::string& value, const Grid& to) {
    const Grid from = grid_of(src);
    if (from.scale == to.scale && from.zero_point == to.zero_point) return src;
    std::vector<std::uint8_t> table(256);
    for (int code = 0; code < 256; ++code) {
      table[std::size_t(code)] =
          quantize(static_cast<float>(from.scale) * static_cast<float>(code - from.zero_point), to);
    }
    LookupOp op{src, 0, Constant<std::uint8_t>({256}, std::move(table))};
    return add(value, std::move(op), value, DType::kU8, graph_.values[src].shape, to);
  }

  void lower_layer(std::size_t id, const Layer& layer, const EmbedLayer& embed) {
    const Grid& dst = grid(layer.result);
    const std::size_t prefix = embed.tokens.size();
    EmbedOp op;
    std::vector<std::int16_t> tokens(prefix);
    std::vector<std::int16_t> position;
    if (calibration_.stream == DType::kS16) {
      op.src = made_[layer.src].value;
      for (std::size_t i = 0; i < prefix; ++i) {
        tokens[i] = word(double{embed.tokens[i]} + double{embed.position[i]}, dst.scale);
      }
      for (const float p : embed.position) position.push_back(word(p, dst.scale));
    } else {
      add_codes(layer, embed, op, tokens, position);
    }
    position.erase(position.begin(), position.begin() + static_cast<std::ptrdiff_t>(prefix));
    const std::size_t rows = prefix / layer.channels;
    op.prefix = Constant<std::int16_t>({rows, layer.channels}, std::move(tokens));
    op.position = Constant<std::int16_t>({layer.rows - rows, layer.channels}, std::move(position));
    make(id, std::move(op), calibration_.stream, dst);
  }

  static std::int16_t word(double real, double scale) {
    const double code = std::clamp(std::nearbyint(real / scale), -32768.0, 32767.0);
    return static_cast<std::int16_t>(code);
  }

  /// Patches and positions on u8 grids of their own, prefix tokens on the stream's.
  void add_codes(const Layer& layer, const EmbedLayer& embed, EmbedOp& op,
                 std::vector<std::int16_t>& prefix, std::vector<std::int16_t>& position) {
    const Grid& tokens = grid(kTokenGrid);
    const Grid& positions = grid(kPositionGrid);
    const Grid& dst = grid(layer.result);
    for (const float p : embed.position) position.push_back(quantize(p, positions));
    for (std::size_t i = 0; i < prefix.size(); ++i) {
      const std::int32_t token = quantize(embed.tokens[i], tokens);
      const double real = tokens.scale * (token - tokens.zero_point) +
                          positions.scale * (position[i] - positions.zero_point);
      const std::size_t c = i % layer.channels;
      const double code = std::nearbyint(real / channel_scale(dst, c));
      prefix[i] = static_cast<std::int16_t>(std::clamp(code + dst.zero_point, 0.0, 255.0));
    }
    const LoweredSum sum = lower_sum(tokens, positions, dst);
    op.src = regrid(made_[layer.src].value, kTokenGrid, tokens);
    op.position_zero_point = positions.zero_point;
    op.src_multiplier = sum.multiplier_a;
    op.position_multiplier = sum.multiplier_b;
    op.shift = sum.shift;
  }

  void lower_layer(std::size_t id, const Layer& layer, const LinearLayer& linear) {
    const InputGrid& src = made_[layer.src].input;
    DType dtype = DType::kU8;
    Grid dst;
    const Grid* own = find_grid(layer.result);
    if (id + 1 == network_.layers.size()) {
      dtype = DType::kS32;
      dst.scale = logit_scale(linear, weights(layer), src);
    } else if (own != nullptr) {
      dtype = type_of(id);
      dst = *own;
    } else {
      const Layer& reader = network_.layers[network_.readers_of(id).at(0)];
      dtype = DType::kS16;
      if (std::holds_alternative<AddLayer>(reader.op)) {
        made_[id].deferred = true;  // the addition makes the sums
        return;
      }
      const Grid& wanted = grid(reader.result);
      dst.scale = std::holds_alternative<GeluLayer>(reader.op) ? lower_gelu(wanted).src_scale
                                                               : wanted.scale;
    }
    LinearOp op = lower_linear(linear, weights(layer), src, dst);
    op.src = made_[layer.src].value;
    make(id, std::move(op), dtype, std::move(dst));
  }

  void lower_layer(std::size_t id, const Layer& layer, const NormLayer& norm) {
    const Grid& dst = grid(layer.result);
    LayerNormOp op = lower_layernorm(norm, dst.scale);
    op.src = made_[layer.src].value;
    if (std::holds_alternative<MergeLayer>(network_.layers[layer.src].op)) op.merge = 2;
    make(id, std::move(op), type_of(id), dst);
  }

  void lower_layer(std::size_t id, const Layer& layer, const AttentionLayer& attention) {
    const Grid& dst = grid(layer.result);
    const ValueId src = made_[layer.src].value;
    AttentionGrids grids = {grid_of(src), grid(softmax_grid_of(layer)), dst,
                            probability_scale(layer)};
    if (!attention.bias.empty() && find_grid(score_grid_of(layer)) != nullptr) {
      grids.biased = std::exchange(grids.scores, grid(score_grid_of(layer)));
      grids.bias = grid(bias_grid_of(layer));
    }
    const std::size_t tokens =
        attention.window == 0 ? layer.rows : attention.window * attention.window;
    AttentionOp op = lower_attention(attention, layer.channels / attention.heads, tokens, grids,
                                     calibration_.softmax, calibration_.zero_code);
    op.src = src;
    std::vector<std::uint8_t> padding;
    for (const float beyond : attention.beyond) padding.push_back(quantize(beyond, grid_of(src)));
    if (!padding.empty()) op.padding = vector_constant(std::move(padding));
    make(id, std::move(op), DType::kU8, dst);
  }

  /// What a code of a uniform softmax is worth; codes of the others need no grid.
  double probability_scale(const Layer& layer) const {
    if (calibration_.softmax != SoftmaxForm::kUniform) return 1;
    const std::string name = probability_grid_of(layer);
    const Grid& probabilities = grid(name);
    if (probabilities.zero_point != 0 || !probabilities.exponents.empty()) {
      throw Error(ErrorCode::kUnsupported,
                  "the grid of '" + name + "' must have one scale and the zero point 0, found " +
                      std::to_string(probabilities.zero_point));
    }
    return probabilities.scale;
  }

  void lower_layer(std::size_t id, const Layer& layer, const GeluLayer&) {
    const Grid& dst = grid(layer.result);
    GeluOp op = lower_gelu(dst).op;
    op.src = made_[layer.src].value;
    make(id, std::move(op), DType::kU8, dst);
  }

  void lower_layer(std::size_t id, const Layer& layer, const AddLayer& sum) {
    const Grid& dst = grid(layer.result);
    const ValueId stream = made_[sum.stream].value;
    if (!made_[layer.src].deferred) {
      const ValueId a = made_[layer.src].value;
      const LoweredSum lowered = lower_sum(grid_of(a), grid_of(stream), dst);
      make(id,
           ResidualAddOp{a, stream, 0, lowered.multiplier_a, lowered.multiplier_b, lowered.shift},
           DType::kU8, dst);
      return;
    }
    const Layer& products = network_.layers[layer.src];
    const auto& linear = std::get<LinearLayer>(products.op);
    const auto& input = made_[products.src].input;
    const bool one_scale = calibration_.stream == DType::kS16 && grid_of(stream).scale == dst.scale;
    LinearOp op =
        one_scale ? lower_linear(linear, weights(products), input, dst)
                  : lower_sum_of_products(linear, weights(products), input, grid_of(stream), dst);
    op.src = made_[products.src].value;
    op.residual = stream;
    made_[id].input = {dst.scale, double(dst.zero_point), dst.exponents};
    made_[id].value =
        add(products.name, std::move(op), layer.result, calibration_.stream, shape_of(layer), dst);
  }

  void lower_layer(std::size_t id, const Layer& layer, const SelectLayer&) {
    SelectRowsOp op;
    op.src = made_[layer.src].value;
    const Value& src = graph_.values[op.src];
    make(id, op, src.dtype, src.grid);
  }

  /// The LayerNorm behind it reads the squares from the map.
  void lower_layer(std::size_t id, const Layer& layer, const MergeLayer&) {
    made_[id] = made_[layer.src];
  }

  void lower_layer(std::size_t id, const Layer& layer, const MeanLayer&) {
    const Grid& dst = grid(layer.result);
    MeanRowsOp op = lower_mean(grid_of(made_[layer.src].value), dst);
    op.src = made_[layer.src].value;
    make(id, op, DType::kU8, dst);
  }

  const Network& network_;
  const Calibration& calibration_;
  std::vector<Made> made_;
  Graph graph_;
};

}  // namespace

Graph lower(const Network& network, const Calibration& calibration,
            std::vector<std::string> labels) {
  Graph graph = Lowering(network, calibration).run();
  graph.preprocessing = network.preprocessing;
  graph.labels = std::move(labels);
  graph.provenance = network.provenance;
  check(graph);
  return graph;
}

}  // namespace intaglio
