// The AVX-512 VNNI level: vpdpbusd for GEMM, scores and P v.
#include "kernels/isa/avx512.inl.h"
#include "kernels/simd/table.inl.h"

namespace intaglio::kernels {

KernelTable avx512_vnni_table(const KernelTable& base) noexcept {
  return make_table<Avx512Vnni>(base, Isa::kAvx512Vnni);
}

}  // namespace intaglio::kernels
