// The scalar definitions against oracles that are written in another way: real numbers, 128-bit
// integers, expanded sums.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/fixed_point.h"
#include "kernels/kernels.h"
#include "kernels/scalar/scalar.h"
#include "kernels/simd/layernorm.inl.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_operands.h"

namespace intaglio::test {
namespace {

using kernels::CodeType;
using kernels::scalar_table;
using Int128 = __int128;

/// floor((2 value / 2^shift + 1) / 2) with a division instead of a shift.
std::int64_t rounded_quotient(Int128 value, int shift) {
  const Int128 divisor = Int128{1} << shift;
  const Int128 shifted = value + divisor / 2;
  Int128 quotient = shifted / divisor;
  if (shifted % divisor < 0) --quotient;
  return static_cast<std::int64_t>(quotient);
}

std::int64_t clamped(Int128 code, std::int64_t low, std::int64_t high) {
  return static_cast<std::int64_t>(std::clamp<Int128>(code, low, high));
}

template <class T>
void check_gemm(Rng& rng, CodeType output) {
  const auto m = static_cast<std::size_t>(pick(rng, 1, 9));
  const auto k = static_cast<std::size_t>(pick(rng, 1, 70));
  const auto n = static_cast<std::size_t>(pick(rng, 1, 20));
  const auto src = make_values<std::uint8_t>(rng, m * k, Fill::kRandom);
  const auto weight = make_values<std::int8_t>(rng, n * k, Fill::kRandom);
  const auto multiplier = make_values<std::int32_t>(rng, n, Fill::kRandom);
  const int shift = static_cast<int>(pick(rng, 1, 62));
  const std::int64_t room = std::int64_t{1} << std::min(62, shift + 10);
  const auto bias = make_values<std::int64_t>(rng, n, Fill::kRandom, -room, room);
  const auto zero = static_cast<std::int32_t>(pick(rng, -300, 300));
  std::vector<std::byte> packed(scalar_table().gemm_packed_bytes(n, k));
  scalar_table().gemm_pack(weight.data(), n, k, packed.data());
  std::vector<T> dst(m * n);
  scalar_table().gemm_u8s8(
      {n, k, packed.data(), multiplier.data(), bias.data(), shift, zero, output}, {0, n},
      src.data(), k, m, nullptr, dst.data(), n);
  for (std::size_t i = 0; i < m * n; ++i) {
    Int128 sum = 0;
    for (std::size_t d = 0; d < k; ++d) sum += src[i / n * k + d] * weight[i % n * k + d];
    const Int128 half = Int128{1} << shift >> 1;  // is part of bias already
    const Int128 scaled = sum * multiplier[i % n] + bias[i % n] - half;
    const std::int64_t expected =
        clamped(Int128{rounded_quotient(scaled, shift)} + zero, std::numeric_limits<T>::min(),
                std::numeric_limits<T>::max());
    REQUIRE(std::int64_t{dst[i]} == expected);
  }
}

TEST_CASE("scalar GEMM is the quotient of 128-bit integers") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 100; ++i) {
    check_gemm<std::uint8_t>(rng, CodeType::kU8);
    check_gemm<std::int16_t>(rng, CodeType::kS16);
    check_gemm<std::int32_t>(rng, CodeType::kS32);
  }
}

TEST_CASE("scalar scores are the expanded sums") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 200; ++i) {
    const auto rows = static_cast<std::size_t>(pick(rng, 1, 5));
    const auto tokens = static_cast<std::size_t>(pick(rng, 1, 5));
    const auto head_dim = static_cast<std::size_t>(pick(rng, 1, 256));
    const auto q = make_values<std::uint8_t>(rng, rows * head_dim, Fill::kRandom);
    const auto k = make_values<std::uint8_t>(rng, tokens * head_dim, Fill::kRandom);
    const kernels::ScoreParams params = {static_cast<std::int32_t>(pick(rng, 0, 255)),
                                         static_cast<std::int32_t>(pick(rng, INT32_MIN, INT32_MAX)),
                                         static_cast<int>(pick(rng, 1, 62)),
                                         static_cast<std::int32_t>(pick(rng, 0, 255))};
    std::vector<std::uint8_t> dst(rows * tokens);
    kernels::scalar::attention_scores(params, q.data(), rows, k.data(), tokens, head_dim, head_dim,
                                      dst.data());
    for (std::size_t at = 0; at < dst.size(); ++at) {
      std::int64_t products = 0, sum_q = 0, sum_k = 0;
      for (std::size_t d = 0; d < head_dim; ++d) {
        const std::int64_t x = q[at / tokens * head_dim + d];
        const std::int64_t y = k[at % tokens * head_dim + d];
        products += x * y, sum_q += x, sum_k += y;
      }
      const std::int64_t z = params.zero_src;
      const std::int64_t sum =
          products - z * (sum_q + sum_k) + z * z * static_cast<std::int64_t>(head_dim);
      const std::int64_t code = rounded_quotient(Int128{sum} * params.multiplier, params.shift);
      REQUIRE(std::int64_t{dst[at]} == clamped(code + params.zero_point, 0, 255));
    }
  }
}

/// log2 of round-half-even(sum / e), up from mantissa 1.5, as the paper's authors compute it.
int reference_code(std::uint64_t sum, std::uint64_t e) {
  if (e == 0) return kernels::kZeroCode;
  std::uint64_t ratio = sum / e;
  const std::uint64_t twice_rest = 2 * (sum % e);
  if (twice_rest > e || (twice_rest == e && ratio % 2 == 1)) ++ratio;
  const long double exponent = std::floor(std::log2(static_cast<long double>(ratio)));
  const bool up = static_cast<long double>(ratio) >= 1.5L * std::exp2(exponent);
  return std::min(static_cast<int>(exponent) + (up ? 1 : 0), int{kernels::kZeroCode});
}

TEST_CASE("scalar softmax is the log2 of the rounded quotient") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 300; ++i) {
    std::vector<std::uint64_t> e(256);
    // Small numbers make quotients that end in .5 common; large ones reach all codes.
    const std::int64_t top = std::int64_t{1} << pick(rng, 1, 40);
    for (std::size_t d = 0; d < 256; ++d) {
      const std::int64_t high = i % 2 == 0 ? top : std::max<std::int64_t>(top >> (d / 8), 1);
      e[d] = static_cast<std::uint64_t>(pick(rng, d == 0, high));
    }
    const auto cols = static_cast<std::size_t>(pick(rng, 1, 300));
    const auto scores = make_values<std::uint8_t>(rng, cols, Fill::kRandom, pick(rng, 0, 255), 255);
    std::vector<std::uint8_t> codes(cols);
    kernels::scalar::softmax_codes({.exponentials = e.data()}, scores.data(), 1, cols,
                                   codes.data());
    const std::uint8_t maximum = *std::max_element(scores.begin(), scores.end());
    std::uint64_t sum = 0;
    for (const std::uint8_t s : scores) sum += e[maximum - s];
    for (std::size_t j = 0; j < cols; ++j) {
      REQUIRE(int{codes[j]} == reference_code(sum, e[maximum - scores[j]]));
    }
  }
}

/// P v in double, exact: 24 bits before the point at most, 15 behind it.
double real_attend(const kernels::SoftmaxParams& softmax, const std::vector<std::uint8_t>& codes,
                   const std::uint8_t* v, std::size_t stride, std::int32_t zero) {
  double sum = 0;
  for (std::size_t j = 0; j < codes.size(); ++j) {
    const double p = codes[j] < softmax.zero_code ? std::exp2(-static_cast<double>(codes[j])) : 0.0;
    sum += p * (v[j * stride] - zero);
  }
  return sum;
}

TEST_CASE("scalar P v is the sum of real weights") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 200; ++i) {
    const auto tokens = static_cast<std::size_t>(pick(rng, 1, 200));
    const auto head_dim = static_cast<std::size_t>(pick(rng, 1, 9));
    const auto codes = make_values<std::uint8_t>(rng, tokens, Fill::kRandom, 0, 20);
    const auto v = make_values<std::uint8_t>(rng, tokens * head_dim, Fill::kRandom);
    const int shift = static_cast<int>(pick(rng, 1, 62));
    const kernels::SoftmaxParams softmax = {.zero_code =
                                                static_cast<std::uint8_t>(pick(rng, 15, 16))};
    const kernels::AttendParams params = {
        static_cast<std::int32_t>(pick(rng, 0, 255)),
        static_cast<std::int32_t>(pick(rng, INT32_MIN, INT32_MAX)), shift,
        static_cast<std::int32_t>(pick(rng, 0, 255))};
    std::vector<std::uint8_t> dst(head_dim);
    kernels::scalar::attend_codes(softmax, params, codes.data(), 1, v.data(), tokens, head_dim,
                                  head_dim, dst.data(), head_dim);
    for (std::size_t d = 0; d < head_dim; ++d) {
      const double sum = real_attend(softmax, codes, v.data() + d, head_dim, params.zero_src);
      const auto units = static_cast<std::int64_t>(std::ldexp(sum, 15));
      const std::int64_t code = rounded_quotient(Int128{units} * params.multiplier, shift);
      REQUIRE(std::int64_t{dst[d]} == clamped(code + params.zero_point, 0, 255));
    }
  }
}

// The row's factor is cut twice, to 2^-30 of 1 / W and to an integer of at least 2^20: the code is
// the rounding of something within 2^-18 of the real one.
TEST_CASE("row-relative attention divides by the sum of the weights") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 200; ++i) {
    const auto tokens = static_cast<std::size_t>(pick(rng, 1, 257));
    const double scale = std::exp2(static_cast<double>(pick(rng, -40, 0)) / 10);
    std::vector<std::uint8_t> table(256);
    for (std::size_t d = 0; d < 256; ++d) {
      table[d] = static_cast<std::uint8_t>(
          std::min(15.0, std::round(static_cast<double>(d) * scale * std::log2(std::exp(1.0)))));
    }
    const kernels::SoftmaxParams softmax = {
        .form = kernels::SoftmaxForm::kRowRelative, .codes = table.data(), .zero_code = 15};
    const auto scores =
        make_values<std::uint8_t>(rng, tokens, Fill::kRandom, pick(rng, 0, 255), 255);
    std::vector<std::uint8_t> codes(tokens);
    kernels::scalar::softmax_codes(softmax, scores.data(), 1, tokens, codes.data());
    const std::uint8_t maximum = *std::max_element(scores.begin(), scores.end());
    double weights = 0;
    for (std::size_t j = 0; j < tokens; ++j) {
      const double exponent = (maximum - scores[j]) * scale * std::log2(std::exp(1.0));
      REQUIRE(int{codes[j]} == std::min(15, static_cast<int>(std::round(exponent))));
      if (codes[j] < 15) weights += std::exp2(-static_cast<double>(codes[j]));
    }
    const auto v = make_values<std::uint8_t>(rng, tokens, Fill::kRandom);
    // Scale of v over scale of the result, 0.25 to 4, as multiplier / 2^shift of units of 2^-15.
    const double ratio = std::exp2(static_cast<double>(pick(rng, -20, 20)) / 10);
    const kernels::AttendParams params = {
        static_cast<std::int32_t>(pick(rng, 0, 255)),
        static_cast<std::int32_t>(std::lround(std::ldexp(ratio, 28))), 28 + 15,
        static_cast<std::int32_t>(pick(rng, 0, 255))};
    std::uint8_t dst = 0;
    kernels::scalar::attend_codes(softmax, params, codes.data(), 1, v.data(), tokens, 1, 1, &dst,
                                  1);
    const double exact = real_attend(softmax, codes, v.data(), 1, params.zero_src) / weights *
                             std::ldexp(params.multiplier, -28) +
                         params.zero_point;
    REQUIRE(double(dst) >= std::clamp(std::floor(exact + 0.5 - 0x1p-8), 0.0, 255.0));
    REQUIRE(double(dst) <= std::clamp(std::floor(exact + 0.5 + 0x1p-8), 0.0, 255.0));
  }
}

// With e in 20 bits and the row's factor cut: within 2^-10 of a code, and 2^-20 of its size.
TEST_CASE("uniform attention weighs values by probabilities in equal steps") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 300; ++i) {
    const auto tokens = static_cast<std::size_t>(pick(rng, 1, 800));
    const double scale = std::exp2(static_cast<double>(pick(rng, -80, 0)) / 10);
    const double steps = 255 * std::exp2(static_cast<double>(pick(rng, -10, 60)) / 10);
    std::vector<std::uint64_t> e(256);
    for (std::size_t d = 0; d < 256; ++d) {
      e[d] = static_cast<std::uint64_t>(std::llround(0x1p20 * std::exp(-scale * double(d))));
    }
    const kernels::SoftmaxParams softmax = {
        .form = kernels::SoftmaxForm::kUniform,
        .exponentials = e.data(),
        .probability_factor = static_cast<std::uint64_t>(steps * 0x1p32)};
    const auto scores =
        make_values<std::uint8_t>(rng, tokens, Fill::kRandom, pick(rng, 0, 255), 255);
    std::vector<std::uint8_t> codes(tokens);
    kernels::scalar::softmax_codes(softmax, scores.data(), 1, tokens, codes.data());
    const std::uint8_t maximum = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const std::uint8_t s : scores) sum += std::exp(-scale * (maximum - s));
    for (std::size_t j = 0; j < tokens; ++j) {
      const double code = std::exp(-scale * (maximum - scores[j])) / sum * steps;
      const double error = 0x1p-10 + 0x1p-19 * steps / sum;
      REQUIRE(double(codes[j]) >= std::min(std::floor(code + 0.5 - error), 255.0));
      REQUIRE(double(codes[j]) <= std::min(std::floor(code + 0.5 + error), 255.0));
    }
    const auto v = make_values<std::uint8_t>(rng, tokens, Fill::kRandom);
    const kernels::AttendParams params = {static_cast<std::int32_t>(pick(rng, 0, 255)),
                                          static_cast<std::int32_t>(pick(rng, 0, INT32_MAX)),
                                          static_cast<int>(pick(rng, 30, 45)), 100};
    std::uint8_t dst = 0;
    kernels::scalar::attend_codes(softmax, params, codes.data(), 1, v.data(), tokens, 1, 1, &dst,
                                  1);
    std::int64_t acc = 0;
    for (std::size_t j = 0; j < tokens; ++j) acc += codes[j] * (v[j] - params.zero_src);
    const std::int64_t code = rounded_quotient(Int128{acc} * params.multiplier, params.shift);
    REQUIRE(std::int64_t{dst} == clamped(code + 100, 0, 255));
  }
}

TEST_CASE("a residual stream is added to the accumulators before the one rounding") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  for (int i = 0; i < 200; ++i) {
    constexpr std::size_t kDepth = 9;
    const auto n = static_cast<std::size_t>(pick(rng, 1, 9));
    const auto src = make_values<std::uint8_t>(rng, kDepth, Fill::kRandom);
    const auto weight = make_values<std::int8_t>(rng, n * kDepth, Fill::kRandom);
    const auto multiplier = make_values<std::int32_t>(rng, n, Fill::kRandom);
    const auto factor = make_values<std::int32_t>(rng, n, Fill::kRandom);
    const int shift = static_cast<int>(pick(rng, 1, 50));
    const auto bias =
        make_values<std::int64_t>(rng, n, Fill::kRandom, -(1LL << shift), 1LL << shift);
    const auto stream = make_values<std::int16_t>(rng, n, Fill::kRandom);
    std::vector<std::int16_t> dst(n);
    scalar_table().gemm_u8s8({.n = n,
                              .k = kDepth,
                              .packed = reinterpret_cast<const std::byte*>(weight.data()),
                              .multiplier = multiplier.data(),
                              .bias = bias.data(),
                              .shift = shift,
                              .output = CodeType::kS16,
                              .epilogue = kernels::GemmEpilogue::kAddSums,
                              .residual_multiplier = factor.data(),
                              .residual_type = CodeType::kS16},
                             {0, n}, src.data(), kDepth, 1, stream.data(), dst.data(), n);
    for (std::size_t j = 0; j < n; ++j) {
      Int128 sum = Int128{bias[j]} + Int128{stream[j]} * factor[j];
      for (std::size_t d = 0; d < kDepth; ++d) {
        sum += Int128{src[d] * weight[j * kDepth + d]} * multiplier[j];
      }
      const Int128 half = Int128{1} << shift >> 1;  // is part of bias already
      REQUIRE(std::int64_t{dst[j]} ==
              clamped(Int128{rounded_quotient(sum - half, shift)}, INT16_MIN, INT16_MAX));
    }
  }
}

/// The codes of one row, unrounded: (x - mean) / sigma in long double.
std::vector<long double> real_layernorm(const kernels::LayerNormParams& p,
                                        const std::uint8_t* row) {
  std::vector<long double> y(p.dim);
  long double sum = 0;
  for (std::size_t c = 0; c < p.dim; ++c) {
    y[c] = std::ldexp(static_cast<long double>(row[c] - p.zero_src), p.exponents[c]);
    sum += y[c];
  }
  const long double mean = sum / static_cast<long double>(p.dim);
  long double squares = 0;
  for (const long double a : y) squares += (a - mean) * (a - mean);
  const long double sigma = std::sqrt(squares / static_cast<long double>(p.dim));
  for (std::size_t c = 0; c < p.dim; ++c) {
    const long double x = squares == 0 ? 0 : (y[c] - mean) / sigma;
    const auto gamma = std::ldexp(static_cast<long double>(p.multiplier[c]), 22 - p.shift);
    y[c] = x * gamma + std::ldexp(static_cast<long double>(p.bias[c]), -p.shift) + p.zero_point;
  }
  return y;
}

// Gammas of up to 128 codes per unit. x has 22 fractional bits cut off and a mantissa of 30, so y
// is off by at most 128 * (2^-22 + 22.6 * 2^-28), below 2^-14 codes: the code is the floor of
// something that near. (The rounding constant is part of bias.)
TEST_CASE("scalar LayerNorm is within 2^-14 codes of the real one") {
  INFO("INTAGLIO_TEST_SEED=" << test_seed());
  Rng rng(test_seed());
  constexpr long double kSlack = 0x1p-14L;
  std::size_t elements = 0;
  std::size_t different = 0;
  for (const std::size_t dim : {1, 2, 3, 16, 65, 192, 384, 500}) {
    for (int i = 0; i < 40; ++i) {
      const auto row = make_values<std::uint8_t>(rng, dim, i == 0 ? Fill::kHigh : Fill::kRandom);
      const auto exponents = make_values<std::uint8_t>(
          rng, dim, i == 0 ? Fill::kLow : Fill::kRandom, 0, i % 2 == 0 ? 7 : 3);
      const auto multiplier = make_values<std::int32_t>(rng, dim, Fill::kRandom, -(1LL << 31) + 1);
      const std::int64_t room = std::int64_t{1} << 52;
      const auto bias = make_values<std::int64_t>(rng, dim, Fill::kRandom, -room, room);
      const kernels::LayerNormParams params = {
          .dim = dim,
          .zero_src = static_cast<std::int32_t>(pick(rng, 0, 255)),
          .exponents = exponents.data(),
          .multiplier = multiplier.data(),
          .bias = bias.data(),
          .shift = 46,
          .zero_point = static_cast<std::int32_t>(pick(rng, 0, 255))};
      std::vector<std::uint8_t> dst(dim);
      scalar_table().layernorm_ptf(params, row.data(), 1, dst.data());
      const auto real = real_layernorm(params, row.data());
      for (std::size_t c = 0; c < dim; ++c) {
        const auto code = [&](long double y) {
          return static_cast<int>(std::clamp(std::floor(y), 0.0L, 255.0L));
        };
        REQUIRE(int{dst[c]} >= code(real[c] - kSlack));
        REQUIRE(int{dst[c]} <= code(real[c] + kSlack));
        ++elements;
        different += int{dst[c]} != code(real[c]);
      }
    }
  }
  INFO(different << " of " << elements << " codes differ from the real ones, by one");
  CHECK(different * 1000 < elements);
}

TEST_CASE("a row without variance gives beta") {
  constexpr std::size_t kDim = 20;
  const std::vector<std::uint8_t> row(kDim, 77);
  const std::vector<std::uint8_t> exponents(kDim, 2);
  const std::vector<std::int32_t> multiplier(kDim, -(1 << 30));
  std::vector<std::int64_t> bias;
  for (std::size_t c = 0; c < kDim; ++c) bias.push_back((std::int64_t{20} * c << 40) + (1LL << 39));
  for (const kernels::KernelTable* table : kernels::all_tables()) {
    if (!kernels::cpu_supports(table->isa)) continue;
    std::vector<std::uint8_t> dst(kDim);
    table->layernorm_ptf({.dim = kDim,
                          .zero_src = 3,
                          .exponents = exponents.data(),
                          .multiplier = multiplier.data(),
                          .bias = bias.data(),
                          .shift = 40,
                          .zero_point = 5},
                         row.data(), 1, dst.data());
    for (std::size_t c = 0; c < kDim; ++c)
      CHECK(std::size_t{dst[c]} == std::min(20 * c + 5, std::size_t{255}));
  }
}

}  // namespace
}  // namespace intaglio::test
