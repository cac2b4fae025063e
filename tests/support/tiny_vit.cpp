#include "tests/support/tiny_vit.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "converters/lower_network.h"

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
  FloatLinear linear(const std::string& name, std::size_t n, std::size_t k) {
    const float reach = 2 / std::sqrt(static_cast<float>(k));
    FloatLinear layer{n, k, reals(n * k, -reach, reach), reals(n, -0.5F, 0.5F)};
    std::vector<float>& scale = calibration.weights[name].scale;
    for (std::size_t j = 0; j < n; ++j) {
      float largest = 0;
      for (std::size_t i = 0; i < k; ++i) {
        largest = std::max(largest, std::abs(layer.weight[j * k + i]));
      }
      scale.push_back(largest / 127.5F);
    }
    return layer;
  }
  FloatNorm norm() { return {reals(shape_.dim, -0.2F, 1.5F), reals(shape_.dim, -0.5F, 0.5F)}; }
  Calibration calibration;

  Grid grid() {
    const float scale = real(0.02F, 0.04F);
    return {scale, integer(110, 140), {}};
  }
  Grid stream() {
    Grid stream = grid();
    stream.exponents.assign(shape_.dim, 0);
    // The finest channel has exponent 0.
    for (std::size_t c = 1; c < shape_.dim && shape_.ptf; ++c) {
      stream.exponents[c] = static_cast<std::uint8_t>(integer(0, 3));
    }
    return stream;
  }
  FloatBlock block(const std::string& name) {
    const std::size_t dim = shape_.dim;
    FloatBlock b;
    b.norm1 = norm(), b.norm2 = norm();
    b.qkv = linear(name + "attn.qkv", 3 * dim, dim), b.proj = linear(name + "attn.proj", dim, dim);
    b.fc1 = linear(name + "mlp.fc1", shape_.hidden, dim);
    b.fc2 = linear(name + "mlp.fc2", dim, shape_.hidden);
    for (const char* uniform : {"qact1", "attn.qact1", "attn.qact_attn1", "attn.qact2",
                                "attn.qact3", "qact3", "mlp.qact2"}) {
      calibration.grids[name + uniform] = grid();
    }
    const float gelu_scale = real(0.01F, 0.03F);
    calibration.grids[name + "mlp.qact1"] = {gelu_scale, integer(6, 17), {}};
    calibration.grids[name + "qact2"] = stream();
    calibration.grids[name + "qact4"] = stream();
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
  void grid(const std::string& module, const Grid& grid) {
    const auto scale = static_cast<float>(grid.scale);
    if (grid.exponents.empty()) {
      add(module + ".quantizer.scale", {}, std::vector{scale});
    } else {
      std::vector<float> scales;
      for (const std::uint8_t k : grid.exponents) scales.push_back(std::ldexp(scale, k));
      add(module + ".quantizer.scale", {scales.size()}, scales);
    }
    add(module + ".quantizer.zero_point", {}, std::vector{grid.zero_point});
  }
  void weight_grid(const std::string& module, const std::vector<float>& scale) {
    add(module + ".quantizer.scale", {scale.size()}, scale);
    add(module + ".quantizer.zero_point", {scale.size()},
        std::vector<std::int32_t>(scale.size(), 0));
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
  }
  /// The convolution holds its weight as [n, 3, patch, patch].
  void patch_embedding(const Vit& vit) {
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
  void block(const std::string& name, const FloatBlock& b) {
    norm(name + "norm1", b.norm1), norm(name + "norm2", b.norm2);
    linear(name + "attn.qkv", b.qkv), linear(name + "attn.proj", b.proj);
    linear(name + "mlp.fc1", b.fc1), linear(name + "mlp.fc2", b.fc2);
  }
  void metadata(const Vit& vit) {
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
  Vit vit;
  auto& grids = maker.calibration.grids;
  vit.image_size = shape.image, vit.patch = shape.patch, vit.dim = shape.dim;
  vit.heads = shape.heads, vit.classes = shape.classes;
  if (shape.input_quantizer) grids["qact_input"] = {0.02F, 114, {}};
  vit.patch_embed = maker.linear("patch_embed.proj", shape.dim, shape.patch * shape.patch * 3);
  grids["patch_embed.qact"] = maker.grid(), grids[kTokenGrid] = maker.grid();
  grids[kPositionGrid] = {0.01F, maker.integer(110, 140), {}};
  vit.tokens = maker.reals(shape.dim, -1, 1);
  vit.position = maker.reals((1 + vit.patches()) * shape.dim, -1, 1);
  grids["qact1"] = maker.stream();
  for (std::size_t i = 0; i < shape.depth; ++i) {
    vit.blocks.push_back(maker.block("blocks." + std::to_string(i) + "."));
  }
  vit.norm = maker.norm();
  grids["qact2"] = maker.grid();
  vit.head = maker.linear("head", shape.classes, shape.dim);

  Preprocessing& p = vit.preprocessing;
  p.resize = p.height = p.width = static_cast<int>(shape.image);
  p.mean = shape.input_quantizer ? std::array{0.485, 0.456, 0.406} : std::array{0.5, 0.5, 0.5};
  p.std = shape.input_quantizer ? std::array{0.229, 0.224, 0.225} : std::array{0.5, 0.5, 0.5};
  vit.provenance = {{"arch", "vit"}, {"quant_method", "random"}, {"lis", "True"}};
  return {std::move(vit), std::move(maker.calibration)};
}

Graph lowered(const CalibratedVit& vit, std::vector<std::string> labels) {
  return lower(network_of(vit.vit), vit.calibration, std::move(labels));
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

Checkpoint export_checkpoint(const CalibratedVit& calibrated) {
  const Vit& vit = calibrated.vit;
  Exporter e;
  e.metadata(vit);
  e.patch_embedding(vit);
  e.add("cls_token", {1, 1, vit.dim}, vit.tokens);
  e.add("pos_embed", {1, 1 + vit.patches(), vit.dim}, vit.position);
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    e.block("blocks." + std::to_string(i) + ".", vit.blocks[i]);
  }
  e.norm("norm", vit.norm);
  e.linear("head", vit.head);
  for (const auto& [module, grid] : calibrated.calibration.grids) e.grid(module, grid);
  for (const auto& [module, weights] : calibrated.calibration.weights) {
    e.weight_grid(module, weights.scale);
  }
  return std::move(e.checkpoint);
}

}  // namespace intaglio::test
