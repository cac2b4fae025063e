// The importer: sizes come from the checkpoint, and whatever is wrong with one is named.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>

#include "converters/lower_network.h"
#include "tests/support/import_cases.h"

namespace intaglio::test {
namespace {

const ErrorCode kFormat = ErrorCode::kFormat;
const ErrorCode kUnsupported = ErrorCode::kUnsupported;

const Checkpoint& golden() {
  return golden_checkpoint("vit_micro");
}

/// Changes each tensor of a ViT and a Swin in turn; the error must name it and say `piece`.
void check_each(const std::function<bool(const std::string&, Checkpoint::Tensor&)>& change,
                const std::string& piece) {
  for (const char* model : {"vit_micro", "swin_micro"}) {
    const Checkpoint& golden = golden_checkpoint(model);
    std::size_t changed = 0;
    for (const auto& [name, tensor] : golden.tensors) {
      Checkpoint checkpoint = golden;
      if (!change(name, checkpoint.tensors.at(name))) continue;
      ++changed;
      INFO(model << ": " << name);
      const Error error = error_of([&] { imported(checkpoint); });
      CHECK(error.code() == kFormat);
      CHECK_THAT(error.what(), Catch::Contains("'" + name + "'") && Catch::Contains(piece));
    }
    CHECK(changed >= 10);
  }
}

const std::vector<ImportCase> kMetadata = {
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
    {"no grid of probabilities", metadata("lis", "False"),
     "'blocks.0.attn.log_int_softmax.quantizer.scale' is missing"},
    {"a grid of log2 codes", tensor("blocks.0.attn.log_int_softmax.quantizer.scale", zeros({})),
     "'blocks.0.attn.log_int_softmax.quantizer.scale' is no part", kUnsupported},
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

const std::vector<ImportCase> kArchitecture = {
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
  for (const char* model : {"vit_micro", "swin_micro"}) {
    for (const auto& [name, tensor] : golden_checkpoint(model).tensors) {
      Checkpoint checkpoint = golden_checkpoint(model);
      checkpoint.tensors.erase(name);
      check_error([&] { imported(checkpoint); }, kFormat, "tensor '" + name + "' is missing");
    }
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
  check_cases(golden(), kMetadata);
}

TEST_CASE("what is no ViT or DeiT is named") {
  check_cases(golden(), kArchitecture);
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
    const CalibratedNetwork found = imported(export_checkpoint(vit));
    CHECK(sizes_text(found.network) == std::to_string(shape.depth) + " blocks, " +
                                           std::to_string(shape.dim) + " channels, " +
                                           std::to_string(shape.heads) + " heads");
    CHECK(found.calibration.grids.contains("qact_input") == shape.input_quantizer);
    CHECK(found.network.preprocessing == vit.vit.preprocessing);
    CHECK(found.network.provenance == vit.vit.provenance);
    CHECK(model_bytes(found) == model_bytes(vit));
  }
}

TEST_CASE("heads are 64 channels wide where the metadata do not tell") {
  Checkpoint wide = export_checkpoint(tiny_vit({.dim = 128, .heads = 2}));
  wide.metadata.erase("config");
  CHECK_THAT(sizes_text(imported(wide).network), Catch::Contains(", 2 heads"));
  Checkpoint narrow = export_checkpoint(tiny_vit());
  narrow.metadata.erase("config");
  check_error([&] { imported(narrow); }, kFormat, "set 'num_heads'");
}

TEST_CASE("without Log-Int-Softmax, probabilities are uniform codes") {
  for (const char* model : {"vit_micro", "swin_micro"}) {
    Checkpoint checkpoint = golden_checkpoint(model);
    checkpoint.metadata["lis"] = "False";
    std::size_t layers = 0;
    for (const auto& [name, tensor] : golden_checkpoint(model).tensors) {
      const std::size_t attention = name.find(".qkv.weight");
      if (attention == std::string::npos) continue;
      const std::string quantizer = name.substr(0, attention) + ".log_int_softmax.quantizer.";
      const float scale = 0.5F / static_cast<float>(256 << ++layers);
      checkpoint.tensors[quantizer + "scale"] = Checkpoint::Tensor::of<float>({}, {scale});
      checkpoint.tensors[quantizer + "zero_point"] = Checkpoint::Tensor::of<int>({}, {0});
    }
    const CalibratedNetwork found = imported(checkpoint);
    for (const Op& op : lower(found.network, found.calibration, {}).ops) {
      const auto* attention = std::get_if<AttentionOp>(&op.params);
      if (attention == nullptr) continue;
      INFO(op.name);
      CHECK(attention->form == SoftmaxForm::kUniform);
      const float scale =
          get<float>(checkpoint.tensors.at(op.name + ".log_int_softmax.quantizer.scale"), 0);
      CHECK(double(attention->probability_factor[0]) == 0x1p32 / double{scale});
    }
  }
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
    const CalibratedNetwork vit = imported(checkpoint);
    check_error([&] { model_bytes(vit); }, kUnsupported, "must be the same for all channels");
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
