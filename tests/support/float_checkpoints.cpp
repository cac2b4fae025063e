#include "tests/support/float_checkpoints.h"

#include <utility>

#include "tests/support/torch_exporter.h"

namespace intaglio::test {
namespace {

using Shape = std::vector<std::size_t>;

/// `count` columns of a matrix [n, k], times `factor`.
std::vector<float> columns(const FloatLinear& layer, std::size_t first, std::size_t count,
                           float factor) {
  std::vector<float> part;
  for (std::size_t j = 0; j < layer.n; ++j) {
    for (std::size_t i = 0; i < count; ++i) {
      part.push_back(factor * layer.weight[j * layer.k + first + i]);
    }
  }
  return part;
}

std::vector<float> transposed(const FloatLinear& layer) {
  std::vector<float> result(layer.weight.size());
  for (std::size_t j = 0; j < layer.n; ++j) {
    for (std::size_t i = 0; i < layer.k; ++i) {
      result[i * layer.n + j] = layer.weight[j * layer.k + i];
    }
  }
  return result;
}

/// A Vit in PyTorch's layouts.
class VitExporter : public TorchExporter {
 public:
  explicit VitExporter(const Vit& vit) : vit_(vit) {}

  void token(const std::string& name, std::size_t index) {
    const auto begin = vit_.tokens.begin() + static_cast<std::ptrdiff_t>(index * vit_.dim);
    add(name, {1, 1, vit_.dim}, {begin, begin + static_cast<std::ptrdiff_t>(vit_.dim)});
  }
  void position(const std::string& name) {
    add(name, {1, vit_.prefix() + vit_.patches(), vit_.dim}, vit_.position);
  }
  /// One of the heads of which the Vit's is the mean.
  void half_head(const std::string& module, std::size_t index) {
    linear(module, {vit_.classes, vit_.dim, columns(vit_.head, index * vit_.dim, vit_.dim, 2),
                    vit_.head.bias});
  }

 private:
  const Vit& vit_;
};

/// JAX's layouts.
class JaxExporter {
 public:
  JaxExporter(const Vit& vit, std::string root) : vit_(vit), root_(std::move(root)) {}

  Checkpoint checkpoint;

  void add(const std::string& name, Shape shape, const std::vector<float>& values) {
    checkpoint.tensors[root_ + name] = Checkpoint::Tensor::of(std::move(shape), values);
  }
  void norm(const std::string& module, const FloatNorm& norm) {
    add(module + "/scale", {norm.gamma.size()}, norm.gamma);
    add(module + "/bias", {norm.beta.size()}, norm.beta);
  }
  void linear(const std::string& module, const FloatLinear& layer, Shape in, const Shape& out) {
    in.insert(in.end(), out.begin(), out.end());
    add(module + "/kernel", in, transposed(layer));
    if (!layer.bias.empty()) add(module + "/bias", out, layer.bias);
  }
  void linear(const std::string& module, const FloatLinear& layer) {
    linear(module, layer, {layer.k}, {layer.n});
  }
  void block(const std::string& name, const FloatBlock& b) {
    const std::size_t dim = vit_.dim;
    const Shape channels{vit_.heads, dim / vit_.heads};
    const std::string attention = name + "MultiHeadDotProductAttention_1/";
    norm(name + "LayerNorm_0", b.norm1);
    linear(attention + "query", rows(b.qkv, 0, dim), {dim}, channels);
    linear(attention + "key", rows(b.qkv, dim, dim), {dim}, channels);
    linear(attention + "value", rows(b.qkv, 2 * dim, dim), {dim}, channels);
    linear(attention + "out", b.proj, channels, {dim});
    norm(name + "LayerNorm_2", b.norm2);
    linear(name + "MlpBlock_3/Dense_0", b.fc1);
    linear(name + "MlpBlock_3/Dense_1", b.fc2);
  }

 private:
  const Vit& vit_;
  std::string root_;
};

}  // namespace

Checkpoint export_timm(const Vit& vit) {
  VitExporter e(vit);
  e.patch_embed("patch_embed.proj", vit.patch_embed, vit.patch);
  e.token("cls_token", 0);
  e.position("pos_embed");
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    const FloatBlock& b = vit.blocks[i];
    const std::string name = "blocks." + std::to_string(i) + ".";
    e.norm(name + "norm1", b.norm1), e.norm(name + "norm2", b.norm2);
    e.linear(name + "attn.qkv", b.qkv), e.linear(name + "attn.proj", b.proj);
    e.linear(name + "mlp.fc1", b.fc1), e.linear(name + "mlp.fc2", b.fc2);
  }
  e.norm("norm", vit.norm);
  if (vit.prefix() == 2) {
    e.token("dist_token", 1);
    e.half_head("head", 0), e.half_head("head_dist", 1);
  } else {
    e.linear("head", vit.head);
  }
  return std::move(e.checkpoint);
}

Checkpoint export_hugging_face(const Vit& vit) {
  VitExporter e(vit);
  const bool deit = vit.prefix() == 2;
  const std::string model = deit ? "deit." : "vit.";
  e.patch_embed(model + "embeddings.patch_embeddings.projection", vit.patch_embed, vit.patch);
  e.token(model + "embeddings.cls_token", 0);
  e.position(model + "embeddings.position_embeddings");
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    const FloatBlock& b = vit.blocks[i];
    const std::string name = model + "encoder.layer." + std::to_string(i) + ".";
    const std::string attention = name + "attention.attention.";
    e.norm(name + "layernorm_before", b.norm1), e.norm(name + "layernorm_after", b.norm2);
    e.query_key_value(attention, b.qkv);
    e.linear(name + "attention.output.dense", b.proj);
    e.linear(name + "intermediate.dense", b.fc1), e.linear(name + "output.dense", b.fc2);
  }
  e.norm(model + "layernorm", vit.norm);
  if (deit) {
    e.token(model + "embeddings.distillation_token", 1);
    e.half_head("cls_classifier", 0), e.half_head("distillation_classifier", 1);
  } else {
    e.linear("classifier", vit.head);
  }
  return std::move(e.checkpoint);
}

Checkpoint export_jax(const Vit& vit, const std::string& root) {
  JaxExporter e(vit, root);
  e.linear("embedding", vit.patch_embed, {vit.patch, vit.patch, 3}, {vit.dim});
  e.add("cls", {1, 1, vit.dim}, vit.tokens);
  e.add("Transformer/posembed_input/pos_embedding", {1, 1 + vit.patches(), vit.dim}, vit.position);
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    e.block("Transformer/encoderblock_" + std::to_string(i) + "/", vit.blocks[i]);
  }
  e.norm("Transformer/encoder_norm", vit.norm);
  e.linear("head", vit.head);
  return std::move(e.checkpoint);
}

Vit distilled(Vit vit) {
  const std::size_t dim = vit.dim;
  const auto token = static_cast<std::ptrdiff_t>(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    vit.tokens.push_back(0.5F - vit.tokens[c]);
    vit.position.insert(vit.position.begin() + token, 0.25F - vit.position[dim - 1 - c]);
  }
  FloatLinear head{vit.classes, 2 * dim, {}, vit.head.bias};
  for (std::size_t j = 0; j < vit.classes; ++j) {
    const float* row = &vit.head.weight[j * dim];
    head.weight.insert(head.weight.end(), row, row + dim);
    for (std::size_t i = 0; i < dim; ++i) head.weight.push_back(0.125F - row[i]);
  }
  vit.head = std::move(head);
  return vit;
}

intaglio::Checkpoint opened(const Folder& folder, const Checkpoint& checkpoint,
                            const std::string& name) {
  const std::vector<std::byte> bytes = checkpoint.bytes();
  return intaglio::Checkpoint::open(
      folder.write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
}

}  // namespace intaglio::test
