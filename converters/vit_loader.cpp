#include "converters/vit_loader.h"

#include "converters/layer_loader.h"

namespace intaglio {
namespace {

/// Puts each parameter of a Vit in its place.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const VitNames& names, const VitSizes& sizes, Vit& vit)
      : names_(names),
        sizes_(sizes),
        vit_(vit),
        layers_(checkpoint, {names.weight, names.scale, names.bias, names.transposed}) {}

  void load(float epsilon) {
    embedding();
    vit_.blocks.resize(sizes_.depth);
    for (std::size_t i = 0; i < sizes_.depth; ++i) block(names_.block(i), vit_.blocks[i]);
    layers_.norm(names_.norm, sizes_.dim, vit_.norm);
    head();
    layers_.tensors().check([this](const std::string& tensor) { return names_.ignores(tensor); },
                            "a ViT or DeiT");
    layers_.tensors().load();
    set_epsilon(epsilon);
  }

 private:
  void embedding() {
    const std::size_t dim = sizes_.dim;
    layers_.patch_embed(names_.patch_embed, dim, sizes_.patch, vit_.patch_embed);
    layers_.floats(names_.cls_token, {1, 1, dim}, vit_.tokens);
    if (!names_.dist_token.empty()) layers_.floats(names_.dist_token, {1, 1, dim}, vit_.tokens);
    const std::size_t without = sizes_.prefix + sizes_.grid * sizes_.grid - sizes_.position_rows;
    vit_.position.assign(without * dim, 0);
    layers_.floats(names_.position, {1, sizes_.position_rows, dim}, vit_.position);
  }
  /// Every output channel is scaled before it is added to the stream.
  void layer_scale(const std::string& tensor, FloatLinear& layer) {
    layers_.tensors().expect(tensor, {sizes_.dim}, [&layer](const std::vector<float>& gamma) {
      for (std::size_t j = 0; j < layer.n; ++j) {
        for (std::size_t i = 0; i < layer.k; ++i) layer.weight[j * layer.k + i] *= gamma[j];
        layer.bias[j] *= gamma[j];
      }
    });
  }
  void block(const std::string& name, FloatBlock& b) {
    const BlockNames& in = names_.in_block;
    BlockSizes sizes{sizes_.dim, sizes_.hidden, {sizes_.dim}};
    if (names_.transposed) sizes.channels = {sizes_.heads, sizes_.head_dim()};
    layers_.block(name, in, sizes, names_.qkv_bias, b);
    if (!in.scale_attention.empty()) layer_scale(name + in.scale_attention, b.proj);
    if (!in.scale_mlp.empty()) layer_scale(name + in.scale_mlp, b.fc2);
  }
  /// Two heads give the mean of their logits; a token that no head reads weighs nothing.
  void head() {
    FloatLinear& layer = vit_.head;
    const bool two = !names_.head_dist.empty();
    layer.n = sizes_.classes;
    layer.k = sizes_.prefix * sizes_.dim;
    LayerLoader::Place place{sizes_.classes, sizes_.dim, 0, 0, two ? 0.5F : 1.0F};
    for (const std::string& module : {names_.head, names_.head_dist}) {
      if (module.empty()) continue;
      layers_.weight(module, {sizes_.classes}, {sizes_.dim}, layer, place);
      layers_.bias(module, {sizes_.classes}, layer, place);
      place.column += sizes_.dim;
    }
  }
  void set_epsilon(float epsilon) {
    for (FloatBlock& b : vit_.blocks) b.norm1.epsilon = b.norm2.epsilon = epsilon;
    vit_.norm.epsilon = epsilon;
  }

  const VitNames& names_;
  const VitSizes& sizes_;
  Vit& vit_;
  LayerLoader layers_;
};

}  // namespace

void load_vit(const Checkpoint& checkpoint, const VitNames& names, const VitSizes& sizes,
              float epsilon, Vit& vit) {
  Loader(checkpoint, names, sizes, vit).load(epsilon);
}

}  // namespace intaglio
