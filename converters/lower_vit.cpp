#include "converters/lower_vit.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "converters/lower.h"
#include "graph/check.h"
#include "graph/error.h"

namespace intaglio {
namespace {

Grid to_grid(UniformGrid grid) {
  return {grid.scale, grid.zero_point, {}};
}
Grid to_grid(const PtfGrid& grid) {
  return {grid.scale, grid.zero_point, grid.exponents};
}
InputGrid input_of(UniformGrid grid) {
  return {grid.scale, double(grid.zero_point)};
}

/// Adds operations one after the other; each call returns the value it made.
class Builder {
 public:
  Builder(const CalibratedVit& vit, const LoweringOptions& options)
      : vit_(vit), options_(options) {}

  Graph build() {
    graph_.input = add_value("image", DType::kU8, {vit_.image_size, vit_.image_size, 3}, {});
    ValueId x = embedding();
    const PtfGrid* stream = &vit_.embed_stream;
    for (std::size_t i = 0; i < vit_.blocks.size(); ++i) {
      x = block(vit_.blocks[i], "blocks." + std::to_string(i) + ".", x, *stream);
      stream = &vit_.blocks[i].mlp_stream;
    }
    // Only the class token is classified.
    SelectRowsOp select;
    select.src = x;
    const ValueId token =
        add("class_token", select, "class_token", DType::kU8, {1, vit_.dim}, to_grid(*stream));
    const ValueId normed = norm("norm", "qact2", vit_.norm, token, vit_.norm_grid);
    graph_.output = logits(normed);
    return std::move(graph_);
  }

 private:
  ValueId add_value(std::string name, DType dtype, std::vector<std::size_t> shape, Grid grid) {
    graph_.values.push_back({std::move(name), dtype, std::move(shape), std::move(grid)});
    return graph_.values.size() - 1;
  }
  template <typename OpT>
  ValueId add(std::string name, OpT op, std::string value, DType dtype,
              std::vector<std::size_t> shape, Grid grid) {
    op.dst = add_value(std::move(value), dtype, std::move(shape), std::move(grid));
    graph_.ops.push_back({std::move(name), std::move(op)});
    return graph_.values.size() - 1;
  }
  std::size_t rows(ValueId id) const { return graph_.values[id].shape[0]; }

  ValueId linear(const std::string& name, const std::string& value, const FloatLinear& layer,
                 ValueId src, InputGrid src_grid, UniformGrid dst) {
    LinearOp op = lower_linear(layer, src_grid, dst.scale);
    op.src = src;
    return add(name, std::move(op), value, DType::kU8, {rows(src), layer.n}, to_grid(dst));
  }
  ValueId norm(const std::string& name, const std::string& value, const FloatNorm& weights,
               ValueId src, UniformGrid dst) {
    LayerNormOp op = lower_layernorm(weights, dst.scale);
    op.src = src;
    return add(name, std::move(op), value, DType::kU8, {rows(src), weights.gamma.size()},
               to_grid(dst));
  }
  ValueId residual(const std::string& name, const std::string& value, ValueId a, UniformGrid a_grid,
                   ValueId b, const PtfGrid& b_grid, const PtfGrid& dst) {
    const LoweredSum sum = lower_sum(a_grid, b_grid, dst);
    ResidualAddOp op{a, b, 0, sum.multiplier_a, sum.multiplier_b, sum.shift};
    return add(name, op, value, DType::kU8, {rows(a), vit_.dim}, to_grid(dst));
  }

  /// Codes of the image and what one code is worth to patch_embed.proj.
  std::pair<ValueId, InputGrid> pixels() {
    PatchesOp op;
    op.src = graph_.input;
    op.patch = static_cast<std::int32_t>(vit_.patch);
    std::vector<std::uint8_t> table(3 * 256);
    const Preprocessing& p = vit_.preprocessing;
    Grid grid;
    InputGrid input{1 / (255 * p.std[0]), 255 * p.mean[0]};
    if (vit_.input_grid) {
      for (std::size_t i = 0; i < table.size(); ++i) {
        const float pixel = static_cast<float>(i % 256) / 255.0F;
        const float normalized =
            (pixel - static_cast<float>(p.mean[i / 256])) / static_cast<float>(p.std[i / 256]);
        table[i] = quantize(normalized, *vit_.input_grid);
      }
      grid = to_grid(*vit_.input_grid);
      input = input_of(*vit_.input_grid);
    } else {
      // The pixel is the code; scale and zero point of the normalization fold into patch_embed.
      if (p.mean != std::array{p.mean[0], p.mean[0], p.mean[0]} ||
          p.std != std::array{p.std[0], p.std[0], p.std[0]}) {
        throw Error(ErrorCode::kUnsupported,
                    "without an input quantizer, mean and std must be the same for all channels");
      }
      for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(i);
    }
    op.table = Constant<std::uint8_t>({3, 256}, std::move(table));
    const ValueId id = add("patches", std::move(op), "qact_input", DType::kU8,
                           {vit_.patches(), vit_.patch * vit_.patch * 3}, std::move(grid));
    return {id, input};
  }

  /// Requantizes codes from one grid to another; nothing to do where they are the same.
  ValueId regrid(ValueId src, const std::string& value, UniformGrid from, UniformGrid to) {
    if (from.scale == to.scale && from.zero_point == to.zero_point) return src;
    std::vector<std::uint8_t> table(256);
    for (int code = 0; code < 256; ++code) {
      table[std::size_t(code)] =
          quantize(from.scale * static_cast<float>(code - from.zero_point), to);
    }
    LookupOp op{src, 0, Constant<std::uint8_t>({256}, std::move(table))};
    return add(value, std::move(op), value, DType::kU8, graph_.values[src].shape, to_grid(to));
  }

  ValueId embedding() {
    const auto [codes, input] = pixels();
    ValueId patches = linear("patch_embed.proj", "patch_embed.qact", vit_.patch_embed, codes, input,
                             vit_.patch_grid);
    patches = regrid(patches, "qact_embed", vit_.patch_grid, vit_.embed_grid);

    const std::size_t dim = vit_.dim;
    std::vector<std::int16_t> position(vit_.position.size());
    for (std::size_t i = 0; i < position.size(); ++i) {
      position[i] = quantize(vit_.position[i], vit_.position_grid);
    }
    const PtfGrid& dst = vit_.embed_stream;
    std::vector<std::int16_t> prefix(dim);
    for (std::size_t c = 0; c < dim; ++c) {
      const std::int32_t token = quantize(vit_.class_token[c], vit_.embed_grid);
      const double real =
          double{vit_.embed_grid.scale} * (token - vit_.embed_grid.zero_point) +
          double{vit_.position_grid.scale} * (position[c] - vit_.position_grid.zero_point);
      const double code = std::nearbyint(real / std::ldexp(double{dst.scale}, dst.exponents[c]));
      prefix[c] = static_cast<std::int16_t>(std::clamp(code + dst.zero_point, 0.0, 255.0));
    }
    const LoweredSum sum = lower_sum(
        vit_.embed_grid, PtfGrid{vit_.position_grid.scale, {}, vit_.position_grid.zero_point}, dst);
    EmbedOp op;
    op.src = patches;
    op.prefix = Constant<std::int16_t>({1, dim}, std::move(prefix));
    op.position = Constant<std::int16_t>(
        {vit_.patches(), dim},
        std::vector<std::int16_t>(position.begin() + std::ptrdiff_t(dim), position.end()));
    op.position_zero_point = vit_.position_grid.zero_point;
    op.src_multiplier = sum.multiplier_a;
    op.position_multiplier = sum.multiplier_b;
    op.shift = sum.shift;
    return add("embed", std::move(op), "qact1", DType::kU8, {1 + vit_.patches(), dim},
               to_grid(dst));
  }

  ValueId attention(const std::string& name, const CalibratedBlock& b, ValueId src) {
    AttentionOp op = lower_attention(b.qkv_grid, b.score_grid, b.attend_grid, vit_.heads,
                                     vit_.dim / vit_.heads, rows(src), options_.zero_code);
    op.src = src;
    return add(name + "attn", std::move(op), name + "attn.qact2", DType::kU8, {rows(src), vit_.dim},
               to_grid(b.attend_grid));
  }

  ValueId mlp(const std::string& name, const CalibratedBlock& b, ValueId src) {
    LoweredGelu gelu = lower_gelu(b.gelu_grid);
    LinearOp fc1 = lower_linear(b.fc1, input_of(b.norm2_grid), gelu.src_scale);
    fc1.src = src;
    gelu.op.src = add(name + "mlp.fc1", std::move(fc1), name + "mlp.fc1", DType::kS16,
                      {rows(src), b.fc1.n}, Grid{gelu.src_scale, 0, {}});
    const ValueId hidden = add(name + "mlp.act", std::move(gelu.op), name + "mlp.qact1", DType::kU8,
                               {rows(src), b.fc1.n}, to_grid(b.gelu_grid));
    return linear(name + "mlp.fc2", name + "mlp.qact2", b.fc2, hidden, input_of(b.gelu_grid),
                  b.fc2_grid);
  }

  ValueId block(const CalibratedBlock& b, const std::string& name, ValueId x,
                const PtfGrid& stream) {
    const ValueId normed = norm(name + "norm1", name + "qact1", b.norm1, x, b.norm1_grid);
    const ValueId qkv = linear(name + "attn.qkv", name + "attn.qact1", b.qkv, normed,
                               input_of(b.norm1_grid), b.qkv_grid);
    const ValueId attended = attention(name, b, qkv);
    const ValueId projected = linear(name + "attn.proj", name + "attn.qact3", b.proj, attended,
                                     input_of(b.attend_grid), b.proj_grid);
    x = residual(name + "add1", name + "qact2", projected, b.proj_grid, x, stream,
                 b.attention_stream);
    const ValueId normed2 = norm(name + "norm2", name + "qact3", b.norm2, x, b.norm2_grid);
    const ValueId out = mlp(name, b, normed2);
    return residual(name + "add2", name + "qact4", out, b.fc2_grid, x, b.attention_stream,
                    b.mlp_stream);
  }

  ValueId logits(ValueId src) {
    const double scale = logit_scale(vit_.head, input_of(vit_.norm_grid));
    LinearOp op = lower_linear(vit_.head, input_of(vit_.norm_grid), scale);
    op.src = src;
    return add("head", std::move(op), "logits", DType::kS32, {1, vit_.classes}, Grid{scale, 0, {}});
  }

  const CalibratedVit& vit_;
  const LoweringOptions& options_;
  Graph graph_;
};

}  // namespace

Graph lower_vit(const CalibratedVit& vit, std::vector<std::string> labels,
                const LoweringOptions& options) {
  Graph graph = Builder(vit, options).build();
  graph.preprocessing = vit.preprocessing;
  graph.labels = std::move(labels);
  graph.provenance = vit.provenance;
  check(graph);
  return graph;
}

}  // namespace intaglio
