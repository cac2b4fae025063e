// Attention of one head: scores, softmax, P v.
//
// Scores: sum_d (q - z)(k - z), |.| <= 255 * 255 * 256 < 2^24; the factor head_dim^-0.5 is part of
// the multiplier. A bias of sums stays below 2^30 (graph/check).
//
// Log-Int-Softmax (FQ-ViT, section 3.4, in the division-free form): with e_j = exponentials[max -
// score_j] and S = sum e_j, the code is log2 of round(S / e), rounded up when its mantissa is >=
// 1.5:
//     code >= 1      iff  2 S >= 3 e          (round(S/e) >= 2)
//     code >= 2      iff  2 S >  5 e          (round-half-to-even(S/e) >= 3)
//     code >= k + 1  iff  2 S >= (3 * 2^k - 1) e,  k >= 2
// Codes stop at 16 (kZeroCode). The reference takes S / e in float32; elements where its rounding
// decides differ by one. Bounds: 2 S and (3 * 2^15 - 1) e stay below 2^63; graph/check proves it
// from the table and the number of tokens.
//
// Row-relative codes: a table over d = max - score, c = round(d * scale * log2 e), and every row is
// divided by the sum of its weights W. The largest element has code 0, so 2^unit_bits <= W; the
// reciprocal floor(2^(unit_bits + 30) / W) is at most 2^30 and the row's multiplier at most the
// given one.
//
// Uniform codes: p = e / S in steps of s_p, rounded half up. With K = probability_factor = 2^32 /
// s_p, the row's factor is R = floor(K / S) and the code (e R + 2^31) >> 32, at most 255. S >=
// e(0), so R <= K / e(0) < 2^31, and e(d) <= e(0) < 2^31: the product stays below 2^62. Cutting R
// costs less than e(0) / 2^32 codes.
//
// P v with BitShift: sum_j (v_j - z) << (15 - c_j). From the thresholds, 2^-c < 1.5 e / S, so the
// weights of a row sum to less than 1.5 * 2^15 and |sum| < 255 * 1.5 * 2^15 < 2^24 for any number
// of tokens. Row-relative: |sum| <= 255 * tokens * 2^unit_bits < 2^31, uniform: |sum| <= 255 * 255
// * tokens < 2^31; graph/check proves both.
#include "kernels/fixed_point.h"
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels::scalar {
namespace {

/// The code of an element with exponential e in a row whose exponentials sum to `sum`.
std::uint8_t log2_code(std::uint64_t sum, std::uint64_t e) noexcept {
  const std::uint64_t twice = 2 * sum;
  if (twice < 3 * e) return 0;
  if (twice <= 5 * e) return 1;
  int code = 2;
  while (code < kZeroCode && twice >= ((std::uint64_t{3} << code) - 1) * e) ++code;
  return static_cast<std::uint8_t>(code);
}

/// The code of an element with exponential e in a row whose factor is `factor`.
std::uint8_t uniform_code(std::uint64_t factor, std::uint64_t e) noexcept {
  const std::uint64_t code = (e * factor + (std::uint64_t{1} << 31)) >> 32;
  return static_cast<std::uint8_t>(code < 255 ? code : 255);
}

std::uint8_t requantize_u8(std::int32_t acc, std::int32_t multiplier, int shift,
                           std::int32_t zero_point) noexcept {
  const std::int64_t scaled =
      scale_accumulator(acc, multiplier, std::int64_t{1} << (shift - 1), shift);
  return static_cast<std::uint8_t>(clamp_to(scaled + zero_point, 0, 255));
}

// Looked up: clang makes vectors of variable shifts out of floating-point conversions.
constexpr std::int32_t kPowers[16] = {1,       1 << 1,  1 << 2,  1 << 3, 1 << 4,  1 << 5,
                                      1 << 6,  1 << 7,  1 << 8,  1 << 9, 1 << 10, 1 << 11,
                                      1 << 12, 1 << 13, 1 << 14, 1 << 15};

std::int32_t weight_of(const SoftmaxParams& params, std::uint8_t code) noexcept {
  if (params.form == SoftmaxForm::kUniform) return code;
  if (params.weights != nullptr) return code < 16 ? params.weights[code] : 0;
  return code < params.zero_code && code <= params.unit_bits ? kPowers[params.unit_bits - code] : 0;
}

/// The factor of a row-relative row whose weights sum to `weights`.
std::int32_t row_multiplier(const SoftmaxParams& params, std::int32_t multiplier,
                            std::int64_t weights) noexcept {
  const std::int64_t reciprocal = (std::int64_t{1} << (params.unit_bits + 30)) / weights;
  return static_cast<std::int32_t>((multiplier * reciprocal) >> 30);
}

}  // namespace

void attention_scores(const ScoreParams& params, const std::uint8_t* q, std::size_t rows,
                      const std::uint8_t* k, std::size_t tokens, std::size_t head_dim,
                      std::size_t stride, std::uint8_t* dst, const std::int32_t* bias) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < tokens; ++j) {
      std::int32_t acc = bias == nullptr ? 0 : bias[j];
      for (std::size_t d = 0; d < head_dim; ++d) {
        acc += (q[i * stride + d] - params.zero_src) * (k[j * stride + d] - params.zero_src);
      }
      dst[i * tokens + j] = requantize_u8(acc, params.multiplier, params.shift, params.zero_point);
    }
  }
}

const std::int32_t* bias_row(const BiasParams& params, const std::int32_t* strips,
                             std::size_t query) noexcept {
  const std::size_t y = query / params.width;
  const std::size_t x = query % params.width;
  return strips + (x * params.side + params.side / 2 - y) * params.width;
}

void add_bias(const BiasParams& params, std::int32_t zero_scores, const std::int32_t* bias,
              const std::uint8_t* src, std::size_t tokens, std::uint8_t* dst) noexcept {
  for (std::size_t j = 0; j < tokens; ++j) {
    const std::int32_t sum = (src[j] - zero_scores) * params.multiplier + bias[j];
    const std::int64_t code = rounding_shift_right(sum, params.shift);
    dst[j] = static_cast<std::uint8_t>(clamp_to(code + params.zero_point, 0, 255));
  }
}

void softmax_codes(const SoftmaxParams& params, const std::uint8_t* src, std::size_t rows,
                   std::size_t cols, std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint8_t* scores = src + i * cols;
    std::uint8_t* codes = dst + i * cols;
    std::uint8_t maximum = 0;
    for (std::size_t j = 0; j < cols; ++j) maximum = scores[j] > maximum ? scores[j] : maximum;
    if (params.form == SoftmaxForm::kRowRelative) {
      for (std::size_t j = 0; j < cols; ++j) codes[j] = params.codes[maximum - scores[j]];
      continue;
    }
    std::uint64_t sum = 0;
    for (std::size_t j = 0; j < cols; ++j) sum += params.exponentials[maximum - scores[j]];
    const bool uniform = params.form == SoftmaxForm::kUniform;
    const std::uint64_t factor = uniform ? params.probability_factor / sum : 0;
    for (std::size_t j = 0; j < cols; ++j) {
      const std::uint64_t e = params.exponentials[maximum - scores[j]];
      codes[j] = uniform ? uniform_code(factor, e) : log2_code(sum, e);
    }
  }
}

void attend_codes(const SoftmaxParams& softmax, const AttendParams& params,
                  const std::uint8_t* codes, std::size_t rows, const std::uint8_t* v,
                  std::size_t tokens, std::size_t head_dim, std::size_t v_stride, std::uint8_t* dst,
                  std::size_t dst_stride) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint8_t* row = codes + i * tokens;
    std::int32_t multiplier = params.multiplier;
    if (softmax.form == SoftmaxForm::kRowRelative) {
      std::int64_t weights = 0;
      for (std::size_t j = 0; j < tokens; ++j) weights += weight_of(softmax, row[j]);
      multiplier = row_multiplier(softmax, params.multiplier, weights);
    }
    for (std::size_t d = 0; d < head_dim; ++d) {
      std::int32_t acc = 0;
      for (std::size_t j = 0; j < tokens; ++j) {
        acc += (v[j * v_stride + d] - params.zero_src) * weight_of(softmax, row[j]);
      }
      dst[i * dst_stride + d] = requantize_u8(acc, multiplier, params.shift, params.zero_point);
    }
  }
}

void softmax_prepare(const SoftmaxParams&, std::byte*) noexcept {}

std::size_t attention_scratch_bytes(const AttentionParams& params) noexcept {
  return params.tokens * (1 + 3 * params.head_dim);
}

void attention(const AttentionParams& params, const AttentionOperands& operands, std::size_t rows,
               std::byte* scratch) noexcept {
  auto* map = reinterpret_cast<std::uint8_t*>(scratch);  // a row of scores, then of codes
  const std::size_t d = params.head_dim;
  AttentionOperands o = operands;
  std::size_t stride = params.src_stride;
  if (o.token_rows != nullptr) {  // side by side
    std::uint8_t* const gathered = map + params.tokens;
    for (std::size_t t = 0; t < params.tokens; ++t) {
      const bool padding = o.token_rows[t] == kPaddingRow;
      const std::size_t at = padding ? 0 : o.token_rows[t] * stride;
      const std::uint8_t* const from[3] = {o.q + at, padding ? o.padding_key : o.k + at,
                                           padding ? o.padding_value : o.v + at};
      for (std::size_t i = 0; i < 3 * d; ++i) gathered[t * 3 * d + i] = from[i / d][i % d];
    }
    o.q = gathered;
    o.k = gathered + d;
    o.v = gathered + 2 * d;
    stride = 3 * d;
  }
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t row = o.token_rows == nullptr ? i : o.token_rows[i];
    if (row == kPaddingRow) continue;
    const std::int32_t* bias = params.bias.side == 0 ? nullptr : bias_row(params.bias, o.bias, i);
    const bool of_sums = params.bias.shift == 0;
    attention_scores(params.scores, o.q + i * stride, 1, o.k, params.tokens, d, stride, map,
                     of_sums ? bias : nullptr);
    if (bias != nullptr && !of_sums) {
      add_bias(params.bias, params.scores.zero_point, bias, map, params.tokens, map);
    }
    softmax_codes(params.softmax, map, 1, params.tokens, map);
    attend_codes(params.softmax, params.attend, map, 1, o.v, params.tokens, d, stride,
                 o.dst + row * params.dst_stride, params.dst_stride);
  }
}

}  // namespace intaglio::kernels::scalar
