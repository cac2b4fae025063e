#include "bench/kernels/lowered.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "bench/kernels/operands.h"
#include "converters/lower.h"

namespace intaglio::bench {
namespace {

constexpr float kScoreScale = 0.025F;
constexpr int kUnitBits = 15;  // 197 * 2^15 * 255 < 2^31
constexpr std::uint64_t kStepsOfOne = 510;

constexpr float kLayerScale = 0.0235F;
constexpr std::int32_t kLayerZero = 125;
constexpr float kStreamScale = 0.02F;
constexpr std::int32_t kStreamZero = 122, kSumZero = 124;

}  // namespace

Gelu lowered_gelu() {
  const Grid kDst = {3.4F / 255, 13, {}};
  static const LoweredGelu lowered = lower_gelu(kDst);
  const GeluOp& op = lowered.op;
  return {
      {op.multiplier, op.shift, op.segment_bits, op.base.data(), op.slope.data(), kDst.zero_point},
      lowered.src_scale};
}

Residual::Residual(std::size_t dim) {
  Rng rng(dim);
  exponents_ = random_values<std::uint8_t>(rng, dim, 0, 3);
  exponents_[0] = 0;  // the finest channel
  const LoweredSum sum =
      lower_sum({kLayerScale, kLayerZero, {}}, {kStreamScale, kStreamZero, exponents_},
                {1.1F * kStreamScale, kSumZero, exponents_});
  multiplier_a_ = sum.multiplier_a, multiplier_b_ = sum.multiplier_b, shift_ = sum.shift;
}

kernels::ResidualParams Residual::params() const {
  return {.dim = exponents_.size(),
          .zero_a = kLayerZero,
          .multiplier_a = multiplier_a_,
          .zero_b = kStreamZero,
          .multiplier_b = multiplier_b_,
          .exponents_b = exponents_.data(),
          .exponents_dst = exponents_.data(),
          .shift = shift_,
          .zero_point = kSumZero};
}

Softmax::Softmax(kernels::SoftmaxForm form, std::size_t tokens)
    : form_(form),
      exponentials_(form == kernels::SoftmaxForm::kUniform
                        ? uniform_exponentials(kScoreScale)
                        : exponential_table(kScoreScale, tokens)) {
  for (int d = 0; d < 256; ++d) {
    const double code = std::round(d * double{kScoreScale} * std::numbers::log2e);
    codes_.push_back(static_cast<std::uint8_t>(std::min(code, 255.0)));
  }
}

kernels::SoftmaxParams Softmax::params() const {
  return {.form = form_,
          .exponentials = exponentials_.data(),
          .codes = codes_.data(),
          .zero_code = kernels::kZeroCode,
          .unit_bits = kUnitBits,
          .probability_factor = kStepsOfOne << 32};
}

}  // namespace intaglio::bench
