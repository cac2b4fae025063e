// How far sizes and parameters may go before something can overflow.
#include <catch2/catch.hpp>
#include <functional>
#include <limits>

#include "graph/check.h"
#include "graph/error.h"
#include "kernels/fixed_point.h"
#include "tests/support/edit_graph.h"
#include "tests/support/expect_error.h"
#include "tests/support/forms.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

constexpr std::int64_t kMax64 = std::numeric_limits<std::int64_t>::max();
constexpr std::int32_t kMin32 = std::numeric_limits<std::int32_t>::min();

/// One pixel -> [1, 3] -> linear -> [1, width] -> `middle` -> logits [1, 1]. `middle` gets the wide
/// value's id and returns the id of what the logits are made of.
Graph wide_graph(std::size_t width, const std::function<ValueId(Graph&, ValueId)>& middle) {
  const auto linear = [](ValueId src, ValueId dst, std::size_t n, std::size_t k) {
    LinearOp op;
    op.src = src, op.dst = dst, op.shift = 1;
    reshape(op.weight, {n, k}), reshape(op.multiplier, {n}), reshape(op.bias, {n});
    return op;
  };
  Graph g;
  g.values = {{"image", DType::kU8, {1, 1, 3}, {}},
              {"codes", DType::kU8, {1, 3}, {}},
              {"wide", DType::kU8, {1, width}, {}}};
  PatchesOp patches;
  patches.dst = 1, patches.patch = 1;
  reshape(patches.table, {3, 256});
  g.ops = {{"patches", patches}, {"widen", linear(1, 2, width, 3)}};
  const ValueId last = middle(g, 2);
  g.values.push_back({"logits", DType::kS32, {1, 1}, {}});
  g.output = g.values.size() - 1;
  g.ops.push_back({"head", linear(last, g.output, 1, g.values[last].shape[1])});
  g.preprocessing.height = g.preprocessing.width = 1;
  return g;
}

ValueId add_norm(Graph& g, ValueId src) {
  const std::size_t dim = g.values[src].shape[1];
  LayerNormOp norm;
  norm.src = src, norm.dst = g.values.size(), norm.shift = 1;
  reshape(norm.multiplier, {dim}), reshape(norm.bias, {dim});
  g.values.push_back({"normed", DType::kU8, {1, dim}, {}});
  g.ops.push_back({"norm", norm});
  return norm.dst;
}
ValueId add_attention(Graph& g, ValueId src) {
  AttentionOp attention;
  attention.src = src, attention.dst = g.values.size();
  attention.heads = 1, attention.score_shift = attention.attend_shift = 1;
  reshape(attention.exponentials, {256});
  set(attention.exponentials, 0, std::uint64_t{1});
  g.values.push_back({"attended", DType::kU8, {1, g.values[src].shape[1] / 3}, {}});
  g.ops.push_back({"attention", attention});
  return attention.dst;
}
ValueId add_nothing(Graph&, ValueId src) {
  return src;
}

}  // namespace

TEST_CASE("the largest sizes the kernels allow pass, one more does not") {
  const auto deep = [](std::size_t k) { check(wide_graph(k, add_nothing)); };
  CHECK_NOTHROW(deep(kernels::kMaxGemmDepth));
  check_error([&] { deep(kernels::kMaxGemmDepth + 1); }, ErrorCode::kFormat, "too many input");

  const auto norm = [](std::size_t dim) { check(wide_graph(dim, add_norm)); };
  CHECK_NOTHROW(norm(kernels::kMaxNormDim));
  check_error([&] { norm(kernels::kMaxNormDim + 1); }, ErrorCode::kFormat, "too many channels");

  const auto attend = [](std::size_t dim) { check(wide_graph(3 * dim, add_attention)); };
  CHECK_NOTHROW(attend(kernels::kMaxHeadDim));
  check_error([&] { attend(kernels::kMaxHeadDim + 1); }, ErrorCode::kFormat, "more than 256");
}

TEST_CASE("the largest parameters that cannot overflow pass") {
  Graph g = lowered(tiny_vit());
  op<LayerNormOp>(g).shift = 62;
  auto& linear = op<LinearOp>(g);
  linear.shift = 62;
  reshape(linear.weight, linear.weight.shape());  // all zero: the bias has all 63 bits
  set(linear.bias, 0, kMax64);
  set(linear.bias, 1, -kMax64);
  set(linear.multiplier, 0, kMin32);
  // 98303 e < 2^63, the bound for few tokens.
  set(op<AttentionOp>(g).exponentials, 0, (std::uint64_t{1} << 63) / 98303);
  CHECK_NOTHROW(check(g));
  set(op<AttentionOp>(g).exponentials, 0, (std::uint64_t{1} << 63) / 98303 + 1);
  CHECK_THROWS_AS(check(g), Error);
}

/// widen -> + a residual of the same shape, onto a stream of `dtype`.
ValueId add_residual(Graph& g, DType dtype, ValueId residual) {
  LinearOp linear;
  linear.src = 2, linear.residual = residual, linear.dst = g.values.size(), linear.shift = 1;
  const std::size_t dim = g.values[2].shape[1];
  reshape(linear.weight, {dim, dim}), reshape(linear.multiplier, {dim});
  reshape(linear.bias, {dim}), reshape(linear.residual_multiplier, {dim});
  g.values.push_back({"stream" + std::to_string(linear.dst), dtype, {1, dim}, {}});
  g.ops.push_back({"add" + std::to_string(linear.dst), linear});
  return linear.dst;
}

TEST_CASE("an s16 stream begins with a sum and is read by LayerNorm") {
  const auto graph = [] {
    return wide_graph(8, [](Graph& g, ValueId wide) {
      const ValueId first = add_residual(g, DType::kS16, wide);
      return add_norm(g, add_residual(g, DType::kS16, first));
    });
  };
  Graph g = graph();
  CHECK_NOTHROW(check(g));
  value(g, "stream3").grid.exponents.assign(8, 1);
  check_error([&] { check(g); }, ErrorCode::kFormat, "'stream3' must have one scale");
  g = graph();
  auto& sum = std::get<LinearOp>(g.ops[2].params);
  set(sum.bias, 0, INT64_MAX);
  CHECK_NOTHROW(check(g));
  set(sum.residual_multiplier, 0, std::int32_t{1});
  check_error([&] { check(g); }, ErrorCode::kFormat, "channel 0 can overflow 64 bits");
  g = graph();
  reshape(std::get<LinearOp>(g.ops[2].params).residual_multiplier, {7});
  check_error([&] { check(g); }, ErrorCode::kFormat, "residual_multiplier has shape [7]");
}

TEST_CASE("an s16 stream begins with an embedding of one scale") {
  Graph sound = with_direct_sums(lowered(tiny_vit()), DType::kS16);
  CHECK_NOTHROW(check(sound));
  const ValueId patches = op<EmbedOp>(sound).src;
  const auto refused = [&](const char* piece, const std::function<void(Graph&, EmbedOp&)>& spoil) {
    Graph g = sound;
    spoil(g, op<EmbedOp>(g));
    INFO(piece);
    check_error([&] { check(g); }, ErrorCode::kFormat, piece);
  };
  const char* const kNoFactors = "an s16 embedding has no multipliers, shift or zero point";
  refused(kNoFactors, [](Graph&, EmbedOp& embed) { embed.src_multiplier = 1; });
  refused(kNoFactors, [](Graph&, EmbedOp& embed) { embed.position_multiplier = 1; });
  refused(kNoFactors, [](Graph&, EmbedOp& embed) { embed.shift = 1; });
  refused(kNoFactors, [](Graph&, EmbedOp& embed) { embed.position_zero_point = 1; });
  refused("must have the result's scale",
          [&](Graph& g, EmbedOp&) { g.values[patches].grid.scale *= 2; });
  refused("expected I16 [rows, channels]",
          [&](Graph& g, EmbedOp&) { g.values[patches].dtype = DType::kU8; });
  refused("must have one scale",
          [](Graph& g, EmbedOp&) { value(g, "qact1").grid.exponents.assign(8, 1); });
  refused("only u8 codes have exponents",
          [&](Graph& g, EmbedOp&) { g.values[patches].grid.exponents.assign(8, 1); });
  refused("position has shape [3, 8], expected [4, 8]", [](Graph&, EmbedOp& embed) {
    reshape(embed.position, {3, 8});
  });
}

TEST_CASE("GELU's shift and exponents share 30 bits; weights read any exponents") {
  Graph g = lowered(tiny_vit());
  value(g, "blocks.0.mlp.qact1").grid.exponents = std::vector<std::uint8_t>(16, 0);
  value(g, "blocks.0.mlp.qact1").grid.exponents[9] = 7;
  op<GeluOp>(g).shift = 23;
  CHECK_NOTHROW(check(g));
  op<GeluOp>(g).shift = 24;
  check_error([&] { check(g); }, ErrorCode::kFormat, "shift is 24, allowed is 1 to 23");
}

TEST_CASE("rows side by side are one row of all their channels") {
  Graph g = with_two_tokens(lowered(tiny_vit()), 0, 1, 1);
  CHECK_NOTHROW(check(g));
  std::get<SelectRowsOp>(g.ops.end()[-2].params).first = 1;
  check_error([&] { check(g); }, ErrorCode::kFormat, "the rows reach beyond the operand");
  g = with_two_tokens(lowered(tiny_vit()), 0, 1, 1);
  value(g, "token_pair").shape = {1, 17};
  check_error([&] { check(g); }, ErrorCode::kFormat, "[count, channels] or [1, count * channels]");
}

/// One attention over height * width tokens.
Graph graph_with_tokens(std::size_t height, std::size_t width) {
  const std::size_t tokens = height * width;
  Graph graph = wide_graph(3, [](Graph& h, ValueId wide) { return add_attention(h, wide); });
  for (const char* name : {"codes", "wide", "attended", "logits"}) {
    value(graph, name).shape[0] = name == std::string("logits") ? 1 : tokens;
  }
  value(graph, "image").shape = {height, width, 3};
  graph.preprocessing.height = static_cast<int>(height);
  graph.preprocessing.width = static_cast<int>(width);
  SelectRowsOp select;
  select.src = 3, select.dst = graph.values.size();
  graph.values.push_back({"row", DType::kU8, {1, 1}, {}});
  std::get<LinearOp>(graph.ops.back().params).src = select.dst;
  graph.ops.insert(graph.ops.end() - 1, {"select", select});
  return graph;
}

TEST_CASE("the row-relative softmax bounds the sum of its values") {
  Graph g = lowered(tiny_vit());
  make_row_relative(g);
  CHECK_NOTHROW(check(g));
  const auto with_tokens = [](std::size_t tokens, int unit_bits) {
    Graph graph = graph_with_tokens(1, tokens);
    make_row_relative(graph);
    op<AttentionOp>(graph).unit_bits = unit_bits;
    check(graph);
  };
  CHECK_NOTHROW(with_tokens(257, 15));
  check_error([&] { with_tokens(258, 15); }, ErrorCode::kFormat, "P v can overflow");
  CHECK_NOTHROW(with_tokens(1028, 13));
  check_error([&] { with_tokens(1029, 13); }, ErrorCode::kFormat, "P v can overflow");
}

TEST_CASE("the uniform softmax bounds its factors and the sum of its values") {
  Graph g = lowered(tiny_vit());
  make_uniform(g);
  auto& attention = op<AttentionOp>(g);
  const std::uint64_t limit = std::uint64_t{1} << 31;
  for (const std::uint64_t top : {std::uint64_t{1} << 20, limit - 1}) {
    set(attention.exponentials, 0, top);
    set(attention.probability_factor, 0, limit * top - 1);
    CHECK_NOTHROW(check(g));
    set(attention.probability_factor, 0, limit * top);
    check_error([&] { check(g); }, ErrorCode::kFormat, "too large for the exponentials");
  }
  set(attention.exponentials, 0, limit);
  set(attention.probability_factor, 0, limit);
  check_error([&] { check(g); }, ErrorCode::kFormat, "must be in 1..2147483647");

  const auto with_tokens = [](std::size_t height, std::size_t width) {
    Graph graph = graph_with_tokens(height, width);
    make_uniform(graph);
    check(graph);
  };
  CHECK_NOTHROW(with_tokens(25, 1321));  // 33025 * 255 * 255 < 2^31
  check_error([&] { with_tokens(98, 337); }, ErrorCode::kFormat, "P v can overflow");
}

TEST_CASE("only a linear layer makes logits") {
  Graph g = wide_graph(3, add_nothing);
  value(g, "wide").dtype = DType::kS32;
  value(g, "wide").shape = {1, 3};
  value(g, "logits").shape = {1, 3};
  SelectRowsOp select;
  select.src = 2, select.dst = g.output;
  g.ops.back() = {"select", select};
  check_error([&] { check(g); }, ErrorCode::kFormat, "logits must be made by a linear layer");
}

}  // namespace intaglio::test
