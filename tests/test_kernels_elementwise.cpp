// The scalar elementwise kernels and the integer square roots against independent formulas.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/fixed_point.h"
#include "kernels/kernels.h"
#include "kernels/simd/layernorm.inl.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_operands.h"

namespace intaglio::test {
namespace {

using kernels::scalar_table;

std::vector<std::int16_t> all_codes() {
  std::vector<std::int16_t> codes;
  for (int h = INT16_MIN; h <= INT16_MAX; ++h) codes.push_back(static_cast<std::int16_t>(h));
  return codes;
}

TEST_CASE("scalar GELU is its formula, for every code") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  const auto h = all_codes();
  for (int segment_bits = 0; segment_bits <= 9; ++segment_bits) {
    const auto base = make_values<std::int32_t>(rng, 64, Fill::kRandom, -(1 << 26), 1 << 26);
    const auto slope = make_values<std::int32_t>(rng, 64, Fill::kRandom, -(1 << 16), 1 << 16);
    // Every second table goes onto channels with exponents.
    const std::size_t dim = segment_bits % 2 == 0 ? 1 : 8;
    const auto exponents = make_values<std::uint8_t>(rng, dim, Fill::kRandom, 0, 7);
    const kernels::GeluParams params = {
        .multiplier = static_cast<std::int32_t>(pick(rng, 0, 32767)),
        .shift = static_cast<int>(pick(rng, 18, dim == 1 ? 28 : 23)),
        .segment_bits = segment_bits,
        .base = base.data(),
        .slope = slope.data(),
        .zero_point = static_cast<std::int32_t>(pick(rng, 0, 255)),
        .exponents = dim == 1 ? nullptr : exponents.data(),
        .dim = dim};
    std::vector<std::uint8_t> dst(h.size());
    scalar_table().gelu_table(params, h.data(), h.size() / dim, dst.data());
    const double piece = std::exp2(segment_bits);
    for (std::size_t i = 0; i < h.size(); ++i) {
      const double a = std::min(std::abs(static_cast<double>(h[i])), 64 * piece - 1);
      const auto s = static_cast<std::size_t>(std::floor(a / piece));
      const double bend = base[s] + slope[s] * std::fmod(a, piece);
      const double real = (std::max(static_cast<double>(h[i]), 0.0) * params.multiplier - bend) /
                          std::exp2(params.shift + (dim == 1 ? 0 : exponents[i % dim]));
      const double code = std::floor(real + 0.5) + params.zero_point;
      REQUIRE(static_cast<double>(dst[i]) == std::clamp(code, 0.0, 255.0));
    }
  }
}

// x in steps of 2^-11 up to 16, y in steps of 1/24: 64 chords of 1/8 unit each.
TEST_CASE("scalar GELU with chords of g(a) = a Phi(-a) is GELU") {
  constexpr double kStep = 0x1p-11, kDstScale = 1.0 / 24;
  constexpr int kShift = 20, kSegmentBits = 8;
  const auto g = [](double a) { return a * 0.5 * std::erfc(a * std::sqrt(0.5)); };
  const double unit = std::exp2(kShift) / kDstScale;
  std::vector<std::int32_t> base, slope;
  for (int i = 0; i < 64; ++i) {
    const double from = g((i << kSegmentBits) * kStep), to = g(((i + 1) << kSegmentBits) * kStep);
    base.push_back(static_cast<std::int32_t>(std::lround(from * unit)));
    slope.push_back(
        static_cast<std::int32_t>(std::lround((to - from) * unit / (1 << kSegmentBits))));
  }
  const auto multiplier = static_cast<std::int32_t>(std::lround(kStep * unit));
  const auto h = all_codes();
  std::vector<std::uint8_t> dst(h.size());
  scalar_table().gelu_table({multiplier, kShift, kSegmentBits, base.data(), slope.data(), 5},
                            h.data(), h.size(), dst.data());
  double worst = 0;
  for (std::size_t i = 0; i < h.size(); ++i) {
    const double x = h[i] * kStep;
    const double real = x * 0.5 * std::erfc(-x * std::sqrt(0.5)) / kDstScale + 5;
    if (real < 254.5) worst = std::max(worst, std::abs(real - dst[i]));
  }
  INFO("farthest code: " << worst << " codes from GELU");
  CHECK(worst < 0.6);
}

TEST_CASE("scalar residual add is the rounded real sum") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 300; ++i) {
    const auto dim = static_cast<std::size_t>(pick(rng, 1, 40));
    const auto a = make_values<std::uint8_t>(rng, dim, Fill::kRandom);
    const auto b = make_values<std::uint8_t>(rng, dim, Fill::kRandom);
    const auto exponents_b = make_values<std::uint8_t>(rng, dim, Fill::kRandom, 0, 7);
    const auto exponents_dst = make_values<std::uint8_t>(rng, dim, Fill::kRandom, 0, 7);
    const int shift = static_cast<int>(pick(rng, 1, 20));
    const std::int64_t reach = std::int64_t{1} << std::min(shift, 13);
    const kernels::ResidualParams params = {dim,
                                            static_cast<std::int32_t>(pick(rng, 0, 255)),
                                            static_cast<std::int32_t>(pick(rng, -reach, reach)),
                                            static_cast<std::int32_t>(pick(rng, 0, 255)),
                                            static_cast<std::int32_t>(pick(rng, -reach, reach)),
                                            exponents_b.data(),
                                            exponents_dst.data(),
                                            shift,
                                            static_cast<std::int32_t>(pick(rng, 0, 255))};
    std::vector<std::uint8_t> dst(dim);
    scalar_table().residual_add(params, a.data(), b.data(), 1, dst.data());
    for (std::size_t c = 0; c < dim; ++c) {
      const double fine = (static_cast<double>(a[c]) - params.zero_a) * params.multiplier_a +
                          (static_cast<double>(b[c]) - params.zero_b) * std::exp2(exponents_b[c]) *
                              params.multiplier_b;
      const double code =
          std::floor(fine / std::exp2(shift + exponents_dst[c]) + 0.5) + params.zero_point;
      REQUIRE(static_cast<double>(dst[c]) == std::clamp(code, 0.0, 255.0));
    }
  }
}

TEST_CASE("scalar sums of words are clamped") {
  const std::int16_t a[] = {0, 1, -1, 32767, 32767, 32767, -32768, -32768, -32768, 300, -32767};
  const std::int16_t b[] = {0, 2, -2, 0, 1, 32767, 0, -1, -32768, -500, -1};
  const std::int16_t sums[] = {0, 3, -3, 32767, 32767, 32767, -32768, -32768, -32768, -200, -32768};
  std::int16_t dst[std::size(a)];
  scalar_table().add_s16(a, b, std::size(a), dst);
  CHECK(std::equal(std::begin(dst), std::end(dst), sums));
}

TEST_CASE("every pixel comes to its place in its patch") {
  Rng rng(test_seed());
  constexpr std::size_t kPatch = 4, kHeight = 12, kWidth = 20, kStride = kWidth * 3 + 7;
  const auto codes = make_values<std::uint8_t>(rng, 3 * 256, Fill::kRandom);
  const auto image = make_values<std::uint8_t>(rng, kHeight * kStride, Fill::kRandom);
  std::vector<std::uint8_t> dst(kHeight * kWidth * 3);
  const std::size_t patches = kHeight * kWidth / (kPatch * kPatch);
  scalar_table().pixels_to_patches({kHeight, kWidth, kPatch, codes.data()}, image.data(), kStride,
                                   0, patches, dst.data());
  for (std::size_t y = 0; y < kHeight; ++y) {
    for (std::size_t x = 0; x < kWidth; ++x) {
      for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t patch = y / kPatch * (kWidth / kPatch) + x / kPatch;
        const std::size_t within = (y % kPatch * kPatch + x % kPatch) * 3 + c;
        const std::uint8_t pixel = image[y * kStride + x * 3 + c];
        REQUIRE(int{dst[patch * kPatch * kPatch * 3 + within]} == int{codes[c * 256 + pixel]});
      }
    }
  }
}

bool is_root(std::uint64_t root, std::uint64_t value) {
  using Wide = unsigned __int128;
  return Wide{root} * root <= value && (Wide{root} + 1) * (Wide{root} + 1) > value;
}

TEST_CASE("integer_sqrt is the largest root that fits") {
  bool right = true;
  for (std::uint64_t value = 0; value < 1 << 20; ++value) {
    right = right && is_root(kernels::integer_sqrt(value), value);
  }
  CHECK(right);
  Rng rng(test_seed());
  for (int i = 0; i < 100000; ++i) {
    const std::uint64_t root = i == 0 ? 0xffffffffu : rng() >> 32 >> (i % 32);
    const std::uint64_t square = root * root;
    right = right && kernels::integer_sqrt(square) == root &&
            is_root(kernels::integer_sqrt(square - 1), square - 1);
    right = right && is_root(kernels::integer_sqrt(square + 1), square + 1);
  }
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  CHECK(right);
}

TEST_CASE("the fast root of 60-bit numbers is integer_sqrt") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  constexpr std::uint64_t kLow = std::uint64_t{1} << 60, kHigh = std::uint64_t{1} << 62;
  bool right = true;
  const auto check = [&](std::uint64_t value) {
    if (value >= kLow && value < kHigh)
      right = right && is_root(kernels::root_of_60_bits(value), value);
  };
  for (const std::uint64_t edge : {kLow, kHigh}) {
    for (std::uint64_t d = 0; d < 1000; ++d) check(edge + d), check(edge - d);
  }
  for (std::uint64_t step = 0; step < 3 << 16; ++step) {  // every guess, at both ends
    check(kLow + (step << 44)), check(kLow + (step << 44) - 1);
  }
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t root = (std::uint64_t{1} << 30) + (rng() >> 34);
    check(root * root), check(root * root - 1), check(root * root + 2 * root),
        check(kLow + rng() % (kHigh - kLow));
  }
  CHECK(right);
}

}  // namespace
}  // namespace intaglio::test
