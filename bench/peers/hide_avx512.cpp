// A CPU without AVX-512 for one library in a process of Node: `node --require
// intaglio-hide-avx512.node ...`.
//
// ONNX Runtime chooses its kernels by CPUID and has no switch to choose otherwise, and CPUID itself
// can be intercepted only where hardware and hypervisor allow it (ARCH_SET_CPUID). So avx2.py makes
// a copy of its library in which every CPUID is an instruction that 64-bit mode does not have, and
// this answers the signal that each of them raises. CPUID runs when the library is loaded and never
// in a kernel, so the times stay what they are. Node clears all signal handlers when it starts:
// a module that it loads comes after that, LD_PRELOAD would come before.
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include <cstdint>

namespace {

/// What avx2.py puts in place of CPUID (0f a2). No compiler makes it, unlike ud2.
constexpr std::uint8_t kInPlaceOfCpuid[] = {0x06, 0xa2};

/// Leaf 7, subleaf 0, EBX: AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL.
constexpr unsigned kAvx512Bits =
    1U << 16 | 1U << 17 | 1U << 21 | 1U << 26 | 1U << 27 | 1U << 28 | 1U << 30 | 1U << 31;

void answer_cpuid(int signal_number, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* at = reinterpret_cast<const std::uint8_t*>(registers[REG_RIP]);
  if (at[0] != kInPlaceOfCpuid[0] || at[1] != kInPlaceOfCpuid[1]) {
    signal(signal_number, SIG_DFL);  // which meets the same instruction again
    return;
  }
  const auto leaf = static_cast<unsigned>(registers[REG_RAX]);
  const auto subleaf = static_cast<unsigned>(registers[REG_RCX]);
  unsigned a, b, c, d;
  __cpuid_count(leaf, subleaf, a, b, c, d);
  if (leaf == 7) {
    // AVX-VNNI, AVX-IFMA, AMX, AVX10 and the rest of AVX-512 lie in the other registers and
    // subleaves, where nothing is as old as AVX2.
    b = subleaf == 0 ? b & ~kAvx512Bits : 0;
    a = c = d = 0;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += sizeof kInPlaceOfCpuid;
}

}  // namespace

/// What Node calls in a module that it loads.
extern "C" void* napi_register_module_v1(void*, void* exports) {
  struct sigaction action = {};
  action.sa_sigaction = answer_cpuid;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
  return exports;
}
