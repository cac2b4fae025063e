// Attention of one head: scores, Log-Int-Softmax, P v.
//
// Scores: sum_d (q - z)(k - z), |.| <= 255 * 255 * 256 < 2^24; the factor head_dim^-0.5 is part of
// the multiplier.
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
// P v with BitShift: sum_j (v_j - z) << (15 - c_j). From the thresholds, 2^-c < 1.5 e / S, so the
// weights of a row sum to less than 1.5 * 2^15 and |sum| < 255 * 1.5 * 2^15 < 2^24 for any number
// of tokens.
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

std::uint8_t requantize_u8(std::int32_t acc, std::int32_t multiplier, int shift,
                           std::int32_t zero_point) noexcept {
  const std::int64_t scaled =
      scale_accumulator(acc, multiplier, std::int64_t{1} << (shift - 1), shift);
  return static_cast<std::uint8_t>(clamp_to(scaled + zero_point, 0, 255));
}

}  // namespace

void attention_scores(const ScoreParams& params, const std::uint8_t* q, std::size_t rows,
                      const std::uint8_t* k, std::size_t tokens, std::size_t head_dim,
                      std::size_t stride, std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < tokens; ++j) {
      std::int32_t acc = 0;
      for (std::size_t d = 0; d < head_dim; ++d) {
        acc += (q[i * stride + d] - params.zero_src) * (k[j * stride + d] - params.zero_src);
      }
      dst[i * tokens + j] = requantize_u8(acc, params.multiplier, params.shift, params.zero_point);
    }
  }
}

void softmax_log2(const SoftmaxParams& params, const std::uint8_t* src, std::size_t rows,
                  std::size_t cols, std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint8_t* scores = src + i * cols;
    std::uint8_t maximum = 0;
    for (std::size_t j = 0; j < cols; ++j) maximum = scores[j] > maximum ? scores[j] : maximum;
    std::uint64_t sum = 0;
    for (std::size_t j = 0; j < cols; ++j) sum += params.exponentials[maximum - scores[j]];
    for (std::size_t j = 0; j < cols; ++j) {
      dst[i * cols + j] = log2_code(sum, params.exponentials[maximum - scores[j]]);
    }
  }
}

void attend_log2(const AttendParams& params, const std::uint8_t* codes, std::size_t rows,
                 const std::uint8_t* v, std::size_t tokens, std::size_t head_dim,
                 std::size_t v_stride, std::uint8_t* dst, std::size_t dst_stride) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t d = 0; d < head_dim; ++d) {
      std::int32_t acc = 0;
      for (std::size_t j = 0; j < tokens; ++j) {
        const std::uint8_t code = codes[i * tokens + j];
        if (code >= params.zero_code) continue;
        acc += (v[j * v_stride + d] - params.zero_src) * (1 << (15 - code));
      }
      dst[i * dst_stride + d] =
          requantize_u8(acc, params.multiplier, params.shift, params.zero_point);
    }
  }
}

}  // namespace intaglio::kernels::scalar
