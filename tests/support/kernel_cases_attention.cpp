// Cases of the fused attention: every form of the softmax, all sizes of heads and rows.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_operands.h"

namespace intaglio::test {
namespace {

using kernels::KernelTable;
using kernels::SoftmaxForm;

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
      case 7:   // all eight bytes of a dword pair
        e[d] = static_cast<std::uint64_t>(std::floor(falling * 0x1p45));
        break;
      default:  // models' tables with joints that do not quite fit
        e[d] = static_cast<std::uint64_t>(std::floor(falling * 0x1p30)) +
               static_cast<std::uint64_t>(pick(rng, d == 0, 3));
    }
  }
  return e;
}

/// Codes of a row-relative softmax: rising as a model's, or any.
std::vector<std::uint8_t> relative_codes(Rng& rng, std::size_t kind) {
  std::vector<std::uint8_t> codes(256);
  const double scale = std::exp2(static_cast<double>(pick(rng, -50, 10)) / 10.0);
  for (std::size_t d = 1; d < 256; ++d) {
    codes[d] = kind % 2 == 0
                   ? static_cast<std::uint8_t>(std::min(255.0, std::round(scale * double(d))))
                   : static_cast<std::uint8_t>(pick(rng, 0, 255));
  }
  return codes;
}

/// `e` made fit for a uniform softmax: falling, below 2^31.
void make_falling(std::vector<std::uint64_t>& e) {
  for (std::uint64_t& x : e) x = std::min<std::uint64_t>(x, INT32_MAX);
  std::sort(e.rbegin(), e.rend());
}

/// 2^32 / scale of codes: as models have it, with codes that clamp and that vanish, or the largest.
std::uint64_t probability_factor(Rng& rng, std::uint64_t largest_exponential, std::size_t index) {
  const std::uint64_t largest = largest_exponential * INT32_MAX + (largest_exponential - 1);
  if (index % 7 == 0) return largest;
  const double steps = std::exp2(static_cast<double>(pick(rng, 0, 150)) / 10.0);
  return std::min(largest, static_cast<std::uint64_t>(steps * 0x1p32));
}

/// Tokens that are rows of a map; some lie beyond it. 0 x 0: tokens follow each other.
struct Window {
  std::size_t height = 0, width = 0;
};

struct AttentionCase {
  std::size_t rows, tokens, head_dim, kind, gap;
  SoftmaxForm form;
  FillPair fill;
  Layout layout;
  std::uint64_t seed;
  Window window = {};
  bool interleave = false;
  bool plain = false;  ///< nothing extreme that would keep it from being interleaved
};

/// Rows of the tokens of a window, in any order, in a map with room for some more; padding here and
/// there.
std::vector<std::uint32_t> token_rows(Rng& rng, std::size_t tokens, std::size_t map_rows) {
  std::vector<std::uint32_t> rows(map_rows);
  std::iota(rows.begin(), rows.end(), 0U);
  std::shuffle(rows.begin(), rows.end(), rng);
  rows.resize(tokens);
  for (std::uint32_t& row : rows) {
    if (tokens > 1 && rng() % 5 == 0) row = kernels::kPaddingRow;
  }
  return rows;
}

/// None, of sums, or of codes; |255 * 2^20 + 2^30 + 2^29| < 2^31.
kernels::BiasParams bias_params(Rng& rng, const Window& window) {
  kernels::BiasParams bias = {.side = 0, .width = window.width};
  if (rng() % 4 == 0) return bias;
  bias.side = 2 * std::max(window.height, window.width) - 1 + 2 * (rng() % 2);
  if (rng() % 2 == 0) return bias;
  bias.multiplier = static_cast<std::int32_t>(pick(rng, 0, 1 << 20));
  bias.shift = static_cast<int>(pick(rng, 1, 30));
  bias.zero_point = static_cast<std::int32_t>(pick(rng, 0, 255));
  return bias;
}

std::vector<std::int32_t> bias_values(Rng& rng, const kernels::BiasParams& bias) {
  const std::size_t count = bias.width * bias.side * bias.width + kernels::kBiasPadding;
  const std::int64_t reach = std::int64_t{1} << pick(rng, 8, 30);
  return make_values<std::int32_t>(rng, count, Fill::kRandom, -reach, reach);
}

/// A factor that spreads sums of about `size` over the codes, or an extreme one.
std::pair<std::int32_t, int> factor(Rng& rng, double size, std::size_t index, bool positive) {
  if (index % 5 == 0) {
    return {static_cast<std::int32_t>(pick(rng, positive ? 0 : INT32_MIN, INT32_MAX)),
            static_cast<int>(1 + index % 62)};
  }
  const auto m = static_cast<std::int32_t>(pick(rng, 1 << 29, 1 << 30));
  const int shift = 30 + static_cast<int>(std::ceil(std::log2(size / 64 + 1)));
  return {positive || index % 3 != 0 ? m : -m, std::min(shift, 62)};
}

std::vector<std::uint16_t> random_weights(Rng& rng, int unit_bits) {
  std::vector<std::uint16_t> weights(16);
  weights[0] = static_cast<std::uint16_t>(1 << unit_bits);
  for (std::size_t i = 1; i < 15; ++i) {
    const int shift = static_cast<int>(rng() % 16);
    const int weight = (rng() % 2 == 0 ? 1 : 3) << shift;
    weights[i] = static_cast<std::uint16_t>(weight <= weights[0] ? weight : weights[0]);
  }
  return weights;
}

CaseResult run(const AttentionCase& c, const KernelTable& table, bool bitshift) {
  constexpr std::int32_t kZeros[] = {0, 128, 255, 1, 127, 77};
  Rng rng(c.seed);
  const std::size_t index = c.seed % 1000;
  const bool relative = c.form == SoftmaxForm::kRowRelative;
  const bool uniform = c.form == SoftmaxForm::kUniform;
  std::vector<std::uint64_t> table_of_e = exponentials(rng, c.kind);
  if (uniform) make_falling(table_of_e);
  const std::uint64_t steps = uniform ? probability_factor(rng, table_of_e[0], index) : 0;
  const auto e = c.layout.place(table_of_e);
  const auto codes = c.layout.place(relative_codes(rng, c.kind));
  const std::size_t stride = c.head_dim + c.gap;
  const auto make = [&](std::size_t rows, Fill fill) {
    return c.layout.place(make_values<std::uint8_t>(rng, extent(rows, c.head_dim, stride), fill));
  };
  const bool windowed = c.window.width != 0;
  const std::size_t map_rows = c.tokens + (windowed ? 5 : 0);
  const std::size_t result_rows = windowed ? map_rows : c.rows;
  const auto q = make(result_rows, c.fill.a);
  const auto k = make(map_rows, c.fill.b);
  const auto v = make(map_rows, c.fill.a);
  const auto rows_of_tokens = c.layout.place(token_rows(rng, c.tokens, map_rows));
  const auto padding_key = make(1, c.fill.a);
  const auto padding_value = make(1, c.fill.b);
  kernels::BiasParams bias = windowed ? bias_params(rng, c.window) : kernels::BiasParams{};
  if (c.plain) bias.shift = 0;
  const auto strips = c.layout.place(bias_values(rng, bias));
  int unit_bits = 15;
  while (relative && ((c.tokens * 255) << unit_bits) > INT32_MAX) --unit_bits;
  // Powers of two, or one and three times them; only the first is what a shift alone can do.
  const bool weighted = relative && !bitshift && c.rows % 2 == 1;
  const auto weights = c.layout.place(random_weights(rng, unit_bits));
  const double spread = 74.0 * 74.0 * std::sqrt(double(c.head_dim));
  // Of five indices one makes extreme factors.
  const std::size_t which = c.plain ? index - index % 5 + 1 + index % 3 : index;
  const auto [score_multiplier, score_shift] = factor(rng, spread, which, false);
  const auto [multiplier, shift] =
      factor(rng, uniform ? 1e4 : std::exp2(unit_bits) * 40, which + 1, relative || uniform);
  kernels::AttentionParams params = {
      .tokens = c.tokens,
      .head_dim = c.head_dim,
      .src_stride = stride,
      .dst_stride = c.head_dim + c.gap / 2,
      .scores = {kZeros[index % 6], score_multiplier, score_shift,
                 index % 11 == 0 && !windowed && !c.plain ? 1000000 : kZeros[index / 5 % 6]},
      .bias = bias,
      .softmax = {.form = c.form,
                  .exponentials = e.data(),
                  .codes = codes.data(),
                  .zero_code = static_cast<std::uint8_t>(relative || index % 4 == 0 ? 15 : 16),
                  .unit_bits = unit_bits,
                  .weights = weighted ? weights.data() : nullptr,
                  .probability_factor = steps},
      .attend = {kZeros[index / 2 % 6], multiplier, shift,
                 index % 13 == 0 && !c.plain ? -300 : kZeros[index / 7 % 6]},
      .interleave = c.interleave};
  GuardedBuffer<std::byte> prepared(kernels::kSoftmaxTableBytes);
  table.softmax_prepare(params.softmax, prepared.data());
  params.prepared = prepared.data();
  GuardedBuffer<std::byte> scratch((table.attention_scratch_bytes(params) + 63) / 64 * 64);
  GuardedBuffer<std::uint8_t> dst(extent(result_rows, c.head_dim, params.dst_stride),
                                  c.layout.placement, c.layout.misalignment);
  kernels::AttentionOperands operands = {
      .q = q.data(), .k = k.data(), .v = v.data(), .dst = dst.data()};
  if (windowed) {
    operands.token_rows = rows_of_tokens.data();
    operands.padding_key = padding_key.data();
    operands.padding_value = padding_value.data();
    operands.bias = strips.data();
  }
  (bitshift ? table.attention_bitshift : table.attention)(params, operands, c.rows, scratch.data());
  CaseResult result{std::vector<std::byte>(dst.size()), dst.surroundings_intact() &&
                                                            scratch.surroundings_intact() &&
                                                            prepared.surroundings_intact()};
  std::memcpy(result.dst.data(), dst.data(), dst.size());
  return result;
}

std::vector<KernelCase> make_cases(std::uint64_t seed, bool bitshift) {
  using enum SoftmaxForm;
  constexpr SoftmaxForm kForms[] = {kLogInt, kLogInt, kRowRelative, kUniform, kUniform};
  const auto forms = std::span(kForms).first(bitshift ? 3 : 5);
  std::vector<KernelCase> cases;
  const auto add = [&](std::size_t rows, std::size_t tokens, std::size_t head_dim,
                       Window window = {}, bool piped = false) {
    const std::size_t i = cases.size();
    const auto form = piped ? kRowRelative : forms[i % forms.size()];
    const bool interleave = piped || i / 2 % 2 == 1;
    const AttentionCase c = {rows,
                             tokens,
                             head_dim,
                             i % 8,
                             i % 4 * 13,
                             form,
                             kFillPairs[i % 2 == 0 ? 0 : i / 2 % kFillPairs.size()],
                             Layout::of(i),
                             seed / 1000 * 1000 + i,
                             window,
                             interleave,
                             piped && i % 8 != 0};
    cases.push_back({"rows=" + std::to_string(rows) + " tokens=" + std::to_string(tokens) +
                         " head_dim=" + std::to_string(head_dim) +
                         " width=" + std::to_string(window.width) +
                         " kind=" + std::to_string(c.kind) + " form=" + std::to_string(int(form)) +
                         (interleave ? " interleaved " : " ") + c.fill.name,
                     [=](const KernelTable& table) { return run(c, table, bitshift); }});
  };
  // What the interleaved form is made for.
  const auto add_piped = [&](std::size_t rows, std::size_t tokens, Window window) {
    if (!bitshift) add(rows, tokens, 64, window, true);
  };
  for (const std::size_t head_dim :
       {1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 255, 256}) {
    for (const std::size_t tokens : {1, 2, 3, 7, 16, 17, 33, 49, 63, 64, 65, 129}) {
      add(1 + (head_dim + tokens) % 13, tokens, head_dim);
    }
  }
  for (const std::size_t tokens : {196, 197, 198, 255, 256, 257, 511, 577, 785, 1025}) {
    for (const std::size_t rows : {1, 6, 13}) {
      for (std::size_t form = 0; form < forms.size(); ++form) add(rows, tokens, 32);
    }
  }
  for (std::size_t i = 0; i < 4 * forms.size(); ++i) add(197, 197, 64);
  for (const Window w : {Window{7, 7}, {1, 1}, {4, 7}, {7, 3}, {3, 3}, {2, 9}, {8, 8}, {12, 12}}) {
    const std::size_t tokens = w.height * w.width;
    for (std::size_t i = 0; i < 3 * forms.size(); ++i) add(tokens, tokens, i % 3 == 0 ? 17 : 32, w);
    for (std::size_t i = 0; i < 4; ++i) add_piped(tokens, tokens, w);
  }
  for (const std::size_t tokens : {1, 5, 17, 49, 63, 64, 65, 128, 130, 192, 197, 256, 257, 1025}) {
    for (const std::size_t rows : {1, 5, 6, 7, 12, 13, 25}) {
      add_piped(rows, tokens, {});
    }
  }
  return cases;
}

}  // namespace

std::vector<KernelCase> attention_cases(std::uint64_t seed) {
  return make_cases(seed, false);
}
std::vector<KernelCase> attention_bitshift_cases(std::uint64_t seed) {
  return make_cases(seed, true);
}

}  // namespace intaglio::test
