// Where the models of a measurement come from: files, or made up and held in memory as a file, so
// that all are loaded the same way.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "bench/synthetic_model.h"
#include "kernels/cpu.h"

namespace intaglio {

/// Bytes with a path that this process and its children can open; gone when the last one ends.
class MemoryFile {
 public:
  /// Throws Error(kIo).
  explicit MemoryFile(std::span<const std::byte> bytes);
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&&) = delete;
  ~MemoryFile();
  std::filesystem::path path() const;

 private:
  int fd_;
};

/// What loading a model and one inference cost a process that does nothing else.
struct LoadCost {
  double load_ms = 0;
  double peak_rss_mb = 0;
};

/// Called in a process of its own: loads, makes the sessions, runs once, prints what it cost.
void report_load_cost(const std::filesystem::path& model, kernels::Isa isa, std::size_t threads,
                      std::size_t batch);
/// Starts this program again for report_load_cost(), so that nothing else is in the figures.
LoadCost measure_load_cost(const std::filesystem::path& model, kernels::Isa isa,
                           std::size_t threads, std::size_t batch);

}  // namespace intaglio
