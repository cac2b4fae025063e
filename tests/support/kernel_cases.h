// The list of cases every kernel of every table is run on. A case owns nothing: its operands are
// made again from its seed whenever it runs, inside guarded buffers, so that running it on two
// tables and comparing the results compares the tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace intaglio::test {

struct CaseResult {
  std::vector<std::byte> dst;  ///< all of it, gaps between rows included
  bool intact;                 ///< nothing around any operand was written
};

struct KernelCase {
  std::string name;  ///< shapes, fill, parameters
  std::function<CaseResult(const kernels::KernelTable&)> run;
};

struct KernelSuite {
  const char* kernel;
  std::vector<KernelCase> (*cases)(std::uint64_t seed);
};

/// One entry per kernel of KernelTable; packing belongs to gemm_u8s8.
const std::vector<KernelSuite>& kernel_suites();

/// What the random operands of this process are made from: INTAGLIO_TEST_SEED or a new number.
std::uint64_t test_seed();

}  // namespace intaglio::test
