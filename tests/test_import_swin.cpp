// What only Swin checkpoints have: windows from tables, stages, image sizes that no tensor tells.
#include <catch2/catch.hpp>

#include "converters/lower_network.h"
#include "tests/support/import_cases.h"

namespace intaglio::test {
namespace {

const ErrorCode kUnsupported = ErrorCode::kUnsupported;
constexpr const char* kTable = "layers.0.blocks.0.attn.relative_position_bias_table";

const Checkpoint& golden() {
  return golden_checkpoint("swin_micro");
}

/// The image size, where both metadata tell it.
std::function<void(Checkpoint&)> image(const char* size) {
  return [=](Checkpoint& c) {
    c.metadata.erase("config");
    c.metadata["img_size"] = size;
  };
}

/// With a third stage's first tensor.
std::function<void(Checkpoint&)> three_stages(const char* size) {
  return [=](Checkpoint& c) {
    image(size)(c);
    c.tensors["layers.2.blocks.0.norm1.weight"] = zeros({128});
  };
}

const std::vector<ImportCase> kWindows = {
    {"no square of distances", tensor(kTable, zeros({168, 1})),
     "expected F32 [(2 * window - 1)^2, heads], windows up to 64, found F32 [168, 1]"},
    {"an even square", tensor(kTable, zeros({144, 1})), "found F32 [144, 1]"},
    {"no distances", tensor(kTable, zeros({0, 1})), "found F32 [0, 1]"},
    {"a window of 65", tensor(kTable, zeros({129 * 129, 1})), "found F32 [16641, 1]"},
    {"a list", tensor(kTable, zeros({169})), "found F32 [169]"},
    {"2^60 distances of no heads", tensor(kTable, zeros({std::size_t{1} << 60, 0})), "windows up"},
    {"no heads", tensor(kTable, zeros({169, 0})), "0 heads do not divide 32 channels"},
    {"three heads", tensor(kTable, zeros({169, 3})), "3 heads do not divide 32 channels"},
    {"windows that cut the map", tensor(kTable, zeros({81, 1})),
     "windows of 5 do not divide a map of 14x14 tokens"},
    {"other windows than told", tensor(kTable, zeros({9, 1})),
     "'window_size' is 7, but tensor 'layers.0.blocks.0.attn.relative_position_bias_table' has "
     "windows of 2"},
    {"other windows in the second block",
     tensor("layers.0.blocks.1.attn.relative_position_bias_table", zeros({9, 1})),
     "'layers.0.blocks.1.attn.relative_position_bias_table': expected F32 [169, 1]"},
    {"other heads in the second block",
     tensor("layers.0.blocks.1.attn.relative_position_bias_table", zeros({169, 2})),
     "'layers.0.blocks.1.attn.relative_position_bias_table': expected F32 [169, 1]"},
};

const std::vector<ImportCase> kSizes = {
    {"other depths", metadata("config", R"({"depths":[2,3],"img_size":56})"),
     "'depths' is [2,3], but the tensors say [2,2]"},
    {"three depths", metadata("config", R"({"depths":[2,2,2],"img_size":56})"), "say [2,2]"},
    {"heads a number", metadata("config", R"({"num_heads":1,"img_size":56})"),
     "'num_heads' is 1, but the tensors say [1,2]"},
    {"another window", metadata("config", R"({"window_size":14,"img_size":56})"),
     "'window_size' is 14, but tensor"},
    {"no window", metadata("config", R"({"window_size":0,"img_size":56})"),
     "'window_size' must be a positive integer"},
    {"a list of windows", metadata("config", R"({"window_size":[7],"img_size":56})"),
     "'window_size' must be a positive integer"},
    {"two image sizes", metadata("img_size", "60"), "'img_size' is 60, expected 56"},
    {"a list of sizes", metadata("img_size", "[56, 56]"), "'img_size' is [56,56], expected 56"},
    {"no pixels", image("0"), "'img_size' is 0, no multiple of patches of 4 pixels"},
    {"half a patch", image("58"), "'img_size' is 58, no multiple of patches of 4 pixels"},
    {"a map of 15x15", image("60"), "windows of 7 do not divide a map of 15x15 tokens"},
    {"an image of 4144 pixels", image("4144"), "images above 4096 pixels"},
    {"an image of 2^64 - 1 pixels", image("18446744073709551615"), "images above 4096 pixels"},
    {"a map that cannot be merged", image("28"), "'layers.0.downsample': a map of 7x7 tokens"},
};

const std::vector<ImportCase> kStages = {
    {"three stages, one merge", three_stages("112"),
     "'layers.1.downsample.norm.weight' is missing"},
    {"three stages of a small image", three_stages("56"), "'layers.1.downsample': a map of 7x7"},
    {"no blocks in a stage", tensor("layers.2.downsample.norm.weight", zeros({512})),
     "'layers.1.downsample': a map of 7x7 tokens cannot be merged"},
    {"a merge behind the last stage", tensor("layers.1.downsample.norm.weight", zeros({256})),
     "'layers.1.downsample.norm.weight' is no part of a Swin graph", kUnsupported},
    {"a gap between stages", tensor("layers.3.blocks.0.norm1.weight", zeros({64})),
     "'layers.3.blocks.0.norm1.weight' is no part", kUnsupported},
    {"a gap between blocks", tensor("layers.0.blocks.3.norm1.weight", zeros({32})),
     "'layers.0.blocks.3.norm1.weight' is no part", kUnsupported},
    {"part of a block", tensor("layers.0.blocks.2.norm1.weight", zeros({32})),
     "'layers.0.blocks.2.attn.relative_position_bias_table' is missing"},
    {"absolute positions", tensor("absolute_pos_embed", zeros({1, 196, 32})),
     "'absolute_pos_embed' is no part of a Swin graph", kUnsupported},
    {"a class token", tensor("cls_token", zeros({1, 1, 32})), "'cls_token' is no part",
     kUnsupported},
};

}  // namespace

TEST_CASE("windows and heads of a Swin are named where they are impossible") {
  check_cases(golden(), kWindows);
}

TEST_CASE("sizes that contradict a Swin's tensors are named") {
  check_cases(golden(), kSizes);
}

TEST_CASE("stages of a Swin are whole") {
  check_cases(golden(), kStages);
  Checkpoint vit = golden_checkpoint("vit_micro");
  vit.metadata["arch"] = "swin";
  check_error([&] { imported(vit); }, ErrorCode::kFormat,
              std::string("'") + kTable + "' is missing");
}

TEST_CASE("a Swin's sizes come from the tensors") {
  const CalibratedNetwork found = imported(golden());
  const Network& network = found.network;
  CHECK(sizes_text(network) == "2+2 blocks, 32/64 channels, 1/2 heads, windows of 7x7");
  CHECK(network.image_height == 56);
  CHECK(network.image_width == 56);
  CHECK(network.layers.back().channels == 10);
  CHECK(network.preprocessing.mean == std::array{0.485, 0.456, 0.406});
  CHECK(network.preprocessing.resize == 64);
  CHECK(network.provenance.at("arch") == "swin");
  std::size_t attentions = 0;
  for (const Layer& layer : network.layers) {
    const auto* attention = std::get_if<AttentionLayer>(&layer.op);
    if (attention == nullptr) continue;
    CHECK(attention->window_shift == (attentions++ % 2 == 0 ? 0 : 3));
    // The table has a row for each distance, a column for each head.
    const Checkpoint::Tensor& table =
        golden().tensors.at(layer.name + ".relative_position_bias_table");
    REQUIRE(attention->bias.size() == 169 * attention->heads);
    for (std::size_t i = 0; i < attention->bias.size(); ++i) {
      REQUIRE(attention->bias[i] == get<float>(table, i % 169 * attention->heads + i / 169));
    }
  }
  CHECK(attentions == 4);

  const Graph graph = lower(network, found.calibration, {});
  REQUIRE(graph.features.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(graph.features[i].name == "stage" + std::to_string(i + 1));
    CHECK(graph.values[graph.features[i].value].name ==
          "layers." + std::to_string(i) + ".blocks.1.qact4");
  }
}

TEST_CASE("a Swin's image is 224 pixels wide where the metadata tell no other") {
  Checkpoint checkpoint = golden();
  checkpoint.metadata.erase("config");
  checkpoint.metadata.erase("img_size");
  CHECK(imported(checkpoint).network.image_width == 224);
  // One size in either place is enough.
  checkpoint.metadata["config"] = R"({"img_size":112})";
  CHECK(imported(checkpoint).network.image_height == 112);
}

TEST_CASE("windows are as small as the map") {
  // Windows of 28 are asked for; the map of the one stage that is left has 7x7 tokens.
  Checkpoint checkpoint = golden();
  checkpoint.metadata["config"] = R"({"window_size":28})";
  checkpoint.metadata["img_size"] = "56";
  check_error([&] { imported(checkpoint); }, ErrorCode::kFormat, "'window_size' is 28");
  std::erase_if(checkpoint.tensors, [](const auto& tensor) {
    return tensor.first.starts_with("layers.1.") ||
           tensor.first.find("downsample") != std::string::npos;
  });
  for (const char* name : {"norm.weight", "norm.bias"}) checkpoint.tensors[name] = zeros({32});
  checkpoint.tensors["head.weight"] = zeros({10, 32});
  checkpoint.metadata["img_size"] = "28";
  CHECK(sizes_text(imported(checkpoint).network) ==
        "2 blocks, 32 channels, 1 heads, windows of 7x7");
}

TEST_CASE("a Swin may have no norm behind its patches, and no quantizer before them") {
  Checkpoint checkpoint = golden();
  std::erase_if(checkpoint.tensors, [](const auto& tensor) {
    return tensor.first.starts_with("patch_embed.norm.") ||
           tensor.first.starts_with("patch_embed.qact_before_norm.") ||
           tensor.first.starts_with("qact_input.");
  });
  checkpoint.metadata["mean"] = checkpoint.metadata["std"] = "[0.5, 0.5, 0.5]";
  const CalibratedNetwork found = imported(checkpoint);
  const Graph graph = lower(found.network, found.calibration, {});
  CHECK(graph.ops[1].name == "patch_embed.proj");
  CHECK(graph.values[result_of(graph.ops[1])].name == "patch_embed.qact");
  CHECK(graph.ops[2].name == "layers.0.blocks.0.norm1");
  // 127.5 stands for 0.
  const auto& padding = std::get<PatchesOp>(graph.ops[0].params).padding;
  REQUIRE(padding.size() == 3);
  for (const std::uint8_t code : padding.view()) CHECK(int{code} == 128);
}

TEST_CASE("any finite numbers in a Swin give a model or an Error") {
  for (const float value : {3e38F, -3e38F, 1e-30F, 0.0F}) {
    for (const auto& [name, tensor] : golden().tensors) {
      if (tensor.dtype != DType::kF32 || name.starts_with("layers.1.blocks.1.")) continue;
      Checkpoint checkpoint = golden();
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
