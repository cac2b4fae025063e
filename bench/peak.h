// The ceiling: how many multiply-accumulates a core does per second when they come from registers.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "kernels/kernels.h"

namespace intaglio {

/// Measures each level's peak whenever it is visited: between the runs that are compared with it,
/// because the clock of a core changes with load and heat. Scalar code is held against the best
/// level the CPU has.
class PeakMeter {
 public:
  /// A few milliseconds on the caller's thread.
  void visit(kernels::Isa isa);
  /// The best of all visits, in MACs per second and core; visit() came first.
  double best(kernels::Isa isa) const;
  /// How far the middle visit was below the best, as a share of it.
  double spread(kernels::Isa isa) const;

 private:
  std::map<kernels::Isa, std::vector<double>> visits_;
};

}  // namespace intaglio
