#include "converters/swin_loader.h"

#include <array>

#include "converters/layer_loader.h"

namespace intaglio {
namespace {

/// Passes its input on.
FloatLinear identity(std::size_t channels) {
  FloatLinear layer{channels, channels, std::vector<float>(channels * channels), {}};
  for (std::size_t i = 0; i < channels; ++i) layer.weight[i * channels + i] = 1;
  return layer;
}

/// Rows of four values to each channel, in order of rows of a square, become rows of four pieces,
/// in order of columns, as MergeLayer has them.
void sort_by_piece(std::vector<float>& values, std::size_t row) {
  constexpr std::array<std::size_t, 4> kPiece = {0, 2, 1, 3};
  std::vector<float> sorted(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t column = i % row;
    sorted[i - column + kPiece[column % 4] * (row / 4) + column / 4] = values[i];
  }
  values = std::move(sorted);
}

/// Puts each parameter of a Swin in its place.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const SwinNames& names, const SwinSizes& sizes, Swin& swin)
      : names_(names), sizes_(sizes), swin_(swin), layers_(checkpoint, {}) {}

  void load(float epsilon) {
    layers_.patch_embed(names_.patch_embed, sizes_.dim, sizes_.patch, swin_.patch_embed);
    if (!names_.patch_norm.empty()) {
      layers_.norm(names_.patch_norm, sizes_.dim, swin_.patch_norm.emplace());
    }
    swin_.stages.resize(sizes_.stages.size());
    for (std::size_t i = 0; i < swin_.stages.size(); ++i) stage(i, swin_.stages[i]);
    const std::size_t dim = sizes_.dim_of(swin_.stages.size() - 1);
    if (!names_.norm.empty()) layers_.norm(names_.norm, dim, swin_.norm);
    if (names_.head.empty()) {
      swin_.head = identity(dim);
    } else {
      layers_.linear(names_.head, {sizes_.classes}, {dim}, swin_.head);
    }
    layers_.tensors().check([this](const std::string& tensor) { return names_.ignores(tensor); },
                            "a Swin");
    layers_.tensors().load();
    if (names_.norm.empty()) swin_.norm = swin_.stages.back().feature_norm.value();
    if (names_.merge_by_channel) sort_merges();
    set_epsilon(epsilon);
  }

 private:
  void stage(std::size_t index, SwinStage& stage) {
    const SwinSizes::Stage& sizes = sizes_.stages[index];
    const std::size_t dim = sizes_.dim_of(index);
    stage.heads = sizes.heads;
    stage.window = sizes.window;
    stage.blocks.resize(sizes.depth);
    for (std::size_t i = 0; i < sizes.depth; ++i) {
      const std::string name = names_.block(index, i);
      SwinBlock& b = stage.blocks[i];
      layers_.block(name, names_.in_block, {dim, sizes.hidden, {dim}}, names_.qkv_bias, b);
      table(name + names_.table, sizes, b.bias);
    }
    if (!names_.stage_norm[index].empty()) {
      layers_.norm(names_.stage_norm[index], dim, stage.feature_norm.emplace());
    }
    if (index + 1 == swin_.stages.size()) return;
    const std::string merge = names_.merge(index);
    stage.merge.emplace();
    layers_.norm(merge + "norm", 4 * dim, stage.merge->norm);
    layers_.linear(merge + "reduction", {2 * dim}, {4 * dim}, stage.merge->reduction, false);
  }
  /// [offsets, heads] becomes [heads, offsets].
  void table(const std::string& tensor, const SwinSizes::Stage& sizes, std::vector<float>& bias) {
    const std::size_t side = 2 * sizes.window - 1;
    const std::size_t heads = sizes.heads;
    layers_.tensors().expect(tensor, {side * side, heads},
                             [&bias, heads](const std::vector<float>& values) {
                               const std::size_t offsets = values.size() / heads;
                               bias.resize(values.size());
                               for (std::size_t i = 0; i < values.size(); ++i) {
                                 bias[i % heads * offsets + i / heads] = values[i];
                               }
                             });
  }
  void sort_merges() {
    for (SwinStage& stage : swin_.stages) {
      if (!stage.merge) continue;
      auto& [norm, reduction] = *stage.merge;
      sort_by_piece(norm.gamma, reduction.k);
      sort_by_piece(norm.beta, reduction.k);
      sort_by_piece(reduction.weight, reduction.k);
    }
  }
  void set_epsilon(float epsilon) {
    if (swin_.patch_norm) swin_.patch_norm->epsilon = epsilon;
    for (SwinStage& stage : swin_.stages) {
      for (SwinBlock& b : stage.blocks) b.norm1.epsilon = b.norm2.epsilon = epsilon;
      if (stage.merge) stage.merge->norm.epsilon = epsilon;
      if (stage.feature_norm) stage.feature_norm->epsilon = epsilon;
    }
    swin_.norm.epsilon = epsilon;
  }

  const SwinNames& names_;
  const SwinSizes& sizes_;
  Swin& swin_;
  LayerLoader layers_;
};

}  // namespace

void load_swin(const Checkpoint& checkpoint, const SwinNames& names, const SwinSizes& sizes,
               float epsilon, Swin& swin) {
  Loader(checkpoint, names, sizes, swin).load(epsilon);
}

}  // namespace intaglio
