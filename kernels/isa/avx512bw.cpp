// The AVX-512 level without VNNI (F, BW, DQ, VL): 16 dword lanes, vpmaddwd on s16 for all products.
#include "kernels/isa/avx512.inl.h"
#include "kernels/simd/table.inl.h"

namespace intaglio::kernels {

KernelTable avx512bw_table(const KernelTable& base) noexcept {
  return make_table<Avx512>(base, Isa::kAvx512Bw);
}

}  // namespace intaglio::kernels
