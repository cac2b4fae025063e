#include <algorithm>
#include <bit>
#include <cmath>

#include "graph/check_context.h"
#include "kernels/fixed_point.h"

namespace intaglio {
namespace {

using kernels::kMaxHeadDim;
using kernels::kMaxShift;

/// The shapes of windows; how many tokens attend to each other at most.
std::size_t check_window(const CheckContext& c, const AttentionOp& op, const Value& dst) {
  c.require_range("window", op.window, 0, 64);
  if (op.window == 0) {
    c.require(op.window_shift == 0 && op.padding.size() == 0 && op.bias.size() == 0,
              "shift, padding and bias belong to windows");
    return rows_of(dst);
  }
  c.require_map(dst, DType::kU8);
  c.require_range("window_shift", op.window_shift, 0, op.window - 1);
  const auto side = static_cast<std::size_t>(op.window);
  if (op.padding.size() != 0) {
    c.require_shape("padding", op.padding, {3 * channels_of(dst)});
  } else {
    c.require(dst.shape[0] % side == 0 && dst.shape[1] % side == 0,
              "without padding, the window must divide the map");
  }
  return side * side;
}

/// Scores are below 2^24 before their rescaling: with a bias below 2^30, sums fit 32 bits.
void check_bias(const CheckContext& c, const AttentionOp& op) {
  c.require_range("bias_multiplier", op.bias_multiplier, 0, INT32_MAX);
  c.require_range("bias_shift", op.bias_shift, 0, 30);
  c.require_range("bias_zero_point", op.bias_zero_point, 0, 255);
  if (op.bias.size() == 0) {
    c.require(op.bias_multiplier == 0 && op.bias_shift == 0 && op.bias_zero_point == 0,
              "without a bias, its multiplier, shift and zero point are 0");
    return;
  }
  const auto side = static_cast<std::size_t>(2 * op.window - 1);
  c.require_shape("bias", op.bias, {static_cast<std::size_t>(op.heads), side, side});
  if (op.bias_shift == 0) {
    c.require(op.bias_multiplier == 0 && op.bias_zero_point == 0,
              "a bias of sums has no multiplier and no zero point");
  }
  const std::int64_t half = op.bias_shift == 0 ? 0 : std::int64_t{1} << (op.bias_shift - 1);
  const std::int64_t scores =
      op.bias_shift == 0
          ? std::int64_t{1} << 30
          : std::int64_t{CheckContext::max_distance(op.score_zero_point)} * op.bias_multiplier;
  for (const std::int32_t bias : op.bias.view()) {
    c.require(scores + std::abs(std::int64_t{bias}) + half <= INT32_MAX,
              "scores and bias can overflow 32 bits");
  }
}

void check_log_int(const CheckContext& c, const AttentionOp& op, std::size_t tokens) {
  // Products: |acc| < 2^24 (see kernels/scalar/attention.cpp), |multiplier| <= 2^31, rounding
  // 2^61.
  c.require_shape("exponentials", op.exponentials, {256});
  c.require_range("unit_bits", op.unit_bits, 15, 15);
  c.require(op.exponentials[0] > 0, "exponentials[0] must be positive");
  const auto view = op.exponentials.view();
  const Wide largest = *std::max_element(view.begin(), view.end());
  c.require(2 * Wide{tokens} * largest < kLimit63 && 98303 * largest < kLimit63,
            "the softmax can overflow 64 bits");
}

/// Each is one shifted bit or two neighbours, as 4 bits of code can tell a shifter.
void check_weights(const CheckContext& c, const AttentionOp& op) {
  c.require_shape("weights", op.weights, {16});
  c.require(op.weights[0] == 1U << op.unit_bits, "the row maximum must weigh 2^unit_bits");
  c.require(op.weights[15] == 0, "code 15 must weigh nothing");
  for (std::size_t code = 0; code < 16; ++code) {
    const unsigned weight = op.weights[code];
    const unsigned odd = weight == 0 ? 0 : weight >> std::countr_zero(weight);
    if (weight > op.weights[0] || (odd > 1 && odd != 3)) {
      c.fail("weight " + std::to_string(code) + " must be a power of two or three times one");
    }
  }
}

/// The sum of a row's values stays below 2^31, so its product with a multiplier below 2^31 and
/// the rounding constant stay below 2^63.
void check_row_relative(const CheckContext& c, const AttentionOp& op, std::size_t tokens) {
  c.require_shape("codes", op.codes, {256});
  c.require(op.exponentials.size() == 0, "exponentials do not belong to the row-relative softmax");
  c.require_range("zero_code", op.zero_code, 15, 15);
  c.require_range("unit_bits", op.unit_bits, 1, 15);
  if (op.weights.size() != 0) check_weights(c, op);
  c.require_range("attend_multiplier", op.attend_multiplier, 0, INT32_MAX);
  c.require(op.codes[0] == 0, "the row maximum must have code 0");
  c.require((Wide{tokens} * 255) << op.unit_bits <= INT32_MAX, "P v can overflow 32 bits");
}

/// A row's exponentials sum to exponentials[0] or more: both factors of a code stay below 2^31.
void check_uniform(const CheckContext& c, const AttentionOp& op, std::size_t tokens) {
  c.require_shape("exponentials", op.exponentials, {256});
  c.require_shape("probability_factor", op.probability_factor, {1});
  c.require_range("zero_code", op.zero_code, 16, 16);
  c.require_range("unit_bits", op.unit_bits, 15, 15);
  c.require_range("attend_multiplier", op.attend_multiplier, 0, INT32_MAX);
  const auto view = op.exponentials.view();
  c.require(view[0] > 0 && view[0] <= INT32_MAX, "exponentials[0] must be in 1..2147483647");
  c.require(std::is_sorted(view.rbegin(), view.rend()), "the exponentials must fall");
  c.require(op.probability_factor[0] / view[0] <= INT32_MAX,
            "probability_factor is too large for the exponentials");
  c.require(Wide{tokens} * 255 * 255 <= INT32_MAX, "P v can overflow 32 bits");
}

}  // namespace

void check_attention(CheckContext& c, const AttentionOp& op) {
  const Value& src = c.source(op.src);
  const Value& dst = c.made(op.dst);
  c.require_rows(src, DType::kU8);
  c.require_rows(dst, DType::kU8);
  c.require_same_rows(src, dst);
  c.require_one_scale(src);
  c.require_one_scale(dst);
  const std::size_t dim = channels_of(dst);
  c.require(channels_of(src) / 3 == dim && channels_of(src) % 3 == 0,
            "the operand must be [tokens, 3 * channels]");
  const std::size_t tokens = check_window(c, op, dst);
  c.require_range("heads", op.heads, 1, std::int64_t(dim));
  c.require(dim % std::size_t(op.heads) == 0, "the heads must divide the channels");
  c.require(dim / std::size_t(op.heads) <= kMaxHeadDim, "a head has more than 256 channels");
  c.require_range("zero_code", op.zero_code, 15, 16);
  c.require(std::isfinite(op.score_scale) && op.score_scale > 0, "score_scale must be positive");
  c.require_range("score_zero_point", op.score_zero_point, 0, 255);
  c.require_range("score_shift", op.score_shift, 1, kMaxShift);
  c.require_range("attend_shift", op.attend_shift, 1, kMaxShift);
  c.require(op.form == SoftmaxForm::kRowRelative || op.codes.size() == 0,
            "codes belong to the row-relative softmax");
  c.require(op.form == SoftmaxForm::kUniform || op.probability_factor.size() == 0,
            "a probability_factor belongs to the uniform softmax");
  check_bias(c, op);
  if (op.form == SoftmaxForm::kLogInt) {
    check_log_int(c, op, tokens);
  } else if (op.form == SoftmaxForm::kRowRelative) {
    check_row_relative(c, op, tokens);
  } else {
    check_uniform(c, op, tokens);
  }
}

}  // namespace intaglio
