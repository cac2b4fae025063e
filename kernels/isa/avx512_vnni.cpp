// The AVX-512 VNNI level (F, BW, DQ, VL, VNNI): 16 dword lanes, vpdpbusd for GEMM and scores,
// vpdpwssd for P v. The kernels are the templates of kernels/simd; this file is their vocabulary.
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 takes the undefined registers in its own AVX-512 intrinsics for a mistake (PR 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
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

struct Avx512 {
  using I = __m512i;
  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kTileVectors = 4;  // 24 sums, 4 columns, 1 row: 29 of 32 registers
  static constexpr bool kBytes = true;

  INTAGLIO_OP __mmask64 first(std::size_t n) noexcept {
    return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
  }
  INTAGLIO_OP __mmask16 first16(std::size_t n) noexcept {
    return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1);
  }
  INTAGLIO_OP __m128i count(int n) noexcept { return _mm_cvtsi32_si128(n); }

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

  // Arithmetic.
  INTAGLIO_OP I add32(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
  INTAGLIO_OP I sub32(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
  INTAGLIO_OP I min32(I a, I b) noexcept { return _mm512_min_epi32(a, b); }
  INTAGLIO_OP I max32(I a, I b) noexcept { return _mm512_max_epi32(a, b); }
  INTAGLIO_OP I abs32(I a) noexcept { return _mm512_abs_epi32(a); }
  INTAGLIO_OP I mullo32(I a, I b) noexcept { return _mm512_mullo_epi32(a, b); }
  INTAGLIO_OP I and_bits(I a, I b) noexcept { return _mm512_and_si512(a, b); }
  INTAGLIO_OP I sllv32(I a, I n) noexcept { return _mm512_sllv_epi32(a, n); }
  INTAGLIO_OP I srav32(I a, I n) noexcept { return _mm512_srav_epi32(a, n); }
  INTAGLIO_OP I sra32(I a, int n) noexcept { return _mm512_sra_epi32(a, count(n)); }
  INTAGLIO_OP I srl32(I a, int n) noexcept { return _mm512_srl_epi32(a, count(n)); }
  INTAGLIO_OP I add64(I a, I b) noexcept { return _mm512_add_epi64(a, b); }
  INTAGLIO_OP I min64(I a, I b) noexcept { return _mm512_min_epi64(a, b); }
  INTAGLIO_OP I max64(I a, I b) noexcept { return _mm512_max_epi64(a, b); }
  INTAGLIO_OP I sra64(I a, int n) noexcept { return _mm512_sra_epi64(a, count(n)); }
  INTAGLIO_OP I mul_even(I a, I b) noexcept { return _mm512_mul_epi32(a, b); }
  INTAGLIO_OP I madd_s16(I a, I b) noexcept { return _mm512_madd_epi16(a, b); }
  INTAGLIO_OP I dot_u8s8(I acc, I a, I b) noexcept { return _mm512_dpbusd_epi32(acc, a, b); }
  INTAGLIO_OP I dot_s16(I acc, I a, I b) noexcept { return _mm512_dpwssd_epi32(acc, a, b); }
  INTAGLIO_OP I max_u8(I a, I b) noexcept { return _mm512_max_epu8(a, b); }
  INTAGLIO_OP I sub8(I a, I b) noexcept { return _mm512_sub_epi8(a, b); }
  /// sums + 1 in the bytes where x >= limit.
  INTAGLIO_OP I count_if_reaches_u8(I sums, I x, I limit) noexcept {
    return _mm512_mask_add_epi8(sums, _mm512_cmpge_epu8_mask(x, limit), sums, _mm512_set1_epi8(1));
  }
  INTAGLIO_OP I keep_if_less(I x, I a, I b) noexcept {
    return _mm512_maskz_mov_epi32(_mm512_cmplt_epi32_mask(a, b), x);
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

  /// Keys are moved to s8 by 128, whatever their zero point.
  INTAGLIO_OP std::int32_t score_center(std::int32_t) noexcept { return 128; }
};

#undef INTAGLIO_OP

}  // namespace

KernelTable avx512_vnni_table(const KernelTable& base) noexcept {
  KernelTable table = base;
  table.isa = Isa::kAvx512Vnni;
  table.gemm_packed_bytes = gemm_packed_bytes<Avx512>;
  table.gemm_pack = gemm_pack<Avx512>;
  table.gemm_u8s8 = gemm_u8s8<Avx512>;
  table.attention_scores = attention_scores<Avx512>;
  table.softmax_log2 = softmax_log2<Avx512>;
  table.attend_log2 = attend_log2<Avx512>;
  table.layernorm_ptf = layernorm_ptf<Avx512>;
  table.gelu_table = gelu_table<Avx512>;
  table.residual_add = residual_add<Avx512>;
  table.peak_mac = peak_mac<Avx512>;
  table.peak_macs_per_round = kPeakMacsPerRound<Avx512>;
  return table;
}

}  // namespace intaglio::kernels
