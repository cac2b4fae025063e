// The AVX-VNNI level: AVX2 with vpdpbusd and vpdpwssd on 256 bits, as CPUs without AVX-512 have it.
#include "kernels/isa/avx2.inl.h"
#include "kernels/simd/table.inl.h"

namespace intaglio::kernels {
namespace {

#define INTAGLIO_OP [[gnu::always_inline]] static inline

/// Keys and values are moved to s8 by 128, whatever their zero point.
struct AvxVnni : Avx2 {
  static constexpr bool kBytes = true;

  INTAGLIO_OP I dot_u8s8(I acc, I a, I b) noexcept { return _mm256_dpbusd_avx_epi32(acc, a, b); }
  INTAGLIO_OP I dot_s16(I acc, I a, I b) noexcept { return _mm256_dpwssd_avx_epi32(acc, a, b); }
  /// 32 channels of a key.
  INTAGLIO_OP I load_keys(const std::uint8_t* p, std::size_t n, std::int32_t) noexcept {
    return _mm256_xor_si256(load_bytes(p, n), set1_8(0x80));
  }
  /// v - 128 of four tokens, a dword a column.
  INTAGLIO_OP void pack_values(const std::uint8_t* const (&v)[4], std::size_t tokens,
                               std::size_t columns, std::byte* out) noexcept {
    __m128i row[4];
    for (std::size_t t = 0; t < 4; ++t) {
      row[t] = t < tokens
                   ? _mm_xor_si128(load_half(v[t], columns), _mm_set1_epi8(static_cast<char>(0x80)))
                   : _mm_setzero_si128();
    }
    const __m128i a = _mm_unpacklo_epi8(row[0], row[1]);
    const __m128i b = _mm_unpackhi_epi8(row[0], row[1]);
    const __m128i c = _mm_unpacklo_epi8(row[2], row[3]);
    const __m128i d = _mm_unpackhi_epi8(row[2], row[3]);
    store(out, _mm256_set_m128i(_mm_unpackhi_epi16(a, c), _mm_unpacklo_epi16(a, c)));
    if (columns > 8) {
      store(out + 32, _mm256_set_m128i(_mm_unpackhi_epi16(b, d), _mm_unpacklo_epi16(b, d)));
    }
  }
};

#undef INTAGLIO_OP

}  // namespace

KernelTable avx_vnni_table(const KernelTable& base) noexcept {
  return make_table<AvxVnni>(base, Isa::kAvxVnni);
}

}  // namespace intaglio::kernels
