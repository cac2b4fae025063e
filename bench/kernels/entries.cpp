#include "bench/kernels/entries.h"

#include <memory>

namespace intaglio::bench {

std::vector<Entry> entries_of(const std::vector<Work>& works) {
  std::vector<Entry> entries;
  for (const Work& work : works) {
    // All tables are compared with one scalar run, made when the first of them is measured.
    const auto expected = std::make_shared<std::vector<std::byte>>();
    const auto by_scalar = [work, expected] {
      if (expected->empty()) {
        const Prepared scalar = work.prepare(kernels::scalar_table());
        scalar.run();
        *expected = scalar.result();
      }
      return *expected;
    };
    for (const kernels::KernelTable* table : kernels::all_tables()) {
      if (!kernels::cpu_supports(table->isa)) continue;
      entries.push_back({work.kernel, work.shape, kernels::isa_name(table->isa), table->isa,
                         work.macs, work.bytes, [work, table] { return work.prepare(*table); },
                         by_scalar});
    }
  }
  return entries;
}

}  // namespace intaglio::bench
