// Swin's layers from reals to integers: bias, means, padding, streams of each stage.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "bench/own_form.h"
#include "converters/lower.h"
#include "converters/lower_network.h"
#include "kernels/fixed_point.h"
#include "kernels/scalar/scalar.h"
#include "tests/support/expect_error.h"
#include "tests/support/import_cases.h"

namespace intaglio::test {
namespace {

constexpr std::size_t kWindow = 3;
constexpr std::size_t kDistances = (2 * kWindow - 1) * (2 * kWindow - 1);

AttentionLayer biased_layer(std::mt19937& random, float reach) {
  AttentionLayer layer{2, kWindow, 1, std::vector<float>(2 * kDistances)};
  for (float& b : layer.bias) b = reach * (static_cast<float>(random() % 2001) / 1000 - 1);
  return layer;
}

Grid random_grid(std::mt19937& random) {
  return {0.002 * std::pow(50.0, double(random() % 1000) / 999),
          static_cast<std::int32_t>(random() % 256),
          {}};
}

}  // namespace

TEST_CASE("a bias with a grid of its own is added to codes within half a code") {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const AttentionLayer layer = biased_layer(random, 2);
    AttentionGrids grids = {random_grid(random), random_grid(random), random_grid(random)};
    grids.biased = random_grid(random);
    grids.bias = {4.0F / 255, 128, {}};
    const AttentionOp op =
        lower_attention(layer, 32, kWindow * kWindow, grids, SoftmaxForm::kLogInt, 16);
    REQUIRE(op.bias.shape() == std::vector<std::size_t>{2, 2 * kWindow - 1, 2 * kWindow - 1});
    CHECK(op.window == int{kWindow});
    CHECK(op.window_shift == 1);
    CHECK(op.bias_zero_point == grids.biased->zero_point);
    CHECK(op.score_zero_point == grids.scores.zero_point);
    // The softmax reads the codes behind the bias.
    CHECK(op.exponentials[1] ==
          exponential_table(static_cast<float>(grids.biased->scale), kWindow * kWindow)[1]);
    for (std::size_t i = 0; i < layer.bias.size(); ++i) {
      const double bias =
          grids.bias.scale * (quantize(layer.bias[i], grids.bias) - grids.bias.zero_point);
      for (int c = 0; c < 256; ++c) {
        const double real = grids.scores.scale * (c - grids.scores.zero_point) + bias;
        const std::int64_t sum =
            std::int64_t{c - grids.scores.zero_point} * op.bias_multiplier + op.bias[i];
        REQUIRE(std::abs(sum) + (std::int64_t{1} << (op.bias_shift - 1)) <= INT32_MAX);
        const auto code = double(kernels::rounding_shift_right(sum, op.bias_shift));
        REQUIRE(std::abs(code - real / grids.biased->scale) <= 0.501);
      }
    }
  }
}

TEST_CASE("a bias without a grid is added to sums within half a code") {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const AttentionLayer layer = biased_layer(random, 5);
    AttentionGrids grids = {random_grid(random), random_grid(random), random_grid(random)};
    const AttentionOp op =
        lower_attention(layer, 32, kWindow * kWindow, grids, SoftmaxForm::kRowRelative, 15);
    CHECK(op.bias_shift == 0);
    CHECK(op.bias_multiplier == 0);
    CHECK(op.bias_zero_point == 0);
    const double unit = grids.qkv.scale * grids.qkv.scale / std::sqrt(32.0);
    for (std::size_t i = 0; i < layer.bias.size(); ++i) {
      REQUIRE(std::abs(op.bias[i] - layer.bias[i] / unit) <= 0.5);
      const auto acc = static_cast<std::int32_t>(random() % 2000001) - 1000000;
      const std::int64_t code = (std::int64_t{acc + op.bias[i]} * op.score_multiplier +
                                 (std::int64_t{1} << (op.score_shift - 1))) >>
                                op.score_shift;
      const double exact = (acc * unit + double{layer.bias[i]}) / grids.scores.scale;
      // The bias is rounded to a unit of the sums.
      REQUIRE(std::abs(double(code) - exact) <= 0.501 + 0.5 * unit / grids.scores.scale);
    }
  }
}

TEST_CASE("a bias beyond all scores is clamped, scales too far apart are refused") {
  AttentionLayer layer{1, 1, 0, {3e38F}};
  AttentionGrids grids = {{1e-3, 128, {}}, {0.05, 128, {}}, {0.01, 128, {}}};
  const auto lowered = [&] {
    return lower_attention(layer, 32, 1, grids, SoftmaxForm::kRowRelative, 15);
  };
  CHECK(lowered().bias[0] == (1 << 30) - 1);
  layer.bias[0] = -3e38F;
  CHECK(lowered().bias[0] == 1 - (1 << 30));
  grids.biased = Grid{1e-12, 128, {}};
  grids.bias = {1, 128, {}};
  check_error(lowered, ErrorCode::kUnsupported, "too far apart");
}

TEST_CASE("means are within half a code for any number of rows") {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const Grid src = random_grid(random);
    const Grid dst = random_grid(random);
    const MeanRowsOp op = lower_mean(src, dst);
    REQUIRE(op.shift >= 1);
    REQUIRE(op.shift <= 38);
    CHECK(std::ldexp(op.multiplier, -op.shift) == Approx(src.scale / dst.scale).epsilon(1e-8));
    const std::size_t rows = 1 + random() % 300;
    std::vector<std::uint8_t> codes(rows);
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random() % 40 + 100);
    double exact = 0;
    for (const std::uint8_t code : codes) {
      exact += src.scale * (code - src.zero_point) / double(rows) / dst.scale;
    }
    std::uint8_t found = 0;
    kernels::scalar::mean_rows({1, src.zero_point, op.multiplier, op.shift, dst.zero_point}, {0, 1},
                               codes.data(), rows, &found);
    CHECK(std::abs(found - std::clamp(exact + dst.zero_point, 0.0, 255.0)) <= 0.501);
  }
}

namespace {

const Value& value_of(const Graph& graph, const std::string& name) {
  for (const Value& value : graph.values) {
    if (value.name == name) return value;
  }
  FAIL("no value " << name);
  return graph.values[0];
}

const LayerNormOp& norm_of(const Graph& graph, const std::string& name) {
  for (const Op& op : graph.ops) {
    if (op.name == name) return std::get<LayerNormOp>(op.params);
  }
  throw std::logic_error("no operation " + name);
}

}  // namespace

TEST_CASE("tokens and pixels beyond a map have the codes of zeros") {
  for (const bool own : {false, true}) {
    const CalibratedNetwork model = own ? own_form(imported(golden_checkpoint("swin_micro")))
                                        : imported(golden_checkpoint("swin_micro"));
    const Graph graph = lower(model.network, model.calibration, {});
    const auto& patches = std::get<PatchesOp>(graph.ops[0].params);
    const Grid& pixels = value_of(graph, "qact_input").grid;
    CHECK(std::vector(patches.padding.view().begin(), patches.padding.view().end()) ==
          std::vector(3, static_cast<std::uint8_t>(pixels.zero_point)));
    std::size_t layers = 0;
    for (std::size_t i = 1; i < graph.ops.size(); ++i) {
      const auto* attention = std::get_if<AttentionOp>(&graph.ops[i].params);
      if (attention == nullptr) continue;
      ++layers;
      INFO(graph.ops[i].name);
      const auto& qkv = std::get<LinearOp>(graph.ops[i - 1].params);
      const std::size_t n = qkv.weight.shape()[0], k = qkv.weight.shape()[1];
      const Grid& dst = graph.values[qkv.dst].grid;
      std::vector<std::byte> packed(kernels::scalar::gemm_packed_bytes(n, k) + 64);
      std::byte* aligned = packed.data() + (64 - std::uintptr_t(packed.data()) % 64);
      kernels::scalar::gemm_pack(qkv.weight.data(), n, k, aligned);
      kernels::GemmParams params;
      params.n = n, params.k = k, params.packed = aligned;
      params.multiplier = qkv.multiplier.data(), params.bias = qkv.bias.data();
      params.shift = qkv.shift, params.zero_point = dst.zero_point;
      const std::vector<std::uint8_t> zeros(
          k, static_cast<std::uint8_t>(graph.values[qkv.src].grid.zero_point));
      std::vector<std::uint8_t> expected(n);
      kernels::scalar::gemm_u8s8(params, {0, n}, zeros.data(), k, 1, nullptr, expected.data(), n);
      CHECK(std::vector(attention->padding.view().begin(), attention->padding.view().end()) ==
            expected);
    }
    CHECK(layers == 4);
  }
}

TEST_CASE("s16 streams have the scale of each") {
  const CalibratedNetwork model = own_form(imported(golden_checkpoint("swin_micro")));
  const auto& grids = model.calibration.grids;
  const Graph graph = lower(model.network, model.calibration, {});
  std::size_t streams = 0;
  for (const Value& value : graph.values) {
    const bool stream = value.name == "patch_embed.qact_before_norm" ||
                        value.name == "patch_embed.qact" || value.name.ends_with(".qact4") ||
                        (value.name.ends_with(".qact2") && value.name != "qact2");
    INFO(value.name);
    streams += stream ? 1 : 0;
    const bool hidden = value.name.ends_with("fc1");
    CHECK((value.dtype == DType::kS16) == (stream || hidden));
    if (stream) CHECK(value.grid.scale == grids.at(value.name).scale);
  }
  CHECK(streams == 2 + 4 * 2 + 1);
  std::size_t sums = 0;
  for (const Op& op : graph.ops) {
    const auto* linear = std::get_if<LinearOp>(&op.params);
    if (linear == nullptr || !linear->residual) continue;
    ++sums;
    INFO(op.name);
    const double ratio =
        graph.values[*linear->residual].grid.scale / graph.values[linear->dst].grid.scale;
    for (const std::int32_t m : linear->residual_multiplier.view()) {
      REQUIRE(std::ldexp(m, -linear->shift) == Approx(ratio).epsilon(1e-6));
    }
  }
  CHECK(sums == 8);
  CHECK(norm_of(graph, "layers.0.downsample.norm").merge == 2);
  CHECK(norm_of(graph, "norm").merge == 1);
  const LayerNormOp& begin = norm_of(graph, "patch_embed.norm");
  const Checkpoint::Tensor& gamma =
      golden_checkpoint("swin_micro").tensors.at("patch_embed.norm.weight");
  for (std::size_t c = 0; c < begin.multiplier.size(); ++c) {
    const double real = double{get<float>(gamma, c)} / grids.at("patch_embed.qact").scale;
    REQUIRE(std::ldexp(begin.multiplier[c], kernels::kNormFractionBits - begin.shift) ==
            Approx(real).epsilon(1e-6));
  }
}

}  // namespace intaglio::test
