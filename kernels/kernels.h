// The kernels' only public header: parameter structs and the table of functions that one
// instruction-set level provides. kernels/scalar holds the normative definition of every entry;
// every other table equals it bit for bit on every input that meets the preconditions stated here.
//
// Manners: raw pointers, no allocation, no threads, no exceptions, no floating point. Operands are
// row-major; a `stride` counts elements between rows. Pointers need only element alignment (packed
// weights: 64 bytes). No byte outside an operand's rows is read or written; src and dst do not
// overlap unless a kernel says so. Preconditions (ranges, shifts, overflow bounds) are proven for a
// whole model by graph/check before anything runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/fixed_point.h"

namespace intaglio::kernels {

/// What a GEMM's sums become.
enum class CodeType : std::uint8_t { kU8, kS16, kS32 };

struct GeluParams;
struct ResidualParams;

/// What is done to a GEMM's codes before they are stored; each equals the operations one by one.
enum class GemmEpilogue : std::uint8_t {
  kNone,
  kGelu,      ///< s16 codes through GeluParams; stored as u8
  kAddCodes,  ///< u8 codes are `a` of ResidualParams, the residual stream is b; stored as u8
  kAddWords,  ///< s16 codes are added to those of a s16 residual stream, saturating
  kAddSums,   ///< the residual stream is added to the accumulators, before the one rounding
};

/// A linear layer: dst[i][j] = clamp(((sum_k src[i][k] * weight[j][k]) * multiplier[j] + bias[j] >>
/// shift) + zero_point), clamped to the range of `output`. The zero point of src is folded into
/// bias by whoever makes the parameters. See fixed_point.h for the rounding. With kAddSums,
/// (residual[i][j] - residual_zero) * residual_multiplier[j] is added before the shift.
struct GemmParams {
  std::size_t n = 0;                         ///< output channels
  std::size_t k = 0;                         ///< input channels, 1..kMaxGemmDepth
  const std::byte* packed = nullptr;         ///< from gemm_pack of the same table, 64-byte aligned
  const std::int32_t* multiplier = nullptr;  ///< [n]
  const std::int64_t* bias = nullptr;        ///< [n], rounding constant included
  int shift = 1;                             ///< 1..62
  std::int32_t zero_point = 0;               ///< of the codes
  CodeType output = CodeType::kU8;
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  const GeluParams* gelu = nullptr;     ///< kGelu; output is kS16
  const ResidualParams* add = nullptr;  ///< kAddCodes; output is kU8, zero_a is zero_point
  const std::int32_t* residual_multiplier = nullptr;  ///< kAddSums, [n]
  CodeType residual_type = CodeType::kU8;             ///< kAddSums; u8 or s16. Else the output's
  std::int32_t residual_zero = 0;                     ///< kAddSums; 0 for s16
  /// Where a level can, the epilogue of a tile stands between the products of the next one. The
  /// codes are the same; prefers_interleaving() tells which way is the faster one.
  bool interleave = false;
};

/// Part of a product's columns: first is a multiple of kColumnStep, last too or all there are.
struct ColumnRange {
  std::size_t first = 0;
  std::size_t last = 0;
};
inline constexpr std::size_t kColumnStep = 64;

/// Bytes of one stored element.
[[gnu::always_inline]] inline std::size_t stored_bytes(const GemmParams& params) noexcept {
  if (params.epilogue == GemmEpilogue::kGelu) return 1;
  return params.output == CodeType::kU8 ? 1 : params.output == CodeType::kS16 ? 2 : 4;
}

/// Scores of one head: dst[i][j] = clamp(((sum_d (q[i][d] - zero_src) * (k[j][d] - zero_src)) *
/// multiplier + 2^(shift-1) >> shift) + zero_point), u8.
struct ScoreParams {
  std::int32_t zero_src = 0;  ///< 0..255, shared by q and k
  std::int32_t multiplier = 0;
  int shift = 1;  ///< 1..62
  std::int32_t zero_point = 0;
};

/// Codes of the log2 softmaxes: 0..15 stand for 2^-code; kZeroCode for 0.
inline constexpr std::uint8_t kZeroCode = 16;

/// Softmax of rows of u8 scores that share one scale, with d = row maximum - score. A code c weighs
/// w(c) = 2^(unit_bits - c), and 0 from `zero_code` on or where that is no integer. For kUniform,
/// w(c) = c = min(255, (e(d) * floor(probability_factor / sum of the row's e) + 2^31) >> 32), with
/// e = exponentials; then e falls, and neither e(0) nor probability_factor / e(0) passes 2^31 - 1.
struct SoftmaxParams {
  SoftmaxForm form = SoftmaxForm::kLogInt;
  /// [256], kLogInt, kUniform: exp(-d * scale) in fixed point; [0] > 0. See attention.cpp for the
  /// bounds.
  const std::uint64_t* exponentials = nullptr;
  const std::uint8_t* codes = nullptr;  ///< [256], kRowRelative: code of d, [0] == 0
  std::uint8_t zero_code = kZeroCode;   ///< 16, or 15 for a strictly 4-bit map
  int unit_bits = 15;                   ///< kLogInt: 15. kRowRelative: tokens * 2^it * 255 < 2^31
  /// [16], kRowRelative: weights of the codes instead of powers of two, [0] == 2^unit_bits, none
  /// above it. Null: powers of two, all that attention_bitshift takes.
  const std::uint16_t* weights = nullptr;
  std::uint64_t probability_factor = 0;  ///< kUniform: 2^32 / what a code is worth
};

/// P v: dst[i][d] = clamp(((sum_j (v[j][d] - zero_src) * w(codes[i][j])) * m + 2^(shift-1) >>
/// shift) + zero_point), m = multiplier. For kRowRelative, with W the sum of the row's weights, m =
/// (multiplier * floor(2^(unit_bits + 30) / W)) >> 30.
struct AttendParams {
  std::int32_t zero_src = 0;    ///< 0..255, of v
  std::int32_t multiplier = 0;  ///< kRowRelative, kUniform: >= 0
  int shift = 1;                ///< 1..62
  std::int32_t zero_point = 0;
};

/// Relative position bias, added before the softmax. shift 0: to the sums of scores, before their
/// rescaling. Else to their codes c: clamp(((c - zero point of the scores) * multiplier + bias +
/// 2^(shift-1) >> shift) + zero_point), u8; neither sum passes 2^31 - 1.
///
/// The bias of a head is laid out as strips [width, side * width], one for each column that a query
/// may be in: the bias of query (y, x) and key (y', x') is strip x, element (y' - y + side / 2) *
/// width + x', so that the keys of a query lie side by side. Behind the strips, kBiasPadding more
/// elements are there to be read.
struct BiasParams {
  std::size_t side = 0;   ///< 2 * window - 1, differences between two rows; 0: no bias
  std::size_t width = 0;  ///< tokens of a row: token t is (t / width, t % width)
  std::int32_t multiplier = 0;
  int shift = 0;  ///< 0..30
  std::int32_t zero_point = 0;
};

inline constexpr std::size_t kBiasPadding = 64;  ///< the rest of a vector, at least

/// One head of attention.
struct AttentionParams {
  std::size_t tokens = 0;      ///< keys and values
  std::size_t head_dim = 0;    ///< 1..kMaxHeadDim
  std::size_t src_stride = 0;  ///< elements between the tokens of q, k and v
  std::size_t dst_stride = 0;  ///< elements between the rows of dst
  ScoreParams scores;
  BiasParams bias = {};
  SoftmaxParams softmax;
  AttendParams attend;
  const std::byte* prepared = nullptr;  ///< from softmax_prepare of the same table
  /// Other work between products, where there is code for it; the results are the same.
  bool interleave = false;
};

/// In AttentionOperands::token_rows: the token is beyond the map.
inline constexpr std::uint32_t kPaddingRow = UINT32_MAX;

/// Tokens that attend to each other. Without token_rows, tokens follow each other, and queries and
/// results are as many as wanted: q [rows, head_dim], k and v [tokens, head_dim], dst [rows,
/// head_dim]. With it, queries and results are those of all tokens, too, and token t is row
/// token_rows[t] of all four; padding has keys and values of its own and no result.
struct AttentionOperands {
  const std::uint8_t* q = nullptr;
  const std::uint8_t* k = nullptr;
  const std::uint8_t* v = nullptr;
  std::uint8_t* dst = nullptr;
  const std::uint32_t* token_rows = nullptr;    ///< [tokens] or null
  const std::uint8_t* padding_key = nullptr;    ///< [head_dim], where token_rows has padding
  const std::uint8_t* padding_value = nullptr;  ///< [head_dim]
  const std::int32_t* bias = nullptr;           ///< strips of this head, where there is a bias
};

/// Size and alignment (64 bytes) of what softmax_prepare writes.
inline constexpr std::size_t kSoftmaxTableBytes = 16384;

/// LayerNorm over a residual stream: u8 on a PTF grid (Powers-of-Two Factor: channel c has scale s
/// * 2^exponents[c]), or s16 with one scale.
struct LayerNormParams {
  std::size_t dim = 0;                       ///< channels, 1..kMaxNormDim
  CodeType src_type = CodeType::kU8;         ///< u8 or s16
  std::int32_t zero_src = 0;                 ///< 0..255; 0 for s16
  const std::uint8_t* exponents = nullptr;   ///< [dim], 0..kMaxExponent; not read for s16
  const std::int32_t* multiplier = nullptr;  ///< [dim], gamma / dst scale * 2^(shift-22)
  const std::int64_t* bias = nullptr;        ///< [dim], beta / dst scale * 2^shift + 2^(shift-1)
  int shift = 1;                             ///< 1..62
  std::int32_t zero_point = 0;               ///< of dst; 0 for s16
  CodeType dst_type = CodeType::kU8;         ///< u8 or s16
};

/// GELU of s16 codes h (zero point 0) by gelu(x) = max(x, 0) - |x| Phi(-|x|): a product and a table
/// of 64 straight pieces over |h|, onto one scale or a PTF grid. See elementwise.cpp.
struct GeluParams {
  std::int32_t multiplier = 0;          ///< src scale / finest dst scale * 2^shift, 0..2^15-1
  int shift = 1;                        ///< 1..30; with the largest exponent added, too
  int segment_bits = 0;                 ///< codes of |h| per piece = 2^segment_bits, 0..9
  const std::int32_t* base = nullptr;   ///< [64], units of 2^-shift dst codes
  const std::int32_t* slope = nullptr;  ///< [64], the same per code of |h|
  std::int32_t zero_point = 0;          ///< of dst, 0..255
  /// [dim] or the product's [n], 0..kMaxExponent: of dst's channels. Null: all 0.
  const std::uint8_t* exponents = nullptr;
  std::size_t dim = 1;  ///< channels; gelu_table's alone, a product knows its own
};

/// Sum of a (one scale) and b (PTF grid or one scale) onto a PTF grid: dst = clamp(((a - zero_a) *
/// multiplier_a + ((b - zero_b) << exponents_b[c]) * multiplier_b + 2^(s-1) >> s) + zero_point)
/// with s = shift + exponents_dst[c]. The multipliers bring both addends onto a common grid
/// 2^shift times finer than the finest channel of dst; all sums fit in 31 bits and a sign.
struct ResidualParams {
  std::size_t dim = 0;
  std::int32_t zero_a = 0;
  std::int32_t multiplier_a = 0;
  std::int32_t zero_b = 0;
  std::int32_t multiplier_b = 0;
  const std::uint8_t* exponents_b = nullptr;    ///< [dim], 0..kMaxExponent
  const std::uint8_t* exponents_dst = nullptr;  ///< [dim], 0..kMaxExponent
  int shift = 1;                                ///< 1..23
  std::int32_t zero_point = 0;                  ///< of dst, 0..255
};

/// Pixels to rows of patches: dst[patch][(py * patch + px) * 3 + c] = table[c][pixel], patches in
/// row-major order; padding[c] beyond the image.
struct PatchParams {
  std::size_t height = 0;                 ///< pixels
  std::size_t width = 0;                  ///< pixels
  std::size_t patch = 0;                  ///< pixels of a patch's side
  const std::uint8_t* table = nullptr;    ///< [3, 256], code of each channel's pixel value
  const std::uint8_t* padding = nullptr;  ///< [3], read where patch does not divide the image
};

/// The mean of rows, u8: dst[c] = clamp(((sum_r (src[r][c] - zero_src)) * m + 2^(s-1) >> s) +
/// zero_point) with s = shift + floor(log2 rows), m = floor(multiplier * 2^floor(log2 rows) /
/// rows).
struct MeanParams {
  std::size_t dim = 0;
  std::int32_t zero_src = 0;    ///< 0..255
  std::int32_t multiplier = 0;  ///< src scale / dst scale * 2^shift, >= 0
  int shift = 1;                ///< 1..38
  std::int32_t zero_point = 0;  ///< of dst, 0..255
};

/// One instruction-set level. All entries are set in every table.
struct KernelTable {
  Isa isa;

  /// Bytes that gemm_pack writes for weight [n, k].
  std::size_t (*gemm_packed_bytes)(std::size_t n, std::size_t k) noexcept;
  /// Lays weight [n, k] out as this table's gemm_u8s8 reads it.
  void (*gemm_pack)(const std::int8_t* weight, std::size_t n, std::size_t k,
                    std::byte* packed) noexcept;
  /// Columns [columns.first, columns.last) of dst [m, n], from src [m, k]; residual, for the
  /// epilogues that add it, is shaped like dst with the same stride in elements, and may be dst
  /// where its type is the same. Pointers are those of column 0.
  void (*gemm_u8s8)(const GemmParams& params, ColumnRange columns, const std::uint8_t* src,
                    std::size_t src_stride, std::size_t m, const void* residual, void* dst,
                    std::size_t dst_stride) noexcept;

  /// Lays the softmax's constants out as this table's attention reads them: prepared
  /// [kSoftmaxTableBytes].
  void (*softmax_prepare)(const SoftmaxParams& params, std::byte* prepared) noexcept;
  /// Working memory of one call of attention for up to all rows; 64-byte aligned.
  std::size_t (*attention_scratch_bytes)(const AttentionParams& params) noexcept;
  /// Scores, softmax codes and P v of `rows` queries (all tokens with token_rows), row block by row
  /// block.
  void (*attention)(const AttentionParams& params, const AttentionOperands& operands,
                    std::size_t rows, std::byte* scratch) noexcept;
  /// The same with P v as literal shifts and additions instead of products with shifted ones: a
  /// candidate that the bench compares. Not for kUniform, whose weights are no powers of two.
  void (*attention_bitshift)(const AttentionParams& params, const AttentionOperands& operands,
                             std::size_t rows, std::byte* scratch) noexcept;

  /// src and dst [rows, dim], dense; they may be the same where both are u8.
  void (*layernorm_ptf)(const LayerNormParams& params, const void* src, std::size_t rows,
                        void* dst) noexcept;
  /// src and dst [rows, dim], dense.
  void (*gelu_table)(const GeluParams& params, const std::int16_t* src, std::size_t rows,
                     std::uint8_t* dst) noexcept;
  /// Columns [columns.first, columns.last) of src [rows, dim] and dst [dim]; rows <= kMaxMeanRows.
  void (*mean_rows)(const MeanParams& params, ColumnRange columns, const std::uint8_t* src,
                    std::size_t rows, std::uint8_t* dst) noexcept;
  /// a, b, dst [rows, dim], dense; dst may be a or b.
  void (*residual_add)(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                       std::size_t rows, std::uint8_t* dst) noexcept;
  /// dst[i] = a[i] + b[i], clamped to s16; a, b, dst [count]; dst may be a or b.
  void (*add_s16)(const std::int16_t* a, const std::int16_t* b, std::size_t count,
                  std::int16_t* dst) noexcept;
  /// src [height, width, 3] with src_stride bytes per row; dst [patches, patch * patch * 3]; only
  /// the rows of patches [first, last) are made.
  void (*pixels_to_patches)(const PatchParams& params, const std::uint8_t* src,
                            std::size_t src_stride, std::size_t first, std::size_t last,
                            std::uint8_t* dst) noexcept;
  /// dst[i] = table[src[i]], table [256]; src and dst may be the same.
  void (*lookup_u8)(const std::uint8_t* table, const std::uint8_t* src, std::size_t count,
                    std::uint8_t* dst) noexcept;

  /// For benches, the ceiling of gemm_u8s8: its multiply-accumulates without its memory. Adds 1 * 1
  /// rounds * peak_macs_per_round times and returns the sum modulo 2^32.
  std::uint32_t (*peak_mac)(std::size_t rounds) noexcept;
  std::size_t peak_macs_per_round;
};

/// Every table this build holds, best first; the last one is scalar.
std::span<const KernelTable* const> all_tables() noexcept;
/// The table of a level. All levels are built in; whether the CPU can run it is cpu_supports().
const KernelTable& table_of(Isa isa) noexcept;

/// The normative definitions.
const KernelTable& scalar_table() noexcept;
/// The levels: `base` with the entries replaced that the level has a better version of.
KernelTable avx2_table(const KernelTable& base) noexcept;
KernelTable avx_vnni_table(const KernelTable& base) noexcept;
KernelTable avx512bw_table(const KernelTable& base) noexcept;
KernelTable avx512_vnni_table(const KernelTable& base) noexcept;
KernelTable avx512_vbmi_table(const KernelTable& base) noexcept;

}  // namespace intaglio::kernels
