// From reals to integers: every factor of a calibrated network becomes a multiplier and a shift, or
// a table. One function per operation; docs/arithmetic.md derives the formulas.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converters/vit.h"
#include "graph/graph.h"

namespace intaglio {

/// r[i] ~ multiplier[i] / 2^shift with one shift for all: the largest, up to `max_shift`, at which
/// no |multiplier| exceeds `limit`.
struct FixedPoint {
  std::vector<std::int32_t> multiplier;
  int shift = 1;
};
FixedPoint to_fixed_point(std::span<const double> reals, int max_shift = 62,
                          std::int32_t limit = INT32_MAX);

/// Code of a float as the reference rounds it: r / s + z in float32, half to even, clamped to u8.
std::uint8_t quantize(float real, UniformGrid grid);

/// Symmetric s8 weights, one scale per output channel; float32 division and half-to-even as in the
/// reference (docs/arithmetic.md tells why float32 matters).
std::vector<std::int8_t> quantize_weight(const FloatLinear& layer);

/// Grid of a layer's input as reals: u8 codes, or raw pixels with a half-integer zero point.
struct InputGrid {
  double scale = 1;
  double zero_point = 0;
};

/// Parameters of a linear layer whose result has `dst_scale`; src, dst of the op stay unset.
LinearOp lower_linear(const FloatLinear& layer, InputGrid src, double dst_scale);
/// The finest result scale, a power of two finer than the accumulators', at which s32 cannot clamp.
double logit_scale(const FloatLinear& layer, InputGrid src);

LayerNormOp lower_layernorm(const FloatNorm& norm, double dst_scale);

/// Table of int-exp (I-BERT's polynomial with the reference's floors) over d = 0..255 steps of
/// `scale`, for rows of `tokens` scores.
std::vector<std::uint64_t> exponential_table(float scale, std::size_t tokens);

/// Scores and P v of one attention layer; src, dst of the op stay unset.
AttentionOp lower_attention(UniformGrid qkv, UniformGrid scores, UniformGrid result,
                            std::size_t heads, std::size_t head_dim, std::size_t tokens,
                            int zero_code);

/// GELU and the scale of the s16 codes it takes; src, dst of the op stay unset.
struct LoweredGelu {
  GeluOp op;
  double src_scale = 1;
};
LoweredGelu lower_gelu(UniformGrid dst);

/// Multipliers that bring two addends onto a grid 2^shift finer than dst's finest channel, such
/// that nothing passes 31 bits. b may be a PTF grid.
struct LoweredSum {
  std::int32_t multiplier_a = 0;
  std::int32_t multiplier_b = 0;
  std::int32_t shift = 1;
};
LoweredSum lower_sum(UniformGrid a, const PtfGrid& b, const PtfGrid& dst);

}  // namespace intaglio
