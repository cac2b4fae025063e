// Float checkpoints of every scheme of names give the same network, and whatever is wrong with one
// is named. Configs and preprocessing: test_float_config.cpp.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "converters/float_import.h"
#include "converters/fqvit_import.h"
#include "converters/resample_position.h"
#include "tests/support/archives.h"
#include "tests/support/equal_networks.h"
#include "tests/support/expect_error.h"
#include "tests/support/float_checkpoints.h"
#include "tests/support/shared_data.h"

namespace intaglio::test {
namespace {

const ErrorCode kFormat = ErrorCode::kFormat;
const ErrorCode kUnsupported = ErrorCode::kUnsupported;
const ErrorCode kInvalidArgument = ErrorCode::kInvalidArgument;

ImportedModel imported(const Checkpoint& checkpoint, const FloatImportOptions& options = {}) {
  const Folder folder;
  return import_float(opened(folder, checkpoint), options);
}
FloatImportOptions heads(std::size_t count) {
  FloatImportOptions options;
  options.heads = count;
  return options;
}

/// All but preprocessing, provenance and the norms' epsilon.
void check_vit(const Vit& a, const Vit& b) {
  CHECK(a.image_size == b.image_size);
  CHECK(a.patch == b.patch);
  CHECK(a.dim == b.dim);
  CHECK(a.heads == b.heads);
  CHECK(a.classes == b.classes);
  CHECK(a.tokens == b.tokens);
  CHECK(a.position == b.position);
  check_equal(a.patch_embed, b.patch_embed);
  REQUIRE(a.blocks.size() == b.blocks.size());
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    check_equal(a.blocks[i].norm1, b.blocks[i].norm1);
    check_equal(a.blocks[i].norm2, b.blocks[i].norm2);
    check_equal(a.blocks[i].qkv, b.blocks[i].qkv);
    check_equal(a.blocks[i].proj, b.blocks[i].proj);
    check_equal(a.blocks[i].fc1, b.blocks[i].fc1);
    check_equal(a.blocks[i].fc2, b.blocks[i].fc2);
  }
  check_equal(a.norm, b.norm);
  check_equal(a.head, b.head);
}
void check_epsilon(const Vit& vit, float epsilon) {
  for (const FloatBlock& b : vit.blocks) {
    CHECK(b.norm1.epsilon == epsilon);
    CHECK(b.norm2.epsilon == epsilon);
  }
  CHECK(vit.norm.epsilon == epsilon);
}

/// Two blocks, two heads, no two sizes alike.
Vit small_vit() {
  return tiny_vit({.image = 12, .patch = 4, .dim = 10, .heads = 2, .hidden = 14, .depth = 2}).vit;
}

Checkpoint::Tensor zeros(std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t n : shape) size *= n;
  return Checkpoint::Tensor::of(std::move(shape), std::vector<float>(size));
}
/// With layer scale under these names; the Vit it folds to.
std::pair<Checkpoint, Vit> layer_scaled(const char* attention, const char* mlp) {
  Vit vit = small_vit();
  Checkpoint checkpoint = export_timm(vit);
  for (std::size_t i = 0; i < vit.blocks.size(); ++i) {
    for (const auto& [name, layer] :
         {std::pair{attention, &vit.blocks[i].proj}, std::pair{mlp, &vit.blocks[i].fc2}}) {
      std::vector<float> gamma;
      for (std::size_t j = 0; j < vit.dim; ++j) {
        gamma.push_back(0.01F * static_cast<float>(j) - 0.03F * static_cast<float>(i + 1));
        for (std::size_t c = 0; c < layer->k; ++c) layer->weight[j * layer->k + c] *= gamma[j];
        layer->bias[j] *= gamma[j];
      }
      checkpoint.tensors["blocks." + std::to_string(i) + "." + name] =
          Checkpoint::Tensor::of({vit.dim}, gamma);
    }
  }
  return {std::move(checkpoint), std::move(vit)};
}

struct Scheme {
  std::string name;
  Checkpoint checkpoint;
};
/// A sound checkpoint of every scheme.
std::vector<Scheme> all_schemes() {
  const Vit vit = small_vit();
  const Vit deit = distilled(vit);
  return {{"timm", export_timm(vit)},
          {"timm", export_timm(deit)},
          {"timm", layer_scaled("ls1.gamma", "ls2.gamma").first},
          {"Hugging Face ViT", export_hugging_face(vit)},
          {"Hugging Face DeiT", export_hugging_face(deit)},
          {"JAX", export_jax(vit)},
          {"JAX", export_jax(vit, "opt/target/")}};
}

struct Case {
  std::string piece;
  std::function<void(Checkpoint&)> apply;
  ErrorCode code = ErrorCode::kFormat;
  Checkpoint checkpoint = export_timm(small_vit());
};
void check_cases(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    INFO(c.piece);
    Checkpoint checkpoint = c.checkpoint;
    c.apply(checkpoint);
    check_error([&] { imported(checkpoint, heads(2)); }, c.code, c.piece);
    CHECK_THAT(error_of([&] { imported(checkpoint, heads(2)); }).what(),
               Catch::Contains("model.safetensors: "));
  }
}
std::function<void(Checkpoint&)> tensor(const char* name, const Checkpoint::Tensor& to) {
  return [=](Checkpoint& c) { c.tensors[name] = to; };
}

}  // namespace

TEST_CASE("all schemes of names give the same network") {
  const TinyShape shapes[] = {
      {},
      {.image = 12, .patch = 4, .dim = 12, .heads = 3, .hidden = 20, .depth = 2, .classes = 5},
      {.image = 9, .patch = 3, .dim = 6, .heads = 2, .hidden = 5, .depth = 1, .classes = 1},
      {.image = 7, .patch = 7, .dim = 4, .heads = 4, .hidden = 1, .depth = 11, .classes = 2},
  };
  for (const TinyShape& shape : shapes) {
    const Vit vit = tiny_vit(shape).vit;
    const ImportedModel timm = imported(export_timm(vit), heads(vit.heads));
    check_vit(timm.vit(), vit);
    check_epsilon(timm.vit(), 1e-6F);
    CHECK(timm.scheme == "timm");
    const ImportedModel hugging_face = imported(export_hugging_face(vit), heads(vit.heads));
    check_vit(hugging_face.vit(), vit);
    check_epsilon(hugging_face.vit(), 1e-12F);
    CHECK(hugging_face.scheme == "Hugging Face ViT");
    const ImportedModel jax = imported(export_jax(vit));
    check_vit(jax.vit(), vit);
    check_epsilon(jax.vit(), 1e-6F);
    CHECK(jax.scheme == "JAX");
  }
}

TEST_CASE("JAX's names in JAX's container") {
  const Vit vit = small_vit();
  std::vector<ZipEntry> entries;
  for (const auto& [name, tensor] : export_jax(vit).tensors) {
    std::string shape = "(";
    for (const std::size_t n : tensor.shape) shape += std::to_string(n) + ",";
    const std::string data(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    entries.push_back({name + ".npy", npy(npy_header("<f4", shape + ")"), data)});
  }
  const Folder folder;
  const auto path = folder.write("B_16.npz", zip_archive(entries));
  const ImportedModel found = import_float(intaglio::Checkpoint::open(path), {});
  check_vit(found.vit(), vit);
  CHECK(found.vit().provenance.at("source") == "'B_16.npz' (NumPy archive, names of JAX)");
  CHECK(found.vit().provenance.at("arch") == "vit");
  CHECK(found.vit().provenance.at("sizes") ==
        "2 blocks, 10 channels, 2 heads, 14 hidden, patches of 4 pixels, images of 12, 3 classes");
}

TEST_CASE("what inference does not need is left out") {
  const Vit vit = small_vit();
  Checkpoint training = export_jax(vit, "opt/target/");
  training.tensors["opt/state/param_states/cls/momentum"] = zeros({3});
  check_vit(imported(training).vit(), vit);
  Checkpoint pooled = export_hugging_face(vit);
  pooled.tensors["vit.pooler.dense.weight"] = zeros({10, 10});
  pooled.tensors["vit.embeddings.mask_token"] = zeros({1, 1, 10});
  pooled.tensors["vit.embeddings.position_ids"] =
      Checkpoint::Tensor::of<std::int64_t>({1, 2}, {0, 1});
  check_vit(imported(pooled, heads(2)).vit(), vit);
}

TEST_CASE("a distilled model classifies both tokens") {
  const Vit vit = distilled(small_vit());
  REQUIRE(vit.prefix() == 2);
  check_vit(imported(export_timm(vit), heads(2)).vit(), vit);
  check_vit(imported(export_hugging_face(vit), heads(2)).vit(), vit);
  Checkpoint two = export_timm(vit);
  two.tensors["head.bias"] = Checkpoint::Tensor::of<float>({3}, {1, 2, 3});
  two.tensors["head_dist.bias"] = Checkpoint::Tensor::of<float>({3}, {3, 0, -4});
  CHECK(imported(two, heads(2)).vit().head.bias == std::vector<float>{2, 1, -0.5F});
}

TEST_CASE("a distillation token may have no head") {
  const Vit small = small_vit();
  Vit vit = distilled(small);
  Checkpoint checkpoint = export_hugging_face(vit);
  for (const char* part : {"weight", "bias"}) {
    checkpoint.tensors.erase(std::string("cls_classifier.") + part);
    checkpoint.tensors.erase(std::string("distillation_classifier.") + part);
  }
  checkpoint.tensors["classifier.weight"] = Checkpoint::Tensor::of({3, 10}, small.head.weight);
  checkpoint.tensors["classifier.bias"] = Checkpoint::Tensor::of({3}, small.head.bias);
  for (std::size_t i = 0; i < vit.head.weight.size(); ++i) {
    vit.head.weight[i] = i % 20 < 10 ? small.head.weight[i / 20 * 10 + i % 20] : 0;
  }
  check_vit(imported(checkpoint, heads(2)).vit(), vit);
}

TEST_CASE("layer scale is folded") {
  for (const auto& [attention, mlp] :
       {std::pair{"ls1.gamma", "ls2.gamma"}, std::pair{"gamma_1", "gamma_2"}}) {
    const auto [checkpoint, vit] = layer_scaled(attention, mlp);
    const ImportedModel found = imported(checkpoint, heads(2));
    check_vit(found.vit(), vit);
    CHECK(found.notes.back() == "layer scale was folded into the weights before it");
  }
}

TEST_CASE("what overflows when it is folded or resampled is named") {
  const std::vector<float> large(10, 3e38F);
  Checkpoint scaled = layer_scaled("ls1.gamma", "ls2.gamma").first;
  scaled.tensors["blocks.1.mlp.fc2.bias"] = Checkpoint::Tensor::of({10}, large);
  CHECK(imported(scaled, heads(2)).vit().blocks.size() == 2);
  scaled.tensors["blocks.1.ls2.gamma"] = Checkpoint::Tensor::of({10}, large);
  check_error([&] { imported(scaled, heads(2)); }, kFormat,
              "tensor 'blocks.1.ls2.gamma': times the weights it overflows");
  Checkpoint positions = export_timm(small_vit());
  std::vector<float> alternating(100);
  for (std::size_t i = 0; i < 100; ++i) alternating[i] = i / 10 % 2 == 0 ? 3e38F : -3e38F;
  positions.tensors["pos_embed"] = Checkpoint::Tensor::of({1, 10, 10}, alternating);
  FloatImportOptions options = heads(2);
  CHECK(imported(positions, options).vit().patches() == 9);
  options.image_size = {20, 20};
  check_error([&] { imported(positions, options); }, kFormat,
              "tensor 'pos_embed': resampled it overflows");
}

TEST_CASE("positions may be of patches alone") {
  Vit vit = small_vit();
  Checkpoint checkpoint = export_timm(vit);
  std::fill_n(vit.position.begin(), vit.dim, 0.0F);
  checkpoint.tensors["pos_embed"] = Checkpoint::Tensor::of(
      {1, 9, 10}, std::vector<float>(vit.position.begin() + 10, vit.position.end()));
  check_vit(imported(checkpoint, heads(2)).vit(), vit);
  check_cases({{"'vit.embeddings.position_embeddings': expected [1, 1 + a square number of",
                tensor("vit.embeddings.position_embeddings", zeros({1, 9, 10})), kFormat,
                export_hugging_face(vit)}});
}

TEST_CASE("qkv may have no bias") {
  Vit vit = small_vit();
  for (FloatBlock& b : vit.blocks) b.qkv.bias.clear();
  check_vit(imported(export_timm(vit), heads(2)).vit(), vit);
  check_vit(imported(export_hugging_face(vit), heads(2)).vit(), vit);
  check_vit(imported(export_jax(vit)).vit(), vit);
}

TEST_CASE("each missing tensor of a float checkpoint is named") {
  for (const auto& [scheme, sound] : all_schemes()) {
    CHECK(imported(sound, heads(2)).scheme == scheme);
    for (const auto& [name, tensor] : sound.tensors) {
      Checkpoint checkpoint = sound;
      checkpoint.tensors.erase(name);
      check_error([&] { imported(checkpoint, heads(2)); }, kFormat, "'" + name + "' is missing");
    }
  }
  check_cases({{"tensor 'blocks.1.norm1.bias' is missing, and 2 more", [](Checkpoint& c) {
                  c.tensors.erase("blocks.1.norm1.bias");
                  c.tensors.erase("blocks.1.mlp.fc2.weight");
                  c.tensors.erase("norm.weight");
                }}});
}

TEST_CASE("each misshapen tensor of a float checkpoint is named") {
  for (const auto& [scheme, sound] : all_schemes()) {
    for (const auto& [name, tensor] : sound.tensors) {
      Checkpoint checkpoint = sound;
      const std::size_t size = tensor.bytes.size() / 4 + 1;
      checkpoint.tensors[name] = zeros({size});
      const auto import = [&] { imported(checkpoint, heads(2)); };
      check_error(import, kFormat, "tensor '" + name + "': expected [");
      check_error(import, kFormat, ", found [" + std::to_string(size) + "]");
    }
  }
}

TEST_CASE("tensors that are no part of a ViT are named") {
  check_cases({
      {"'blocks.0.attn.gate' is no part of", tensor("blocks.0.attn.gate", zeros({2})),
       kUnsupported},
      {"'blocks.3.norm1.weight' is no part", tensor("blocks.3.norm1.weight", zeros({10})),
       kUnsupported},
      {"'\\x1b[31m' is no part", tensor("\x1b[31m", zeros({1})), kUnsupported},
      {"'pre_logits.fc.weight': a representation", tensor("pre_logits.fc.weight", zeros({10, 10})),
       kUnsupported},
      {"'fc_norm.weight': a head on pooled", tensor("fc_norm.weight", zeros({10})), kUnsupported},
      {"'reg_token': register tokens", tensor("reg_token", zeros({1, 4, 10})), kUnsupported},
      {"'blocks.1.attn.q_norm.weight': normalized queries",
       tensor("blocks.1.attn.q_norm.weight", zeros({5})), kUnsupported},
      {"'pre_logits/kernel': a representation", tensor("pre_logits/kernel", zeros({10, 10})),
       kUnsupported, export_jax(small_vit())},
      {"'vit.pooled' is no part", tensor("vit.pooled", zeros({1})), kUnsupported,
       export_hugging_face(small_vit())},
      {"'blocks.2.norm1.bias' is missing, and 1", tensor("blocks.2.norm1.weight", zeros({10}))},
  });
}

TEST_CASE("names of no known scheme are shown") {
  Checkpoint other;
  check_error([&] { imported(other); }, kUnsupported, "found no tensor");
  for (const char* name : {"layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b", "z"}) {
    other.tensors[name] = zeros({1});
  }
  check_error([&] { imported(other); }, kUnsupported,
              "expected a ViT, DeiT or Swin with tensors blocks.0");
  check_error([&] { imported(other); }, kUnsupported,
              "found 'layers.0.a', 'layers.0.b', 'layers.1.a', 'layers.1.b' and 1 others");
}

TEST_CASE("absurd sizes are named") {
  const char* patch = "patch_embed.proj.weight";
  check_cases({
      {"expected [dim, 3, patch, patch], found [0, 3, 4, 4]", tensor(patch, zeros({0, 3, 4, 4}))},
      {"expected [dim, 3, patch, patch], found [10, 3, 0, 0]", tensor(patch, zeros({10, 3, 0, 0}))},
      {"expected [dim, 3, patch, patch], found [10, 1, 4, 4]", tensor(patch, zeros({10, 1, 4, 4}))},
      {"expected [dim, 3, patch, patch], found [10, 3, 4, 2]", tensor(patch, zeros({10, 3, 4, 2}))},
      {"expected [1, 1 + a square number of patches, 10], found [1, 1, 10]",
       tensor("vit.embeddings.position_embeddings", zeros({1, 1, 10})), kFormat,
       export_hugging_face(small_vit())},
      {"a square number of patches, 10], found [1, 0, 10]", tensor("pos_embed", zeros({1, 0, 10}))},
      {"a square number of patches, 10], found [1, 12, 10]",
       tensor("pos_embed", zeros({1, 12, 10}))},
      {"'pos_embed': expected images of at most 4096 pixels, found 1025 patches of 4",
       tensor("pos_embed", zeros({1, 1 + 1025 * 1025, 10})), ErrorCode::kLimit},
      {"'blocks.0.mlp.fc1.weight': expected [hidden, dim], found [0, 10]",
       tensor("blocks.0.mlp.fc1.weight", zeros({0, 10}))},
      {"'head.weight': expected [classes, dim], found [0, 10]",
       tensor("head.weight", zeros({0, 10}))},
      {"query/kernel': expected [dim, heads, dim / heads] of 10 channels, found [10, 0, 5]",
       tensor("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel",
              zeros({10, 0, 5})),
       kFormat, export_jax(small_vit())},
      {"query/kernel': expected [dim, heads, dim / heads] of 10 channels, found [10, 3, 5]",
       tensor("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel",
              zeros({10, 3, 5})),
       kFormat, export_jax(small_vit())},
  });
}

TEST_CASE("heads come from options, else from shapes, else they are 64 channels wide") {
  const Checkpoint wide = export_timm(tiny_vit({.dim = 128}).vit);
  const ImportedModel assumed = imported(wide);
  CHECK(assumed.vit().heads == 2);
  CHECK_THAT(assumed.notes.at(0), Catch::Contains("assumed 2"));
  CHECK(imported(wide, heads(4)).vit().heads == 4);
  check_error([&] { imported(wide, heads(0)); }, kInvalidArgument, "divides 128 channels, found 0");
  check_error([&] { imported(wide, heads(3)); }, kInvalidArgument, "divides 128 channels, found 3");
  check_error([&] { imported(export_timm(small_vit())); }, kInvalidArgument,
              "10 channels are no multiple of 64; give the number of heads");
  check_error([&] { imported(export_jax(small_vit()), heads(5)); }, kInvalidArgument,
              "expected 2 heads as the tensors have, found 5");
}

TEST_CASE("positions are resampled as PyTorch does") {
  const auto grid = [](int n) {
    std::vector<float> values;
    for (int i = 0; i < n * n * 2; ++i) {
      const int y = i / 2 / n;
      const int x = i / 2 % n;
      const int code = (7 * y * y + 13 * x + 5 * (i % 2) * (y + x)) % 23;
      values.push_back(static_cast<float>(code) / 8 - 1.25F);
    }
    return values;
  };
  struct Sample {
    int from;
    std::size_t to;
    std::vector<float> expected;
  };
  // torch.nn.functional.interpolate(mode='bicubic', align_corners=False), PyTorch 1.13.
  const Sample samples[] = {
      {2,
       3,
       {-1.46701443F, -1.59718513F, -0.513454974F, -0.130425379F, 0.440103948F, 1.33633375F,
        -0.95355922F, -0.57052958F, 0.0F, -0.09375F, 0.953558803F, 0.383029372F, -0.440104544F,
        0.456125289F, 0.513454676F, -0.0570746735F, 1.46701372F, -0.570274472F}},
      {3, 5, {-1.49000037F,  -1.63649619F,  -0.61349982F,  -0.368911445F, 0.291000009F,
              1.13200009F,   -0.357000351F, 0.931371629F,  -1.07900023F,  0.447000086F,
              -1.0484997F,   -0.803911507F, -0.171999604F, -0.209813625F, 0.732500076F,
              0.439499646F,  0.0844999179F, 0.138683453F,  -0.637499809F, -0.245500296F,
              -0.531000018F, 0.310000032F,  0.345500171F,  0.0524997227F, 1.25F,
              -0.37500006F,  0.601999879F,  -0.80249995F,  -0.119999968F, -1.06000018F,
              -0.62100029F,  0.66737175F,   0.255500048F,  0.309683561F,  1.16000009F,
              -0.244499817F, 0.511999786F,  -0.686903715F, -0.210000172F, -0.929500043F,
              -0.805000126F, 0.721000135F,  0.0715001896F, 0.463499755F,  0.97600019F,
              0.0359999463F, 0.32799983F,   -0.391499996F, -0.394000053F, -0.649000168F}},
      {4,
       2,
       {0.140625F, -0.0703125F, -0.572265625F, 0.134765625F, 0.177734375F, -0.103515625F,
        0.72265625F, 0.1015625F}},
      {5, 1, {-0.25F, -0.625F}},
      {1,
       3,
       {-1.25000048F, -1.25000048F, -1.25000024F, -1.25000024F, -1.24999988F, -1.24999988F,
        -1.25000024F, -1.25000024F, -1.25F, -1.25F, -1.24999964F, -1.24999964F, -1.24999988F,
        -1.24999988F, -1.24999964F, -1.24999964F, -1.24999928F, -1.24999928F}},
  };
  for (const Sample& s : samples) {
    std::vector<float> position{1.5F, -2.5F};
    const std::vector<float> patches = grid(s.from);
    position.insert(position.end(), patches.begin(), patches.end());
    const auto found = resample_position(position, 1, static_cast<std::size_t>(s.from), s.to, 2);
    REQUIRE(found.size() == s.expected.size() + 2);
    CHECK(found[0] == 1.5F);
    CHECK(found[1] == -2.5F);
    for (std::size_t i = 0; i < s.expected.size(); ++i) {
      CHECK(std::abs(found[i + 2] - s.expected[i]) < 1e-5F);
    }
  }
  CHECK(resample_position(grid(3), 0, 3, 3, 2) == grid(3));
}

TEST_CASE("a model may take images of another size") {
  for (const Vit& vit : {small_vit(), distilled(small_vit())}) {
    FloatImportOptions options = heads(2);
    options.image_size = {20, 20};
    Vit larger = vit;
    larger.image_size = 20;
    larger.position = resample_position(vit.position, vit.prefix(), 3, 5, vit.dim);
    const ImportedModel found = imported(export_timm(vit), options);
    check_vit(found.vit(), larger);
    CHECK(found.vit().preprocessing.height == 20);
    CHECK(found.vit().preprocessing.width == 20);
    CHECK(found.vit().preprocessing.resize == 22);
    CHECK_THAT(found.notes.at(0), Catch::Contains("from images of 12 to 20 pixels"));
  }
  for (const std::size_t size : {0U, 3U, 21U, 4100U}) {
    FloatImportOptions options = heads(2);
    options.image_size = {size, size};
    check_error([&] { imported(export_timm(small_vit()), options); }, kInvalidArgument,
                "a multiple of the patches' 4 pixels up to 4096, found " + std::to_string(size));
  }
  FloatImportOptions wide = heads(2);
  wide.image_size = {12, 20};
  check_error([&] { imported(export_timm(small_vit()), wide); }, kInvalidArgument,
              "expected a square, as the positions of a ViT are, found 12x20");
}

TEST_CASE("the float checkpoint of DeiT-Tiny is that of the calibrated one") {
  const auto weights = shared_path("weights/deit_tiny_patch16_224.safetensors");
  const auto calibrated = shared_path("golden/deit_tiny/model.safetensors");
  if (!weights || !calibrated) return;
  CHECK(network_of(import_float(intaglio::Checkpoint::open(*weights), {})).features.size() == 1);
  FloatImportOptions options;
  options.token_feature = true;  // the calibrated one has grids for all tokens
  const ImportedModel found = import_float(intaglio::Checkpoint::open(*weights), options);
  const Network expected = import_fqvit(Safetensors::open(*calibrated)).network;
  check_equal(network_of(found), expected);
  check_epsilon(found.vit(), 1e-6F);
  CHECK(found.vit().preprocessing == expected.preprocessing);
  CHECK(found.preprocessing_source == "preset deit, by the name (mean, std, interpolation, crop)");
  CHECK(found.vit().provenance.at("source") ==
        "'deit_tiny_patch16_224.safetensors' (safetensors, names of timm)");
}

}  // namespace intaglio::test
