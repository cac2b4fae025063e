#include "converters/fqvit_import.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "graph/check.h"
#include "graph/error.h"

namespace intaglio {
namespace {

using Shape = std::vector<std::size_t>;

constexpr std::size_t kDefaultHeadDim = 64;  // of every published ViT and DeiT
constexpr double kDefaultCropPct = 0.875;

/// Typed, shape-checked access to one checkpoint; remembers what was read.
class Reader {
 public:
  explicit Reader(const Safetensors& file) : file_(file) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, file_.name() + ": " + what);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported, file_.name() + ": " + what);
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  /// Whether any tensor's name starts like this.
  bool has_any(const std::string& prefix) const {
    const auto it = file_.tensors().lower_bound(prefix);
    return it != file_.tensors().end() && it->first.starts_with(prefix);
  }
  const TensorView& tensor(const std::string& name) {
    read_.insert(name);
    return file_.at(name);
  }
  std::vector<float> floats(const std::string& name, const Shape& shape) {
    const TensorView& view = tensor(name);
    if (view.dtype != DType::kF32 || view.shape != shape) {
      fail("tensor '" + name + "': expected " + describe(TensorView{DType::kF32, shape, {}}) +
           ", found " + describe(view));
    }
    std::vector<float> values = view.to_vector<float>(name);
    for (const float v : values) {
      if (!std::isfinite(v)) fail("tensor '" + name + "' holds a value that is not finite");
    }
    return values;
  }
  /// Scales of a quantizer: `count` of them, or one where a scalar is allowed and stored.
  std::vector<float> scales(const std::string& module, const Shape& shape) {
    std::vector<float> values = floats(module + ".quantizer.scale", shape);
    for (const float v : values) {
      if (v < kSmallestScale)
        fail("tensor '" + module + ".quantizer.scale' must be at least 2^-100");
    }
    return values;
  }
  std::int32_t zero_point(const std::string& module) {
    const std::string name = module + ".quantizer.zero_point";
    const TensorView& view = tensor(name);
    if (view.dtype != DType::kS32 || view.elements() != 1) {
      fail("tensor '" + name + "': expected I32 [], found " + describe(view));
    }
    const std::int32_t z = view.to_vector<std::int32_t>(name)[0];
    if (z < 0 || z > 255)
      fail("tensor '" + name + "': " + std::to_string(z) + " is not in [0, 255]");
    return z;
  }
  Grid uniform(const std::string& module) {
    return {scales(module, {})[0], zero_point(module), {}};
  }
  Grid ptf(const std::string& module, std::size_t dim) {
    // A checkpoint calibrated without PTF has one scale for all channels.
    const TensorView* stored = file_.find(module + ".quantizer.scale");
    const bool one_scale = stored != nullptr && stored->shape.empty();
    const std::vector<float> all = scales(module, one_scale ? Shape{} : Shape{dim});
    Grid grid{*std::min_element(all.begin(), all.end()), zero_point(module),
              std::vector<std::uint8_t>(dim, 0)};
    for (std::size_t c = 0; c < all.size(); ++c) {
      const double exponent = std::log2(all[c] / grid.scale);
      const double rounded = std::nearbyint(exponent);
      if (std::abs(exponent - rounded) > 1e-3 || rounded > 7) {
        fail("tensor '" + module + ".quantizer.scale': channel " + std::to_string(c) +
             " is no power of two (up to 2^7) above the finest channel");
      }
      if (!one_scale) grid.exponents[c] = static_cast<std::uint8_t>(rounded);
    }
    return grid;
  }
  FloatNorm norm(const std::string& module, std::size_t dim) {
    return {floats(module + ".weight", {dim}), floats(module + ".bias", {dim})};
  }
  /// A linear layer whose weight is stored as `shape`, [n, k] or a convolution's.
  FloatLinear linear(const std::string& module, const Shape& shape, bool has_bias = true) {
    const std::size_t n = shape[0];
    const std::size_t k =
        std::accumulate(shape.begin() + 1, shape.end(), std::size_t{1}, std::multiplies<>());
    FloatLinear layer{n, k, floats(module + ".weight", shape), {}};
    if (has_bias) layer.bias = floats(module + ".bias", {n});
    return layer;
  }
  /// Scales of a layer's weight, one per output channel.
  std::vector<float> weight_scales(const std::string& module, std::size_t n) {
    std::vector<float> all = scales(module, {n});
    const std::string zeros = module + ".quantizer.zero_point";
    const TensorView& view = tensor(zeros);
    if (view.dtype != DType::kS32 || view.shape != Shape{n}) {
      fail("tensor '" + zeros + "': expected " + describe(TensorView{DType::kS32, {n}, {}}) +
           ", found " + describe(view));
    }
    const auto values = view.to_vector<std::int32_t>(zeros);
    if (std::any_of(values.begin(), values.end(), [](std::int32_t z) { return z != 0; })) {
      fail("tensor '" + zeros + "': weights must be symmetric, but a zero point is not 0");
    }
    return all;
  }
  const std::string* metadata(const std::string& key) const {
    const auto it = file_.metadata().find(key);
    return it == file_.metadata().end() ? nullptr : &it->second;
  }
  /// JSON of a metadata entry; null when absent.
  nlohmann::json metadata_json(const std::string& key) const {
    const std::string* text = metadata(key);
    if (text == nullptr) return nullptr;
    nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_discarded()) fail("metadata '" + key + "' is no JSON: " + *text);
    return json;
  }
  /// Everything in the file must have been read: an unknown layer would be left out silently.
  void require_all_read() const {
    for (const auto& [name, view] : file_.tensors()) {
      if (!read_.contains(name)) {
        unsupported("tensor " + printable(name) + " is no part of a ViT or DeiT graph");
      }
    }
  }

 private:
  static constexpr float kSmallestScale = 0x1p-100F;

  const Safetensors& file_;
  std::set<std::string> read_;
};

/// A positive integer of the metadata's JSON, or `fallback`.
std::size_t positive(const Reader& reader, const nlohmann::json& json, const std::string& key,
                     std::size_t fallback) {
  if (json.is_null() || !json.contains(key)) return fallback;
  if (!json[key].is_number_unsigned() || json[key].get<std::size_t>() == 0 ||
      json[key].get<std::size_t>() > 1u << 20) {
    reader.fail("metadata config: '" + key + "' must be a positive integer");
  }
  return json[key].get<std::size_t>();
}

void require_config(const Reader& reader, const nlohmann::json& config, const std::string& key,
                    std::size_t found) {
  const std::size_t claimed = positive(reader, config, key, found);
  if (claimed != found) {
    reader.fail("metadata config: '" + key + "' is " + std::to_string(claimed) +
                ", but the tensors say " + std::to_string(found));
  }
}

/// A flag of the metadata's JSON, or `fallback`.
bool flag(const Reader& reader, const nlohmann::json& config, const std::string& key,
          bool fallback) {
  if (config.is_null() || !config.contains(key)) return fallback;
  if (!config[key].is_boolean()) reader.fail("metadata config: '" + key + "' must be a boolean");
  return config[key].get<bool>();
}

std::array<double, 3> triple(const Reader& reader, const std::string& key) {
  const nlohmann::json json = reader.metadata_json(key);
  std::array<double, 3> numbers{};
  if (!json.is_array() || json.size() != 3) {
    reader.fail("metadata '" + key + "' must be a list of three numbers");
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if (!json[i].is_number() || !std::isfinite(json[i].get<double>())) {
      reader.fail("metadata '" + key + "' must be a list of three numbers");
    }
    numbers[i] = json[i].get<double>();
  }
  return numbers;
}

void require_format(const Reader& reader) {
  const std::string* format = reader.metadata("format");
  if (format == nullptr || *format != "fqvit-calibrated") {
    reader.fail("no calibrated FQ-ViT checkpoint: metadata 'format' must be 'fqvit-calibrated'");
  }
}

nlohmann::json read_config(const Reader& reader) {
  const nlohmann::json config = reader.metadata_json("config");
  if (!config.is_null() && !config.is_object()) reader.fail("metadata 'config' must be an object");
  return config;
}

/// The shape of the network, from tensors first.
void read_sizes(Reader& reader, Vit& vit) {
  if (reader.has_any("dist_token") || reader.has_any("head_dist.")) {
    reader.unsupported("distilled models (with a 'dist_token') are not supported");
  }
  const Shape& proj = reader.tensor("patch_embed.proj.weight").shape;
  if (proj.size() != 4 || proj[0] == 0 || proj[1] != 3 || proj[2] != proj[3] || proj[2] == 0) {
    reader.fail("tensor 'patch_embed.proj.weight': expected [dim, 3, patch, patch], found " +
                describe(reader.tensor("patch_embed.proj.weight")));
  }
  vit.dim = proj[0];
  vit.patch = proj[2];
  const Shape& position = reader.tensor("pos_embed").shape;
  if (position.size() != 3 || position[0] != 1 || position[1] < 2 || position[2] != vit.dim) {
    reader.fail("tensor 'pos_embed': expected F32 [1, 1 + patches, " + std::to_string(vit.dim) +
                "], found " + describe(reader.tensor("pos_embed")));
  }
  const auto side = static_cast<std::size_t>(std::llround(std::sqrt(double(position[1] - 1))));
  if (side * side != position[1] - 1) {
    reader.fail("tensor 'pos_embed': " + std::to_string(position[1] - 1) +
                " patches are no square grid behind one class token");
  }
  if (side > kMaxImageSide / vit.patch) reader.fail("images above 4096 pixels are not supported");
  vit.image_size = side * vit.patch;
  const Shape& head = reader.tensor("head.weight").shape;
  if (head.size() != 2 || head[0] == 0)
    reader.fail("tensor 'head.weight': expected [classes, dim], found " +
                describe(reader.tensor("head.weight")));
  vit.classes = head[0];
}

void read_preprocessing(const Reader& reader, Vit& vit) {
  Preprocessing& p = vit.preprocessing;
  p.mean = triple(reader, "mean");
  p.std = triple(reader, "std");
  for (std::size_t c = 0; c < 3; ++c) {
    // Far beyond any real normalization, and far from where float32 ends.
    if (std::abs(p.mean[c]) > 1024 || !(p.std[c] >= 1.0 / 1024 && p.std[c] <= 1024)) {
      reader.fail("metadata 'mean' must be in [-1024, 1024], 'std' in [1/1024, 1024]");
    }
  }
  p.height = p.width = static_cast<int>(vit.image_size);
  const nlohmann::json crop = reader.metadata_json("crop_pct");
  const double crop_pct = crop.is_null()     ? kDefaultCropPct
                          : crop.is_number() ? crop.get<double>()
                                             : 0;
  if (!(crop_pct >= 0.5 && crop_pct <= 1)) reader.fail("metadata 'crop_pct' must be in [0.5, 1]");
  p.resize = static_cast<int>(std::floor(double(vit.image_size) / crop_pct));
  const std::string* filter = reader.metadata("interpolation");
  if (filter != nullptr && *filter != "bicubic" && *filter != "bilinear") {
    reader.unsupported("interpolation " + printable(*filter) + " is not supported");
  }
  p.interpolation = filter != nullptr && *filter == "bilinear" ? Interpolation::kBilinear
                                                               : Interpolation::kBicubic;
}

void read_metadata(const Reader& reader, const nlohmann::json& config, Vit& vit) {
  if (const std::string* lis = reader.metadata("lis"); lis != nullptr && *lis == "False") {
    reader.unsupported(
        "the checkpoint was calibrated without Log-Int-Softmax, which this engine needs");
  }
  require_config(reader, config, "img_size", vit.image_size);
  require_config(reader, config, "patch_size", vit.patch);
  require_config(reader, config, "embed_dim", vit.dim);
  require_config(reader, config, "num_classes", vit.classes);
  vit.heads = positive(reader, config, "num_heads", vit.dim / kDefaultHeadDim);
  if (vit.heads == 0 || vit.dim % vit.heads != 0) {
    reader.fail(std::to_string(vit.heads) + " heads do not divide " + std::to_string(vit.dim) +
                " channels; set 'num_heads' in the metadata's config");
  }
  const nlohmann::json size = reader.metadata_json("img_size");
  if (!size.is_null() &&
      (!size.is_number_unsigned() || size.get<std::size_t>() != vit.image_size)) {
    reader.fail("metadata 'img_size' is " + size.dump() + ", but 'pos_embed' has the patches of " +
                std::to_string(vit.image_size) + " pixels");
  }
  read_preprocessing(reader, vit);
}

/// Reads layers together with the grids at their results.
class Importer {
 public:
  explicit Importer(const Safetensors& checkpoint) : reader_(checkpoint) {}

  CalibratedVit run() {
    require_format(reader_);
    read_sizes(reader_, vit_);
    const nlohmann::json config = read_config(reader_);
    read_metadata(reader_, config, vit_);
    if (flag(reader_, config, "input_quant", reader_.has_any("qact_input."))) uniform("qact_input");
    embedding();
    const bool qkv_bias = flag(reader_, config, "qkv_bias", true);
    do {
      block("blocks." + std::to_string(vit_.blocks.size()) + ".", qkv_bias);
    } while (reader_.has_any("blocks." + std::to_string(vit_.blocks.size()) + "."));
    require_config(reader_, config, "depth", vit_.blocks.size());
    vit_.norm = reader_.norm("norm", vit_.dim);
    uniform("qact2");
    vit_.head = linear("head", {vit_.classes, vit_.dim});
    // Logits are ranked before act_out's u8 grid would make ties; its entries are not used.
    if (reader_.has_any("act_out.")) reader_.uniform("act_out");
    reader_.require_all_read();
    for (const char* key : {"arch", "quant_method", "ptf", "lis", "provenance"}) {
      if (const std::string* text = reader_.metadata(key)) vit_.provenance[key] = *text;
    }
    return {std::move(vit_), std::move(calibration_)};
  }

 private:
  void uniform(const std::string& module) { calibration_.grids[module] = reader_.uniform(module); }
  void ptf(const std::string& module) {
    calibration_.grids[module] = reader_.ptf(module, vit_.dim);
  }
  FloatLinear linear(const std::string& module, const Shape& shape, bool has_bias = true) {
    FloatLinear layer = reader_.linear(module, shape, has_bias);
    calibration_.weights[module] = {reader_.weight_scales(module, layer.n), {}};
    return layer;
  }
  void embedding() {
    const std::size_t dim = vit_.dim;
    const std::size_t patch = vit_.patch;
    vit_.patch_embed = linear("patch_embed.proj", {dim, 3, patch, patch});
    vit_.patch_embed.weight = patch_weight(vit_.patch_embed.weight, dim, patch);
    uniform("patch_embed.qact");
    vit_.tokens = reader_.floats("cls_token", {1, 1, dim});
    uniform(kTokenGrid);
    vit_.position = reader_.floats("pos_embed", {1, 1 + vit_.patches(), dim});
    uniform(kPositionGrid);
    ptf("qact1");
  }
  void block(const std::string& name, bool qkv_bias) {
    const std::size_t dim = vit_.dim;
    const Shape& fc1 = reader_.tensor(name + "mlp.fc1.weight").shape;
    const std::size_t hidden = fc1.empty() ? 0 : fc1[0];
    VitBlock b;
    b.norm1 = reader_.norm(name + "norm1", dim);
    uniform(name + "qact1");
    b.qkv = linear(name + "attn.qkv", {3 * dim, dim}, qkv_bias);
    for (const char* grid : {"attn.qact1", "attn.qact_attn1", "attn.qact2"}) uniform(name + grid);
    b.proj = linear(name + "attn.proj", {dim, dim});
    uniform(name + "attn.qact3");
    ptf(name + "qact2");
    b.norm2 = reader_.norm(name + "norm2", dim);
    uniform(name + "qact3");
    b.fc1 = linear(name + "mlp.fc1", {hidden, dim});
    uniform(name + "mlp.qact1");
    b.fc2 = linear(name + "mlp.fc2", {dim, hidden});
    uniform(name + "mlp.qact2");
    ptf(name + "qact4");
    vit_.blocks.push_back(std::move(b));
  }

  Reader reader_;
  Vit vit_;
  Calibration calibration_;
};

}  // namespace

CalibratedVit import_fqvit(const Safetensors& checkpoint) {
  return Importer(checkpoint).run();
}

}  // namespace intaglio
