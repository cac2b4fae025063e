#include "converters/swin_loader.h"

#include "converters/layer_loader.h"

namespace intaglio {
namespace {

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
    layers_.norm(names_.norm, dim, swin_.norm);
    layers_.linear(names_.head, {sizes_.classes}, {dim}, swin_.head);
    layers_.tensors().check([this](const std::string& tensor) { return names_.ignores(tensor); },
                            "a Swin");
    layers_.tensors().load();
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
