// The AVX-512 VNNI level with VBMI: bytes are looked up in tables of 256 that lie in registers.
#include "kernels/isa/avx512.inl.h"
#include "kernels/simd/table.inl.h"

namespace intaglio::kernels {
namespace {

#define INTAGLIO_OP [[gnu::always_inline]] static inline

struct Avx512Vbmi : Avx512Vnni {
  static constexpr bool kByteTables = true;

  struct Table256 {
    I part[4];
  };
  INTAGLIO_OP Table256 load_table256(const std::uint8_t* p) noexcept {
    return {{load(p), load(p + 64), load(p + 128), load(p + 192)}};
  }
  INTAGLIO_OP I lookup256(const Table256& t, I index) noexcept {
    const I low = _mm512_permutex2var_epi8(t.part[0], index, t.part[1]);
    const I high = _mm512_permutex2var_epi8(t.part[2], index, t.part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
  }
};

#undef INTAGLIO_OP

}  // namespace

KernelTable avx512_vbmi_table(const KernelTable& base) noexcept {
  return make_table<Avx512Vbmi>(base, Isa::kAvx512Vbmi);
}

}  // namespace intaglio::kernels
