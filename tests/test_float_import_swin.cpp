// Float checkpoints of a Swin: every scheme of names gives the same network, and whatever is wrong
// with one is named.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "converters/float_executor.h"
#include "converters/float_import.h"
#include "tests/support/equal_networks.h"
#include "tests/support/expect_error.h"
#include "tests/support/float_checkpoints.h"
#include "tests/support/random_swin.h"
#include "tests/support/shared_data.h"
#include "tests/support/swin_checkpoints.h"

namespace intaglio::test {
namespace {

const ErrorCode kFormat = ErrorCode::kFormat;
const ErrorCode kUnsupported = ErrorCode::kUnsupported;
const ErrorCode kInvalidArgument = ErrorCode::kInvalidArgument;

/// A checkpoint among the files that users keep beside it.
struct Files {
  Checkpoint checkpoint;
  std::string config = {};
  std::string name = "model.safetensors";

  ImportedModel import(const FloatImportOptions& options = {}) const {
    const Folder folder;
    if (!config.empty()) folder.write("config.json", config);
    return import_float(opened(folder, checkpoint, name), options);
  }
};

/// No two sizes alike.
SwinShape small_shape() {
  return {.height = 224,
          .width = 224,
          .patch = 8,
          .dim = 6,
          .window = 3,
          .hidden = 3,
          .classes = 5,
          .depths = {2, 1, 3}};
}
Checkpoint exported(SwinScheme scheme = SwinScheme::kTimm) {
  return export_swin(random_swin(small_shape()), scheme);
}
constexpr SwinScheme kClassifiers[] = {SwinScheme::kTimm, SwinScheme::kNewTimm,
                                       SwinScheme::kMicrosoft, SwinScheme::kHuggingFace};

void check_swin(const ImportedModel& found, const Swin& swin) {
  check_equal(network_of(found), network_of(swin));
}

void check_image(const ImportedModel& found, std::size_t height, std::size_t width) {
  CHECK(found.swin().image_height == height);
  CHECK(found.swin().image_width == width);
  CHECK(found.swin().preprocessing.height == int(height));
  CHECK(found.swin().preprocessing.width == int(width));
}

Checkpoint::Tensor zeros(std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t n : shape) size *= n;
  return Checkpoint::Tensor::of(std::move(shape), std::vector<float>(size));
}

struct Case {
  const char* tensor;
  std::vector<std::size_t> shape;
  std::string piece;
  ErrorCode code = ErrorCode::kFormat;
};
void check_cases(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    INFO(c.piece);
    Files files{exported()};
    files.checkpoint.tensors[c.tensor] = zeros(c.shape);
    check_error([&] { files.import(); }, c.code, c.piece);
    check_error([&] { files.import(); }, c.code, "model.safetensors: ");
  }
}
void check_configs(const std::vector<std::pair<std::string, std::string>>& cases,
                   ErrorCode code = ErrorCode::kFormat) {
  for (const auto& [config, piece] : cases) {
    INFO(piece);
    check_error([&config = config] { Files{exported(), config}.import(); }, code, piece);
  }
}

}  // namespace

TEST_CASE("all schemes of names give the same Swin") {
  for (const bool patch_norm : {true, false}) {
    for (std::vector<std::size_t> depths :
         {std::vector<std::size_t>{2, 1, 3}, {1}, {2, 2}, {1, 1, 12, 1}}) {
      SwinShape shape = small_shape();
      shape.depths = std::move(depths);
      shape.patch_norm = patch_norm;
      const Swin swin = random_swin(shape);
      for (const SwinScheme scheme : kClassifiers) {
        const ImportedModel found = Files{export_swin(swin, scheme)}.import();
        check_swin(found, swin);
        CHECK(found.scheme == (scheme == SwinScheme::kHuggingFace ? "Hugging Face Swin" : "timm"));
        CHECK(found.heads_source == "shapes of the tensors");
      }
    }
  }
}

TEST_CASE("qkv of a Swin may have no bias") {
  Swin swin = random_swin(small_shape());
  for (SwinStage& stage : swin.stages) {
    for (SwinBlock& b : stage.blocks) b.qkv.bias.clear();
  }
  for (const SwinScheme scheme : kClassifiers) {
    check_swin(Files{export_swin(swin, scheme)}.import(), swin);
  }
}

TEST_CASE("each stage of a Swin may have a window of its own") {
  Swin swin = random_swin(small_shape());
  swin.stages[2].window = 2;
  for (SwinBlock& b : swin.stages[2].blocks) b.bias.resize(4 * 9);
  check_swin(Files{export_swin(swin, SwinScheme::kTimm)}.import(), swin);
}

TEST_CASE("norms of stages are features") {
  Swin swin = random_swin(small_shape());
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t dim = swin.dim << i;
    swin.stages[i].feature_norm =
        FloatNorm{std::vector<float>(dim, float(i)), std::vector<float>(dim, 1), 1e-5F};
  }
  const ImportedModel found = Files{export_swin(swin, SwinScheme::kTimm)}.import();
  check_swin(found, swin);
  const Network network = network_of(found);
  REQUIRE(network.features.size() == 3);
  CHECK(network.layers[network.features[1].layer].name == "stage2.norm");
  const std::vector<std::uint8_t> pixels(224 * 224 * 3, 100);
  CHECK(FloatExecutor(network, 1).run(pixels, 1).size() == 5);
}

TEST_CASE("a Swin without a classifier gives the pooled features of its last norm") {
  Swin swin = random_swin(small_shape());
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t dim = swin.dim << i;
    swin.stages[i].feature_norm =
        FloatNorm{std::vector<float>(dim, float(i + 2)), std::vector<float>(dim, 1), 1e-5F};
  }
  std::vector<float> pass(24 * 24);
  for (std::size_t i = 0; i < 24; ++i) pass[25 * i] = 1;
  Swin pooled = swin;
  pooled.head = {24, 24, pass, {}};
  for (const SwinScheme scheme : kClassifiers) {
    Checkpoint headless = export_swin(swin, scheme);
    std::erase_if(headless.tensors, [](const auto& t) {
      return t.first.starts_with("head.") || t.first.starts_with("classifier.");
    });
    if (scheme == SwinScheme::kHuggingFace) {
      std::erase_if(headless.tensors,
                    [](const auto& t) { return t.first.starts_with("swin.norm"); });
      for (SwinStage& stage : pooled.stages) stage.feature_norm.reset();
    }
    const Files files{headless, R"({"num_classes":0})"};
    check_swin(files.import(), pooled);
    CHECK(files.import().swin().classes == 0);
    CHECK_THAT(files.import().swin().provenance.at("sizes"), Catch::Contains(", no classifier"));
    headless.tensors.erase("norm.weight");
    if (scheme == SwinScheme::kHuggingFace) continue;
    check_error([&] { Files{headless}.import(); }, kFormat, "'norm.weight' is missing");
  }
  pooled.stages = swin.stages;
  pooled.norm = *swin.stages[2].feature_norm;
  for (const SwinScheme scheme : {SwinScheme::kDetector, SwinScheme::kMmdetection}) {
    const Checkpoint detector = export_swin(swin, scheme);
    REQUIRE(detector.tensors.contains("backbone.norm0.weight"));
    const ImportedModel found = Files{detector}.import();
    check_swin(found, pooled);
    CHECK(found.scheme == (scheme == SwinScheme::kDetector ? "timm" : "mmdetection"));
    const Network network = network_of(found);
    const std::vector<std::uint8_t> pixels(224 * 224 * 3, 100);
    CHECK(FloatExecutor(network, 1).run(pixels, 1).size() == 24);
    swin.stages[2].feature_norm.reset();
    check_error([&] { Files{export_swin(swin, scheme)}.import(); }, kUnsupported,
                "neither a classifier nor a norm behind its last stage ('backbone.norm.weight' or "
                "'backbone.norm2.weight')");
    swin.stages[2].feature_norm = pooled.norm;
  }
}

TEST_CASE("each missing tensor of a Swin is named") {
  for (const SwinScheme scheme : kClassifiers) {
    const Checkpoint sound = exported(scheme);
    for (const auto& [name, tensor] : sound.tensors) {
      Files files{sound};
      files.checkpoint.tensors.erase(name);
      if (name.ends_with("index") || name.ends_with("mask")) {
        CHECK_NOTHROW(files.import());
      } else {
        check_error([&] { files.import(); }, kFormat, "'" + name + "' is missing");
      }
    }
  }
}

TEST_CASE("each misshapen tensor of a Swin is named") {
  for (const SwinScheme scheme : kClassifiers) {
    const Checkpoint sound = exported(scheme);
    for (const auto& [name, tensor] : sound.tensors) {
      if (name.ends_with("index") || name.ends_with("mask")) continue;
      Files files{sound};
      const std::size_t size = tensor.bytes.size() / 4 + 1;
      files.checkpoint.tensors[name] = zeros({size});
      const auto import = [&] { files.import(); };
      check_error(import, kFormat, "tensor '" + name + "': expected [");
      check_error(import, kFormat, ", found [" + std::to_string(size) + "]");
    }
  }
}

TEST_CASE("tensors that are no part of a Swin are named") {
  const char* table = "layers.0.blocks.0.attn.relative_position_bias_table";
  check_cases({
      {"layers.0.blocks.0.attn.gate",
       {2},
       "'layers.0.blocks.0.attn.gate' is no part of a Swin",
       kUnsupported},
      {"layers.2.downsample.norm.weight",
       {96},
       "'layers.2.downsample.norm.weight' is no part",
       kUnsupported},
      {"layers.4.blocks.0.norm1.weight",
       {9},
       "'layers.4.blocks.0.norm1.weight' is no part",
       kUnsupported},
      {"layers.3.blocks.0.norm1.weight", {48}, "layers.3.blocks.0.attn.relative_position_bias_tab"},
      {"cls_token", {1, 1, 6}, "'cls_token' is no part of a Swin", kUnsupported},
      {"absolute_pos_embed", {1, 9, 6}, "'absolute_pos_embed': absolute positions", kUnsupported},
      {"layers.0.blocks.0.attn.logit_scale",
       {1, 1, 1},
       "cosine attention, as of Swin V2",
       kUnsupported},
      {"layers.0.blocks.0.attn.cpb_mlp.0.weight",
       {1, 2},
       "position bias, as of Swin V2",
       kUnsupported},
      {"patch_embed.proj.weight", {6, 3, 8, 4}, "expected [dim, 3, patch, patch], found [6, 3"},
      {"patch_embed.proj.weight", {0, 3, 8, 8}, "expected [dim, 3, patch, patch], found [0, 3"},
      {table, {24, 1}, "expected [(2 * window - 1)^2, heads], a window of up to 64"},
      {table, {16, 1}, "expected [(2 * window - 1)^2, heads]"},
      {table, {0, 1}, "expected [(2 * window - 1)^2, heads]"},
      {table, {129 * 129, 1}, "expected [(2 * window - 1)^2, heads], a window of up to 64"},
      {table, {25, 0}, "expected [25, heads] that divide 6 channels, found [25, 0]"},
      {table, {25, 4}, "expected [25, heads] that divide 6 channels, found [25, 4]"},
      {"layers.0.blocks.1.attn.relative_position_bias_table", {9, 1}, "expected [25, 1], found [9"},
      {"layers.1.blocks.0.mlp.fc1.weight", {0, 12}, "expected [hidden, dim], found [0, 12]"},
      {"head.weight", {0, 24}, "expected [classes, dim], found [0, 24]"},
  });
  Files many{exported()};
  for (int i = 3; i < 100; ++i) {
    const std::string block = "layers." + std::to_string(i) + ".blocks.0.";
    many.checkpoint.tensors[block + "attn.relative_position_bias_table"] = zeros({1, 1});
    many.checkpoint.tensors[block + "mlp.fc1.weight"] = zeros({1, 1});
  }
  check_error([&] { many.import(); }, ErrorCode::kLimit, "'layers.*': expected at most 8 stages");
}

TEST_CASE("configs of a Swin are followed, and what contradicts the tensors is named") {
  const ImportedModel timm =
      Files{exported(SwinScheme::kNewTimm),
            R"({"architecture":"swin_nano_patch8_window3_96","num_classes":5,"num_features":24,
            "global_pool":"avg","model_args":{"window_size":[3,3],"depths":[2,1,3],
            "num_heads":[1,2,4],"embed_dim":6},"pretrained_cfg":{"input_size":[3,64,64],
            "crop_pct":0.95,"fixed_input_size":true}})"}
          .import();
  CHECK(timm.swin().image_height == 64);
  CHECK(timm.swin().image_width == 64);
  CHECK(timm.swin().preprocessing.resize == 67);
  CHECK(timm.swin().provenance.at("arch") == "swin_nano_patch8_window3_96");
  CHECK(timm.swin().provenance.at("sizes") ==
        "2+1+3 blocks, 6 channels, 1/2/4 heads, windows of 3 tokens, patches of 8 pixels, images "
        "of 64, 5 classes");
  const ImportedModel hugging_face =
      Files{exported(SwinScheme::kHuggingFace),
            R"({"image_size":96,"patch_size":8,"embed_dim":6,"hidden_size":24,"depths":[2,1,3],
            "num_heads":[1,2,4],"window_size":3,"num_layers":3,"hidden_act":"gelu",
            "layer_norm_eps":1e-4,"use_absolute_embeddings":false})"}
          .import();
  CHECK(hugging_face.swin().image_height == 96);
  CHECK(hugging_face.swin().norm.epsilon == 1e-4F);
  CHECK(hugging_face.swin().stages[1].merge->norm.epsilon == 1e-4F);
  check_configs({
      {R"({"embed_dim":7})", "'embed_dim' is 7, but 'patch_embed.proj.weight' of "},
      {R"({"num_features":7})", "'num_features' is 7, but 'patch_embed.proj.weight' of "},
      {R"({"window_size":7})", "'window_size' is 7, but 'layers.0.blocks.0.attn.relative_posit"},
      {R"({"depths":[2,2,3]})", "'depths[1]' is 2, but 'layers.1.blocks.*' of "},
      {R"({"depths":[2,1,3,4]})", "'depths' (length) is 4, but 'layers.*' of "},
      {R"({"num_heads":[1,2,3]})", "'num_heads[2]' is 3, but 'layers.2.blocks.0.attn.relative_"},
      {R"({"num_layers":4})", "'num_layers' is 4, but 'layers.*' of "},
      {R"({"patch_size":4})", "'patch_size' is 4, but 'patch_embed.proj.weight' of "},
      {R"({"num_classes":6})", "'num_classes' is 6, but 'head.weight' of "},
      {R"({"num_heads":3})", "'num_heads': expected a list of positive integers, found 3"},
      {R"({"depths":[]})", "'depths': expected a list of positive integers, found []"},
      {R"({"depths":[2,0,3]})", "'depths': expected a positive integer"},
      {R"({"depths":[2,"1",3]})", "'depths': expected a positive integer"},
      {R"({"img_size":96,"image_size":64})", "'image_size' is 64, but "},
  });
  check_configs({{R"({"image_size":5000})", "'image_size': expected images of 1 to 4096 pixels"}},
                ErrorCode::kLimit);
  check_configs({{R"({"hidden_act":"relu"})", "'hidden_act': expected gelu"},
                 {R"({"global_pool":"token"})", "'global_pool': expected avg"}},
                kUnsupported);
}

TEST_CASE("the size of a Swin's images comes from options, configs, the name, else it is 224") {
  FloatImportOptions options;
  options.image_size = {50, 50};
  Files files{exported(), R"({"image_size":96})", "Swin_tiny_patch4_window7_64_22k.safetensors"};
  CHECK(files.import(options).swin().image_width == 50);
  options.image_size = {30, 50};
  const ImportedModel wide = files.import(options);
  check_image(wide, 30, 50);
  CHECK(wide.swin().preprocessing.resize == 55);
  CHECK_THAT(wide.swin().provenance.at("sizes"), Catch::Contains("images of 30x50,"));
  options.image_size = {390, 40};
  check_image(files.import(options), 390, 40);
  CHECK(files.import(options).swin().preprocessing.resize == 390);
  CHECK(files.import().swin().image_width == 96);
  files.config.clear();
  const ImportedModel named = files.import();
  CHECK(named.swin().image_width == 64);
  CHECK(named.swin().preprocessing.height == 64);
  CHECK(named.swin().preprocessing.resize == 71);
  CHECK(named.preprocessing_source == "preset swin, as of Swin (mean, std, interpolation, crop)");
  CHECK(named.notes.empty());
  for (const char* name : {"swin_window7.safetensors", "swin_window7_22k", "swin_window7_0",
                           "window", "window7-", "swin_window7_99999", "swin_window_large"}) {
    files.name = name;
    const bool told = files.name == "swin_window7_22k";  // as any digits would
    CHECK(files.import().swin().image_width == (told ? 22 : 224));
    CHECK(files.import().notes.size() == (told ? 0 : 1));
  }
  files.name = "swin-tiny-patch4-window7-160";
  CHECK(files.import().swin().image_width == 160);
  options.image_size = {4097, 4097};
  check_error([&] { files.import(options); }, kInvalidArgument, "1 to 4096 pixels to a side");
  options.image_size = {50, 4097};
  check_error([&] { files.import(options); }, kInvalidArgument, "found 4097");
  options.image_size = {0, 50};
  check_error([&] { files.import(options); }, kInvalidArgument, "found 0");
  options = {};
  options.heads = 3;
  check_error([&] { files.import(options); }, kInvalidArgument, "option heads: the tensors of a");
}

TEST_CASE("float logits of the reference's Swins") {
  for (const char* model : {"swin_micro", "swin_micro_3stage"}) {
    const auto calibrated = shared_path(std::string("golden/") + model + "/model.safetensors");
    const auto taps = shared_path(std::string("golden/") + model + "/taps.safetensors");
    if (!calibrated || !taps) return;
    Checkpoint checkpoint = Checkpoint::copy_of(Safetensors::open(*calibrated));
    std::erase_if(checkpoint.tensors, [](const auto& tensor) {
      return tensor.first.find(".quantizer.") != std::string::npos;
    });
    const Network network = network_of(Files{checkpoint}.import());
    const Safetensors golden = Safetensors::open(*taps);
    const auto pixels = golden.at("input_u8").to_vector<std::uint8_t>("input_u8");
    const auto expected = golden.at("float_logits").to_vector<float>("float_logits");
    const std::vector<float> logits = FloatExecutor(network, 2).run(pixels, 2);
    REQUIRE(logits.size() == expected.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      CHECK(double{logits[i]} == Approx(double{expected[i]}).epsilon(1e-4).margin(1e-5));
    }
  }
}

}  // namespace intaglio::test
