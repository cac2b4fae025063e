#include "kernels/cpu.h"

#include <cpuid.h>

#include <iterator>

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

/// A bit per level.
unsigned detect() noexcept {
  const auto bit_of = [](Isa isa) { return 1u << static_cast<int>(isa); };
  unsigned levels = bit_of(Isa::kScalar);
  const Leaf one = cpuid(1, 0);
  if (!bit(one.ecx, 27)) return levels;  // OSXSAVE
  const std::uint64_t xcr0 = read_xcr0();
  constexpr std::uint64_t kYmm = 0x6;   // SSE and AVX state
  constexpr std::uint64_t kZmm = 0xe6;  // and opmask, upper halves, zmm16-31
  const Leaf seven = cpuid(7, 0);
  if ((xcr0 & kYmm) != kYmm || !bit(one.ecx, 28) || !bit(seven.ebx, 5)) return levels;
  levels |= bit_of(Isa::kAvx2);
  if (seven.eax >= 1 && bit(cpuid(7, 1).eax, 4)) levels |= bit_of(Isa::kAvxVnni);
  const bool avx512 = bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) &&
                      bit(seven.ebx, 31);  // F, DQ, BW, VL
  if ((xcr0 & kZmm) != kZmm || !avx512) return levels;
  levels |= bit_of(Isa::kAvx512Bw);
  if (!bit(seven.ecx, 11)) return levels;
  levels |= bit_of(Isa::kAvx512Vnni);
  if (bit(seven.ecx, 1)) levels |= bit_of(Isa::kAvx512Vbmi);
  return levels;
}

struct Tables {
  KernelTable avx2 = avx2_table(scalar_table());
  KernelTable avx_vnni = avx_vnni_table(scalar_table());
  KernelTable avx512bw = avx512bw_table(scalar_table());
  KernelTable avx512_vnni = avx512_vnni_table(scalar_table());
  KernelTable avx512_vbmi = avx512_vbmi_table(scalar_table());
  const KernelTable* best_first[std::size(kAllIsas)] = {
      &avx512_vbmi, &avx512_vnni, &avx512bw, &avx_vnni, &avx2, &scalar_table()};
};

const Tables& tables() noexcept {
  static const Tables instance;
  return instance;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::kAvx512Vbmi:
      return "avx512_vbmi";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kAvx512Bw:
      return "avx512bw";
    case Isa::kAvxVnni:
      return "avx_vnni";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kScalar:
      break;
  }
  return "scalar";
}

bool cpu_supports(Isa isa) noexcept {
  static const unsigned levels = detect();
  return (levels >> static_cast<int>(isa) & 1u) != 0;
}

bool prefers_interleaving() noexcept {
  static const bool amd = [] {
    const Leaf zero = cpuid(0, 0);
    return zero.ebx == signature_AMD_ebx && zero.ecx == signature_AMD_ecx &&
           zero.edx == signature_AMD_edx;
  }();
  return amd;
}

Isa best_isa() noexcept {
  Isa best = Isa::kScalar;
  for (const Isa isa : kAllIsas) best = cpu_supports(isa) ? isa : best;
  return best;
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
