// From reals to integers: every factor of a calibrated network becomes a multiplier and a shift, or
// a table. One function per operation; docs/arithmetic.md derives the formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "converters/calibration.h"
#include "converters/network.h"
#include "graph/graph.h"

namespace intaglio {

/// A constant of one dimension.
template <typename T>
Constant<T> vector_constant(std::vector<T> elements) {
  const std::size_t n = elements.size();
  return Constant<T>({n}, std::move(elements));
}

/// r[i] ~ multiplier[i] / 2^shift with one shift for all: the largest, up to `max_shift`, at which
/// no |multiplier| exceeds `limit`.
struct FixedPoint {
  std::vector<std::int32_t> multiplier;
  int shift = 1;
};
FixedPoint to_fixed_point(std::span<const double> reals, int max_shift = 62,
                          std::int32_t limit = INT32_MAX);

/// Code of a float as the reference rounds it: r / s + z in float32, half to even, clamped to u8.
std::uint8_t quantize(float real, const Grid& grid);

/// Scale of channel c.
double channel_scale(const Grid& grid, std::size_t c);

/// Grid of a linear layer's input: u8 codes, or raw pixels with a half-integer zero point.
struct InputGrid {
  double scale = 1;
  double zero_point = 0;
  std::vector<std::uint8_t> exponents;  ///< [k] or empty
};

/// The weights that input codes are multiplied with: powers of two of the input's channels are in
/// them. [n, k]
std::vector<float> folded_weight(const FloatLinear& layer,
                                 const std::vector<std::uint8_t>& exponents);

/// Symmetric s8 codes [n, k] of weights with one scale per output channel; float32 division and
/// half-to-even as in the reference (docs/arithmetic.md tells why float32 matters).
std::vector<std::int8_t> quantize_weight(const std::vector<float>& weight,
                                         const std::vector<float>& scale);

/// Parameters of a linear layer onto the grid `dst`; src, dst of the op stay unset.
LinearOp lower_linear(const FloatLinear& layer, const WeightGrid& weights, const InputGrid& src,
                      const Grid& dst);
/// The same with its accumulators added to `residual`, onto the stream `dst`.
LinearOp lower_sum_of_products(const FloatLinear& layer, const WeightGrid& weights,
                               const InputGrid& src, const Grid& residual, const Grid& dst);
/// The finest result scale, a power of two finer than the accumulators', at which s32 cannot clamp.
double logit_scale(const FloatLinear& layer, const WeightGrid& weights, const InputGrid& src);

LayerNormOp lower_layernorm(const FloatNorm& norm, double dst_scale);

/// Table of int-exp (I-BERT's polynomial with the reference's floors) over d = 0..255 steps of
/// `scale`, for rows of `tokens` scores.
std::vector<std::uint64_t> exponential_table(float scale, std::size_t tokens);

/// Weights of the 16 row-relative codes: 1, 3/4, 1/2, 3/8, ... 3/64, then 1/32, 1/64, ... 1/512 of
/// 2^unit_bits, and 0.
std::vector<std::uint16_t> row_relative_weights(int unit_bits);

/// Table of codes relative to the row's maximum, d = 0..255 steps of `scale` below it: that of the
/// weight whose ratio to exp(-d * scale) is the nearest to one, and 15 below half the last weight.
std::vector<std::uint8_t> row_relative_codes(double scale);

/// The largest power of two that stands for a row's maximum at which P v fits 32 bits.
int row_relative_unit_bits(std::size_t tokens);

/// exp(-d * scale) for d = 0..255 in units of 2^-20, rounded.
std::vector<std::uint64_t> uniform_exponentials(double scale);

/// Grids in and around an attention layer.
struct AttentionGrids {
  Grid qkv;
  Grid scores;  ///< before the softmax, or before a bias that is added to codes
  Grid result;
  double probability_scale = 1;  ///< of kUniform's codes
  /// Before the softmax, where the bias is added to codes of scores; then `bias` is the grid of the
  /// bias. Without, it is added to the sums that become scores.
  std::optional<Grid> biased = {};
  Grid bias = {};
};

/// Scores, relative position bias and P v of one attention layer, each row over `tokens`; src, dst
/// and padding of the op stay unset. Throws Error(kUnsupported) where probability_scale is below
/// 2^-19, and for scales too far apart.
AttentionOp lower_attention(const AttentionLayer& layer, std::size_t head_dim, std::size_t tokens,
                            const AttentionGrids& grids, SoftmaxForm form, int zero_code);

/// GELU and the scale of the s16 codes it takes; src, dst of the op stay unset.
struct LoweredGelu {
  GeluOp op;
  double src_scale = 1;
};
LoweredGelu lower_gelu(const Grid& dst);

/// Multipliers that bring two addends onto a grid 2^shift finer than dst's finest channel, such
/// that nothing passes 31 bits. b may be a PTF grid.
struct LoweredSum {
  std::int32_t multiplier_a = 0;
  std::int32_t multiplier_b = 0;
  std::int32_t shift = 1;
};
LoweredSum lower_sum(const Grid& a, const Grid& b, const Grid& dst);

/// The factor of one row; src, dst of the op stay unset.
MeanRowsOp lower_mean(const Grid& src, const Grid& dst);

}  // namespace intaglio
