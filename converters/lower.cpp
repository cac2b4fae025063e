#include "converters/lower.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "graph/error.h"
#include "kernels/fixed_point.h"

namespace intaglio {
namespace {

constexpr int kGeluPieces = 64;

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

std::int64_t sum_of_row(std::span<const std::int8_t> weight, std::size_t row, std::size_t k) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < k; ++i) sum += weight[row * k + i];
  return sum;
}

std::vector<std::int8_t> codes_of(const FloatLinear& layer, const WeightGrid& weights,
                                  const InputGrid& src) {
  if (!weights.codes.empty()) return weights.codes;
  return quantize_weight(folded_weight(layer, src.exponents), weights.scale);
}

std::vector<double> channel_scales(const Grid& grid, std::size_t channels) {
  std::vector<double> scales(channels);
  for (std::size_t c = 0; c < channels; ++c) scales[c] = channel_scale(grid, c);
  return scales;
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
                      const Grid& dst) {
  return lower_products(layer, weights, src, channel_scales(dst, layer.n), {});
}

LinearOp lower_sum_of_products(const FloatLinear& layer, const WeightGrid& weights,
                               const InputGrid& src, const Grid& residual, const Grid& dst) {
  const std::vector<double> dst_scales = channel_scales(dst, layer.n);
  std::vector<double> residual_ratios = channel_scales(residual, layer.n);
  for (std::size_t j = 0; j < layer.n; ++j) residual_ratios[j] /= dst_scales[j];
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
    throw Error(ErrorCode::kUnsupported, "the scales of an addition are too far apart");
  }
  sum.multiplier_a = static_cast<std::int32_t>(std::llround(std::ldexp(ratio_a, sum.shift)));
  sum.multiplier_b = static_cast<std::int32_t>(std::llround(std::ldexp(ratio_b, sum.shift)));
  return sum;
}

MeanRowsOp lower_mean(const Grid& src, const Grid& dst) {
  constexpr int kMaxMeanShift = kernels::kMaxShift - std::bit_width(kernels::kMaxMeanRows);
  const FixedPoint fixed = to_fixed_point(std::array{src.scale / dst.scale}, kMaxMeanShift);
  MeanRowsOp op;
  op.multiplier = fixed.multiplier[0];
  op.shift = fixed.shift;
  return op;
}

}  // namespace intaglio
