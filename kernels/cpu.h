// Which instruction-set levels this CPU and operating system can run.
#pragma once

#include <cstdint>

namespace intaglio::kernels {

/// Instruction-set levels, weakest first.
enum class Isa : std::uint8_t {
  kScalar,      ///< x86-64 baseline
  kAvx2,        ///< AVX2
  kAvx512Vnni,  ///< AVX-512 F, BW, DQ, VL and VNNI
};

inline constexpr Isa kAllIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni};

/// "scalar", "avx2", "avx512_vnni".
const char* isa_name(Isa isa) noexcept;
/// CPUID says the CPU has the instructions and XCR0 says the system saves the registers.
bool cpu_supports(Isa isa) noexcept;
/// The strongest level cpu_supports().
Isa best_isa() noexcept;

}  // namespace intaglio::kernels
