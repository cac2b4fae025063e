// From reals to integers, against formulas in double that are written differently.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "converters/lower.h"
#include "kernels/kernels.h"
#include "tests/support/expect_error.h"

namespace intaglio::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double log_uniform(std::mt19937& random, double low, double high) {
  const double t = static_cast<double>(random()) / 4294967295.0;
  return low * std::pow(high / low, t);
}

std::vector<std::uint8_t> scalar_gelu(const GeluOp& op, std::int32_t zero_point) {
  std::vector<std::int16_t> src(65536);
  for (std::size_t i = 0; i < src.size(); ++i) src[i] = static_cast<std::int16_t>(int(i) - 32768);
  std::vector<std::uint8_t> dst(src.size());
  kernels::scalar_table().gelu_table(
      {op.multiplier, op.shift, op.segment_bits, op.base.data(), op.slope.data(), zero_point},
      src.data(), src.size(), dst.data());
  return dst;
}

}  // namespace

TEST_CASE("fixed point is the nearest fraction at the largest shift") {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> reals(1 + random() % 5);
    for (double& r : reals) r = log_uniform(random, 1e-12, 1e9) * (random() % 2 == 0 ? 1 : -1);
    const std::int32_t limit = round % 2 == 0 ? INT32_MAX : INT16_MAX;
    for (double& r : reals) r *= limit == INT32_MAX ? 1 : 1e-5;
    const int max_shift = round % 3 == 0 ? 30 : 62;
    const FixedPoint fixed = to_fixed_point(reals, max_shift, limit);
    REQUIRE(fixed.shift >= 1);
    REQUIRE(fixed.shift <= max_shift);
    REQUIRE(fixed.multiplier.size() == reals.size());
    double largest = 0;
    for (std::size_t i = 0; i < reals.size(); ++i) {
      const double scaled = reals[i] * std::pow(2.0, fixed.shift);
      REQUIRE(std::abs(fixed.multiplier[i] - scaled) <= 0.5);
      REQUIRE(std::abs(std::int64_t{fixed.multiplier[i]}) <= limit);
      largest = std::max(largest, std::abs(scaled));
    }
    if (fixed.shift < max_shift) REQUIRE(2 * largest > limit - 0.5);
  }
  CHECK(to_fixed_point(std::array{0.3}, 32, INT32_MAX).multiplier[0] == 1288490189);
  CHECK(to_fixed_point(std::array{0.0}).shift == 62);
  CHECK(to_fixed_point({}).multiplier.empty());
}

TEST_CASE("what fixed point cannot hold is refused") {
  for (const double real : {1.1e9, -1.1e9, 1e300, std::numeric_limits<double>::infinity(), kNaN}) {
    check_error(
        [&] {
          to_fixed_point(std::array{1.0, real});
        },
        ErrorCode::kUnsupported, "beyond fixed point");
  }
  check_error([] { to_fixed_point(std::array{16384.0}, 30, INT16_MAX); }, ErrorCode::kUnsupported,
              "beyond fixed point");
  const FloatLinear layer{1, 1, {1}, {3e38F}};
  check_error(
      [&] {
        lower_linear(layer, {{0.01F}, {}}, {0.01, 0, {}}, {1e-3, 0, {}});
      },
      ErrorCode::kUnsupported, "beyond fixed point");
}

TEST_CASE("codes are rounded to even and clamped") {
  CHECK(quantize(0.5F, {1, 0, {}}) == 0);
  CHECK(quantize(1.5F, {1, 0, {}}) == 2);
  CHECK(quantize(2.5F, {1, 0, {}}) == 2);
  CHECK(quantize(-1.5F, {1, 10, {}}) == 8);
  CHECK(quantize(1e30F, {1e-30F, 128, {}}) == 255);
  CHECK(quantize(-1e30F, {1e-30F, 128, {}}) == 0);
  // The largest weight of a channel is exactly 127.5 scales.
  CHECK(quantize_weight({127.5F / 128, -127.5F / 128}, {1.0F / 128}) ==
        std::vector<std::int8_t>{127, -128});
}

TEST_CASE("a linear layer's integers are its reals within half a code") {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    const std::size_t k = 1 + random() % 40;
    FloatLinear layer{1, k, std::vector<float>(k), {}};
    const WeightGrid weights{{0.01F}, {}};
    for (float& w : layer.weight) w = static_cast<float>(log_uniform(random, 1e-4, 1));
    if (round % 4 != 0) layer.bias = {static_cast<float>(log_uniform(random, 1e-3, 1e3))};
    const InputGrid src{log_uniform(random, 1e-3, 1), round % 2 == 0 ? 127.5 : 77, {}};
    const double dst_scale = log_uniform(random, 1e-3, 10);
    const LinearOp op = lower_linear(layer, weights, src, {dst_scale, 0, {}});
    std::int64_t acc = 0;
    double exact = layer.bias.empty() ? 0 : double{layer.bias[0]};
    for (std::size_t i = 0; i < k; ++i) {
      const int code = static_cast<int>(random() % 256);
      acc += code * op.weight[i];
      exact += (code - src.zero_point) * src.scale * op.weight[i] * double{weights.scale[0]};
    }
    const std::int64_t code = (acc * op.multiplier[0] + op.bias[0]) >> op.shift;
    REQUIRE(std::abs(static_cast<double>(code) - exact / dst_scale) <= 0.501);
  }
}

TEST_CASE("logits are as fine as s32 allows and never clamped") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::size_t k = 1 + random() % 100;
    FloatLinear layer{2, k, std::vector<float>(2 * k), {0, 0}};
    WeightGrid weights{{0, 0}, {}};
    for (std::size_t j = 0; j < 2; ++j) {
      weights.scale[j] = static_cast<float>(log_uniform(random, 1e-6, 1));
      layer.bias[j] = static_cast<float>(log_uniform(random, 1e-6, 1e4));
    }
    for (float& w : layer.weight) w = (random() % 2 == 0 ? 1.0F : -1.0F) * 1e3F;
    const InputGrid src{log_uniform(random, 1e-4, 1), 128, {}};
    const double scale = logit_scale(layer, weights, src);
    const double finest = src.scale * std::max(weights.scale[0], weights.scale[1]);
    CHECK(std::log2(finest / scale) == std::round(std::log2(finest / scale)));
    const LinearOp op = lower_linear(layer, weights, src, {scale, 0, {}});
    for (std::size_t j = 0; j < 2; ++j) {
      for (const int sign : {-1, 1}) {  // inputs that drive the logit to its end
        std::int64_t acc = 0;
        for (std::size_t i = 0; i < k; ++i) {
          const int w = op.weight[j * k + i];
          acc += w * (w * sign > 0 ? 255 : 0);
        }
        const std::int64_t code = (acc * op.multiplier[j] + op.bias[j]) >> op.shift;
        REQUIRE(std::abs(code) < INT32_MAX);
      }
    }
  }
}

TEST_CASE("sums stay in 31 bits and within half a code of the exact sum") {
  std::mt19937 random(4);
  const auto zero = [&] { return static_cast<std::int32_t>(random() % 256); };
  const auto scale = [&] { return static_cast<float>(log_uniform(random, 0.003, 1)); };
  for (int round = 0; round < 500; ++round) {
    const auto exponent = [&] { return std::vector{static_cast<std::uint8_t>(random() % 4)}; };
    const Grid a{scale(), zero(), {}};
    Grid b{scale(), zero(), exponent()};
    const Grid dst{scale(), zero(), exponent()};
    if (round % 5 == 0) b.exponents.clear();
    const int exponent_b = b.exponents.empty() ? 0 : b.exponents[0];
    const LoweredSum sum = lower_sum(a, b, dst);
    const int shift = sum.shift + dst.exponents[0];
    for (int i = 0; i < 256; ++i) {
      // Both corners of each operand, and pairs in between.
      const int code_a = i < 4 ? 255 * (i & 1) : static_cast<int>(random() % 256);
      const int code_b = i < 4 ? 255 * (i >> 1) : static_cast<int>(random() % 256);
      const std::int64_t x = std::int64_t{code_a - a.zero_point} * sum.multiplier_a;
      const std::int64_t y =
          std::int64_t{code_b - b.zero_point} * (1 << exponent_b) * sum.multiplier_b;
      const std::int64_t total = x + y + (std::int64_t{1} << (shift - 1));
      REQUIRE(std::abs(x) + std::abs(y) + (std::int64_t{1} << (shift - 1)) <= INT32_MAX);
      const double real =
          a.scale * (code_a - a.zero_point) + b.scale * (1 << exponent_b) * (code_b - b.zero_point);
      const double exact = real / (dst.scale * (1 << dst.exponents[0]));
      // Each multiplier is off by half a unit at most.
      const double spare = std::abs(code_a - a.zero_point) +
                           std::abs(code_b - b.zero_point) * double(1 << exponent_b);
      REQUIRE(std::abs(static_cast<double>(total >> shift) - exact) <=
              0.5 + std::ldexp(spare / 2, -shift) + 1e-6);
    }
  }
  check_error(
      [] {
        lower_sum({1e20, 0, {}}, {1, 0, {}}, {1e-3, 0, {0}});
      },
      ErrorCode::kUnsupported, "too far apart");
}

TEST_CASE("exponentials are exp() within the error of the polynomial") {
  for (const float scale :
       {1e-4F, 1e-3F, 0.01F, 0.03F, 0.05F, 0.1F, 0.15F, 0.2F, 0.3F, 0.5F, 1.0F}) {
    const std::vector<std::uint64_t> table = exponential_table(scale, 197);
    REQUIRE(table.size() == 256);
    double worst = 0;
    for (std::size_t d = 0; d < 256; ++d) {
      const double share = static_cast<double>(table[d]) / static_cast<double>(table[0]);
      worst = std::max(worst, std::abs(share - std::exp(-double{scale} * double(d))));
    }
    INFO("scale " << scale);
    // The polynomial's own error, and what it costs to floor its coefficients to the scale.
    CHECK(worst < 0.0045 + double{scale} / 3);
  }
}

TEST_CASE("exponentials are the reference's") {
  // FQ-ViT's int_exp in reals: floors where it floors, 2^30 as the unit of the result.
  for (const float scale : {0.01F, 0.0275F, 0.09F, 0.152F, 0.25F, 0.7F, 1.5F}) {
    const std::vector<std::uint64_t> table = exponential_table(scale, 197);
    const double x0 = std::floor(-0.6931F / scale);
    const double b = std::floor(static_cast<float>(0.96963238 / 0.35815147) / scale);
    const double c = std::floor(static_cast<float>(1 / 0.35815147) / (scale * scale));
    for (int d = 0; d < 256; ++d) {
      const double x = std::max<double>(-d, 30 * x0);
      const double q = std::floor(x / x0);
      const double r = x - x0 * q;
      const double e = std::max(0.0, std::floor((r * (r + b) + c) * std::exp2(30 - q)));
      REQUIRE(static_cast<double>(table[std::size_t(d)]) == e);
    }
  }
}

TEST_CASE("exponentials use 63 bits and never more") {
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    const auto scale = static_cast<float>(log_uniform(random, 2e-6, 1.6));
    const std::size_t tokens = 1 + random() % 70000;
    const std::vector<std::uint64_t> table = exponential_table(scale, tokens);
    const auto largest = static_cast<double>(*std::max_element(table.begin(), table.end()));
    REQUIRE(table[0] > 0);
    REQUIRE(largest * std::max(2.0 * double(tokens), 98303.0) < 0x1p63);
  }
  for (const float scale : {1.7F, 1e-7F, 0x1p-100F, 3e38F}) {
    check_error([&] { exponential_table(scale, 197); }, ErrorCode::kUnsupported,
                "beyond the integer exponential");
  }
}

TEST_CASE("uniform attention: exact exponentials, a factor of its own, values in steps") {
  const double scale = 0.04, steps = 300, qkv = 0.02, result = 0.015;
  AttentionGrids grids = {{qkv, 120, {}}, {scale, 100, {}}, {result, 130, {}}, 1 / steps};
  const AttentionOp op = lower_attention({3}, 64, 197, grids, SoftmaxForm::kUniform, 16);
  CHECK(op.form == SoftmaxForm::kUniform);
  CHECK(op.codes.size() == 0);
  REQUIRE(op.exponentials.size() == 256);
  for (std::size_t d = 0; d < 256; ++d) {
    CHECK(std::abs(double(op.exponentials[d]) - 0x1p20 * std::exp(-scale * double(d))) <= 0.5);
  }
  REQUIRE(op.probability_factor.size() == 1);
  CHECK(std::abs(double(op.probability_factor[0]) - 0x1p32 * steps) < 1);
  CHECK(std::ldexp(op.attend_multiplier, -op.attend_shift) == Approx(qkv / result / steps));
  for (const double real : {0.0, -1.0, 0x1p-19, kNaN}) {
    grids.probability_scale = real;
    check_error([&] { lower_attention({3}, 64, 197, grids, SoftmaxForm::kUniform, 16); },
                ErrorCode::kUnsupported, "beyond what attention probabilities may have");
  }
}

TEST_CASE("GELU is within a code of the exact one for every input") {
  double worst = 0;
  for (const float step : {0.002F, 0.005F, 0.01F, 0.02F, 0.0333F, 0.05F, 0.1F, 0.3F, 1.0F}) {
    for (const std::int32_t zero : {0, 1, 5, 17, 60, 128, 255}) {
      const LoweredGelu gelu = lower_gelu({step, zero, {}});
      const std::vector<std::uint8_t> codes = scalar_gelu(gelu.op, zero);
      double largest = 0;
      for (int h = -32768; h < 32768; ++h) {
        const double x = h * gelu.src_scale;
        const double exact = 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))) / double{step} + zero;
        const double clamped = std::clamp(exact, 0.0, 255.0);
        largest = std::max(largest, std::abs(codes[std::size_t(h + 32768)] - clamped));
      }
      INFO("step " << step << ", zero point " << zero);
      CHECK(largest < 0.7);  // half of it is the rounding
      worst = std::max(worst, largest);
      // s16 reaches where the code is 255.
      CHECK(32767 * gelu.src_scale >= (255 - zero) * double{step});
    }
  }
  std::printf("GELU: at most %.3f codes from the exact result\n", worst);
}

}  // namespace intaglio::test
