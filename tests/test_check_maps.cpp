// check() on what maps have: windows, merging, means, patches beyond the image; and the same graphs
// at other sizes.
#include <functional>

#include "graph/check.h"
#include "graph/resize.h"
#include "tests/support/edit_graph.h"
#include "tests/support/expect_error.h"
#include "tests/support/swin_micro.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

struct Mutation {
  const char* name;
  std::function<void(Graph&)> apply;
  std::string piece;
};

LayerNormOp& merging(Graph& g) {
  for (Op& candidate : g.ops) {
    auto* norm = std::get_if<LayerNormOp>(&candidate.params);
    if (norm != nullptr && norm->merge == 2) return *norm;
  }
  throw std::logic_error("no merge");
}

const std::vector<Mutation> kWindows = {
    {"window -1", [](Graph& g) { op<AttentionOp>(g).window = -1; }, "window is -1"},
    {"window 65", [](Graph& g) { op<AttentionOp>(g).window = 65; }, "allowed is 0 to 64"},
    {"window 0", [](Graph& g) { op<AttentionOp>(g).window = 0; }, "belong to windows"},
    {"shift 7", [](Graph& g) { op<AttentionOp>(g).window_shift = 7; }, "allowed is 0 to 6"},
    {"shift -1", [](Graph& g) { op<AttentionOp>(g).window_shift = -1; }, "window_shift is -1"},
    {"padding of another width", [](Graph& g) { reshape(op<AttentionOp>(g).padding, {95}); },
     "padding has shape [95], expected [96]"},
    {"no padding where it is needed",
     [](Graph& g) {
       op<AttentionOp>(g).padding = {};
       op<AttentionOp>(g).window = 4;
     },
     "the window must divide the map"},
    {"bias of another window",
     [](Graph& g) {
       reshape(op<AttentionOp>(g).bias, {1, 13, 12});
     },
     "bias has shape [1, 13, 12], expected [1, 13, 13]"},
    {"bias of more heads",
     [](Graph& g) {
       reshape(op<AttentionOp>(g).bias, {2, 13, 13});
     },
     "expected [1, 13, 13]"},
    {"factors of no bias", [](Graph& g) { op<AttentionOp>(g).bias = {}; },
     "without a bias, its multiplier"},
    {"bias shift", [](Graph& g) { op<AttentionOp>(g).bias_shift = 31; }, "bias_shift is 31"},
    {"bias multiplier", [](Graph& g) { op<AttentionOp>(g).bias_multiplier = -1; },
     "bias_multiplier is -1"},
    {"bias zero point", [](Graph& g) { op<AttentionOp>(g).bias_zero_point = 256; },
     "bias_zero_point is 256"},
    {"large bias", [](Graph& g) { set(op<AttentionOp>(g).bias, 5, INT32_MIN); },
     "scores and bias can overflow 32 bits"},
    {"large bias multiplier", [](Graph& g) { op<AttentionOp>(g).bias_multiplier = INT32_MAX; },
     "scores and bias can overflow 32 bits"},
    {"a sequence",
     [](Graph& g) {
       value(g, "layers.0.blocks.0.attn.qact3").shape = {196, 32};
     },
     "must have the same rows"},
};

const std::vector<Mutation> kMaps = {
    {"merge 3", [](Graph& g) { merging(g).merge = 3; }, "merge is 3"},
    {"merge 0", [](Graph& g) { merging(g).merge = 0; }, "merge is 0"},
    {"nothing merged", [](Graph& g) { merging(g).merge = 1; }, "must have one shape"},
    {"merged rows",
     [](Graph& g) {
       value(g, "layers.0.downsample.qact1").shape = {7, 8, 128};
     },
     "the result must be [7, 7, 128]"},
    {"mean's multiplier", [](Graph& g) { op<MeanRowsOp>(g).multiplier = -1; }, "multiplier is -1"},
    {"mean's shift", [](Graph& g) { op<MeanRowsOp>(g).shift = 39; }, "allowed is 1 to 38"},
    {"mean's shape",
     [](Graph& g) {
       value(g, "qact3").shape = {2, 64};
     },
     "the result must be [1, channels]"},
    {"patches' padding", [](Graph& g) { reshape(op<PatchesOp>(g).padding, {4}); },
     "padding has shape [4], expected [3]"},
    {"map of patches",
     [](Graph& g) {
       value(g, "qact_input").shape = {13, 14, 48};
     },
     "the result must be [patches"},
    {"a feature twice", [](Graph& g) { g.features.push_back(g.features[0]); },
     "a feature needs a name of its own, found 'stage1' again"},
    {"a feature without a name", [](Graph& g) { g.features[0].name = ""; }, "name of its own"},
    {"the image as a feature", [](Graph& g) { g.features[0].value = g.input; },
     "must be a value between image and logits"},
    {"logits as a feature", [](Graph& g) { g.features[0].value = g.output; }, "feature 'stage1'"},
};

TEST_CASE("a wrong thing of a map is refused and named") {
  const Graph sound = swin_micro(false);
  REQUIRE_NOTHROW(check(sound));
  for (const auto& mutations : {kWindows, kMaps}) {
    for (const Mutation& mutation : mutations) {
      INFO(mutation.name);
      Graph graph = sound;
      mutation.apply(graph);
      check_error([&] { check(graph); }, ErrorCode::kFormat, mutation.piece);
    }
  }
}

TEST_CASE("a bias of sums stays below 2^30") {
  Graph graph = swin_micro(true);
  REQUIRE_NOTHROW(check(graph));
  set(op<AttentionOp>(graph).bias, 0, (std::int32_t{1} << 30) - 1);
  CHECK_NOTHROW(check(graph));
  set(op<AttentionOp>(graph).bias, 0, std::int32_t{1} << 30);
  check_error([&] { check(graph); }, ErrorCode::kFormat, "can overflow 32 bits");
  set(op<AttentionOp>(graph).bias, 0, 0);
  op<AttentionOp>(graph).bias_multiplier = 1;
  check_error([&] { check(graph); }, ErrorCode::kFormat, "a bias of sums has no multiplier");
}

TEST_CASE("a graph at another size passes its check, and at its own is the same") {
  const Graph graph = swin_micro(false);
  CHECK(takes_any_size(graph));
  for (const auto& [height, width] : {std::pair{56, 56}, {1, 1}, {57, 30}, {224, 112}, {3, 500}}) {
    INFO(height << " x " << width);
    Graph other = resized(graph, height, width);
    CHECK_NOTHROW(check(other));
    const auto half = [](int n) { return std::size_t(n + 7) / 8; };
    CHECK(value(other, "layers.1.blocks.1.qact4").shape ==
          std::vector<std::size_t>{half(height), half(width), 64});
    CHECK(resized(other, 56, 56).values[graph.output].shape == graph.values[graph.output].shape);
  }
  check_error([&] { resized(graph, 0, 56); }, ErrorCode::kLimit, "sides of 1 to 4096 pixels");
  check_error([&] { resized(graph, 56, 4097); }, ErrorCode::kLimit, "found 4097 x 56");
}

TEST_CASE("a graph with positions or without padding has one size") {
  const Graph vit = lowered(tiny_vit());
  CHECK_FALSE(takes_any_size(vit));
  CHECK_NOTHROW(resized(vit, 8, 8));
  check_error([&] { resized(vit, 8, 12); }, ErrorCode::kUnsupported,
              "takes images of 8 x 8 pixels only, not 12 x 8");
  Graph graph = swin_micro(false);
  op<AttentionOp>(graph).padding = {};
  CHECK_FALSE(takes_any_size(graph));
  graph = swin_micro(false);
  op<PatchesOp>(graph).padding = {};
  CHECK_FALSE(takes_any_size(graph));
}

}  // namespace
}  // namespace intaglio::test
