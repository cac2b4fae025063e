// 512-bit vectors: the vocabulary of the templates in kernels/simd for AVX-512 F, BW, DQ, VL, and
// for the levels that add to it. A level's file defines what its flags allow.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 takes the undefined registers in its own AVX-512 intrinsics for a mistake (PR 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

#define INTAGLIO_OP [[gnu::always_inline]] static inline

struct Avx512 {
  using I = __m512i;
  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kTileVectors = 4;  // 24 sums, 4 columns, 1 row: 29 of 32 registers
  static constexpr bool kBytes = false;

  INTAGLIO_OP __mmask64 first(std::size_t n) noexcept {
    return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
  }
  INTAGLIO_OP __mmask16 first16(std::size_t n) noexcept {
    return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1);
  }
  /// A number of bits to shift by; the shifts take one, or a plain number.
  using Count = __m128i;
  INTAGLIO_OP Count count(int n) noexcept { return _mm_cvtsi32_si128(n); }

  // Constants, loads, stores. Functions with a count touch at most `n` elements of memory.
  INTAGLIO_OP I zero() noexcept { return _mm512_setzero_si512(); }
  INTAGLIO_OP I set1_8(std::uint8_t x) noexcept { return _mm512_set1_epi8(static_cast<char>(x)); }
  INTAGLIO_OP I set1_16(std::int16_t x) noexcept { return _mm512_set1_epi16(x); }
  INTAGLIO_OP I set1_32(std::int32_t x) noexcept { return _mm512_set1_epi32(x); }
  INTAGLIO_OP I set1_64(std::int64_t x) noexcept { return _mm512_set1_epi64(x); }
  INTAGLIO_OP I load(const void* p) noexcept { return _mm512_loadu_si512(p); }
  INTAGLIO_OP void store(void* p, I x) noexcept { _mm512_storeu_si512(p, x); }
  INTAGLIO_OP I load_bytes(const std::uint8_t* p, std::size_t n) noexcept {
    return n >= 64 ? load(p) : _mm512_maskz_loadu_epi8(first(n), p);
  }
  INTAGLIO_OP void store_bytes(std::uint8_t* p, I x, std::size_t n) noexcept {
    if (n >= 64) {
      store(p, x);
    } else {
      _mm512_mask_storeu_epi8(p, first(n), x);
    }
  }
  INTAGLIO_OP I load_u8(const std::uint8_t* p, std::size_t n) noexcept {
    return _mm512_cvtepu8_epi32(n >= 16 ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                                        : _mm_maskz_loadu_epi8(first16(n), p));
  }
  INTAGLIO_OP I load_s16(const std::int16_t* p, std::size_t n) noexcept {
    return _mm512_cvtepi16_epi32(n >= 16 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))
                                         : _mm256_maskz_loadu_epi16(first16(n), p));
  }
  INTAGLIO_OP I load_s32(const std::int32_t* p, std::size_t n) noexcept {
    return n >= 16 ? load(p) : _mm512_maskz_loadu_epi32(first16(n), p);
  }
  INTAGLIO_OP void store_u8(std::uint8_t* p, I x, std::size_t n) noexcept {
    const __m128i bytes = _mm512_cvtepi32_epi8(x);
    if (n >= 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    } else {
      _mm_mask_storeu_epi8(p, first16(n), bytes);
    }
  }
  INTAGLIO_OP void store_s16(std::int16_t* p, I x, std::size_t n) noexcept {
    const __m256i words = _mm512_cvtsepi32_epi16(x);
    if (n >= 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
    } else {
      _mm256_mask_storeu_epi16(p, first16(n), words);
    }
  }
  INTAGLIO_OP void store_s32(std::int32_t* p, I x, std::size_t n) noexcept {
    if (n >= 16) {
      store(p, x);
    } else {
      _mm512_mask_storeu_epi32(p, first16(n), x);
    }
  }
  /// clamp(x + zero) of 64 lanes: saturating to s16, adding, saturating to u8 is exact for a zero
  /// point of 0..255. Packs work within 128 bits; the permutation puts the dwords back in order.
  INTAGLIO_OP void pack_row_u8(std::uint8_t* p, const I (&x)[4], I zero_point,
                               std::size_t n) noexcept {
    const I low = _mm512_adds_epi16(_mm512_packs_epi32(x[0], x[1]), zero_point);
    const I high = _mm512_adds_epi16(_mm512_packs_epi32(x[2], x[3]), zero_point);
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    store_bytes(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)), n);
  }
  /// clamp((x + addend) >> 1) of 32 lanes; exact for an addend of 0..2^9.
  INTAGLIO_OP void pack_halves_u8(std::uint8_t* p, const I (&x)[2], I addend,
                                  std::size_t n) noexcept {
    const I words = _mm512_srai_epi16(_mm512_adds_epi16(_mm512_packs_epi32(x[0], x[1]), addend), 1);
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13);
    const __m256i bytes =
        _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, _mm512_packus_epi16(words, words)));
    if (n >= 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
    } else {
      _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(first(n)), bytes);
    }
  }

  // Arithmetic.
  INTAGLIO_OP I add32(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
  INTAGLIO_OP I sub32(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
  INTAGLIO_OP I min32(I a, I b) noexcept { return _mm512_min_epi32(a, b); }
  INTAGLIO_OP I max32(I a, I b) noexcept { return _mm512_max_epi32(a, b); }
  INTAGLIO_OP I adds16(I a, I b) noexcept { return _mm512_adds_epi16(a, b); }
  INTAGLIO_OP I abs32(I a) noexcept { return _mm512_abs_epi32(a); }
  INTAGLIO_OP I mullo32(I a, I b) noexcept { return _mm512_mullo_epi32(a, b); }
  INTAGLIO_OP I and_bits(I a, I b) noexcept { return _mm512_and_si512(a, b); }
  INTAGLIO_OP I sllv32(I a, I n) noexcept { return _mm512_sllv_epi32(a, n); }
  INTAGLIO_OP I srav32(I a, I n) noexcept { return _mm512_srav_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, Count n) noexcept { return _mm512_sra_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, int n) noexcept { return _mm512_sra_epi32(a, count(n)); }
  INTAGLIO_OP I srl32(I a, Count n) noexcept { return _mm512_srl_epi32(a, n); }
  INTAGLIO_OP I sll32(I a, Count n) noexcept { return _mm512_sll_epi32(a, n); }
  INTAGLIO_OP I sll32(I a, int n) noexcept { return _mm512_sll_epi32(a, count(n)); }
  INTAGLIO_OP I sll64(I a, int n) noexcept { return _mm512_sll_epi64(a, count(n)); }
  INTAGLIO_OP I add64(I a, I b) noexcept { return _mm512_add_epi64(a, b); }
  INTAGLIO_OP I min64(I a, I b) noexcept { return _mm512_min_epi64(a, b); }
  INTAGLIO_OP I max64(I a, I b) noexcept { return _mm512_max_epi64(a, b); }
  INTAGLIO_OP I sra64(I a, int n) noexcept { return _mm512_sra_epi64(a, count(n)); }
  INTAGLIO_OP I mul_even(I a, I b) noexcept { return _mm512_mul_epi32(a, b); }
  INTAGLIO_OP I madd_s16(I a, I b) noexcept { return _mm512_madd_epi16(a, b); }
  INTAGLIO_OP I dot_s16(I acc, I a, I b) noexcept { return add32(acc, madd_s16(a, b)); }
  INTAGLIO_OP I max_u8(I a, I b) noexcept { return _mm512_max_epu8(a, b); }
  INTAGLIO_OP I sub8(I a, I b) noexcept { return _mm512_sub_epi8(a, b); }
  INTAGLIO_OP I min_u8(I a, I b) noexcept { return _mm512_min_epu8(a, b); }
  INTAGLIO_OP I add8(I a, I b) noexcept { return _mm512_add_epi8(a, b); }
  /// sums + amount in the bytes where x >= limit.
  INTAGLIO_OP I add_if_reaches_u8(I sums, I x, I limit, I amount) noexcept {
    return _mm512_mask_add_epi8(sums, _mm512_cmpge_epu8_mask(x, limit), sums, amount);
  }
  INTAGLIO_OP I keep_first(I x, std::size_t n) noexcept {
    return _mm512_maskz_mov_epi32(first16(n), x);
  }

  // Between even and odd lanes.
  INTAGLIO_OP I odd(I x) noexcept { return _mm512_srli_epi64(x, 32); }
  INTAGLIO_OP I merge_high(I even, I odd) noexcept {
    return _mm512_mask_shuffle_epi32(odd, __mmask16{0x5555}, even, _MM_PERM_DDBB);
  }
  INTAGLIO_OP I merge_low(I even, I odd) noexcept {
    return blend_odd(even, _mm512_slli_epi64(odd, 32));
  }
  INTAGLIO_OP I blend_odd(I even, I odd) noexcept {
    return _mm512_mask_blend_epi32(__mmask16{0xaaaa}, even, odd);
  }
  /// even & 0xffff | odd << 16.
  INTAGLIO_OP I pair_words(I even, I odd) noexcept {
    return _mm512_mask_blend_epi16(__mmask32{0xaaaaaaaa}, even, _mm512_slli_epi32(odd, 16));
  }
  INTAGLIO_OP void deinterleave64(I a, I b, I& even, I& odd) noexcept {
    even = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
    odd = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
  }

  // Sums over lanes and rows.
  INTAGLIO_OP std::int64_t sum_s64(I x) noexcept { return _mm512_reduce_add_epi64(x); }
  INTAGLIO_OP std::int32_t sum_s32(I x) noexcept { return _mm512_reduce_add_epi32(x); }
  INTAGLIO_OP std::int32_t sum_u8(const std::uint8_t* p, std::size_t n) noexcept {
    I sums = zero();
    for (std::size_t i = 0; i < n; i += 64) {
      sums = add64(sums, _mm512_sad_epu8(load_bytes(p + i, n - i), zero()));
    }
    return static_cast<std::int32_t>(sum_s64(sums));
  }

  // 64 dwords in four registers.
  struct Table64 {
    I part[4];
  };
  INTAGLIO_OP Table64 make_table64(const std::int32_t* p) noexcept {
    return {{load(p), load(p + 16), load(p + 32), load(p + 48)}};
  }
  INTAGLIO_OP I lookup64(const Table64& t, I index) noexcept {
    const I low = _mm512_permutex2var_epi32(t.part[0], index, t.part[1]);
    const I high = _mm512_permutex2var_epi32(t.part[2], index, t.part[3]);
    return _mm512_mask_blend_epi32(_mm512_test_epi32_mask(index, set1_32(32)), low, high);
  }

  // 64 words in two registers, and what works on words.
  static constexpr bool kWordTablesAreRegisters = true;
  struct WordTable64 {
    I part[2];
  };
  INTAGLIO_OP WordTable64 make_word_table64(const std::uint16_t* p) noexcept {
    return {{load(p), load(p + 32)}};
  }
  static constexpr std::size_t kLookupVectors = 1;
  /// Where words < 64 point to in such tables.
  INTAGLIO_OP I places64(const I (&words)[1]) noexcept { return words[0]; }
  INTAGLIO_OP void lookup64(const WordTable64& t, I at, I (&words)[1]) noexcept {
    words[0] = _mm512_permutex2var_epi16(t.part[0], at, t.part[1]);
  }
  INTAGLIO_OP I packs_s32(I a, I b) noexcept { return _mm512_packs_epi32(a, b); }
  /// The same with the lanes in order.
  INTAGLIO_OP I join_words(I a, I b) noexcept {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), packs_s32(a, b));
  }
  INTAGLIO_OP I abs16(I a) noexcept { return _mm512_abs_epi16(a); }
  INTAGLIO_OP I min_u16(I a, I b) noexcept { return _mm512_min_epu16(a, b); }
  INTAGLIO_OP I max16(I a, I b) noexcept { return _mm512_max_epi16(a, b); }
  INTAGLIO_OP I srl16(I a, Count n) noexcept { return _mm512_srl_epi16(a, n); }
  INTAGLIO_OP I unpack_low16(I a, I b) noexcept { return _mm512_unpacklo_epi16(a, b); }
  INTAGLIO_OP I unpack_high16(I a, I b) noexcept { return _mm512_unpackhi_epi16(a, b); }

  // Bytes as small numbers: tables of 16, masks, the largest.
  static constexpr bool kByteTables = false;
  INTAGLIO_OP I load_table16(const std::uint8_t* p) noexcept {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  /// table[index & 15], 0 where index >= 128.
  INTAGLIO_OP I lookup16(I table, I index) noexcept { return _mm512_shuffle_epi8(table, index); }
  /// 0xff in the first `n` bytes.
  INTAGLIO_OP I first_bytes(std::size_t n) noexcept { return _mm512_maskz_set1_epi8(first(n), -1); }
  /// The horizontal minimum of words is an instruction; of bytes it is the one of the complement's
  /// pairs.
  INTAGLIO_OP std::uint8_t maximum_u8(I x) noexcept {
    const __m256i half =
        _mm256_max_epu8(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    const __m128i quarter =
        _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    const __m128i y = _mm_xor_si128(quarter, _mm_set1_epi8(-1));
    const __m128i least = _mm_minpos_epu16(_mm_min_epu8(y, _mm_srli_epi16(y, 8)));
    return static_cast<std::uint8_t>(255 - _mm_cvtsi128_si32(least));
  }
  /// Bytes of `low` and `high`, in turn, as words in order.
  INTAGLIO_OP void join_bytes(I low, I high, I (&words)[2]) noexcept {
    const I order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    low = _mm512_permutexvar_epi64(order, low);
    high = _mm512_permutexvar_epi64(order, high);
    words[0] = _mm512_unpacklo_epi8(low, high);
    words[1] = _mm512_unpackhi_epi8(low, high);
  }

  // Operands of products of words.
  /// 32 u8 as s16.
  INTAGLIO_OP void widen_u8_s16(const std::uint8_t* p, std::int16_t* dst) noexcept {
    store(dst, _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  }
  /// 32 channels of a key, less `center`.
  INTAGLIO_OP I load_keys(const std::uint8_t* p, std::size_t n, std::int32_t center) noexcept {
    const auto mask = static_cast<__mmask32>(first(n < 32 ? n : 32));
    return _mm512_sub_epi16(_mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, p)),
                            set1_16(static_cast<std::int16_t>(center)));
  }
  /// Dwords [row][lane] -> [lane][row].
  INTAGLIO_OP void transpose(I (&x)[16]) noexcept {
    I y[16];
    for (std::size_t i = 0; i < 16; i += 2) {
      y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
      y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (std::size_t i = 0; i < 16; i += 4) {  // x[i + j]: lane 4L + j of rows i..i+3
      x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
      x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
      x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
      x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      y[j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88);           // quarters 0, 2 of rows 0..7
      y[4 + j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);       // 1, 3
      y[8 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);  // of rows 8..15
      y[12 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      x[j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0x88);
      x[8 + j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0xdd);
      x[4 + j] = _mm512_shuffle_i32x4(y[4 + j], y[12 + j], 0x88);
      x[12 + j] = _mm512_shuffle_i32x4(y[4 + j], y[12 + j], 0xdd);
    }
  }
};

/// With products of bytes: keys are moved to s8 by 128, whatever their zero point, and so are
/// values.
struct Avx512Vnni : Avx512 {
  static constexpr bool kBytes = true;
#if defined(__AVX512VNNI__)
  INTAGLIO_OP I dot_u8s8(I acc, I a, I b) noexcept {
    return _mm512_dpbusd_epi32(acc, a, b);
  }
  INTAGLIO_OP I dot_s16(I acc, I a, I b) noexcept {
    return _mm512_dpwssd_epi32(acc, a, b);
  }
  /// 64 channels of a key.
  INTAGLIO_OP I load_keys(const std::uint8_t* p, std::size_t n, std::int32_t) noexcept {
    return _mm512_xor_si512(load_bytes(p, n), set1_8(0x80));
  }
  INTAGLIO_OP I add_key_sums(I sums, I keys) noexcept {
    return dot_u8s8(sums, set1_8(1), keys);
  }
  /// v - 128 of four tokens, a dword a column. Unpacking works within 128 bits; the permutation
  /// before it puts the columns in order behind it.
  INTAGLIO_OP void pack_values(const std::uint8_t* const (&v)[4], std::size_t tokens,
                               std::size_t columns, std::byte* out) noexcept {
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    I row[4];
    for (std::size_t t = 0; t < 4; ++t) {
      row[t] = t < tokens ? _mm512_permutexvar_epi32(
                                order, _mm512_xor_si512(load_bytes(v[t], columns), set1_8(0x80)))
                          : zero();
    }
    const I a = _mm512_unpacklo_epi8(row[0], row[1]);
    const I b = _mm512_unpackhi_epi8(row[0], row[1]);
    const I c = _mm512_unpacklo_epi8(row[2], row[3]);
    const I d = _mm512_unpackhi_epi8(row[2], row[3]);
    store(out, _mm512_unpacklo_epi16(a, c));
    if (columns > 16) store(out + 64, _mm512_unpackhi_epi16(a, c));
    if (columns > 32) store(out + 128, _mm512_unpacklo_epi16(b, d));
    if (columns > 48) store(out + 192, _mm512_unpackhi_epi16(b, d));
  }
#endif
};

#undef INTAGLIO_OP

}  // namespace
}  // namespace intaglio::kernels
