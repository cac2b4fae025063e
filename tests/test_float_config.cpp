// What lies beside a float checkpoint, and what a user says: sizes and preprocessing.
#include <catch2/catch.hpp>
#include <cmath>

#include "converters/float_import.h"
#include "tests/support/expect_error.h"
#include "tests/support/float_checkpoints.h"

namespace intaglio::test {
namespace {

const ErrorCode kFormat = ErrorCode::kFormat;
const ErrorCode kUnsupported = ErrorCode::kUnsupported;

constexpr std::array<double, 3> kHalf{0.5, 0.5, 0.5};
constexpr std::array<double, 3> kImageNetMean{0.485, 0.456, 0.406};

Vit small_vit() {
  return tiny_vit({.image = 12, .patch = 4, .dim = 10, .heads = 2, .hidden = 14, .depth = 2}).vit;
}
FloatImportOptions two_heads() {
  FloatImportOptions options;
  options.heads = 2;
  return options;
}

/// A checkpoint among the files that users keep beside it.
struct Files {
  Checkpoint checkpoint = export_timm(small_vit());
  std::string config, preprocessor;
  std::string name = "model.safetensors";

  ImportedModel import(const FloatImportOptions& options = two_heads()) const {
    const Folder folder;
    if (!config.empty()) folder.write("config.json", config);
    if (!preprocessor.empty()) folder.write("preprocessor_config.json", preprocessor);
    return import_float(opened(folder, checkpoint, name), options);
  }
};

Files with_config(const std::string& config) {
  Files files;
  files.config = config;
  return files;
}
Files with_preprocessor(const std::string& preprocessor) {
  Files files;
  files.preprocessor = preprocessor;
  return files;
}
Files with_metadata(const std::string& key, const std::string& text) {
  Files files;
  files.checkpoint.metadata[key] = text;
  return files;
}

struct Case {
  Files files;
  std::string piece;
  ErrorCode code = ErrorCode::kFormat;
};
void check_cases(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    INFO(c.piece);
    check_error([&] { c.files.import(); }, c.code, c.piece);
  }
}

}  // namespace

TEST_CASE("heads and the norms' epsilon come from config.json") {
  FloatImportOptions none;
  const Vit hugging_face = with_config(R"({"num_attention_heads":5,"layer_norm_eps":1e-5,
      "hidden_size":10,"intermediate_size":14,"num_hidden_layers":2,"patch_size":4,
      "image_size":12,"hidden_act":"gelu","id2label":{"0":"a","1":"b","2":"c"},"qkv_bias":true})")
                               .import(none)
                               .vit();
  CHECK(hugging_face.heads == 5);
  CHECK(hugging_face.norm.epsilon == 1e-5F);
  CHECK(hugging_face.blocks[1].norm2.epsilon == 1e-5F);
  const Vit timm = with_config(R"({"architecture":"vit_nano","num_classes":3,"num_features":10,
      "global_pool":"token","model_args":{"num_heads":1,"depth":2,"img_size":[12,12]},
      "pretrained_cfg":{"input_size":[3,12,12],"num_classes":7}})")
                       .import(none)
                       .vit();
  CHECK(timm.heads == 1);
  CHECK(timm.provenance.at("arch") == "vit_nano");
  CHECK(with_metadata("config", R"({"num_heads":5})").import(none).vit().heads == 5);
  CHECK(with_config(R"({"num_attention_heads":5})").import().vit().heads == 2);
}

TEST_CASE("a config may lie elsewhere") {
  const Folder elsewhere;
  FloatImportOptions options;
  options.config = elsewhere.write("other.json", R"({"num_heads":5})");
  elsewhere.write("preprocessor_config.json", R"({"image_mean":[0.1,0.2,0.3]})");
  const Vit vit = with_config(R"({"num_heads":1})").import(options).vit();
  CHECK(vit.heads == 5);
  CHECK(vit.preprocessing.mean == std::array{0.1, 0.2, 0.3});
  options.config = elsewhere / "missing.json";
  check_error([&] { Files().import(options); }, ErrorCode::kIo, "missing.json: cannot read");
}

TEST_CASE("a config that contradicts the tensors is named, and so is the tensor") {
  check_cases({
      {with_config(R"({"hidden_size":12})"), "config.json: 'hidden_size' is 12, but 'patch_embed."},
      {with_config(R"({"embed_dim":12})"), "'embed_dim' is 12, but 'patch_embed.proj.weight' of "},
      {with_config(R"({"num_features":12})"), "'num_features' is 12, but 'patch_embed."},
      {with_config(R"({"num_hidden_layers":3})"), "'num_hidden_layers' is 3, but 'blocks.*' of"},
      {with_config(R"({"intermediate_size":13})"),
       "'intermediate_size' is 13, but 'blocks.0.mlp.fc1.weight'"},
      {with_config(R"({"patch_size":16})"), "'patch_size' is 16, but 'patch_embed.proj.weight'"},
      {with_config(R"({"image_size":[224,224]})"), "'image_size' is 224, but 'pos_embed' of"},
      {with_config(R"({"num_classes":4})"), "'num_classes' is 4, but 'head.weight' of"},
      {with_config(R"({"num_labels":4})"), "'num_labels' is 4, but 'head.weight' of"},
      {with_config(R"({"id2label":{"0":"a"}})"), "'id2label' is 1, but 'head.weight' of"},
      {with_config(R"({"model_args":{"depth":12}})"), "'model_args.depth' is 12, but 'blocks.*'"},
      {with_config(R"({"pretrained_cfg":{"input_size":[3,16,16]}})"),
       "'pretrained_cfg.input_size' is 16, but 'pos_embed' of"},
      {with_preprocessor(R"({"size":224})"), "preprocessor_config.json: 'size' is 224, but 'pos_"},
      {with_preprocessor(R"({"size":20,"crop_size":16})"), "'crop_size' is 16, but 'pos_embed'"},
      {with_metadata("img_size", "224"), "metadata: 'img_size' is 224, but 'pos_embed'"},
      {with_metadata("config", R"({"depth":9})"), "metadata: 'config.depth' is 9, but 'blocks.*'"},
  });
  Files jax = with_config(R"({"num_attention_heads":5})");
  jax.checkpoint = export_jax(small_vit());
  check_error([&] { jax.import(); }, kFormat, "'num_attention_heads' is 5, but 'Transformer/enc");
  Files two = with_config(R"({"num_heads":5})");
  two.checkpoint.metadata["config"] = R"({"num_heads":1})";
  check_error([&] { two.import({}); }, kFormat, "'num_heads' is 5, but ");
  check_error([&] { with_config(R"({"num_heads":3})").import({}); }, kFormat,
              "'num_heads': expected a number of heads that divides 10 channels, found 3");
}

TEST_CASE("hostile configs are named") {
  std::string deep = R"({"a":)" + std::string(100000, '[');
  check_cases({
      {with_config("heads: 3"), "config.json: expected a JSON object"},
      {with_config("[1]"), "config.json: expected a JSON object"},
      {with_config(R"({"a":1)"), "config.json: expected a JSON object"},
      {with_config(deep), "config.json: expected a JSON object of depth up to 16"},
      {with_config(deep + std::string(100000, ']') + "}"), "JSON object of depth up to 16"},
      {with_config(R"({"hidden_size":1e999})"), "config.json: expected a JSON object"},
      {with_preprocessor("\xff\xfe"), "preprocessor_config.json: expected a JSON object"},
      {with_config(std::string((16 << 20) + 1, ' ')), "at most 16 MiB", ErrorCode::kLimit},
      {with_config(R"({"num_heads":"2"})"), "'num_heads': expected a positive integer up to 2^20"},
      {with_config(R"({"num_heads":0})"), "found 0"},
      {with_config(R"({"num_heads":-2})"), "found -2"},
      {with_config(R"({"num_heads":2.0})"), "found 2.0"},
      {with_config(R"({"num_heads":18446744073709551615})"), "found 18446744073709551615"},
      {with_config(R"({"num_heads":340282366920938463463374607431768211456})"), "'num_heads'"},
      {with_config(R"({"num_heads":{"a":[]}})"), R"(found {"a":[]})"},
      {with_config(R"({"num_heads":[]})"), "found []"},
      {with_config(R"({"image_size":[12,16]})"), "'image_size': expected equal sides"},
      {with_config(R"({"num_heads":")" + std::string(5000, 'x') + "\"}"), "xxx..."},
      {with_config(R"({"model_args":3})"), "'model_args': expected an object, found 3"},
      {with_config(R"({"pretrained_cfg":[]})"), "'pretrained_cfg': expected an object"},
      {with_config(R"({"architecture":1})"), "'architecture': expected a string, found 1"},
      {with_config("{\"architecture\":\"" + std::string(101, 'x') + "\"}"), "a short name"},
      {with_config(R"({"layer_norm_eps":0})"), "'layer_norm_eps': expected a number in [1e-30, 1]"},
      {with_config(R"({"layer_norm_eps":"small"})"), "'layer_norm_eps': expected a number"},
      {with_config(R"({"pretrained_cfg":{"mean":[1,2]}})"), "'pretrained_cfg.mean': expected thr"},
      {with_config(R"({"pretrained_cfg":{"std":[1,2,"3"]}})"), "'pretrained_cfg.std': expected"},
      {with_config(R"({"pretrained_cfg":{"input_size":12}})"), "'pretrained_cfg.input_size'"},
      {with_config(R"({"pretrained_cfg":{"input_size":[3,12,-12]}})"), "found [3,12,-12]"},
      {with_config(R"({"pretrained_cfg":{"std":[1,0,1]}})"), "expected a std in [1/1024, 1024]"},
      {with_config(R"({"pretrained_cfg":{"mean":[1,1e300,1]}})"), "a mean in [-1024, 1024]"},
      {with_config(R"({"pretrained_cfg":{"crop_pct":0}})"), "expected a crop in [0.5, 1]"},
      {with_config(R"({"pretrained_cfg":{"crop_pct":1e300}})"), "expected a crop in [0.5, 1]"},
      {with_config(R"({"pretrained_cfg":{"crop_pct":"1"}})"), "crop_pct': expected a number"},
      {with_preprocessor(R"({"size":{"height":12,"width":13}})"), "'size': expected a square"},
      {with_preprocessor(R"({"size":{"height":12}})"), "'size': expected a square"},
      {with_preprocessor(R"({"size":0})"), "'size': expected a positive integer"},
      {with_preprocessor(R"({"size":4,"crop_size":12})"), "expected a crop in [0.5, 1]"},
      {with_preprocessor(R"({"resample":17})"), "'resample': expected a filter of Pillow"},
      {with_preprocessor(R"({"do_normalize":1})"), "'do_normalize': expected true or false"},
      {with_metadata("mean", "[0.5, NaN, 0.5]"), "metadata 'mean': expected JSON"},
      {with_metadata("config", "{num_heads: 1}"), "metadata 'config': expected JSON"},
  });
}

TEST_CASE("configs of what computes something else are named") {
  check_cases({
      {with_config(R"({"hidden_act":"quick_gelu"})"), "'hidden_act': expected gelu", kUnsupported},
      {with_config(R"({"model_args":{"act_layer":"relu"}})"), "act_layer", kUnsupported},
      {with_config(R"({"global_pool":"avg"})"), "'global_pool': expected token", kUnsupported},
      {with_config(R"({"architecture":"vit_base_patch16_clip_quickgelu_224"})"), "with GELU",
       kUnsupported},
      {with_config(R"({"interpolation":"lanczos"})"), "bilinear or bicubic, found 'lanczos'",
       kUnsupported},
      {with_preprocessor(R"({"resample":1})"), "bilinear or bicubic, found 'lanczos'",
       kUnsupported},
      {with_preprocessor(R"({"do_resize":false})"), "not resized and rescaled", kUnsupported},
      {with_preprocessor(R"({"rescale_factor":1})"), "'rescale_factor': expected 1/255",
       kUnsupported},
  });
}

TEST_CASE("preprocessing comes from the most specific source") {
  Files files = with_config(R"({"pretrained_cfg":{"mean":[0.1,0.1,0.1],"std":[0.2,0.2,0.2],
      "crop_pct":0.95,"interpolation":"bilinear"}})");
  files.preprocessor = R"({"image_mean":[0.3,0.3,0.3],"resample":3})";
  files.checkpoint.metadata = {{"mean", "[0.4,0.4,0.4]"}, {"crop_pct", "0.6"}};
  const ImportedModel found = files.import();
  CHECK(found.vit().preprocessing.mean == std::array{0.3, 0.3, 0.3});
  CHECK(found.vit().preprocessing.std == std::array{0.2, 0.2, 0.2});
  CHECK(found.vit().preprocessing.interpolation == Interpolation::kBicubic);
  CHECK(found.vit().preprocessing.resize == 12);
  CHECK(found.preprocessing_source ==
        "preprocessor_config.json (mean, interpolation), config.json (std, crop)");
  CHECK(found.vit().provenance.at("preprocessing") == found.preprocessing_source);

  FloatImportOptions options = two_heads();
  options.preset = "vit";
  options.std = {0.7, 0.7, 0.7};
  options.crop_pct = 0.5;
  const ImportedModel asked = files.import(options);
  CHECK(asked.vit().preprocessing.mean == kHalf);
  CHECK(asked.vit().preprocessing.std == std::array{0.7, 0.7, 0.7});
  CHECK(asked.vit().preprocessing.resize == 24);
  CHECK(asked.preprocessing_source == "options (std, crop), preset vit (mean, interpolation)");
  options.interpolation = Interpolation::kBilinear;
  CHECK(files.import(options).vit().preprocessing.interpolation == Interpolation::kBilinear);

  options.preset = "best";
  check_error([&] { files.import(options); }, ErrorCode::kInvalidArgument,
              "expected one of deit, vit, vit-augreg, swin, imagenet, found 'best'");
  Files metadata = with_metadata("mean", "[0.4,0.4,0.4]");
  metadata.checkpoint.metadata["interpolation"] = "bilinear";
  CHECK(metadata.import().vit().preprocessing.mean == std::array{0.4, 0.4, 0.4});
  CHECK(metadata.import().vit().preprocessing.interpolation == Interpolation::kBilinear);
  CHECK_THAT(metadata.import().preprocessing_source,
             Catch::StartsWith("metadata (mean, interpolation), preset"));
}

TEST_CASE("preprocessors of Hugging Face tell size and crop") {
  const auto resize = [](const std::string& preprocessor) {
    const Preprocessing p = with_preprocessor(preprocessor).import().vit().preprocessing;
    CHECK(p.height == 12);
    CHECK(p.width == 12);
    return p.resize;
  };
  CHECK(resize(R"({"size":12})") == 12);
  CHECK(resize(R"({"size":{"height":12,"width":12}})") == 12);
  CHECK(resize(R"({"size":{"shortest_edge":13},"crop_size":12})") == 13);
  CHECK(resize(R"({"size":15,"crop_size":{"height":12,"width":12},"do_center_crop":true})") == 15);
  CHECK(resize(R"({"size":12,"crop_size":10,"do_center_crop":false})") == 12);
  CHECK(resize(R"({"resample":2})") == 13);
  const ImportedModel stretched = with_preprocessor(R"({"size":12})").import();
  CHECK_THAT(stretched.notes.at(0), Catch::Contains("stretches images to a square"));
  CHECK(with_preprocessor(R"({"size":{"shortest_edge":12}})").import().notes.size() == 1);
  const Preprocessing raw =
      with_preprocessor(R"({"do_normalize":false})").import().vit().preprocessing;
  CHECK(raw.mean == std::array{0.0, 0.0, 0.0});
  CHECK(raw.std == std::array{1.0, 1.0, 1.0});
  FloatImportOptions larger = two_heads();
  larger.image_size = {24, 24};
  CHECK(with_preprocessor(R"({"size":16,"crop_size":12})")
            .import(larger)
            .vit()
            .preprocessing.resize == 32);
}

TEST_CASE("without a word on preprocessing the names decide") {
  const auto check = [](const Files& files, const std::array<double, 3>& mean, int resize,
                        const std::string& source) {
    const ImportedModel found = files.import();
    CHECK(found.vit().preprocessing.mean == mean);
    CHECK(found.vit().preprocessing.resize == resize);
    CHECK(found.preprocessing_source == source + " (mean, std, interpolation, crop)");
    return found;
  };
  Files files;
  const ImportedModel assumed = check(files, kImageNetMean, 13, "preset deit, assumed");
  CHECK_THAT(assumed.notes.back(), Catch::Contains("assumed preset deit"));
  files.name = "My_DeiT_tiny.safetensors";
  CHECK(check(files, kImageNetMean, 13, "preset deit, by the name").notes.empty());
  files.name = "ViT-B_16.safetensors";
  check(files, kHalf, 13, "preset vit, by the name");
  files.config = R"({"architecture":"deit3_small_patch16_224"})";
  check(files, kImageNetMean, 13, "preset deit, by the name");
  files = {export_hugging_face(small_vit()), "", "", "model.safetensors"};
  check(files, kHalf, 13, "preset vit, as of models with names of Hugging Face ViT");
  files.checkpoint = export_jax(small_vit());
  check(files, kHalf, 13, "preset vit, as of models with names of JAX");
  files.checkpoint = export_timm(distilled(small_vit()));
  check(files, kImageNetMean, 13, "preset deit, as of distilled models");
}

TEST_CASE("from 384 pixels on nothing is cropped") {
  for (const auto& [image, patch, resize] :
       {std::tuple{384UL, 96UL, 384}, std::tuple{224UL, 56UL, 256}}) {
    Files files;
    files.checkpoint = export_timm(tiny_vit({.image = image, .patch = patch}).vit);
    FloatImportOptions options;
    options.heads = 1;
    const Preprocessing p = files.import(options).vit().preprocessing;
    CHECK(p.resize == resize);
    CHECK(p.height == static_cast<int>(image));
    options.preset = "vit";
    CHECK(files.import(options).vit().preprocessing.resize == (image == 384 ? 384 : 248));
  }
}

}  // namespace intaglio::test
