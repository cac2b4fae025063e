#include "kernels/cpu.h"

#include <cpuid.h>

#include "kernels/kernels.h"

namespace intaglio::kernels {
namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(unsigned leaf, unsigned subleaf) noexcept {
  Leaf r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

/// XCR0: which register states the operating system saves. Only valid where CPUID shows OSXSAVE.
std::uint64_t read_xcr0() noexcept {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

constexpr bool bit(unsigned word, int index) noexcept {
  return ((word >> index) & 1u) != 0;
}

Isa detect() noexcept {
  const Leaf one = cpuid(1, 0);
  if (!bit(one.ecx, 27)) return Isa::kScalar;  // OSXSAVE
  const std::uint64_t xcr0 = read_xcr0();
  constexpr std::uint64_t kYmm = 0x6;   // SSE and AVX state
  constexpr std::uint64_t kZmm = 0xe6;  // and opmask, upper halves, zmm16-31
  const Leaf seven = cpuid(7, 0);
  if ((xcr0 & kYmm) != kYmm || !bit(one.ecx, 28) || !bit(seven.ebx, 5)) return Isa::kScalar;
  const bool avx512 = bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) &&
                      bit(seven.ebx, 31);  // F, DQ, BW, VL
  const bool vnni = bit(seven.ecx, 11);
  if ((xcr0 & kZmm) != kZmm || !avx512 || !vnni) return Isa::kAvx2;
  return Isa::kAvx512Vnni;
}

struct Tables {
  KernelTable avx2 = avx2_table(scalar_table());
  KernelTable avx512_vnni = avx512_vnni_table(avx2);
  const KernelTable* best_first[3] = {&avx512_vnni, &avx2, &scalar_table()};
};

const Tables& tables() noexcept {
  static const Tables instance;
  return instance;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kScalar:
      break;
  }
  return "scalar";
}

Isa best_isa() noexcept {
  static const Isa best = detect();
  return best;
}

bool cpu_supports(Isa isa) noexcept {
  return isa <= best_isa();
}

std::span<const KernelTable* const> all_tables() noexcept {
  return tables().best_first;
}

const KernelTable& table_of(Isa isa) noexcept {
  for (const KernelTable* table : all_tables()) {
    if (table->isa == isa) return *table;
  }
  return scalar_table();
}

}  // namespace intaglio::kernels
