#include "tests/support/kernel_cases.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <type_traits>

#include "tests/support/kernel_operands.h"

namespace intaglio::test {
namespace {

using kernels::CodeType;
using kernels::GemmEpilogue;
using kernels::KernelTable;

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
  CodeType output;
  FillPair fill;
  Layout layout;
  std::uint64_t seed;
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  CodeType residual = CodeType::kU8;
  bool interleave = false;
};

/// What a case's epilogue needs, made from its random numbers.
struct Epilogue {
  Epilogue(const GemmCase& c, Rng& rng) {
    // As in the cases of gelu_table and residual_add: the sums stay below 2^31.
    const int shift = static_cast<int>(pick(rng, 6, 23));
    const int bits = static_cast<int>(pick(rng, 0, 9));
    const std::int64_t limit = std::int64_t{1} << std::min(28, shift + 8);
    base = make_values<std::int32_t>(rng, 64, Fill::kRandom, -limit, limit - 1);
    // Half of the tables have slopes that are words, as lowered ones do.
    const std::int64_t steep =
        std::min<std::int64_t>(limit >> bits, c.seed % 2 == 0 ? 32767 : limit);
    slope = make_values<std::int32_t>(rng, 64, Fill::kRandom, -steep, steep);
    // No exponents, zeros, any.
    const std::size_t kind = c.seed / 2 % 3;
    exponents_gelu = make_values<std::uint8_t>(rng, c.n, Fill::kRandom, 0, kind == 1 ? 0 : 7);
    gelu = {.multiplier = static_cast<std::int32_t>(pick(rng, 0, 32767)),
            .shift = shift,
            .segment_bits = bits,
            .base = base.data(),
            .slope = slope.data(),
            .zero_point = static_cast<std::int32_t>(pick(rng, 0, 255)),
            .exponents = kind == 0 ? nullptr : exponents_gelu.data()};
    exponents_b = make_values<std::uint8_t>(rng, c.n, Fill::kRandom, 0, 7);
    exponents_dst = make_values<std::uint8_t>(rng, c.n, Fill::kRandom, 0, 7);
    const std::int64_t reach_a = std::min<std::int64_t>(1 << 21, std::int64_t{1} << (shift + 2));
    const std::int64_t reach_b = std::min<std::int64_t>(1 << 14, std::int64_t{1} << shift);
    add = {c.n,
           c.zero_point,
           static_cast<std::int32_t>(pick(rng, -reach_a, reach_a)),
           static_cast<std::int32_t>(pick(rng, 0, 255)),
           static_cast<std::int32_t>(pick(rng, -reach_b, reach_b)),
           exponents_b.data(),
           exponents_dst.data(),
           shift,
           static_cast<std::int32_t>(pick(rng, 0, 255))};
    residual_multiplier = make_values<std::int32_t>(rng, c.n, Fill::kRandom);
    residual_zero = c.residual == CodeType::kU8 ? static_cast<std::int32_t>(pick(rng, 0, 255)) : 0;
  }
  std::vector<std::int32_t> base, slope, residual_multiplier;
  std::vector<std::uint8_t> exponents_gelu, exponents_b, exponents_dst;
  kernels::GeluParams gelu;
  kernels::ResidualParams add;
  std::int32_t residual_zero;
};

template <class T, class R>
CaseResult run_gemm_as(const GemmCase& c, const KernelTable& table) {
  Rng rng(c.seed);
  const std::size_t src_stride = c.k + c.src_gap;
  const std::size_t dst_stride = c.n + c.dst_gap;
  const auto src =
      c.layout.place(make_values<std::uint8_t>(rng, extent(c.m, c.k, src_stride), c.fill.a));
  const auto weight = c.layout.place(make_values<std::int8_t>(rng, c.n * c.k, c.fill.b));
  // Multipliers of all sizes and signs; |acc * multiplier| < 2^15 * k * 2^31 and the residual's
  // product, below 2^15 * 2^31, leave the rest to bias.
  std::vector<std::int32_t> multipliers(c.n);
  for (auto& m : multipliers) {
    m = static_cast<std::int32_t>(pick(rng, INT32_MIN, INT32_MAX) >> pick(rng, 0, 31));
  }
  multipliers[0] = INT32_MIN;
  multipliers[c.n - 1] = INT32_MAX;
  const std::int64_t added = c.epilogue == GemmEpilogue::kAddSums ? std::int64_t{1} << 47 : 0;
  const std::int64_t room = INT64_MAX - (static_cast<std::int64_t>(c.k) << 46) - added;
  std::vector<std::int64_t> biases(c.n);
  // Biases of the size of the products, too: only then a short shift can be lengthened.
  const std::int64_t least = c.seed % 3 == 0 ? 8 : 0;
  for (auto& b : biases) b = pick(rng, -room, room) >> pick(rng, least, 62);
  if (least == 0) {
    biases[0] = room;
    biases[c.n - 1] = -room;
  }
  const Epilogue epilogue(c, rng);
  const auto multiplier = c.layout.place(multipliers);
  const auto bias = c.layout.place(biases);
  const auto residual = c.layout.place(make_values<R>(rng, extent(c.m, c.n, dst_stride), c.fill.a));
  // 64-byte aligned, as the contract says.
  GuardedBuffer<std::byte> packed((table.gemm_packed_bytes(c.n, c.k) + 63) / 64 * 64);
  table.gemm_pack(weight.data(), c.n, c.k, packed.data());
  GuardedBuffer<T> dst(extent(c.m, c.n, dst_stride), c.layout.placement, c.layout.misalignment);
  const kernels::GemmParams params = {.n = c.n,
                                      .k = c.k,
                                      .packed = packed.data(),
                                      .multiplier = multiplier.data(),
                                      .bias = bias.data(),
                                      .shift = c.shift,
                                      .zero_point = c.zero_point,
                                      .output = c.output,
                                      .epilogue = c.epilogue,
                                      .gelu = &epilogue.gelu,
                                      .add = &epilogue.add,
                                      .residual_multiplier = epilogue.residual_multiplier.data(),
                                      .residual_type = c.residual,
                                      .residual_zero = epilogue.residual_zero,
                                      .interleave = c.interleave};
  const void* stream = c.epilogue >= GemmEpilogue::kAddCodes ? residual.data() : nullptr;
  if constexpr (std::is_same_v<T, R>) {
    if (stream != nullptr && c.seed % 2 == 0) {  // added in place
      std::copy_n(residual.data(), extent(c.m, c.n, dst_stride), dst.data());
      stream = dst.data();
    }
  }
  const std::size_t middle = c.n / 2 / kernels::kColumnStep * kernels::kColumnStep;
  for (const kernels::ColumnRange columns :
       {kernels::ColumnRange{0, middle}, kernels::ColumnRange{middle, c.n}}) {
    table.gemm_u8s8(params, columns, src.data(), src_stride, c.m, stream, dst.data(), dst_stride);
  }
  return result_of(dst, packed.surroundings_intact());
}

template <class T>
CaseResult run_gemm_as(const GemmCase& c, const KernelTable& table) {
  return c.residual == CodeType::kU8 ? run_gemm_as<T, std::uint8_t>(c, table)
                                     : run_gemm_as<T, std::int16_t>(c, table);
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
                {"output", output},
                {"epilogue", static_cast<std::int64_t>(c.epilogue)},
                {"residual", static_cast<std::int64_t>(c.residual)},
                {"interleave", c.interleave}}) +
              c.fill.name,
          [c](const KernelTable& table) {
            if (c.epilogue == GemmEpilogue::kGelu) return run_gemm_as<std::uint8_t>(c, table);
            switch (c.output) {
              case CodeType::kU8:
                return run_gemm_as<std::uint8_t>(c, table);
              case CodeType::kS16:
                return run_gemm_as<std::int16_t>(c, table);
              case CodeType::kS32:
                break;
            }
            return run_gemm_as<std::int32_t>(c, table);
          }};
}

/// With its epilogue behind it and, where there are full tiles, between the next one's products.
void add_gemm_cases(std::vector<KernelCase>& cases, GemmCase c) {
  cases.push_back(gemm_case(c));
  if (c.m < 6 || c.n < kernels::kColumnStep) return;
  c.interleave = true;
  cases.push_back(gemm_case(c));
}

std::vector<KernelCase> gemm_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  std::size_t index = 0;
  const auto add = [&](std::size_t m, std::size_t k, std::size_t n, bool plain) {
    constexpr std::int32_t kZeros[] = {0, 128, 255, 1, -3, 300, 40000, INT32_MAX, INT32_MIN};
    const std::size_t i = index++;
    const auto output = static_cast<CodeType>(i / 2 % 3);
    // Half of the cases rescale as real models do, the others at every shift and zero point.
    const bool real = i % 2 == 0;
    const int shift = real ? static_cast<int>(38 + i % 15) : static_cast<int>(1 + i % 62);
    const std::int32_t zero =
        real ? (output == CodeType::kU8 ? static_cast<std::int32_t>(i % 256) : 0) : kZeros[i % 9];
    add_gemm_cases(cases,
                   {m, k, n, plain ? 0 : i % 5, plain ? 0 : i % 4, shift, zero, output,
                    kFillPairs[plain ? 0 : i / 3 % kFillPairs.size()], Layout::of(i), seed + i});
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

/// Every epilogue with every type of stream, at real shifts and at any.
std::vector<KernelCase> fused_gemm_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  struct Kind {
    GemmEpilogue epilogue;
    CodeType output, residual;
  };
  constexpr Kind kKinds[] = {{GemmEpilogue::kGelu, CodeType::kS16, CodeType::kU8},
                             {GemmEpilogue::kAddCodes, CodeType::kU8, CodeType::kU8},
                             {GemmEpilogue::kAddWords, CodeType::kS16, CodeType::kS16},
                             {GemmEpilogue::kAddSums, CodeType::kU8, CodeType::kU8},
                             {GemmEpilogue::kAddSums, CodeType::kS16, CodeType::kU8},
                             {GemmEpilogue::kAddSums, CodeType::kS16, CodeType::kS16},
                             {GemmEpilogue::kAddSums, CodeType::kU8, CodeType::kS16}};
  std::size_t index = 0;
  for (const Kind& kind : kKinds) {
    for (const std::size_t n : {1, 7, 15, 16, 17, 33, 48, 63, 64, 65, 129, 192}) {
      for (const std::size_t k : {1, 4, 31, 64, 193, 1027}) {
        for (const std::size_t m : {1, 4, 6, 7, 13}) {
          const std::size_t i = index++;
          const int shift = i % 3 == 0   ? static_cast<int>(1 + i % 62)
                            : i % 3 == 1 ? static_cast<int>(26 + i % 8)
                                         : static_cast<int>(38 + i % 15);
          const bool words = kind.output == CodeType::kS16;
          const std::int32_t zero = words ? 0 : static_cast<std::int32_t>(i * 7 % 256);
          add_gemm_cases(cases, {m, k, n, i % 5, i % 4, shift, zero, kind.output,
                                 kFillPairs[i % kFillPairs.size()], Layout::of(i), seed + i,
                                 kind.epilogue, kind.residual});
        }
      }
    }
  }
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

std::vector<KernelCase> attention_cases(std::uint64_t seed);
std::vector<KernelCase> attention_bitshift_cases(std::uint64_t seed);
std::vector<KernelCase> layernorm_cases(std::uint64_t seed);
std::vector<KernelCase> gelu_cases(std::uint64_t seed);
std::vector<KernelCase> residual_cases(std::uint64_t seed);
std::vector<KernelCase> add_s16_cases(std::uint64_t seed);
std::vector<KernelCase> mean_cases(std::uint64_t seed);
std::vector<KernelCase> patch_cases(std::uint64_t seed);

const std::vector<KernelSuite>& kernel_suites() {
  static const std::vector<KernelSuite> suites = {
      {"gemm_u8s8", gemm_cases},          {"gemm_u8s8, fused", fused_gemm_cases},
      {"attention", attention_cases},     {"attention_bitshift", attention_bitshift_cases},
      {"layernorm_ptf", layernorm_cases}, {"gelu_table", gelu_cases},
      {"residual_add", residual_cases},   {"add_s16", add_s16_cases},
      {"mean_rows", mean_cases},          {"pixels_to_patches", patch_cases},
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
