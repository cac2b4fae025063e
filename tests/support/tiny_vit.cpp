#include "tests/support/tiny_vit.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

namespace intaglio::test {
namespace {

/// Makes layers and grids; the sizes of the numbers are those of real networks.
class Maker {
 public:
  explicit Maker(const TinyShape& shape) : shape_(shape), random_(shape.seed) {}

  float real(float low, float high) {
    return low + (high - low) * static_cast<float>(random_()) / 4294967296.0F;
  }
  std::int32_t integer(std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random_() % static_cast<unsigned>(high - low + 1));
  }
  std::vector<float> reals(std::size_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& v : values) v = real(low, high);
    return values;
  }
  FloatLinear linear(std::size_t n, std::size_t k) {
    const float reach = 2 / std::sqrt(static_cast<float>(k));
    FloatLinear layer{n, k, reals(n * k, -reach, reach), reals(n, -0.5F, 0.5F), {}};
    for (std::size_t j = 0; j < n; ++j) {
      float largest = 0;
      for (std::size_t i = 0; i < k; ++i) {
        largest = std::max(largest, std::abs(layer.weight[j * k + i]));
      }
      layer.weight_scale.push_back(largest / 127.5F);
    }
    return layer;
  }
  FloatNorm norm() { return {reals(shape_.dim, -0.2F, 1.5F), reals(shape_.dim, -0.5F, 0.5F)}; }
  UniformGrid grid() { return {real(0.02F, 0.04F), integer(110, 140)}; }
  PtfGrid stream() {
    PtfGrid grid{real(0.02F, 0.04F), std::vector<std::uint8_t>(shape_.dim, 0), integer(110, 140)};
    // The finest channel has exponent 0.
    for (std::size_t c = 1; c < shape_.dim && shape_.ptf; ++c) {
      grid.exponents[c] = static_cast<std::uint8_t>(integer(0, 3));
    }
    return grid;
  }
  CalibratedBlock block() {
    const std::size_t dim = shape_.dim;
    CalibratedBlock b;
    b.norm1 = norm(), b.norm2 = norm();
    b.qkv = linear(3 * dim, dim), b.proj = linear(dim, dim);
    b.fc1 = linear(shape_.hidden, dim), b.fc2 = linear(dim, shape_.hidden);
    b.norm1_grid = grid(), b.qkv_grid = grid(), b.score_grid = grid(), b.attend_grid = grid();
    b.proj_grid = grid(), b.attention_stream = stream();
    b.norm2_grid = grid(), b.gelu_grid = {real(0.01F, 0.03F), integer(6, 17)}, b.fc2_grid = grid();
    b.mlp_stream = stream();
    return b;
  }

 private:
  const TinyShape& shape_;
  std::mt19937 random_;
};

/// Fills a checkpoint layer by layer, under the names of the authors' modules.
class Exporter {
 public:
  Checkpoint checkpoint;

  template <typename T>
  void add(const std::string& name, std::vector<std::size_t> shape, const std::vector<T>& values) {
    checkpoint.tensors[name] = Checkpoint::Tensor::of(std::move(shape), values);
  }
  void grid(const std::string& module, UniformGrid grid) {
    add(module + ".quantizer.scale", {}, std::vector{grid.scale});
    add(module + ".quantizer.zero_point", {}, std::vector{grid.zero_point});
  }
  void stream(const std::string& module, const PtfGrid& grid) {
    std::vector<float> scales;
    for (const std::uint8_t k : grid.exponents) scales.push_back(std::ldexp(grid.scale, k));
    add(module + ".quantizer.scale", {scales.size()}, scales);
    add(module + ".quantizer.zero_point", {}, std::vector{grid.zero_point});
  }
  void norm(const std::string& module, const FloatNorm& norm) {
    add(module + ".weight", {norm.gamma.size()}, norm.gamma);
    add(module + ".bias", {norm.beta.size()}, norm.beta);
  }
  void linear(const std::string& module, const FloatLinear& layer) {
    linear(module, layer, layer.weight, {layer.n, layer.k});
  }
  void linear(const std::string& module, const FloatLinear& layer, const std::vector<float>& weight,
              std::vector<std::size_t> shape) {
    add(module + ".weight", std::move(shape), weight);
    if (!layer.bias.empty()) add(module + ".bias", {layer.n}, layer.bias);
    add(module + ".quantizer.scale", {layer.n}, layer.weight_scale);
    add(module + ".quantizer.zero_point", {layer.n}, std::vector<std::int32_t>(layer.n, 0));
  }
  /// The convolution holds its weight as [n, 3, patch, patch].
  void patch_embedding(const CalibratedVit& vit) {
    const FloatLinear& layer = vit.patch_embed;
    const std::size_t area = vit.patch * vit.patch;
    std::vector<float> conv(layer.weight.size());
    for (std::size_t i = 0; i < conv.size(); ++i) {
      const std::size_t channel = i % 3;
      const std::size_t yx = i / 3 % area;
      const std::size_t n = i / 3 / area;
      conv[(n * 3 + channel) * area + yx] = layer.weight[i];
    }
    linear("patch_embed.proj", layer, conv, {vit.dim, 3, vit.patch, vit.patch});
  }
  void block(const std::string& name, const CalibratedBlock& b) {
    norm(name + "norm1", b.norm1), norm(name + "norm2", b.norm2);
    linear(name + "attn.qkv", b.qkv), linear(name + "attn.proj", b.proj);
    linear(name + "mlp.fc1", b.fc1), linear(name + "mlp.fc2", b.fc2);
    grid(name + "qact1", b.norm1_grid), grid(name + "attn.qact1", b.qkv_grid);
    grid(name + "attn.qact_attn1", b.score_grid), grid(name + "attn.qact2", b.attend_grid);
    grid(name + "attn.qact3", b.proj_grid), stream(name + "qact2", b.attention_stream);
    grid(name + "qact3", b.norm2_grid), grid(name + "mlp.qact1", b.gelu_grid);
    grid(name + "mlp.qact2", b.fc2_grid), stream(name + "qact4", b.mlp_stream);
  }
  void metadata(const CalibratedVit& vit) {
    const Preprocessing& p = vit.preprocessing;
    checkpoint.metadata = vit.provenance;
    checkpoint.metadata["format"] = "fqvit-calibrated";
    checkpoint.metadata["config"] = nlohmann::json{{"num_heads", vit.heads}}.dump();
    checkpoint.metadata["mean"] = nlohmann::json(p.mean).dump();
    checkpoint.metadata["std"] = nlohmann::json(p.std).dump();
    checkpoint.metadata["img_size"] = std::to_string(vit.image_size);
    checkpoint.metadata["crop_pct"] = "1.0";
    checkpoint.metadata["interpolation"] =
        p.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear";
  }
};

}  // namespace

CalibratedVit tiny_vit(const TinyShape& shape) {
  Maker maker(shape);
  CalibratedVit vit;
  vit.image_size = shape.image, vit.patch = shape.patch, vit.dim = shape.dim;
  vit.heads = shape.heads, vit.classes = shape.classes;
  if (shape.input_quantizer) vit.input_grid = UniformGrid{0.02F, 114};
  vit.patch_embed = maker.linear(shape.dim, shape.patch * shape.patch * 3);
  vit.patch_grid = maker.grid(), vit.embed_grid = maker.grid();
  vit.position_grid = {0.01F, maker.integer(110, 140)};
  vit.class_token = maker.reals(shape.dim, -1, 1);
  vit.position = maker.reals((1 + vit.patches()) * shape.dim, -1, 1);
  vit.embed_stream = maker.stream();
  for (std::size_t i = 0; i < shape.depth; ++i) vit.blocks.push_back(maker.block());
  vit.norm = maker.norm();
  vit.norm_grid = maker.grid();
  vit.head = maker.linear(shape.classes, shape.dim);

  Preprocessing& p = vit.preprocessing;
  p.resize = p.height = p.width = static_cast<int>(shape.image);
  p.mean = shape.input_quantizer ? std::array{0.485, 0.456, 0.406} : std::array{0.5, 0.5, 0.5};
  p.std = shape.input_quantizer ? std::array{0.229, 0.224, 0.225} : std::array{0.5, 0.5, 0.5};
  vit.provenance = {{"arch", "vit"}, {"quant_method", "random"}, {"lis", "True"}};
  return vit;
}

Checkpoint Checkpoint::copy_of(const Safetensors& file) {
  Checkpoint copy;
  copy.metadata = file.metadata();
  for (const auto& [name, view] : file.tensors()) {
    copy.tensors[name] = {view.dtype, view.shape, {view.bytes.begin(), view.bytes.end()}};
  }
  return copy;
}

std::vector<std::byte> Checkpoint::bytes() const {
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    views[name] = {tensor.dtype, tensor.shape, tensor.bytes};
  }
  return serialize_safetensors(views, metadata);
}

Safetensors Checkpoint::file() const {
  const auto owner = std::make_shared<const std::vector<std::byte>>(bytes());
  return Safetensors::parse(owner, *owner, "checkpoint");
}

Checkpoint export_checkpoint(const CalibratedVit& vit) {
  Exporter e;
  e.metadata(vit);
  e.patch_embedding(vit);
  if (vit.input_grid) e.grid("qact_input", *vit.input_grid);
  e.grid("patch_embed.qact", vit.patch_grid);
  e.grid("qact_embed", vit.embed_grid);
  e.grid("qact_pos", vit.position_grid);
  e.add("cls_token", {1, 1, vit.dim}, vit.class_token);
  e.add("pos_embed", {1, 1 + vit.patches(), vit.dim}, vit.position);
  e.stream("qact1", vit.embed_stream);
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    e.block("blocks." + std::to_string(i) + ".", vit.blocks[i]);
  }
  e.norm("norm", vit.norm);
  e.grid("qact2", vit.norm_grid);
  e.linear("head", vit.head);
  return std::move(e.checkpoint);
}

}  // namespace intaglio::test
