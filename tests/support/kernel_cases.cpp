#include "tests/support/kernel_cases.h"

#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/support/kernel_operands.h"

namespace intaglio::test {
namespace {

using kernels::KernelTable;
using kernels::OutputType;

template <class T>
CaseResult result_of(GuardedBuffer<T>& dst, bool sources_intact) {
  CaseResult result{std::vector<std::byte>(dst.size() * sizeof(T)),
                    sources_intact && dst.surroundings_intact()};
  std::memcpy(result.dst.data(), dst.data(), result.dst.size());
  return result;
}

std::string text(std::initializer_list<std::pair<const char*, std::int64_t>> fields) {
  std::string s;
  for (const auto& [name, value] : fields)
    s += std::string(name) + "=" + std::to_string(value) + " ";
  return s;
}

// ---- GEMM

struct GemmCase {
  std::size_t m, k, n;
  std::size_t src_gap, dst_gap;  // stride - cols
  int shift;
  std::int32_t zero_point;
  OutputType output;
  FillPair fill;
  Layout layout;
  std::uint64_t seed;
};

template <class T>
CaseResult run_gemm_as(const GemmCase& c, const KernelTable& table) {
  Rng rng(c.seed);
  const std::size_t src_stride = c.k + c.src_gap;
  const std::size_t dst_stride = c.n + c.dst_gap;
  const auto src =
      c.layout.place(make_values<std::uint8_t>(rng, extent(c.m, c.k, src_stride), c.fill.a));
  const auto weight = c.layout.place(make_values<std::int8_t>(rng, c.n * c.k, c.fill.b));
  // Multipliers of all sizes and signs; |acc * multiplier| < 2^15 * k * 2^31 leaves the rest to
  // bias.
  std::vector<std::int32_t> multipliers(c.n);
  for (auto& m : multipliers) {
    m = static_cast<std::int32_t>(pick(rng, INT32_MIN, INT32_MAX) >> pick(rng, 0, 31));
  }
  multipliers[0] = INT32_MIN;
  multipliers[c.n - 1] = INT32_MAX;
  const std::int64_t room = INT64_MAX - (static_cast<std::int64_t>(c.k) << 46);
  std::vector<std::int64_t> biases(c.n);
  for (auto& b : biases) b = pick(rng, -room, room) >> pick(rng, 0, 62);
  biases[0] = room;
  biases[c.n - 1] = -room;
  const auto multiplier = c.layout.place(multipliers);
  const auto bias = c.layout.place(biases);
  // 64-byte aligned, as the contract says.
  GuardedBuffer<std::byte> packed((table.gemm_packed_bytes(c.n, c.k) + 63) / 64 * 64);
  table.gemm_pack(weight.data(), c.n, c.k, packed.data());
  GuardedBuffer<T> dst(extent(c.m, c.n, dst_stride), c.layout.placement, c.layout.misalignment);
  const kernels::GemmParams params = {c.n,         c.k,     packed.data(), multiplier.data(),
                                      bias.data(), c.shift, c.zero_point,  c.output};
  table.gemm_u8s8(params, src.data(), src_stride, c.m, dst.data(), dst_stride);
  return result_of(dst, packed.surroundings_intact());
}

KernelCase gemm_case(const GemmCase& c) {
  const std::int64_t output = static_cast<std::int64_t>(c.output);
  return {text({{"m", c.m},
                {"k", c.k},
                {"n", c.n},
                {"src_gap", c.src_gap},
                {"dst_gap", c.dst_gap},
                {"shift", c.shift},
                {"zero_point", c.zero_point},
                {"output", output}}) +
              c.fill.name,
          [c](const KernelTable& table) {
            switch (c.output) {
              case OutputType::kU8:
                return run_gemm_as<std::uint8_t>(c, table);
              case OutputType::kS16:
                return run_gemm_as<std::int16_t>(c, table);
              case OutputType::kS32:
                break;
            }
            return run_gemm_as<std::int32_t>(c, table);
          }};
}

std::vector<KernelCase> gemm_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  std::size_t index = 0;
  const auto add = [&](std::size_t m, std::size_t k, std::size_t n, bool plain) {
    constexpr std::int32_t kZeros[] = {0, 128, 255, 1, -3, 300, 40000, INT32_MAX, INT32_MIN};
    const std::size_t i = index++;
    const auto output = static_cast<OutputType>(i / 2 % 3);
    // Half of the cases rescale as real models do, the others at every shift and zero point.
    const bool real = i % 2 == 0;
    const int shift = real ? static_cast<int>(38 + i % 15) : static_cast<int>(1 + i % 62);
    const std::int32_t zero =
        real ? (output == OutputType::kU8 ? static_cast<std::int32_t>(i % 256) : 0) : kZeros[i % 9];
    cases.push_back(
        gemm_case({m, k, n, plain ? 0 : i % 5, plain ? 0 : i % 4, shift, zero, output,
                   kFillPairs[plain ? 0 : i / 3 % kFillPairs.size()], Layout::of(i), seed + i}));
  };
  for (const std::size_t n :
       {1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 31, 33, 47, 48, 49, 63, 64, 65, 129}) {
    for (const std::size_t k : {1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 31, 33, 63, 64, 95, 97, 193}) {
      for (const std::size_t m : {1, 2, 3, 4, 5, 6, 7, 13}) add(m, k, n, false);
    }
  }
  for (const std::size_t k : {1023, 1024, 1025, 1026, 2047, 2049, 3073}) add(7, k, 65, false);
  for (std::size_t i = 0; i < 28; ++i) add(2, 65536, 3, false);
  for (const std::size_t m : {1, 197}) {
    for (const auto& [k, n] :
         {std::pair{192, 192}, {192, 576}, {192, 768}, {768, 192}, {384, 384}}) {
      add(m, static_cast<std::size_t>(k), static_cast<std::size_t>(n), true);
    }
  }
  for (const auto& [k, n] :
       {std::pair{192, 1000}, {384, 1152}, {384, 1536}, {1536, 384}, {768, 3072}}) {
    for (const std::size_t m : {1, 13}) {
      add(m, static_cast<std::size_t>(k), static_cast<std::size_t>(n), true);
    }
  }
  return cases;
}

// ---- attention

struct ScoreCase {
  std::size_t rows, tokens, head_dim, gap;
  kernels::ScoreParams params;
  FillPair fill;
  Layout layout;
  std::uint64_t seed;
};

CaseResult run_scores(const ScoreCase& c, const KernelTable& table) {
  Rng rng(c.seed);
  const std::size_t stride = c.head_dim + c.gap;
  const auto q =
      c.layout.place(make_values<std::uint8_t>(rng, extent(c.rows, c.head_dim, stride), c.fill.a));
  const auto k = c.layout.place(
      make_values<std::uint8_t>(rng, extent(c.tokens, c.head_dim, stride), c.fill.b));
  GuardedBuffer<std::uint8_t> dst(c.rows * c.tokens, c.layout.placement, c.layout.misalignment);
  table.attention_scores(c.params, q.data(), c.rows, k.data(), c.tokens, c.head_dim, stride,
                         dst.data());
  return result_of(dst, true);
}

/// A factor that spreads the products of `depth` elements over the codes, or an extreme one.
std::pair<std::int32_t, int> factor(Rng& rng, std::size_t depth, std::size_t index) {
  if (index % 3 == 0) {
    return {static_cast<std::int32_t>(pick(rng, INT32_MIN, INT32_MAX)),
            static_cast<int>(1 + index % 62)};
  }
  int bits = 14;  // of a typical product times the root of depth, down to 8
  for (std::size_t d = depth; d > 1; d /= 4) ++bits;
  const std::int64_t m = pick(rng, 1 << 29, 1 << 30);
  return {static_cast<std::int32_t>(index % 3 == 1 ? m : -m), 30 + bits - 8};
}

constexpr std::int32_t kZeroPoints[] = {0, 128, 255, 1, 127, 77};

std::vector<KernelCase> score_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  Rng rng(seed);
  const auto add = [&](std::size_t rows, std::size_t tokens, std::size_t head_dim) {
    const std::size_t i = cases.size();
    const auto [multiplier, shift] = factor(rng, head_dim, i);
    const std::int32_t zero = i % 11 == 0 ? 1000000 : kZeroPoints[i / 5 % 6];
    const ScoreCase c = {rows,
                         tokens,
                         head_dim,
                         i % 4 * 13,
                         {kZeroPoints[i % 6], multiplier, shift, zero},
                         kFillPairs[i / 2 % kFillPairs.size()],
                         Layout::of(i),
                         seed + i};
    cases.push_back({text({{"rows", rows},
                           {"tokens", tokens},
                           {"head_dim", head_dim},
                           {"gap", c.gap},
                           {"zero_src", c.params.zero_src},
                           {"multiplier", multiplier},
                           {"shift", shift},
                           {"zero_point", zero}}) +
                         c.fill.name,
                     [c](const KernelTable& table) { return run_scores(c, table); }});
  };
  for (const std::size_t head_dim : {1,  2,  3,  4,  5,  8,   15,  17,  24,  31,  32, 33,
                                     48, 63, 64, 65, 96, 127, 128, 191, 192, 255, 256}) {
    for (const std::size_t tokens : {1, 2, 7, 8, 9, 15, 16, 17, 33, 49, 63, 64, 65, 129}) {
      for (const std::size_t rows : {1, 5, 6, 8}) add(rows, tokens, head_dim);
    }
  }
  for (std::size_t i = 0; i < 6; ++i) add(197, 197, 64);
  return cases;
}

struct AttendCase {
  std::size_t rows, tokens, head_dim, v_gap, dst_gap;
  kernels::AttendParams params;
  FillPair fill;
  Layout layout;
  std::uint64_t seed;
};

CaseResult run_attend(const AttendCase& c, const KernelTable& table) {
  Rng rng(c.seed);
  const std::size_t v_stride = c.head_dim + c.v_gap;
  const std::size_t dst_stride = c.head_dim + c.dst_gap;
  // Weights sum to at most 2^15 * 256, times 255 below 2^31; codes from 16 on are all zeros.
  std::int64_t least = 0;
  while ((c.tokens >> least) > 256) ++least;
  const auto codes = c.layout.place(make_values<std::uint8_t>(
      rng, c.rows * c.tokens, c.fill.a == Fill::kOneHot ? Fill::kRandom : c.fill.a, least,
      c.fill.a == Fill::kHigh ? 255 : least + 20));
  const auto v = c.layout.place(
      make_values<std::uint8_t>(rng, extent(c.tokens, c.head_dim, v_stride), c.fill.b));
  GuardedBuffer<std::uint8_t> dst(extent(c.rows, c.head_dim, dst_stride), c.layout.placement,
                                  c.layout.misalignment);
  table.attend_log2(c.params, codes.data(), c.rows, v.data(), c.tokens, c.head_dim, v_stride,
                    dst.data(), dst_stride);
  return result_of(dst, true);
}

std::vector<KernelCase> attend_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  Rng rng(seed);
  const auto add = [&](std::size_t rows, std::size_t tokens, std::size_t head_dim) {
    const std::size_t i = cases.size();
    auto [multiplier, shift] = factor(rng, tokens, i);
    if (i % 3 != 0) shift = 30 + 15;  // weights sum to about one, 2^15
    const std::uint8_t zero_code = i % 4 == 0 ? 15 : 16;
    const AttendCase c = {
        rows,
        tokens,
        head_dim,
        i % 4 * 9,
        i % 3 * 5,
        {kZeroPoints[i % 6], zero_code, multiplier, shift, kZeroPoints[i / 5 % 6]},
        kFillPairs[i / 2 % kFillPairs.size()],
        Layout::of(i),
        seed + i};
    cases.push_back({text({{"rows", rows},
                           {"tokens", tokens},
                           {"head_dim", head_dim},
                           {"v_gap", c.v_gap},
                           {"dst_gap", c.dst_gap},
                           {"zero_src", c.params.zero_src},
                           {"zero_code", zero_code},
                           {"multiplier", multiplier},
                           {"shift", shift}}) +
                         c.fill.name,
                     [c](const KernelTable& table) { return run_attend(c, table); }});
  };
  for (const std::size_t head_dim :
       {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 191, 255, 256}) {
    for (const std::size_t tokens : {1, 2, 3, 7, 16, 17, 31, 49, 64, 65}) {
      for (const std::size_t rows : {1, 5, 6, 13}) add(rows, tokens, head_dim);
    }
  }
  for (const std::size_t tokens : {255, 256, 257, 258, 511, 512, 513, 577, 785, 1025}) {
    for (const std::size_t rows : {1, 47, 48, 49, 101}) add(rows, tokens, 33);
  }
  for (std::size_t i = 0; i < 6; ++i) add(197, 197, 64);
  return cases;
}

// ---- lookup

std::vector<KernelCase> lookup_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  for (const std::size_t count : {1, 2, 15, 16, 17, 31, 33, 63, 65, 127, 129, 255, 256, 1000}) {
    for (const bool in_place : {false, true}) {
      const std::size_t i = cases.size();
      cases.push_back(
          {text({{"count", count}, {"in_place", in_place}}), [=](const KernelTable& t) {
             Rng rng(seed + i);
             const Layout layout = Layout::of(i);
             const auto table = layout.place(make_values<std::uint8_t>(rng, 256, Fill::kRandom));
             const auto src = layout.place(make_values<std::uint8_t>(rng, count, Fill::kRandom));
             GuardedBuffer<std::uint8_t> dst(count, layout.placement, layout.misalignment);
             std::copy_n(src.data(), count, dst.data());
             t.lookup_u8(table.data(), in_place ? dst.data() : src.data(), count, dst.data());
             return result_of(dst, true);
           }});
    }
  }
  return cases;
}

}  // namespace

std::vector<KernelCase> softmax_cases(std::uint64_t seed);
std::vector<KernelCase> layernorm_cases(std::uint64_t seed);
std::vector<KernelCase> gelu_cases(std::uint64_t seed);
std::vector<KernelCase> residual_cases(std::uint64_t seed);
std::vector<KernelCase> patch_cases(std::uint64_t seed);

const std::vector<KernelSuite>& kernel_suites() {
  static const std::vector<KernelSuite> suites = {
      {"gemm_u8s8", gemm_cases},          {"attention_scores", score_cases},
      {"softmax_log2", softmax_cases},    {"attend_log2", attend_cases},
      {"layernorm_ptf", layernorm_cases}, {"gelu_table", gelu_cases},
      {"residual_add", residual_cases},   {"pixels_to_patches", patch_cases},
      {"lookup_u8", lookup_cases},
  };
  return suites;
}

std::uint64_t test_seed() {
  static const std::uint64_t seed = [] {
    const char* given = std::getenv("INTAGLIO_TEST_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10)
                            : std::uint64_t{std::random_device{}()};
  }();
  return seed;
}

}  // namespace intaglio::test
