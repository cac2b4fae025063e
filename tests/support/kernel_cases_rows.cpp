// Cases of the kernels that work element by element or row by row.
#include <cstring>

#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_operands.h"

namespace intaglio::test {

using kernels::KernelTable;

namespace {

template <class T>
CaseResult result_of(const GuardedBuffer<T>& dst) {
  CaseResult result{std::vector<std::byte>(dst.size() * sizeof(T)), dst.surroundings_intact()};
  std::memcpy(result.dst.data(), dst.data(), result.dst.size());
  return result;
}

std::string text(std::initializer_list<std::pair<const char*, std::int64_t>> fields) {
  std::string s;
  for (const auto& [name, value] : fields)
    s += std::string(name) + "=" + std::to_string(value) + " ";
  return s;
}

}  // namespace

namespace {

template <class T, class D>
CaseResult run_layernorm(std::size_t rows, std::size_t dim, std::size_t i, int shift,
                         std::int32_t zero, std::uint64_t seed, const KernelTable& table) {
  Rng rng(seed + i);
  const Layout layout = Layout::of(i);
  constexpr bool kWords = sizeof(T) == 2;
  const std::size_t fill = i % 6;
  const Fill kinds[] = {Fill::kRandom, Fill::kRandom, Fill::kLow,
                        Fill::kHigh,   Fill::kOneHot, Fill::kRandom};
  const std::int64_t high = kWords ? 32767 : 255;
  const std::int64_t low = fill == 5 ? high - 1 : kWords ? -32768 : 0;
  const auto x = make_values<T>(rng, rows * dim, kinds[fill], low, high);
  const std::int64_t top = fill % 2 == 0 ? kernels::kMaxExponent : 3;
  const auto exponents = layout.place(
      make_values<std::uint8_t>(rng, dim, fill == 3 ? Fill::kHigh : Fill::kRandom, 0, top));
  // |u * multiplier| < 2^61 leaves 2^62 for bias.
  const auto multiplier = layout.place(make_values<std::int32_t>(rng, dim, Fill::kRandom));
  const std::int64_t room = std::int64_t{1} << std::min(62, shift + 8);
  const auto bias = layout.place(make_values<std::int64_t>(rng, dim, Fill::kRandom, -room, room));
  const kernels::LayerNormParams params = {
      .dim = dim,
      .src_type = kWords ? kernels::CodeType::kS16 : kernels::CodeType::kU8,
      .zero_src = kWords ? 0 : static_cast<std::int32_t>(i * 51 % 256),
      .exponents = kWords ? nullptr : exponents.data(),
      .multiplier = multiplier.data(),
      .bias = bias.data(),
      .shift = shift,
      .zero_point = zero,
      .dst_type = sizeof(D) == 2 ? kernels::CodeType::kS16 : kernels::CodeType::kU8};
  const auto src = layout.place(x);
  GuardedBuffer<D> dst(rows * dim, layout.placement, layout.misalignment);
  const void* operand = src.data();
  if (sizeof(T) == 1 && sizeof(D) == 1 && i % 5 == 0) {  // in place
    std::memcpy(dst.data(), src.data(), dst.size());
    operand = dst.data();
  }
  table.layernorm_ptf(params, operand, rows, dst.data());
  return result_of(dst);
}

}  // namespace

std::vector<KernelCase> layernorm_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t dim) {
    const std::size_t i = cases.size();
    const bool words = i % 4 == 1;
    const int shift = i % 2 == 0 ? static_cast<int>(44 + i % 7) : static_cast<int>(1 + i % 62);
    const std::int32_t zero = i % 13 == 0 ? -70000 : static_cast<std::int32_t>(i * 37 % 256);
    cases.push_back({text({{"rows", rows},
                           {"dim", dim},
                           {"s16", words},
                           {"fill", i % 6},
                           {"shift", shift},
                           {"zero", zero}}),
                     [=](const KernelTable& table) {
                       const auto run = words ? run_layernorm<std::int16_t, std::uint8_t>
                                              : run_layernorm<std::uint8_t, std::uint8_t>;
                       const auto run_to_words = words ? run_layernorm<std::int16_t, std::int16_t>
                                                       : run_layernorm<std::uint8_t, std::int16_t>;
                       return (i % 3 == 2 ? run_to_words : run)(rows, dim, i, shift,
                                                                i % 3 == 2 ? 0 : zero, seed, table);
                     }});
  };
  for (const std::size_t dim :
       {1,  2,  3,  5,  7,  8,   9,   11,  15,  16,  17,  23,  24,  25,  31,  33,   47,  49,
        63, 64, 65, 95, 97, 127, 191, 192, 193, 383, 384, 385, 767, 768, 769, 1000, 1024}) {
    for (const std::size_t rows : {1, 2, 3, 4, 5, 7, 9}) add(rows, dim);
  }
  for (std::size_t i = 0; i < 12; ++i) add(1 + i % 5, kernels::kMaxNormDim);
  for (std::size_t i = 0; i < 6; ++i) add(197, 192);
  return cases;
}

std::vector<KernelCase> gelu_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t dim, int segment_bits) {
    const std::size_t i = cases.size();
    const int shift = static_cast<int>(1 + i * 5 % 30);
    // No exponents, zeros, any, the largest.
    const std::size_t kind = i % 4;
    const std::int64_t top = kind == 1 ? 0 : std::min(kernels::kMaxExponent, 30 - shift);
    cases.push_back(
        {text({{"rows", rows},
               {"dim", dim},
               {"segment_bits", segment_bits},
               {"shift", shift},
               {"exponents", kind}}),
         [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const std::size_t count = rows * dim;
           auto h = make_values<std::int16_t>(rng, count,
                                              i % 5 == 1   ? Fill::kLow
                                              : i % 5 == 2 ? Fill::kHigh
                                                           : Fill::kRandom);
           if (count >= 65536) {  // every code there is
             for (std::size_t j = 0; j < 65536; ++j) h[j] = static_cast<std::int16_t>(j);
           }
           // linear < 2^30, half <= 2^29, so the bend may take what is left of 2^31.
           const std::int64_t reach = std::min(28, shift + 8);
           const std::int64_t limit = std::int64_t{1} << reach;
           const auto base =
               layout.place(make_values<std::int32_t>(rng, 64, Fill::kRandom, -limit, limit - 1));
           const std::int64_t steep = limit >> segment_bits;
           const auto slope =
               layout.place(make_values<std::int32_t>(rng, 64, Fill::kRandom, -steep, steep));
           const auto exponents = layout.place(make_values<std::uint8_t>(
               rng, dim, kind == 3 ? Fill::kHigh : Fill::kRandom, 0, top));
           const kernels::GeluParams params = {
               .multiplier = static_cast<std::int32_t>(i % 3 == 0 ? 32767 : pick(rng, 0, 32767)),
               .shift = shift,
               .segment_bits = segment_bits,
               .base = base.data(),
               .slope = slope.data(),
               .zero_point = static_cast<std::int32_t>(i * 29 % 256),
               .exponents = kind == 0 ? nullptr : exponents.data(),
               .dim = dim};
           const auto src = layout.place(h);
           GuardedBuffer<std::uint8_t> dst(count, layout.placement, layout.misalignment);
           table.gelu_table(params, src.data(), rows, dst.data());
           return result_of(dst);
         }});
  };
  for (int segment_bits = 0; segment_bits <= 9; ++segment_bits) {
    for (const std::size_t dim :
         {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 64, 65, 193, 1000}) {
      add(1 + cases.size() % 3, dim, segment_bits);
    }
    for (const std::size_t dim : {64, 65, 1, 256}) add((65535 + dim) / dim, dim, segment_bits);
  }
  return cases;
}

std::vector<KernelCase> residual_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t dim) {
    const std::size_t i = cases.size();
    const FillPair fill = kFillPairs[i % kFillPairs.size()];
    const int shift = static_cast<int>(1 + i % 23);
    cases.push_back(
        {text({{"rows", rows}, {"dim", dim}, {"shift", shift}}) + fill.name,
         [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const auto a = make_values<std::uint8_t>(rng, rows * dim, fill.a);
           const auto b = layout.place(make_values<std::uint8_t>(rng, rows * dim, fill.b));
           const auto exponents_b =
               layout.place(make_values<std::uint8_t>(rng, dim, Fill::kRandom, 0, 7));
           const auto exponents_dst = layout.place(
               make_values<std::uint8_t>(rng, dim, i % 4 == 0 ? Fill::kHigh : Fill::kRandom, 0, 7));
           // 255 * 2^21 + 32640 * 2^14 + 2^29 < 2^31.
           const std::int64_t reach_a =
               std::min<std::int64_t>(1 << 21, std::int64_t{1} << (shift + 2));
           const std::int64_t reach_b = std::min<std::int64_t>(1 << 14, std::int64_t{1} << shift);
           const kernels::ResidualParams params = {
               dim,
               static_cast<std::int32_t>(i * 31 % 256),
               static_cast<std::int32_t>(pick(rng, -reach_a, reach_a)),
               static_cast<std::int32_t>(i * 47 % 256),
               static_cast<std::int32_t>(pick(rng, -reach_b, reach_b)),
               exponents_b.data(),
               exponents_dst.data(),
               shift,
               static_cast<std::int32_t>(i * 13 % 256)};
           const auto src = layout.place(a);
           GuardedBuffer<std::uint8_t> dst(a, layout.placement, layout.misalignment);
           table.residual_add(params, i % 3 == 0 ? dst.data() : src.data(), b.data(), rows,
                              dst.data());
           return result_of(dst);
         }});
  };
  for (const std::size_t dim :
       {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 95, 97, 191, 192, 193, 384}) {
    for (const std::size_t rows : {1, 2, 3, 4, 5, 7, 11}) add(rows, dim);
  }
  for (std::size_t i = 0; i < 7; ++i) add(197, 192);
  return cases;
}

std::vector<KernelCase> add_s16_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t count) {
    const std::size_t i = cases.size();
    const FillPair fill = kFillPairs[i % kFillPairs.size()];
    cases.push_back(
        {text({{"count", count}, {"in_place", i % 3}}) + fill.name, [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const auto x = make_values<std::int16_t>(rng, count, fill.a);
           const auto y = make_values<std::int16_t>(rng, count, fill.b);
           const auto a = layout.place(x);
           const auto b = layout.place(y);
           GuardedBuffer<std::int16_t> dst(i % 3 == 1 ? x : y, layout.placement,
                                           layout.misalignment);
           table.add_s16(i % 3 == 1 ? dst.data() : a.data(), i % 3 == 2 ? dst.data() : b.data(),
                         count, dst.data());
           return result_of(dst);
         }});
  };
  for (const std::size_t count : {1,  2,  3,  7,  8,  15,  16,  17,  31,  32,  33,  47,
                                  63, 64, 65, 95, 97, 127, 129, 191, 192, 193, 384, 1000}) {
    for (std::size_t i = 0; i < 7; ++i) add(count);
  }
  add(197 * 192);
  return cases;
}

std::vector<KernelCase> mean_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t dim) {
    const std::size_t i = cases.size();
    const FillPair fill = kFillPairs[i % kFillPairs.size()];
    cases.push_back(
        {text({{"rows", rows}, {"dim", dim}}) + fill.name, [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const auto src = layout.place(make_values<std::uint8_t>(rng, rows * dim, fill.a));
           const int shift = static_cast<int>(1 + i % 38);
           // Half of the cases spread their codes, the others have any factor.
           const std::int64_t near = std::min<std::int64_t>(std::int64_t{1} << shift, INT32_MAX);
           const kernels::MeanParams params = {
               dim, static_cast<std::int32_t>(i * 53 % 256),
               static_cast<std::int32_t>(i % 2 == 0 ? near : pick(rng, 0, INT32_MAX)), shift,
               static_cast<std::int32_t>(i * 91 % 256)};
           GuardedBuffer<std::uint8_t> dst(dim, layout.placement, layout.misalignment);
           const std::size_t step = kernels::kColumnStep;
           const std::size_t first = i % 3 == 1 && dim > step ? step : 0;
           table.mean_rows(params, {first, dim}, src.data(), rows, dst.data());
           return result_of(dst);
         }});
  };
  for (const std::size_t rows : {1, 2, 3, 7, 49, 50, 64, 144, 950}) {
    for (const std::size_t dim : {1, 7, 8, 15, 16, 17, 63, 64, 65, 130, 768}) add(rows, dim);
  }
  return cases;
}

std::vector<KernelCase> patch_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  for (const std::size_t patch : {1, 2, 4, 7, 14, 16, 32}) {
    for (const std::size_t columns : {1, 2, 3, 5}) {
      const std::size_t i = cases.size();
      const bool whole = i % 2 == 0;  // else the last patches reach beyond the image
      const std::size_t height = patch * (1 + i % 3) - (whole ? 0 : i % patch);
      const std::size_t width = patch * columns - (whole ? 0 : i * 5 % patch);
      cases.push_back(
          {text({{"patch", patch}, {"height", height}, {"width", width}}),
           [=](const KernelTable& table) {
             Rng rng(seed + i);
             const Layout layout = Layout::of(i);
             const std::size_t stride = width * 3 + i % 4 * 5;
             const auto codes =
                 layout.place(make_values<std::uint8_t>(rng, 3 * 256, Fill::kRandom));
             const auto src = layout.place(
                 make_values<std::uint8_t>(rng, extent(height, width * 3, stride), Fill::kRandom));
             const auto padding = layout.place(make_values<std::uint8_t>(rng, 3, Fill::kRandom));
             const std::size_t patches =
                 (height + patch - 1) / patch * ((width + patch - 1) / patch);
             GuardedBuffer<std::uint8_t> dst(patches * patch * patch * 3, layout.placement,
                                             layout.misalignment);
             table.pixels_to_patches({height, width, patch, codes.data(), padding.data()},
                                     src.data(), stride, patches / 3, patches, dst.data());
             return result_of(dst);
           }});
    }
  }
  return cases;
}

}  // namespace intaglio::test
