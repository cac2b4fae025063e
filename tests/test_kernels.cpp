// Every kernel of every table the CPU can run equals the scalar definition, bit for bit.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/kernels.h"
#include "tests/support/guarded_buffer.h"
#include "tests/support/kernel_cases.h"

namespace intaglio::test {
namespace {

using kernels::Isa;
using kernels::KernelTable;

/// The compiler's own view of the CPU, to be compared with kernels/cpu.cpp. gcc 12 has no name for
/// AVX-VNNI there; /proc/cpuinfo has.
bool compiler_says_supported(Isa isa) {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (isa) {
    case Isa::kAvx512Vbmi:
      return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    case Isa::kAvx512Vnni:
      return avx512 && __builtin_cpu_supports("avx512vnni");
    case Isa::kAvx512Bw:
      return avx512;
    case Isa::kAvxVnni: {
      std::ifstream info("/proc/cpuinfo");
      const std::string text{std::istreambuf_iterator<char>(info), {}};
      return __builtin_cpu_supports("avx2") && text.find(" avx_vnni") != std::string::npos;
    }
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2");
    case Isa::kScalar:
      break;
  }
  return true;
}

/// Index of the first byte that differs, or the size.
std::size_t first_difference(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
}

/// Runs all cases of a suite on `table`; returns how many ran.
std::size_t compare_with_scalar(const KernelSuite& suite, const KernelTable& table) {
  const std::uint64_t seed = test_seed();
  std::size_t ran = 0;
  for (const KernelCase& c : suite.cases(seed)) {
    const CaseResult expected = c.run(kernels::scalar_table());
    const CaseResult actual = c.run(table);
    ++ran;
    if (actual.intact && expected.intact && actual.dst == expected.dst) continue;
    INFO("INTAGLIO_TEST_SEED=" << seed);
    INFO(suite.kernel << " of " << kernels::isa_name(table.isa) << ", case " << ran - 1 << ": "
                      << c.name);
    INFO("first different byte: " << first_difference(expected.dst, actual.dst) << " of "
                                  << expected.dst.size());
    REQUIRE(expected.intact);
    REQUIRE(actual.intact);
    REQUIRE(actual.dst == expected.dst);
  }
  return ran;
}

TEST_CASE("the tables are all there, best first, and agree with the compiler about the CPU") {
  const auto tables = kernels::all_tables();
  REQUIRE(tables.size() == std::size(kernels::kAllIsas));
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const Isa isa = kernels::kAllIsas[tables.size() - 1 - i];
    CHECK(tables[i]->isa == isa);
    CHECK(&kernels::table_of(isa) == tables[i]);
    CHECK(kernels::cpu_supports(isa) == compiler_says_supported(isa));
  }
}

TEST_CASE("every kernel of every table equals the scalar definition") {
  std::size_t exercised = 0;
  for (const KernelTable* table : kernels::all_tables()) {
    if (!kernels::cpu_supports(table->isa)) {
      WARN("NOT TESTED: this CPU cannot run the kernels of " << kernels::isa_name(table->isa));
      continue;
    }
    ++exercised;
    for (const KernelSuite& suite : kernel_suites()) {
      INFO(suite.kernel << " of " << kernels::isa_name(table->isa));
      CHECK(compare_with_scalar(suite, *table) >= 20);
    }
  }
  const auto supported = std::count_if(std::begin(kernels::kAllIsas), std::end(kernels::kAllIsas),
                                       compiler_says_supported);
  REQUIRE(exercised == static_cast<std::size_t>(supported));
}

TEST_CASE("a level replaces the kernels it is there for") {
  const KernelTable& scalar = kernels::scalar_table();
  for (const KernelTable* table : kernels::all_tables()) {
    if (table->isa == Isa::kScalar) continue;
    INFO(kernels::isa_name(table->isa));
    CHECK(table->gemm_packed_bytes != scalar.gemm_packed_bytes);
    CHECK(table->gemm_pack != scalar.gemm_pack);
    CHECK(table->gemm_u8s8 != scalar.gemm_u8s8);
    CHECK(table->softmax_prepare != scalar.softmax_prepare);
    CHECK(table->attention_scratch_bytes != scalar.attention_scratch_bytes);
    CHECK(table->attention != scalar.attention);
    CHECK(table->attention_bitshift != scalar.attention_bitshift);
    CHECK(table->attention_bitshift != table->attention);
    CHECK(table->layernorm_ptf != scalar.layernorm_ptf);
    CHECK(table->gelu_table != scalar.gelu_table);
    CHECK(table->residual_add != scalar.residual_add);
    CHECK(table->add_s16 != scalar.add_s16);
    CHECK(table->mean_rows != scalar.mean_rows);
  }
}

TEST_CASE("the peak loop does as many multiply-accumulates as it says") {
  for (const KernelTable* table : kernels::all_tables()) {
    if (!kernels::cpu_supports(table->isa)) continue;
    INFO(kernels::isa_name(table->isa));
    for (const std::size_t rounds : {0, 1, 2, 1000}) {
      CHECK(table->peak_mac(rounds) == rounds * table->peak_macs_per_round);
    }
  }
}

TEST_CASE("a guarded buffer notices writes around it and lies where it should") {
  for (const Placement placement :
       {Placement::kEndsAtGuard, Placement::kBeginsAtGuard, Placement::kMiddle}) {
    GuardedBuffer<std::uint8_t> buffer(100, placement, 3);
    CHECK(buffer.surroundings_intact());
    std::memset(buffer.data(), 1, buffer.size());
    CHECK(buffer.surroundings_intact());
    const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
    if (placement == Placement::kEndsAtGuard) CHECK((address + 100) % 4096 == 0);
    if (placement == Placement::kBeginsAtGuard) CHECK(address % 4096 == 0);
    if (placement == Placement::kMiddle) CHECK(address % 64 == 3);
    if (placement != Placement::kEndsAtGuard) {
      buffer.data()[100] = 1;
    } else {
      buffer.data()[-1] = 1;
    }
    CHECK_FALSE(buffer.surroundings_intact());
  }
}

}  // namespace
}  // namespace intaglio::test
