// What a measurement ran on, and how quiet that was.
#pragma once

#include <cstdint>
#include <string>

namespace intaglio {

/// Stands in every row of the output.
struct Machine {
  std::string cpu;  ///< as the kernel names it
  std::size_t cpus = 1;
  double clock_ghz = 0;  ///< estimate, while one core is busy
  std::string compiler;
  std::string commit;  ///< of the source, "-dirty" with changes; "unknown" outside git
  std::string date;    ///< UTC
};

Machine describe_machine();

/// Largest resident memory of this process so far (VmHWM); 0 where the system does not tell.
double peak_rss_mb();

/// Shares of all CPUs' time since construction.
struct Activity {
  double others = 0;  ///< other processes
  double stolen = 0;  ///< by the hypervisor

  /// Enough to disturb: more than 5 % or 1 %.
  bool noisy() const { return others > 0.05 || stolen > 0.01; }
};

class ActivityMonitor {
 public:
  ActivityMonitor() : start_(now()) {}
  /// Zeros where /proc/stat cannot be read.
  Activity since_start() const;

 private:
  struct Ticks {
    std::uint64_t total = 0, busy = 0, stolen = 0;  // of all CPUs
    double own_seconds = 0;
  };
  static Ticks now();

  Ticks start_;
};

}  // namespace intaglio
