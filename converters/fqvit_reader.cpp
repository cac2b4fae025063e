#include "converters/fqvit_reader.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "graph/error.h"

namespace intaglio {
namespace {

constexpr float kSmallestScale = 0x1p-100F;
constexpr double kDefaultCropPct = 0.875;

}  // namespace

FqvitReader::FqvitReader(const Safetensors& file) : file_(file) {
  const std::string* format = metadata("format");
  if (format == nullptr || *format != "fqvit-calibrated") {
    fail("no calibrated FQ-ViT checkpoint: metadata 'format' must be 'fqvit-calibrated'");
  }
  config_ = metadata_json("config");
  if (!config_.is_null() && !config_.is_object()) fail("metadata 'config' must be an object");
  const std::string* lis = metadata("lis");
  if (lis != nullptr && *lis == "False") calibration.softmax = SoftmaxForm::kUniform;
}

void FqvitReader::fail(const std::string& what) const {
  throw Error(ErrorCode::kFormat, file_.name() + ": " + what);
}

void FqvitReader::unsupported(const std::string& what) const {
  throw Error(ErrorCode::kUnsupported, file_.name() + ": " + what);
}

bool FqvitReader::has_any(const std::string& prefix) const {
  const auto it = file_.tensors().lower_bound(prefix);
  return it != file_.tensors().end() && it->first.starts_with(prefix);
}

const TensorView& FqvitReader::tensor(const std::string& name) {
  read_.insert(name);
  return file_.at(name);
}

void FqvitReader::fail_shape(const std::string& name, const std::string& expected) {
  fail("tensor '" + name + "': expected " + expected + ", found " + describe(tensor(name)));
}

std::vector<float> FqvitReader::floats(const std::string& name, const Shape& shape) {
  const TensorView& view = tensor(name);
  if (view.dtype != DType::kF32 || view.shape != shape) {
    fail_shape(name, describe(TensorView{DType::kF32, shape, {}}));
  }
  std::vector<float> values = view.to_vector<float>(name);
  for (const float v : values) {
    if (!std::isfinite(v)) fail("tensor '" + name + "' holds a value that is not finite");
  }
  return values;
}

FloatNorm FqvitReader::norm(const std::string& module, std::size_t dim) {
  return {floats(module + ".weight", {dim}), floats(module + ".bias", {dim})};
}

FloatLinear FqvitReader::linear(const std::string& module, const Shape& shape, bool has_bias) {
  const std::size_t n = shape[0];
  const std::size_t k =
      std::accumulate(shape.begin() + 1, shape.end(), std::size_t{1}, std::multiplies<>());
  FloatLinear layer{n, k, floats(module + ".weight", shape), {}};
  if (has_bias) layer.bias = floats(module + ".bias", {n});
  calibration.weights[module] = {weight_scales(module, n), {}};
  return layer;
}

void FqvitReader::uniform(const std::string& module) {
  calibration.grids[module] = {scales(module, {})[0], zero_point(module), {}};
}

void FqvitReader::ptf(const std::string& module, std::size_t dim) {
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
  calibration.grids[module] = std::move(grid);
}

void FqvitReader::require_all_read(const char* graph) const {
  for (const auto& [name, view] : file_.tensors()) {
    if (!read_.contains(name)) {
      unsupported("tensor " + printable(name) + " is no part of a " + graph + " graph");
    }
  }
}

std::vector<float> FqvitReader::scales(const std::string& module, const Shape& shape) {
  std::vector<float> values = floats(module + ".quantizer.scale", shape);
  for (const float v : values) {
    if (v < kSmallestScale) fail("tensor '" + module + ".quantizer.scale' must be at least 2^-100");
  }
  return values;
}

std::int32_t FqvitReader::zero_point(const std::string& module) {
  const std::string name = module + ".quantizer.zero_point";
  const TensorView& view = tensor(name);
  if (view.dtype != DType::kS32 || view.elements() != 1) fail_shape(name, "I32 []");
  const std::int32_t z = view.to_vector<std::int32_t>(name)[0];
  if (z < 0 || z > 255) fail("tensor '" + name + "': " + std::to_string(z) + " is not in [0, 255]");
  return z;
}

std::vector<float> FqvitReader::weight_scales(const std::string& module, std::size_t n) {
  std::vector<float> all = scales(module, {n});
  const std::string zeros = module + ".quantizer.zero_point";
  const TensorView& view = tensor(zeros);
  if (view.dtype != DType::kS32 || view.shape != Shape{n}) {
    fail_shape(zeros, describe(TensorView{DType::kS32, {n}, {}}));
  }
  const auto values = view.to_vector<std::int32_t>(zeros);
  if (std::any_of(values.begin(), values.end(), [](std::int32_t z) { return z != 0; })) {
    fail("tensor '" + zeros + "': weights must be symmetric, but a zero point is not 0");
  }
  return all;
}

const std::string* FqvitReader::metadata(const std::string& key) const {
  const auto it = file_.metadata().find(key);
  return it == file_.metadata().end() ? nullptr : &it->second;
}

nlohmann::json FqvitReader::metadata_json(const std::string& key) const {
  const std::string* text = metadata(key);
  if (text == nullptr) return nullptr;
  nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
  if (json.is_discarded()) fail("metadata '" + key + "' is no JSON: " + *text);
  return json;
}

std::size_t FqvitReader::positive(const std::string& key, std::size_t fallback) const {
  if (!config_.contains(key)) return fallback;
  const nlohmann::json& json = config_[key];
  if (!json.is_number_unsigned() || json.get<std::size_t>() == 0 ||
      json.get<std::size_t>() > 1U << 20) {
    fail("metadata config: '" + key + "' must be a positive integer");
  }
  return json.get<std::size_t>();
}

bool FqvitReader::flag(const std::string& key, bool fallback) const {
  if (!config_.contains(key)) return fallback;
  if (!config_[key].is_boolean()) fail("metadata config: '" + key + "' must be a boolean");
  return config_[key].get<bool>();
}

void FqvitReader::require_config(const std::string& key, const nlohmann::json& found) const {
  if (config_.contains(key) && config_[key] != found) {
    fail("metadata config: '" + key + "' is " + config_[key].dump() + ", but the tensors say " +
         found.dump());
  }
}

std::array<double, 3> FqvitReader::triple(const std::string& key) const {
  const nlohmann::json json = metadata_json(key);
  std::array<double, 3> numbers{};
  if (!json.is_array() || json.size() != 3) {
    fail("metadata '" + key + "' must be a list of three numbers");
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if (!json[i].is_number() || !std::isfinite(json[i].get<double>())) {
      fail("metadata '" + key + "' must be a list of three numbers");
    }
    numbers[i] = json[i].get<double>();
  }
  return numbers;
}

Preprocessing FqvitReader::preprocessing(std::size_t size) const {
  Preprocessing p;
  p.mean = triple("mean");
  p.std = triple("std");
  for (std::size_t c = 0; c < 3; ++c) {
    // Far beyond any real normalization, and far from where float32 ends.
    if (std::abs(p.mean[c]) > 1024 || !(p.std[c] >= 1.0 / 1024 && p.std[c] <= 1024)) {
      fail("metadata 'mean' must be in [-1024, 1024], 'std' in [1/1024, 1024]");
    }
  }
  p.height = p.width = static_cast<int>(size);
  const nlohmann::json crop = metadata_json("crop_pct");
  const double crop_pct = crop.is_null()     ? kDefaultCropPct
                          : crop.is_number() ? crop.get<double>()
                                             : 0;
  if (!(crop_pct >= 0.5 && crop_pct <= 1)) fail("metadata 'crop_pct' must be in [0.5, 1]");
  p.resize = static_cast<int>(std::floor(double(size) / crop_pct));
  const std::string* filter = metadata("interpolation");
  if (filter != nullptr && *filter != "bicubic" && *filter != "bilinear") {
    unsupported("interpolation " + printable(*filter) + " is not supported");
  }
  p.interpolation = filter != nullptr && *filter == "bilinear" ? Interpolation::kBilinear
                                                               : Interpolation::kBicubic;
  return p;
}

std::map<std::string, std::string> FqvitReader::provenance() const {
  std::map<std::string, std::string> texts;
  for (const char* key : {"arch", "quant_method", "ptf", "lis", "provenance"}) {
    if (const std::string* text = metadata(key)) texts[key] = *text;
  }
  return texts;
}

}  // namespace intaglio
