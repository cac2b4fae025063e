// Which instruction-set levels this CPU and operating system can run.
#pragma once

#include <cstdint>

#include "kernels/api.h"

namespace intaglio::kernels {

/// Instruction-set levels, weakest first. A CPU may lack one and have a stronger one.
enum class Isa : std::uint8_t {
  kScalar,      ///< x86-64 baseline
  kAvx2,        ///< AVX2
  kAvxVnni,     ///< AVX2 and AVX-VNNI
  kAvx512Bw,    ///< AVX-512 F, BW, DQ, VL
  kAvx512Vnni,  ///< and VNNI
  kAvx512Vbmi,  ///< and VBMI
};

inline constexpr Isa kAllIsas[] = {Isa::kScalar,   Isa::kAvx2,       Isa::kAvxVnni,
                                   Isa::kAvx512Bw, Isa::kAvx512Vnni, Isa::kAvx512Vbmi};

/// "scalar", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "avx512_vbmi".
INTAGLIO_API const char* isa_name(Isa isa) noexcept;
/// CPUID says the CPU has the instructions and XCR0 says the system saves the registers.
INTAGLIO_API bool cpu_supports(Isa isa) noexcept;
/// The CPU has vector units that products leave idle, so that other work beside them is free: AMD.
/// The two 512-bit units of Intel's do everything.
bool prefers_interleaving() noexcept;
/// The strongest level cpu_supports().
INTAGLIO_API Isa best_isa() noexcept;

}  // namespace intaglio::kernels
