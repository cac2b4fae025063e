// The AVX2 level: 8 dword lanes, vpmaddwd on s16 for all products (vpmaddubsw saturates). The
// kernels are the templates of kernels/simd; this file is their vocabulary.
#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/simd/attention.inl.h"
#include "kernels/simd/elementwise.inl.h"
#include "kernels/simd/gemm.inl.h"
#include "kernels/simd/layernorm.inl.h"
#include "kernels/simd/peak.inl.h"
#include "kernels/simd/softmax.inl.h"

namespace intaglio::kernels {
namespace {

#define INTAGLIO_OP [[gnu::always_inline]] static inline

struct Avx2 {
  using I = __m256i;
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kTileVectors = 2;  // 12 sums, 2 columns, 1 row, 1 product: all 16
  static constexpr bool kBytes = false;

  INTAGLIO_OP __m128i count(int n) noexcept { return _mm_cvtsi32_si128(n); }

  // Constants, loads, stores. Functions with a count touch at most `n` elements of memory.
  INTAGLIO_OP I zero() noexcept { return _mm256_setzero_si256(); }
  INTAGLIO_OP I set1_8(std::uint8_t x) noexcept { return _mm256_set1_epi8(static_cast<char>(x)); }
  INTAGLIO_OP I set1_16(std::int16_t x) noexcept { return _mm256_set1_epi16(x); }
  INTAGLIO_OP I set1_32(std::int32_t x) noexcept { return _mm256_set1_epi32(x); }
  INTAGLIO_OP I set1_64(std::int64_t x) noexcept { return _mm256_set1_epi64x(x); }
  INTAGLIO_OP I load(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  INTAGLIO_OP void store(void* p, I x) noexcept {
    _mm256_storeu_si256(static_cast<__m256i*>(p), x);
  }
  INTAGLIO_OP I load_bytes(const std::uint8_t* p, std::size_t n) noexcept {
    if (n >= 32) return load(p);
    std::uint8_t bytes[32] = {};
    copy(bytes, p, n);
    return load(bytes);
  }
  INTAGLIO_OP void store_bytes(std::uint8_t* p, I x, std::size_t n) noexcept {
    if (n >= 32) {
      store(p, x);
      return;
    }
    std::uint8_t bytes[32];
    store(bytes, x);
    copy(p, bytes, n);
  }
  INTAGLIO_OP I load_u8(const std::uint8_t* p, std::size_t n) noexcept {
    if (n >= 8) return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    std::uint8_t bytes[8] = {};
    copy(bytes, p, n);
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
  }
  INTAGLIO_OP I load_s16(const std::int16_t* p, std::size_t n) noexcept {
    if (n >= 8) return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    std::int16_t words[8] = {};
    copy(words, p, n);
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
  }
  INTAGLIO_OP void store_u8(std::uint8_t* p, I x, std::size_t n) noexcept {
    const __m128i words = saturated_words(x);
    const __m128i bytes = _mm_packus_epi16(words, words);
    if (n >= 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
      return;
    }
    std::uint8_t out[8];
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), bytes);
    copy(p, out, n);
  }
  INTAGLIO_OP void store_s16(std::int16_t* p, I x, std::size_t n) noexcept {
    const __m128i words = saturated_words(x);
    if (n >= 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
      return;
    }
    std::int16_t out[8];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), words);
    copy(p, out, n);
  }
  INTAGLIO_OP void store_s32(std::int32_t* p, I x, std::size_t n) noexcept {
    if (n >= 8) {
      store(p, x);
      return;
    }
    std::int32_t out[8];
    store(out, x);
    copy(p, out, n);
  }
  /// clamp(x + zero) of 16 lanes: saturating to s16, adding, saturating to u8 is exact for a zero
  /// point of 0..255. The packs work within 128 bits; the permutation undoes that.
  INTAGLIO_OP void pack_row_u8(std::uint8_t* p, const I (&x)[2], I zero_point,
                               std::size_t n) noexcept {
    const I words = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), zero_point);
    const I in_order = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1));
    if (n >= 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
      return;
    }
    std::uint8_t out[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    copy(p, out, n);
  }
  /// 16 u8 as s16.
  INTAGLIO_OP void widen_u8_s16(const std::uint8_t* p, std::int16_t* dst) noexcept {
    store(dst, _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }

  // Arithmetic.
  INTAGLIO_OP I add32(I a, I b) noexcept { return _mm256_add_epi32(a, b); }
  INTAGLIO_OP I sub32(I a, I b) noexcept { return _mm256_sub_epi32(a, b); }
  INTAGLIO_OP I min32(I a, I b) noexcept { return _mm256_min_epi32(a, b); }
  INTAGLIO_OP I max32(I a, I b) noexcept { return _mm256_max_epi32(a, b); }
  INTAGLIO_OP I abs32(I a) noexcept { return _mm256_abs_epi32(a); }
  INTAGLIO_OP I mullo32(I a, I b) noexcept { return _mm256_mullo_epi32(a, b); }
  INTAGLIO_OP I and_bits(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  INTAGLIO_OP I sllv32(I a, I n) noexcept { return _mm256_sllv_epi32(a, n); }
  INTAGLIO_OP I srav32(I a, I n) noexcept { return _mm256_srav_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, int n) noexcept { return _mm256_sra_epi32(a, count(n)); }
  INTAGLIO_OP I srl32(I a, int n) noexcept { return _mm256_srl_epi32(a, count(n)); }
  INTAGLIO_OP I add64(I a, I b) noexcept { return _mm256_add_epi64(a, b); }
  INTAGLIO_OP I min64(I a, I b) noexcept {
    return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b));
  }
  INTAGLIO_OP I max64(I a, I b) noexcept {
    return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b));
  }
  /// AVX2 shifts 64-bit lanes only logically; the lanes below zero are complemented around it:
  /// floor(x / 2^n) = ~(~x >> n).
  INTAGLIO_OP I sra64(I a, int n) noexcept {
    const I sign = _mm256_cmpgt_epi64(zero(), a);
    return _mm256_xor_si256(_mm256_srl_epi64(_mm256_xor_si256(a, sign), count(n)), sign);
  }
  INTAGLIO_OP I mul_even(I a, I b) noexcept { return _mm256_mul_epi32(a, b); }
  INTAGLIO_OP I madd_s16(I a, I b) noexcept { return _mm256_madd_epi16(a, b); }
  INTAGLIO_OP I dot_s16(I acc, I a, I b) noexcept { return add32(acc, madd_s16(a, b)); }
  INTAGLIO_OP I max_u8(I a, I b) noexcept { return _mm256_max_epu8(a, b); }
  INTAGLIO_OP I sub8(I a, I b) noexcept { return _mm256_sub_epi8(a, b); }
  /// sums + 1 in the bytes where x >= limit.
  INTAGLIO_OP I count_if_reaches_u8(I sums, I x, I limit) noexcept {
    return sub8(sums, _mm256_cmpeq_epi8(_mm256_max_epu8(x, limit), x));
  }
  INTAGLIO_OP I keep_if_less(I x, I a, I b) noexcept {
    return and_bits(x, _mm256_cmpgt_epi32(b, a));
  }
  INTAGLIO_OP I keep_first(I x, std::size_t n) noexcept {
    return keep_if_less(x, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                        set1_32(static_cast<std::int32_t>(n)));
  }

  // Between even and odd lanes.
  INTAGLIO_OP I odd(I x) noexcept { return _mm256_srli_epi64(x, 32); }
  INTAGLIO_OP I merge_high(I even, I odd) noexcept {
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  }
  INTAGLIO_OP I merge_low(I even, I odd) noexcept {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  }
  /// even & 0xffff | odd << 16.
  INTAGLIO_OP I pair_words(I even, I odd) noexcept {
    return _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa);
  }
  INTAGLIO_OP void deinterleave64(I a, I b, I& even, I& odd) noexcept {
    even = _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(a, b), 0xd8);
    odd = _mm256_permute4x64_epi64(_mm256_unpackhi_epi64(a, b), 0xd8);
  }

  // Sums over lanes and rows.
  INTAGLIO_OP std::int64_t sum_s64(I x) noexcept {
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return _mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
  }
  INTAGLIO_OP std::int32_t sum_s32(I x) noexcept {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
  }
  INTAGLIO_OP std::int32_t sum_u8(const std::uint8_t* p, std::size_t n) noexcept {
    I sums = zero();
    for (std::size_t i = 0; i < n; i += 32) {
      sums = add64(sums, _mm256_sad_epu8(load_bytes(p + i, n - i), zero()));
    }
    return static_cast<std::int32_t>(sum_s64(sums));
  }

  // 64 dwords in memory.
  using Table64 = const std::int32_t*;
  INTAGLIO_OP Table64 make_table64(const std::int32_t* p) noexcept { return p; }
  INTAGLIO_OP I lookup64(Table64 t, I index) noexcept {
    return _mm256_i32gather_epi32(t, index, 4);
  }

  /// s16 holds keys less their own zero point.
  INTAGLIO_OP std::int32_t score_center(std::int32_t zero_point) noexcept { return zero_point; }

 private:
  template <class T>
  INTAGLIO_OP void copy(T* dst, const T* src, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) dst[i] = src[i];
  }
  INTAGLIO_OP __m128i saturated_words(I x) noexcept {
    return _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  }
};

#undef INTAGLIO_OP

}  // namespace

KernelTable avx2_table(const KernelTable& base) noexcept {
  KernelTable table = base;
  table.isa = Isa::kAvx2;
  table.gemm_packed_bytes = gemm_packed_bytes<Avx2>;
  table.gemm_pack = gemm_pack<Avx2>;
  table.gemm_u8s8 = gemm_u8s8<Avx2>;
  table.attention_scores = attention_scores<Avx2>;
  table.softmax_log2 = softmax_log2<Avx2>;
  table.attend_log2 = attend_log2<Avx2>;
  table.layernorm_ptf = layernorm_ptf<Avx2>;
  table.gelu_table = gelu_table<Avx2>;
  table.residual_add = residual_add<Avx2>;
  table.peak_mac = peak_mac<Avx2>;
  table.peak_macs_per_round = kPeakMacsPerRound<Avx2>;
  return table;
}

}  // namespace intaglio::kernels
