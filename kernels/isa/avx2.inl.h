// 256-bit vectors, exact products of words: the vocabulary of the templates in kernels/simd for
// AVX2, and the base of the levels that add to it.
#pragma once

#include <immintrin.h>

#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

#define INTAGLIO_OP [[gnu::always_inline]] static inline

struct Avx2 {
  using I = __m256i;
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kTileVectors = 2;  // 12 sums, 2 columns, 1 row, 1 product: all 16
  static constexpr bool kBytes = false;

  /// A number of bits to shift by; the shifts take one, or a plain number.
  using Count = __m128i;
  INTAGLIO_OP Count count(int n) noexcept { return _mm_cvtsi32_si128(n); }

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
  INTAGLIO_OP I load_s32(const std::int32_t* p, std::size_t n) noexcept {
    if (n >= 8) return load(p);
    std::int32_t dwords[8] = {};
    copy(dwords, p, n);
    return load(dwords);
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
    store_packed_u8(p, _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), zero_point), n);
  }
  /// clamp((x + addend) >> 1) of 16 lanes; exact for an addend of 0..2^9.
  INTAGLIO_OP void pack_halves_u8(std::uint8_t* p, const I (&x)[2], I addend,
                                  std::size_t n) noexcept {
    const I words = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), addend);
    store_packed_u8(p, _mm256_srai_epi16(words, 1), n);
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
  INTAGLIO_OP I adds16(I a, I b) noexcept { return _mm256_adds_epi16(a, b); }
  INTAGLIO_OP I abs32(I a) noexcept { return _mm256_abs_epi32(a); }
  INTAGLIO_OP I mullo32(I a, I b) noexcept { return _mm256_mullo_epi32(a, b); }
  INTAGLIO_OP I and_bits(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  INTAGLIO_OP I sllv32(I a, I n) noexcept { return _mm256_sllv_epi32(a, n); }
  INTAGLIO_OP I srav32(I a, I n) noexcept { return _mm256_srav_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, Count n) noexcept { return _mm256_sra_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, int n) noexcept { return _mm256_sra_epi32(a, count(n)); }
  INTAGLIO_OP I srl32(I a, Count n) noexcept { return _mm256_srl_epi32(a, n); }
  INTAGLIO_OP I sll32(I a, Count n) noexcept { return _mm256_sll_epi32(a, n); }
  INTAGLIO_OP I sll32(I a, int n) noexcept { return _mm256_sll_epi32(a, count(n)); }
  INTAGLIO_OP I sll64(I a, int n) noexcept { return _mm256_sll_epi64(a, count(n)); }
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
  INTAGLIO_OP I min_u8(I a, I b) noexcept { return _mm256_min_epu8(a, b); }
  INTAGLIO_OP I add8(I a, I b) noexcept { return _mm256_add_epi8(a, b); }
  /// sums + amount in the bytes where x >= limit.
  INTAGLIO_OP I add_if_reaches_u8(I sums, I x, I limit, I amount) noexcept {
    return add8(sums, and_bits(amount, _mm256_cmpeq_epi8(_mm256_max_epu8(x, limit), x)));
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

  // 64 words in memory, their lower and upper bytes apart, and what works on words. Looked up by
  // shuffles: a gather fetches its lanes one by one, and GELU took more than twice the time.
  static constexpr bool kWordTablesAreRegisters = false;
  struct WordTable64 {
    alignas(16) std::uint8_t low[64];
    alignas(16) std::uint8_t high[64];
  };
  INTAGLIO_OP WordTable64 make_word_table64(const std::uint16_t* p) noexcept {
    WordTable64 t;
    for (std::size_t i = 0; i < 64; ++i) {
      t.low[i] = static_cast<std::uint8_t>(p[i] & 0xff);
      t.high[i] = static_cast<std::uint8_t>(p[i] >> 8);
    }
    return t;
  }
  static constexpr std::size_t kLookupVectors = 2;  // their bytes are one
  /// Where words < 64 point to in such tables: in the quarter that has the place by the lowest four
  /// bits, in the others at something from 128 on, for which lookup16 gives 0.
  struct Places64 {
    I in_quarter[4];
  };
  INTAGLIO_OP Places64 places64(const I (&words)[2]) noexcept {
    const I place = _mm256_packus_epi16(words[0], words[1]);
    const auto in_quarter = [&](std::uint8_t first) {
      return add8(_mm256_xor_si256(place, set1_8(first)), set1_8(0x70));
    };
    return {{in_quarter(0), in_quarter(16), in_quarter(32), in_quarter(48)}};
  }
  INTAGLIO_OP void lookup64(const WordTable64& t, const Places64& at, I (&words)[2]) noexcept {
    const I low = lookup64_bytes(t.low, at);
    const I high = lookup64_bytes(t.high, at);
    // Packing the places took turns within 128 bits, unpacking undoes it.
    words[0] = _mm256_unpacklo_epi8(low, high);
    words[1] = _mm256_unpackhi_epi8(low, high);
  }
  INTAGLIO_OP I lookup64_bytes(const std::uint8_t* bytes, const Places64& at) noexcept {
    const I a = lookup16(load_table16(bytes), at.in_quarter[0]);
    const I b = lookup16(load_table16(bytes + 16), at.in_quarter[1]);
    const I c = lookup16(load_table16(bytes + 32), at.in_quarter[2]);
    const I d = lookup16(load_table16(bytes + 48), at.in_quarter[3]);
    return _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
  }
  INTAGLIO_OP I packs_s32(I a, I b) noexcept { return _mm256_packs_epi32(a, b); }
  /// The same with the lanes in order.
  INTAGLIO_OP I join_words(I a, I b) noexcept {
    return _mm256_permute4x64_epi64(packs_s32(a, b), 0xd8);
  }
  INTAGLIO_OP I abs16(I a) noexcept { return _mm256_abs_epi16(a); }
  INTAGLIO_OP I min_u16(I a, I b) noexcept { return _mm256_min_epu16(a, b); }
  INTAGLIO_OP I max16(I a, I b) noexcept { return _mm256_max_epi16(a, b); }
  INTAGLIO_OP I srl16(I a, Count n) noexcept { return _mm256_srl_epi16(a, n); }
  INTAGLIO_OP I unpack_low16(I a, I b) noexcept { return _mm256_unpacklo_epi16(a, b); }
  INTAGLIO_OP I unpack_high16(I a, I b) noexcept { return _mm256_unpackhi_epi16(a, b); }

  // Bytes as small numbers: tables of 16, masks, the largest.
  static constexpr bool kByteTables = false;
  INTAGLIO_OP I load_table16(const std::uint8_t* p) noexcept {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  /// table[index & 15], 0 where index >= 128.
  INTAGLIO_OP I lookup16(I table, I index) noexcept { return _mm256_shuffle_epi8(table, index); }
  /// 0xff in the first `n` bytes.
  INTAGLIO_OP I first_bytes(std::size_t n) noexcept {
    const I places = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                                      18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    return _mm256_cmpgt_epi8(set1_8(static_cast<std::uint8_t>(n)), places);
  }
  INTAGLIO_OP std::uint8_t maximum_u8(I x) noexcept {
    return largest_byte(_mm_max_epu8(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  /// Bytes of `low` and `high`, in turn, as words in order.
  INTAGLIO_OP void join_bytes(I low, I high, I (&words)[2]) noexcept {
    low = _mm256_permute4x64_epi64(low, 0xd8);
    high = _mm256_permute4x64_epi64(high, 0xd8);
    words[0] = _mm256_unpacklo_epi8(low, high);
    words[1] = _mm256_unpackhi_epi8(low, high);
  }

  // Operands of attention.
  /// 16 channels of a key, less `center`.
  INTAGLIO_OP I load_keys(const std::uint8_t* p, std::size_t n, std::int32_t center) noexcept {
    return _mm256_sub_epi16(_mm256_cvtepu8_epi16(load_half(p, n)),
                            set1_16(static_cast<std::int16_t>(center)));
  }
  /// Dwords [row][lane] -> [lane][row].
  INTAGLIO_OP void transpose(I (&x)[8]) noexcept {
    I y[8];
    for (std::size_t i = 0; i < 8; i += 2) {
      y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
      y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (std::size_t i = 0; i < 8; i += 4) {
      x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
      x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
      x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
      x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      y[i] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
      y[i + 4] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
    }
    for (std::size_t i = 0; i < 8; ++i) x[i] = y[i];
  }

 protected:
  /// 16 bytes, the first `n` of them read.
  INTAGLIO_OP __m128i load_half(const std::uint8_t* p, std::size_t n) noexcept {
    if (n >= 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    std::uint8_t bytes[16] = {};
    copy(bytes, p, n);
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  }
  /// The horizontal minimum of words is an instruction; of bytes it is the one of the complement's
  /// pairs.
  INTAGLIO_OP std::uint8_t largest_byte(__m128i x) noexcept {
    const __m128i y = _mm_xor_si128(x, _mm_set1_epi8(-1));
    const __m128i least = _mm_minpos_epu16(_mm_min_epu8(y, _mm_srli_epi16(y, 8)));
    return static_cast<std::uint8_t>(255 - _mm_cvtsi128_si32(least));
  }
  /// 16 words that a pack of dwords made, clamped to u8.
  INTAGLIO_OP void store_packed_u8(std::uint8_t* p, I words, std::size_t n) noexcept {
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
}  // namespace intaglio::kernels
