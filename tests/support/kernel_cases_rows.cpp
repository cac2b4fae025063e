// Cases of the kernels that work element by element or row by row.
#include <cmath>
#include <cstring>

#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_operands.h"

namespace intaglio::test {

using kernels::KernelTable;

namespace {

CaseResult result_of(const GuardedBuffer<std::uint8_t>& dst) {
  CaseResult result{std::vector<std::byte>(dst.size()), dst.surroundings_intact()};
  std::memcpy(result.dst.data(), dst.data(), dst.size());
  return result;
}

std::string text(std::initializer_list<std::pair<const char*, std::int64_t>> fields) {
  std::string s;
  for (const auto& [name, value] : fields)
    s += std::string(name) + "=" + std::to_string(value) + " ";
  return s;
}

/// Tables of exponentials: as models have them, flat, falling to zero, out of order, at the bounds.
std::vector<std::uint64_t> exponentials(Rng& rng, std::size_t kind) {
  std::vector<std::uint64_t> e(256);
  const std::int64_t reach = std::int64_t{1} << pick(rng, 1, 20);
  const double scale = std::exp2(static_cast<double>(pick(rng, -60, 10)) / 10.0);
  for (std::size_t d = 0; d < 256; ++d) {
    const double falling = std::exp(-scale * static_cast<double>(d));
    switch (kind) {
      case 0:
        e[d] = static_cast<std::uint64_t>(std::floor(falling * 0x1p30));
        break;
      case 1:
        e[d] = 1;
        break;
      case 2:
        e[d] = d == 0 ? 1 : 0;
        break;
      case 3:
        e[d] = static_cast<std::uint64_t>(pick(rng, d == 0, reach));
        break;
      case 4:
        e[d] = (std::uint64_t{1} << 46) - 1 - d;
        break;
      case 6:
        e[d] = static_cast<std::uint64_t>(pick(rng, d == 0, 6));
        break;  // ties
      default:  // models' tables with joints that do not quite fit
        e[d] = static_cast<std::uint64_t>(std::floor(falling * 0x1p30)) +
               static_cast<std::uint64_t>(pick(rng, d == 0, 3));
    }
  }
  return e;
}

}  // namespace

std::vector<KernelCase> softmax_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t cols, std::size_t kind) {
    const std::size_t i = cases.size();
    const Fill fill =
        kind == 6 ? Fill::kRandom
                  : std::array{Fill::kRandom, Fill::kOneHot, Fill::kLow, Fill::kHigh}[i % 4];
    cases.push_back(
        {text({{"rows", rows}, {"cols", cols}, {"kind", kind}, {"fill", i % 4}}),
         [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const auto e = layout.place(exponentials(rng, kind));
           const std::int64_t width = pick(rng, 0, 255);  // of the row's scores
           const std::int64_t low = pick(rng, 0, 255 - width);
           auto scores = make_values<std::uint8_t>(rng, rows * cols, fill, low, low + width);
           const auto src = layout.place(scores);
           GuardedBuffer<std::uint8_t> dst(scores, layout.placement, layout.misalignment);
           const bool in_place = i % 5 == 0;
           table.softmax_log2({e.data()}, in_place ? dst.data() : src.data(), rows, cols,
                              dst.data());
           return result_of(dst);
         }});
  };
  for (std::size_t kind = 0; kind < 6; ++kind) {
    for (const std::size_t cols : {1,  2,  3,   5,   15,  16,  17,  31,  32,  33,  49,  63,  64,
                                   65, 95, 127, 128, 129, 191, 193, 197, 255, 257, 577, 1025}) {
      for (const std::size_t rows : {1, 3, 4, 5, 6}) add(rows, cols, kind);
    }
    add(197, 197, kind);
  }
  for (std::size_t cols = 2; cols < 10; ++cols) add(60, cols, 6);
  return cases;
}

std::vector<KernelCase> layernorm_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t dim) {
    const std::size_t i = cases.size();
    const std::size_t fill = i % 6;
    const int shift = i % 2 == 0 ? static_cast<int>(44 + i % 7) : static_cast<int>(1 + i % 62);
    const std::int32_t zero = i % 13 == 0 ? -70000 : static_cast<std::int32_t>(i * 37 % 256);
    cases.push_back(
        {text({{"rows", rows}, {"dim", dim}, {"fill", fill}, {"shift", shift}, {"zero", zero}}),
         [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
           const Fill kinds[] = {Fill::kRandom, Fill::kRandom, Fill::kLow,
                                 Fill::kHigh,   Fill::kOneHot, Fill::kRandom};
           const std::int64_t width = fill == 5 ? 1 : 255;
           const auto x = make_values<std::uint8_t>(rng, rows * dim, kinds[fill], 255 - width, 255);
           const std::int64_t top = fill % 2 == 0 ? kernels::kMaxExponent : 3;
           const auto exponents = layout.place(make_values<std::uint8_t>(
               rng, dim, fill == 3 ? Fill::kHigh : Fill::kRandom, 0, top));
           // |u * multiplier| < 2^61 leaves 2^62 for bias.
           const auto multiplier = layout.place(make_values<std::int32_t>(rng, dim, Fill::kRandom));
           const std::int64_t room = std::int64_t{1} << std::min(62, shift + 8);
           const auto bias =
               layout.place(make_values<std::int64_t>(rng, dim, Fill::kRandom, -room, room));
           const kernels::LayerNormParams params = {dim,
                                                    static_cast<std::int32_t>(i * 51 % 256),
                                                    exponents.data(),
                                                    multiplier.data(),
                                                    bias.data(),
                                                    shift,
                                                    zero};
           const auto src = layout.place(x);
           GuardedBuffer<std::uint8_t> dst(x, layout.placement, layout.misalignment);
           table.layernorm_ptf(params, i % 5 == 0 ? dst.data() : src.data(), rows, dst.data());
           return result_of(dst);
         }});
  };
  for (const std::size_t dim :
       {1,  2,  3,  5,  7,  8,   9,   11,  15,  16,  17,  23,  24,  25,  31,  33,   47,  49,
        63, 64, 65, 95, 97, 127, 191, 192, 193, 383, 384, 385, 767, 768, 769, 1000, 1024}) {
    for (const std::size_t rows : {1, 2, 3, 5, 7}) add(rows, dim);
  }
  for (std::size_t i = 0; i < 12; ++i) add(1, 32768);
  for (std::size_t i = 0; i < 6; ++i) add(197, 192);
  return cases;
}

std::vector<KernelCase> gelu_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t count, int segment_bits) {
    const std::size_t i = cases.size();
    const int shift = static_cast<int>(1 + i * 5 % 30);
    cases.push_back(
        {text({{"count", count}, {"segment_bits", segment_bits}, {"shift", shift}}),
         [=](const KernelTable& table) {
           Rng rng(seed + i);
           const Layout layout = Layout::of(i);
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
           const kernels::GeluParams params = {
               static_cast<std::int32_t>(i % 4 == 0 ? 32767 : pick(rng, 0, 32767)),
               shift,
               segment_bits,
               base.data(),
               slope.data(),
               static_cast<std::int32_t>(i * 29 % 256)};
           const auto src = layout.place(h);
           GuardedBuffer<std::uint8_t> dst(count, layout.placement, layout.misalignment);
           table.gelu_table(params, src.data(), count, dst.data());
           return result_of(dst);
         }});
  };
  for (int segment_bits = 0; segment_bits <= 9; ++segment_bits) {
    for (const std::size_t count :
         {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 64, 65, 193, 1000}) {
      add(count, segment_bits);
    }
    add(65536, segment_bits);
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

std::vector<KernelCase> patch_cases(std::uint64_t seed) {
  std::vector<KernelCase> cases;
  for (const std::size_t patch : {1, 2, 4, 7, 14, 16, 32}) {
    for (const std::size_t columns : {1, 2, 3, 5}) {
      const std::size_t i = cases.size();
      const std::size_t height = patch * (1 + i % 3);
      const std::size_t width = patch * columns;
      cases.push_back({text({{"patch", patch}, {"height", height}, {"width", width}}),
                       [=](const KernelTable& table) {
                         Rng rng(seed + i);
                         const Layout layout = Layout::of(i);
                         const std::size_t stride = width * 3 + i % 4 * 5;
                         const auto codes =
                             layout.place(make_values<std::uint8_t>(rng, 3 * 256, Fill::kRandom));
                         const auto src = layout.place(make_values<std::uint8_t>(
                             rng, extent(height, width * 3, stride), Fill::kRandom));
                         GuardedBuffer<std::uint8_t> dst(height * width * 3, layout.placement,
                                                         layout.misalignment);
                         const std::size_t patches = height * width / (patch * patch);
                         table.pixels_to_patches({height, width, patch, codes.data()}, src.data(),
                                                 stride, patches / 3, patches, dst.data());
                         return result_of(dst);
                       }});
    }
  }
  return cases;
}

}  // namespace intaglio::test
