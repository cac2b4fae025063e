#include "converters/lower.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "graph/error.h"
#include "kernels/fixed_point.h"

namespace intaglio {
namespace {

constexpr int kGeluPieces = 64;
constexpr int kRowRelativeZero = 15;  ///< first code of weight 0
constexpr int kUniformBits = 20;      ///< of exp(0) in a uniform softmax

template <typename T>
Constant<T> vector_constant(std::vector<T> elements) {
  const std::size_t n = elements.size();
  return Constant<T>({n}, std::move(elements));
}

/// 2^32 / scale, as long as no row's factor reaches 2^31.
std::uint64_t uniform_factor(double scale) {
  if (!(scale > std::ldexp(1.0, 1 - kUniformBits) && scale < 0x1p20)) {
    throw Error(ErrorCode::kUnsupported, "a scale of " + std::to_string(scale) +
                                             " is beyond what attention probabilities may have");
  }
  return static_cast<std::uint64_t>(std::nearbyint(0x1p32 / scale));
}

/// round(real * 2^shift) + 2^(shift-1): an addend with the rounding constant.
std::int64_t with_rounding(long double scaled, int shift) {
  return std::llround(scaled) + (std::int64_t{1} << (shift - 1));
}

/// The largest shift up to `shift` at which |real * 2^shift| stays below 2^61 for all reals.
int limit_shift(std::span<const double> reals, int shift) {
  for (const double r : reals) {
    if (!(std::abs(r) < 0x1p60)) {
      throw Error(ErrorCode::kUnsupported,
                  "an addend of " + std::to_string(r) + " codes is beyond fixed point");
    }
    while (shift > 1 && std::abs(std::ldexp(r, shift)) >= 0x1p61) --shift;
  }
  return shift;
}

std::int64_t sum_of_row(const std::vector<std::int8_t>& weight, std::size_t row, std::size_t k) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < k; ++i) sum += weight[row * k + i];
  return sum;
}

std::vector<std::int8_t> codes_of(const FloatLinear& layer, const WeightGrid& weights,
                                  const InputGrid& src) {
  if (!weights.codes.empty()) return weights.codes;
  return quantize_weight(folded_weight(layer, src.exponents), weights.scale);
}

/// A linear layer onto one scale per channel, with the ratios of a residual stream or without.
LinearOp lower_products(const FloatLinear& layer, const WeightGrid& weights, const InputGrid& src,
                        const std::vector<double>& dst_scales,
                        const std::vector<double>& residual_ratios) {
  const std::vector<std::int8_t> weight = codes_of(layer, weights, src);
  std::vector<double> ratios(layer.n);
  std::vector<double> biases(layer.n, 0.0);
  std::vector<double> offsets(layer.n);  // the whole addend in codes: how far bias may reach
  for (std::size_t j = 0; j < layer.n; ++j) {
    ratios[j] = src.scale * weights.scale[j] / dst_scales[j];
    if (!layer.bias.empty()) biases[j] = layer.bias[j] / dst_scales[j];
    offsets[j] = std::abs(biases[j]) +
                 std::abs(src.zero_point * double(sum_of_row(weight, j, layer.k)) * ratios[j]);
  }
  ratios.insert(ratios.end(), residual_ratios.begin(), residual_ratios.end());
  FixedPoint fixed = to_fixed_point(ratios, limit_shift(offsets, 62));
  const auto middle = fixed.multiplier.begin() + static_cast<std::ptrdiff_t>(layer.n);
  LinearOp op;
  if (!residual_ratios.empty()) {
    op.residual_multiplier =
        vector_constant(std::vector<std::int32_t>(middle, fixed.multiplier.end()));
  }
  fixed.multiplier.erase(middle, fixed.multiplier.end());
  std::vector<std::int64_t> bias(layer.n);
  for (std::size_t j = 0; j < layer.n; ++j) {
    // The zero point goes with the rounded multiplier, so that (acc - z * sum w) * m is exact.
    const long double zero = static_cast<long double>(src.zero_point) *
                             static_cast<long double>(sum_of_row(weight, j, layer.k)) *
                             fixed.multiplier[j];
    bias[j] = with_rounding(std::ldexp(static_cast<long double>(biases[j]), fixed.shift) - zero,
                            fixed.shift);
  }
  op.weight = Constant<std::int8_t>({layer.n, layer.k}, weight);
  op.multiplier = vector_constant(std::move(fixed.multiplier));
  op.bias = vector_constant(std::move(bias));
  op.shift = fixed.shift;
  return op;
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

/// g(a) = a * Phi(-a): what max(x, 0) - GELU(x) is for a = |x|.
double gelu_bend(double a) {
  return a * 0.5 * std::erfc(a / std::numbers::sqrt2);
}

}  // namespace

FixedPoint to_fixed_point(std::span<const double> reals, int max_shift, std::int32_t limit) {
  double largest = 0;
  for (const double r : reals) {
    if (!(std::abs(r) <= limit / 2)) {  // NaN too
      throw Error(ErrorCode::kUnsupported,
                  "a scale ratio of " + std::to_string(r) + " is beyond fixed point");
    }
    largest = std::max(largest, std::abs(r));
  }
  FixedPoint fixed;
  fixed.shift = max_shift;
  while (fixed.shift > 1 && std::ldexp(largest, fixed.shift) > limit - 0.5) --fixed.shift;
  for (const double r : reals) {
    fixed.multiplier.push_back(static_cast<std::int32_t>(std::llround(std::ldexp(r, fixed.shift))));
  }
  return fixed;
}

double channel_scale(const Grid& grid, std::size_t c) {
  return grid.exponents.empty() ? grid.scale : std::ldexp(grid.scale, grid.exponents[c]);
}

std::uint8_t quantize(float real, const Grid& grid) {
  const float code =
      std::nearbyint(real / static_cast<float>(grid.scale) + static_cast<float>(grid.zero_point));
  return static_cast<std::uint8_t>(std::clamp(code, 0.0F, 255.0F));
}

std::vector<float> folded_weight(const FloatLinear& layer,
                                 const std::vector<std::uint8_t>& exponents) {
  std::vector<float> weight = layer.weight;
  if (exponents.empty()) return weight;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = std::ldexp(weight[i], exponents[i % layer.k]);
  }
  return weight;
}

std::vector<std::int8_t> quantize_weight(const std::vector<float>& weight,
                                         const std::vector<float>& scale) {
  const std::size_t k = weight.size() / scale.size();
  std::vector<std::int8_t> codes(weight.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float code = std::nearbyint(weight[i] / scale[i / k]);
    codes[i] = static_cast<std::int8_t>(std::clamp(code, -128.0F, 127.0F));
  }
  return codes;
}

LinearOp lower_linear(const FloatLinear& layer, const WeightGrid& weights, const InputGrid& src,
                      double dst_scale) {
  return lower_products(layer, weights, src, std::vector<double>(layer.n, dst_scale), {});
}

LinearOp lower_sum_of_products(const FloatLinear& layer, const WeightGrid& weights,
                               const InputGrid& src, const Grid& residual, const Grid& dst) {
  std::vector<double> dst_scales(layer.n);
  std::vector<double> residual_ratios(layer.n);
  for (std::size_t j = 0; j < layer.n; ++j) {
    dst_scales[j] = channel_scale(dst, j);
    residual_ratios[j] = channel_scale(residual, j) / dst_scales[j];
  }
  return lower_products(layer, weights, src, dst_scales, residual_ratios);
}

double logit_scale(const FloatLinear& layer, const WeightGrid& weights, const InputGrid& src) {
  const std::vector<std::int8_t> weight = codes_of(layer, weights, src);
  double largest = 0;  // |logit| over all inputs
  double finest = 0;
  for (std::size_t j = 0; j < layer.n; ++j) {
    double sum = layer.bias.empty() ? 0.0 : std::abs(double{layer.bias[j]});
    const double unit = src.scale * weights.scale[j];
    for (std::size_t i = 0; i < layer.k; ++i) {
      sum += std::abs(double(weight[j * layer.k + i])) * unit * (255 + std::abs(src.zero_point));
    }
    largest = std::max(largest, sum);
    finest = std::max(finest, unit);
  }
  double scale = finest;
  while (largest / (scale / 2) < 0x1p30 && scale > finest / 256) scale /= 2;
  while (largest / scale >= 0x1p30) scale *= 2;
  return scale;
}

LayerNormOp lower_layernorm(const FloatNorm& norm, double dst_scale) {
  const std::size_t dim = norm.gamma.size();
  std::vector<double> gammas(dim);
  std::vector<double> betas(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    gammas[c] = std::ldexp(norm.gamma[c] / dst_scale, -kernels::kNormFractionBits);
    betas[c] = norm.beta[c] / dst_scale;
  }
  const FixedPoint fixed = to_fixed_point(gammas, limit_shift(betas, 62));
  std::vector<std::int64_t> bias(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    bias[c] =
        with_rounding(std::ldexp(static_cast<long double>(betas[c]), fixed.shift), fixed.shift);
  }
  LayerNormOp op;
  op.multiplier = vector_constant(fixed.multiplier);
  op.bias = vector_constant(std::move(bias));
  op.shift = fixed.shift;
  return op;
}

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

AttentionOp lower_attention(const Grid& qkv, const Grid& scores, const Grid& result,
                            std::size_t heads, std::size_t head_dim, std::size_t tokens,
                            SoftmaxForm form, int zero_code, double probability_scale) {
  const double unit = qkv.scale * qkv.scale / std::sqrt(double(head_dim)) / scores.scale;
  const FixedPoint score = to_fixed_point(std::array{unit});
  AttentionOp op;
  op.heads = static_cast<std::int32_t>(heads);
  op.form = form;
  op.score_scale = scores.scale;
  op.score_zero_point = scores.zero_point;
  op.score_multiplier = score.multiplier[0];
  op.score_shift = score.shift;
  if (form == SoftmaxForm::kLogInt) {
    op.zero_code = zero_code;
    op.exponentials = vector_constant(exponential_table(static_cast<float>(scores.scale), tokens));
  } else if (form == SoftmaxForm::kRowRelative) {
    op.zero_code = kRowRelativeZero;
    op.codes = vector_constant(row_relative_codes(scores.scale));
    op.unit_bits = row_relative_unit_bits(tokens);
    op.weights = vector_constant(row_relative_weights(op.unit_bits));
  } else {
    op.exponentials = vector_constant(uniform_exponentials(scores.scale));
    op.probability_factor = vector_constant(std::vector{uniform_factor(probability_scale)});
  }
  // A weight of code c is 2^(unit_bits - c), of a uniform code c * scale; the sum of a row-relative
  // row's weights is the kernel's business.
  const double weight_unit =
      form == SoftmaxForm::kUniform ? probability_scale : std::ldexp(1.0, -op.unit_bits);
  const FixedPoint attend = to_fixed_point(std::array{qkv.scale / result.scale * weight_unit});
  op.attend_multiplier = attend.multiplier[0];
  op.attend_shift = attend.shift;
  return op;
}

LoweredGelu lower_gelu(const Grid& dst) {
  const int spread =
      dst.exponents.empty() ? 0 : *std::max_element(dst.exponents.begin(), dst.exponents.end());
  const double step = dst.scale;  // of the finest channel
  const double top =
      std::ldexp((256 - dst.zero_point) * step, spread);  // beyond it every code is 255
  double cutoff = 1;  // beyond it GELU is max(x, 0) within 1/512 of a code
  while (cutoff < 12 && gelu_bend(cutoff) > step / 512) cutoff += 1.0 / 64;

  int bits = 8;
  while (bits > 0 && cutoff / (kGeluPieces << bits) * INT16_MAX < std::max(top, cutoff)) --bits;
  LoweredGelu gelu;
  gelu.src_scale = std::max(cutoff / (kGeluPieces << bits), top / INT16_MAX);
  const FixedPoint slope_one =
      to_fixed_point(std::array{gelu.src_scale / step}, 30 - spread, INT16_MAX);

  std::vector<std::int32_t> base(kGeluPieces);
  std::vector<std::int32_t> slope(kGeluPieces);
  const int piece = 1 << bits;
  const auto units = [&](double h) {  // the bend at code h, in units of 2^-shift dst codes
    return std::ldexp(gelu_bend(h * gelu.src_scale) / step, slope_one.shift);
  };
  for (int i = 0; i < kGeluPieces; ++i) {
    const double first = units(double(i) * piece);
    const double rise = (units(double(i + 1) * piece) - first) / piece;
    const double rounded = std::nearbyint(rise);
    double low = 0;
    double high = 0;
    for (int f = 0; f <= piece; ++f) {  // centre the piece between its largest errors
      const double error = units(double(i) * piece + f) - first - rounded * f;
      low = std::min(low, error);
      high = std::max(high, error);
    }
    base[std::size_t(i)] = static_cast<std::int32_t>(std::llround(first + (low + high) / 2));
    slope[std::size_t(i)] = static_cast<std::int32_t>(rounded);
  }
  gelu.op.multiplier = slope_one.multiplier[0];
  gelu.op.shift = slope_one.shift;
  gelu.op.segment_bits = bits;
  gelu.op.base = vector_constant(std::move(base));
  gelu.op.slope = vector_constant(std::move(slope));
  return gelu;
}

LoweredSum lower_sum(const Grid& a, const Grid& b, const Grid& dst) {
  const auto reach = [](std::int32_t zero) { return double(std::max(zero, 255 - zero)); };
  const auto exponent = [](const Grid& grid) {
    return grid.exponents.empty()
               ? 0
               : int{*std::max_element(grid.exponents.begin(), grid.exponents.end())};
  };
  const double ratio_a = a.scale / dst.scale;
  const double ratio_b = b.scale / dst.scale;
  const double largest = reach(a.zero_point) * ratio_a +
                         std::ldexp(reach(b.zero_point) * ratio_b, exponent(b)) +
                         std::ldexp(0.5, exponent(dst));
  LoweredSum sum;
  sum.shift = 23;
  // One unit of each multiplier is kept for its rounding.
  const double spare = reach(a.zero_point) + std::ldexp(reach(b.zero_point), exponent(b));
  while (sum.shift > 1 && std::ldexp(largest, sum.shift) + spare > INT32_MAX) --sum.shift;
  if (std::ldexp(largest, sum.shift) + spare > INT32_MAX) {
    throw Error(ErrorCode::kUnsupported, "the scales of a residual addition are too far apart");
  }
  sum.multiplier_a = static_cast<std::int32_t>(std::llround(std::ldexp(ratio_a, sum.shift)));
  sum.multiplier_b = static_cast<std::int32_t>(std::llround(std::ldexp(ratio_b, sum.shift)));
  return sum;
}

}  // namespace intaglio
