// The importer: sizes come from the checkpoint, and whatever is wrong with one is named.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "converters/fqvit_import.h"
#include "graph/model_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

const ErrorCode kFormat = ErrorCode::kFormat;
const ErrorCode kUnsupported = ErrorCode::kUnsupported;

/// A checkpoint that the authors' code wrote.
const Checkpoint& golden() {
  static const Checkpoint checkpoint =
      Checkpoint::copy_of(Safetensors::open(golden_path("vit_micro") / "model.safetensors"));
  return checkpoint;
}

CalibratedVit imported(const Checkpoint& checkpoint) {
  return import_fqvit(checkpoint.file());
}
std::vector<std::byte> model_bytes(const CalibratedVit& vit) {
  return serialize_model(lowered(vit));
}

template <typename T>
void set(Checkpoint::Tensor& tensor, std::size_t index, T to) {
  REQUIRE((index + 1) * sizeof(T) <= tensor.bytes.size());
  std::memcpy(tensor.bytes.data() + index * sizeof(T), &to, sizeof(T));
}
template <typename T>
T get(const Checkpoint::Tensor& tensor, std::size_t index) {
  T value;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

/// Changes each tensor of the golden checkpoint in turn; the error must name it and say `piece`.
void check_each(const std::function<bool(const std::string&, Checkpoint::Tensor&)>& change,
                const std::string& piece) {
  std::size_t changed = 0;
  for (const auto& [name, tensor] : golden().tensors) {
    Checkpoint checkpoint = golden();
    if (!change(name, checkpoint.tensors.at(name))) continue;
    ++changed;
    INFO(name);
    check_error([&] { imported(checkpoint); }, kFormat, "'" + name + "'");
    check_error([&] { imported(checkpoint); }, kFormat, piece);
  }
  CHECK(changed >= 10);
}

struct Case {
  const char* name;
  std::function<void(Checkpoint&)> apply;
  std::string piece;
  ErrorCode code = ErrorCode::kFormat;
};

void check_cases(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    INFO(c.name);
    Checkpoint checkpoint = golden();
    c.apply(checkpoint);
    check_error([&] { imported(checkpoint); }, c.code, c.piece);
    CHECK_THAT(error_of([&] { imported(checkpoint); }).what(), Catch::StartsWith("checkpoint: "));
  }
}

std::function<void(Checkpoint&)> metadata(const char* key, const char* to) {
  return [=](Checkpoint& c) { c.metadata[key] = to; };
}
std::function<void(Checkpoint&)> without(const char* key) {
  return [=](Checkpoint& c) { REQUIRE(c.metadata.erase(key) == 1); };
}

const std::vector<Case> kMetadata = {
    {"no format", without("format"), "'format' must be 'fqvit-calibrated'"},
    {"a float checkpoint", metadata("format", "pt"), "'format' must be 'fqvit-calibrated'"},
    {"config no JSON", metadata("config", "{num_heads: 1}"), "'config' is no JSON"},
    {"config a list", metadata("config", "[1]"), "'config' must be an object"},
    {"heads a string", metadata("config", R"({"num_heads":"1"})"),
     "'num_heads' must be a positive"},
    {"no heads", metadata("config", R"({"num_heads":0})"), "'num_heads' must be a positive"},
    {"heads negative", metadata("config", R"({"num_heads":-1})"), "'num_heads' must be a positive"},
    {"heads real", metadata("config", R"({"num_heads":1.0})"), "'num_heads' must be a positive"},
    {"three heads", metadata("config", R"({"num_heads":3})"), "3 heads do not divide 64 channels"},
    {"2^64 - 1 heads", metadata("config", R"({"num_heads":18446744073709551615})"), "positive"},
    {"another depth", metadata("config", R"({"depth":3})"), "'depth' is 3, but the tensors say 2"},
    {"another width", metadata("config", R"({"embed_dim":96})"), "'embed_dim' is 96"},
    {"other classes", metadata("config", R"({"num_classes":11})"), "'num_classes' is 11"},
    {"another patch", metadata("config", R"({"patch_size":8})"), "'patch_size' is 8"},
    {"another image", metadata("config", R"({"img_size":224})"), "'img_size' is 224"},
    {"input quantizer 1", metadata("config", R"({"input_quant":1})"), "must be a boolean"},
    {"no input quantizer", metadata("config", R"({"input_quant":false})"),
     "'qact_input.quantizer.scale' is no part", kUnsupported},
    {"no bias of qkv", metadata("config", R"({"qkv_bias":false})"),
     "'blocks.0.attn.qkv.bias' is no part", kUnsupported},
    {"image size", metadata("img_size", "224"), "'img_size' is 224, but 'pos_embed' has"},
    {"image size a list", metadata("img_size", "[64, 64]"), "'img_size' is [64,64]"},
    {"image size no JSON", metadata("img_size", "64px"), "'img_size' is no JSON"},
    {"no Log-Int-Softmax", metadata("lis", "False"), "without Log-Int-Softmax", kUnsupported},
    {"no mean", without("mean"), "'mean' must be a list of three numbers"},
    {"mean a number", metadata("mean", "0.5"), "'mean' must be a list of three numbers"},
    {"two means", metadata("mean", "[0.5, 0.5]"), "'mean' must be a list of three numbers"},
    {"mean null", metadata("mean", "[0.5, null, 0.5]"), "'mean' must be a list of three numbers"},
    {"mean NaN", metadata("mean", "[0.5, NaN, 0.5]"), "'mean' is no JSON"},
    {"mean infinite", metadata("mean", "[0.5, 1e999, 0.5]"), "'mean' is no JSON"},
    {"mean 10^300", metadata("mean", "[0.5, 1e300, 0.5]"), "in [-1024, 1024]"},
    {"no std", without("std"), "'std' must be a list of three numbers"},
    {"std 0", metadata("std", "[0.5, 0, 0.5]"), "'std' in [1/1024, 1024]"},
    {"std negative", metadata("std", "[0.5, -0.5, 0.5]"), "'std' in [1/1024, 1024]"},
    {"std below float32", metadata("std", "[0.5, 1e-300, 0.5]"), "'std' in [1/1024, 1024]"},
    {"crop 0", metadata("crop_pct", "0"), "'crop_pct' must be in [0.5, 1]"},
    {"crop 1.1", metadata("crop_pct", "1.1"), "'crop_pct' must be in [0.5, 1]"},
    {"crop in quotes", metadata("crop_pct", "\"0.9\""), "'crop_pct' must be in [0.5, 1]"},
    {"another filter", metadata("interpolation", "lanczos"), "interpolation 'lanczos'",
     kUnsupported},
};

Checkpoint::Tensor zeros(std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t n : shape) size *= n;
  return Checkpoint::Tensor::of(std::move(shape), std::vector<float>(size));
}
std::function<void(Checkpoint&)> tensor(const char* name, const Checkpoint::Tensor& to) {
  return [=](Checkpoint& c) { c.tensors[name] = to; };
}

const std::vector<Case> kArchitecture = {
    {"an unknown layer", tensor("blocks.0.ls1.gamma", zeros({64})),
     "'blocks.0.ls1.gamma' is no part of a ViT or DeiT graph", kUnsupported},
    {"a name for terminals", tensor("\x1b[31m", zeros({1})), "'\\x1b[31m' is no part",
     kUnsupported},
    {"a distillation token", tensor("dist_token", zeros({1, 1, 64})),
     "distilled models (with a 'dist_token') are not supported", kUnsupported},
    {"a distilled head", tensor("head_dist.weight", zeros({10, 64})), "distilled", kUnsupported},
    {"a gap between blocks", tensor("blocks.3.norm1.weight", zeros({64})),
     "'blocks.3.norm1.weight' is no part", kUnsupported},
    {"part of a block", tensor("blocks.2.norm1.weight", zeros({64})), "'blocks.2."},
    {"grey images", tensor("patch_embed.proj.weight", zeros({64, 1, 16, 16})),
     "expected [dim, 3, patch, patch], found F32 [64, 1, 16, 16]"},
    {"long patches", tensor("patch_embed.proj.weight", zeros({64, 3, 16, 8})), "found F32 [64, 3"},
    {"no channels", tensor("patch_embed.proj.weight", zeros({0, 3, 16, 16})), "found F32 [0, 3"},
    {"18 positions", tensor("pos_embed", zeros({1, 18, 64})), "17 patches are no square grid"},
    {"no patches", tensor("pos_embed", zeros({1, 1, 64})), "expected F32 [1, 1 + patches, 64]"},
    {"an image of 4112 pixels", tensor("pos_embed", zeros({1, 1 + 257 * 257, 64})),
     "images above 4096 pixels"},
    {"no classes", tensor("head.weight", zeros({0, 64})), "expected [classes, dim], found F32 [0"},
};

}  // namespace

TEST_CASE("each missing tensor is named") {
  for (const auto& [name, tensor] : golden().tensors) {
    Checkpoint checkpoint = golden();
    checkpoint.tensors.erase(name);
    check_error([&] { imported(checkpoint); }, kFormat, "tensor '" + name + "' is missing");
  }
}

TEST_CASE("each misshapen tensor is named with what was found") {
  check_each(
      [](const std::string&, Checkpoint::Tensor& tensor) {
        const std::size_t size = tensor.bytes.size() / 4 + 1;
        tensor = {tensor.dtype, {size}, std::vector<std::byte>(size * 4)};
        return true;
      },
      ", found ");
}

TEST_CASE("each tensor of another type is named with what was expected and found") {
  const auto swap_dtype = [](DType from, DType to) {
    return [=](const std::string&, Checkpoint::Tensor& tensor) {
      const bool applies = tensor.dtype == from;
      if (applies) tensor.dtype = to;
      return applies;
    };
  };
  check_each(swap_dtype(DType::kF32, DType::kS32), "found I32 [");
  check_each(swap_dtype(DType::kS32, DType::kF32), "found F32 [");
}

TEST_CASE("each tensor that holds a value which is not finite is named") {
  for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    check_each(
        [=](const std::string&, Checkpoint::Tensor& tensor) {
          if (tensor.dtype != DType::kF32) return false;
          set(tensor, tensor.bytes.size() / 4 - 1, value);
          return true;
        },
        "not finite");
  }
}

TEST_CASE("each scale that is not positive and normal is named") {
  for (const float value : {0.0F, -0.0F, -0.01F, 1e-40F, 0x1p-101F}) {
    check_each(
        [=](const std::string& name, Checkpoint::Tensor& tensor) {
          if (!name.ends_with(".scale")) return false;
          set(tensor, tensor.bytes.size() / 4 - 1, value);
          return true;
        },
        "must be at least 2^-100");
  }
}

TEST_CASE("each zero point out of range is named") {
  const auto put = [](bool of_weights, std::int32_t value) {
    return [=](const std::string& name, Checkpoint::Tensor& tensor) {
      const bool applies = name.ends_with(".zero_point") && tensor.shape.empty() != of_weights;
      if (applies) set(tensor, tensor.bytes.size() / 4 - 1, value);
      return applies;
    };
  };
  for (const std::int32_t value : {-1, 256, INT32_MIN}) {
    check_each(put(false, value), std::to_string(value) + " is not in [0, 255]");
  }
  check_each(put(true, 1), "weights must be symmetric");
}

TEST_CASE("PTF scales are powers of two of the finest") {
  const std::string name = "blocks.0.qact2.quantizer.scale";
  const auto with = [&](float factor) {
    Checkpoint checkpoint = golden();
    Checkpoint::Tensor& scales = checkpoint.tensors.at(name);
    float finest = get<float>(scales, 0);
    for (std::size_t c = 1; c < 64; ++c) finest = std::min(finest, get<float>(scales, c));
    set(scales, 5, finest * factor);
    return checkpoint;
  };
  CHECK(int{imported(with(128)).calibration.grids.at("blocks.0.qact2").exponents[5]} == 7);
  for (const float factor : {1.5F, 3.0F, 2.01F, 256.0F, 1e30F}) {
    check_error([&] { imported(with(factor)); }, kFormat,
                "'" + name + "': channel 5 is no power of two");
  }
  Checkpoint one = golden();
  one.tensors[name] = Checkpoint::Tensor::of<float>({}, {0.05F});
  CHECK(imported(one).calibration.grids.at("blocks.0.qact2").exponents ==
        std::vector<std::uint8_t>(64, 0));
}

TEST_CASE("metadata that contradict the tensors or themselves are named") {
  check_cases(kMetadata);
}

TEST_CASE("what is no ViT or DeiT is named") {
  check_cases(kArchitecture);
}

TEST_CASE("sizes come from the tensors") {
  const TinyShape shapes[] = {
      {.image = 8, .patch = 4, .dim = 8, .heads = 1, .hidden = 16, .depth = 1, .classes = 3},
      {.image = 12, .patch = 4, .dim = 12, .heads = 3, .hidden = 20, .depth = 2, .classes = 5},
      {.image = 16, .patch = 4, .dim = 16, .heads = 4, .hidden = 64, .depth = 3, .classes = 1},
      {.image = 9, .patch = 3, .dim = 6, .heads = 2, .hidden = 5, .depth = 1, .classes = 1000},
      {.image = 7, .patch = 7, .dim = 4, .heads = 4, .hidden = 1, .depth = 11, .classes = 2},
      {.image = 8, .patch = 2, .dim = 8, .input_quantizer = false, .ptf = false, .seed = 7},
  };
  for (const TinyShape& shape : shapes) {
    const CalibratedVit vit = tiny_vit(shape);
    const CalibratedVit found = imported(export_checkpoint(vit));
    const Vit& sizes = found.vit;
    CHECK(sizes.image_size == shape.image);
    CHECK(sizes.patch == shape.patch);
    CHECK(sizes.dim == shape.dim);
    CHECK(sizes.heads == shape.heads);
    CHECK(sizes.classes == shape.classes);
    CHECK(sizes.blocks.size() == shape.depth);
    CHECK(sizes.blocks.back().fc1.n == shape.hidden);
    CHECK(found.calibration.grids.contains("qact_input") == shape.input_quantizer);
    CHECK(sizes.preprocessing == vit.vit.preprocessing);
    CHECK(sizes.provenance == vit.vit.provenance);
    CHECK(sizes.patch_embed.weight == vit.vit.patch_embed.weight);
    CHECK(model_bytes(found) == model_bytes(vit));
  }
}

TEST_CASE("heads are 64 channels wide where the metadata do not tell") {
  Checkpoint wide = export_checkpoint(tiny_vit({.dim = 128, .heads = 2}));
  wide.metadata.erase("config");
  CHECK(imported(wide).vit.heads == 2);
  Checkpoint narrow = export_checkpoint(tiny_vit());
  narrow.metadata.erase("config");
  check_error([&] { imported(narrow); }, kFormat, "set 'num_heads'");
}

TEST_CASE("qkv may have no bias where the metadata tell so") {
  CalibratedVit vit = tiny_vit();
  vit.vit.blocks[0].qkv.bias.clear();
  Checkpoint checkpoint = export_checkpoint(vit);
  checkpoint.metadata["config"] = R"({"num_heads":1,"qkv_bias":false})";
  CHECK(model_bytes(imported(checkpoint)) == model_bytes(vit));
}

TEST_CASE("without an input quantizer all channels must be normalized alike") {
  for (const char* key : {"mean", "std"}) {
    Checkpoint checkpoint = export_checkpoint(tiny_vit({.input_quantizer = false}));
    checkpoint.metadata[key] = "[0.5, 0.5, 0.4]";
    const CalibratedVit vit = imported(checkpoint);
    check_error([&] { lowered(vit); }, kUnsupported, "must be the same for all channels");
  }
}

TEST_CASE("conversion is deterministic") {
  CHECK(model_bytes(imported(golden())) == model_bytes(imported(golden())));
  CHECK(model_bytes(tiny_vit()) == model_bytes(tiny_vit()));
}

TEST_CASE("any finite numbers give a model or an Error") {
  // One extreme value at a time, in each tensor: nothing may overflow, divide by zero or hang.
  const Checkpoint sound = export_checkpoint(tiny_vit());
  for (const float value : {3e38F, -3e38F, 1e-30F, 1e10F, 0.0F}) {
    for (const auto& [name, tensor] : sound.tensors) {
      if (tensor.dtype != DType::kF32) continue;
      Checkpoint checkpoint = sound;
      set(checkpoint.tensors.at(name), 0, value);
      try {
        model_bytes(imported(checkpoint));
      } catch (const Error&) {
        // Any other exception fails the test, and the sanitizers watch.
      }
    }
  }
  SUCCEED();
}

}  // namespace intaglio::test
