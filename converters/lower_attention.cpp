#include <algorithm>
#include <array>
#include <cmath>

#include "converters/lower.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr int kRowRelativeZero = 15;  ///< first code of weight 0
constexpr int kUniformBits = 20;      ///< of exp(0) in a uniform softmax

/// 2^32 / scale, as long as no row's factor reaches 2^31.
std::uint64_t uniform_factor(double scale) {
  if (!(scale > std::ldexp(1.0, 1 - kUniformBits) && scale < 0x1p20)) {
    throw Error(ErrorCode::kUnsupported, "a scale of " + std::to_string(scale) +
                                             " is beyond what attention probabilities may have");
  }
  return static_cast<std::uint64_t>(std::nearbyint(0x1p32 / scale));
}

/// What code c < 15 stands for, as a share of the row's maximum: two codes to an octave where the
/// most of a row's weight is, one beyond.
double row_relative_share(int c) {
  constexpr int kFineOctaves = 5;
  if (c >= 2 * kFineOctaves) return std::ldexp(1.0, kFineOctaves - c);
  return std::ldexp(c % 2 == 0 ? 1.0 : 0.75, -(c / 2));
}
/// The share below; below the last, a quarter of it makes half of it the threshold.
double row_relative_next(int c) {
  return c + 1 < kRowRelativeZero ? row_relative_share(c + 1) : row_relative_share(c) / 4;
}

Constant<std::int32_t> bias_constant(const AttentionLayer& layer, std::vector<std::int32_t> bias) {
  const std::size_t side = 2 * layer.window - 1;
  return Constant<std::int32_t>({layer.heads, side, side}, std::move(bias));
}

/// In units of the sums of scores, which stay below 2^24: clamped, it outweighs them still.
void bias_of_sums(AttentionOp& op, const AttentionLayer& layer, double unit) {
  constexpr double kLargest = (1 << 30) - 1;
  std::vector<std::int32_t> bias;
  for (const float b : layer.bias) {
    bias.push_back(
        static_cast<std::int32_t>(std::nearbyint(std::clamp(b / unit, -kLargest, kLargest))));
  }
  op.bias = bias_constant(layer, std::move(bias));
}

/// On its own u8 grid first, then in fixed point of the codes behind it.
void bias_of_codes(AttentionOp& op, const AttentionLayer& layer, const Grid& scores,
                   const Grid& table, const Grid& dst) {
  const LoweredSum sum = lower_sum(scores, table, dst);
  std::vector<std::int32_t> bias;
  for (const float b : layer.bias) {
    bias.push_back((quantize(b, table) - table.zero_point) * sum.multiplier_b);
  }
  op.bias = bias_constant(layer, std::move(bias));
  op.bias_multiplier = sum.multiplier_a;
  op.bias_shift = sum.shift;
  op.bias_zero_point = dst.zero_point;
}

}  // namespace

std::vector<std::uint64_t> exponential_table(float scale, std::size_t tokens) {
  // exp(r) ~ a r^2 + b r + c on (-ln 2, 0], divided by a; floors and float32 as in the reference.
  constexpr double kA = 0.35815147;
  constexpr double kB = 0.96963238;
  constexpr std::int64_t kLargestPower = 30;
  const double c_real = std::floor(static_cast<float>(1 / kA) / (scale * scale));
  if (!(c_real >= 1 && c_real < 0x1p40)) {
    throw Error(ErrorCode::kUnsupported,
                "a score scale of " + std::to_string(scale) + " is beyond the integer exponential");
  }
  const auto x0 = static_cast<std::int64_t>(std::floor(-0.6931F / scale));
  const auto b = static_cast<std::int64_t>(std::floor(static_cast<float>(kB / kA) / scale));
  const auto c = static_cast<std::int64_t>(c_real);
  // The unit of the result is 2^-30 of the polynomial's, or coarser where 64 bits would overflow.
  const double headroom = std::max(2.0 * double(tokens), 98304.0);
  int unit = kLargestPower;
  while (unit > 0 && std::ldexp(c_real, unit) * headroom >= 0x1p63) --unit;
  std::vector<std::uint64_t> table(256);
  for (std::int64_t d = 0; d < 256; ++d) {
    const std::int64_t x = std::max(-d, kLargestPower * x0);
    const std::int64_t q = x / x0;  // both are <= 0: truncation is floor
    const std::int64_t r = x - q * x0;
    const std::int64_t polynomial = std::max<std::int64_t>(r * (r + b) + c, 0);
    table[std::size_t(d)] = q <= unit ? std::uint64_t(polynomial) << (unit - q)
                                      : std::uint64_t(polynomial) >> (q - unit);
  }
  return table;
}

std::vector<std::uint64_t> uniform_exponentials(double scale) {
  std::vector<std::uint64_t> table(256);
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] =
        std::uint64_t(std::nearbyint(std::ldexp(std::exp(-double(d) * scale), kUniformBits)));
  }
  return table;
}

std::vector<std::uint16_t> row_relative_weights(int unit_bits) {
  std::vector<std::uint16_t> weights(16);
  for (int c = 0; c < kRowRelativeZero; ++c) {
    const double weight = std::ldexp(row_relative_share(c), unit_bits);
    // What the unit cannot express weighs nothing.
    if (weight == std::floor(weight)) weights[std::size_t(c)] = static_cast<std::uint16_t>(weight);
  }
  return weights;
}

std::vector<std::uint8_t> row_relative_codes(double scale) {
  std::vector<std::uint8_t> codes(256);
  for (std::size_t d = 0; d < codes.size(); ++d) {
    const double share = std::exp(-scale * double(d));
    int code = 0;
    while (code < kRowRelativeZero &&
           share * share < row_relative_share(code) * row_relative_next(code)) {
      ++code;
    }
    codes[d] = static_cast<std::uint8_t>(code);
  }
  return codes;
}

int row_relative_unit_bits(std::size_t tokens) {
  int bits = kRowRelativeZero;
  while (bits > 1 && std::ldexp(255.0 * double(tokens), bits) > INT32_MAX) --bits;
  return bits;
}

AttentionOp lower_attention(const AttentionLayer& layer, std::size_t head_dim, std::size_t tokens,
                            const AttentionGrids& grids, SoftmaxForm form, int zero_code) {
  const Grid& scores = grids.scores;
  const double unit = grids.qkv.scale * grids.qkv.scale / std::sqrt(double(head_dim));
  const FixedPoint score = to_fixed_point(std::array{unit / scores.scale});
  AttentionOp op;
  op.heads = static_cast<std::int32_t>(layer.heads);
  op.window = static_cast<std::int32_t>(layer.window);
  op.window_shift = static_cast<std::int32_t>(layer.window_shift);
  op.form = form;
  op.score_scale = scores.scale;
  op.score_zero_point = scores.zero_point;
  op.score_multiplier = score.multiplier[0];
  op.score_shift = score.shift;
  const double scale = grids.biased ? grids.biased->scale : scores.scale;
  if (grids.biased) {
    bias_of_codes(op, layer, scores, grids.bias, *grids.biased);
  } else if (!layer.bias.empty()) {
    bias_of_sums(op, layer, unit);
  }
  if (form == SoftmaxForm::kLogInt) {
    op.zero_code = zero_code;
    op.exponentials = vector_constant(exponential_table(static_cast<float>(scale), tokens));
  } else if (form == SoftmaxForm::kRowRelative) {
    op.zero_code = kRowRelativeZero;
    op.codes = vector_constant(row_relative_codes(scale));
    op.unit_bits = row_relative_unit_bits(tokens);
    op.weights = vector_constant(row_relative_weights(op.unit_bits));
  } else {
    op.exponentials = vector_constant(uniform_exponentials(scale));
    op.probability_factor = vector_constant(std::vector{uniform_factor(grids.probability_scale)});
  }
  // A weight of code c is 2^(unit_bits - c), of a uniform code c * scale; the sum of a row-relative
  // row's weights is the kernel's business.
  const double weight_unit =
      form == SoftmaxForm::kUniform ? grids.probability_scale : std::ldexp(1.0, -op.unit_bits);
  const FixedPoint attend =
      to_fixed_point(std::array{grids.qkv.scale / grids.result.scale * weight_unit});
  op.attend_multiplier = attend.multiplier[0];
  op.attend_shift = attend.shift;
  return op;
}

}  // namespace intaglio
