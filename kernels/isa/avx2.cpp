// The AVX2 level: 8 dword lanes, vpmaddwd on s16 for all products (vpmaddubsw saturates).
#include "kernels/isa/avx2.inl.h"
#include "kernels/simd/table.inl.h"

namespace intaglio::kernels {

KernelTable avx2_table(const KernelTable& base) noexcept {
  return make_table<Avx2>(base, Isa::kAvx2);
}

}  // namespace intaglio::kernels
