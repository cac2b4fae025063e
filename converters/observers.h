// The authors' observers: from the values of a tensor, batch by batch, to its grid. Arithmetic in
// float32, as there.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace intaglio {

enum class ObserverKind {
  kMinmax,      ///< extremes of everything seen
  kEma,         ///< extremes of each batch, averaged with momentum 0.01
  kPercentile,  ///< quantiles 0.99999 and 0.00001 of each batch, averaged likewise
  kOmse         ///< minmax shrunk to the least squared error on the last batch
};

/// Watches one tensor.
class Observer {
 public:
  virtual ~Observer() = default;
  /// values [rows, channels] of one batch.
  virtual void observe(std::span<const float> values, std::size_t channels) = 0;
  /// The grid, with the values of the last batch once more; after observe() of all of them.
  virtual Grid grid(std::span<const float> last, std::size_t channels) const = 0;
};

/// from_zero: the grid holds 0 whatever was seen, as that of probabilities must.
std::unique_ptr<Observer> make_observer(ObserverKind kind, bool from_zero = false);
/// Powers-of-Two Factor: minmax over all channels, then an exponent per channel by the least
/// squared error on the last batch.
std::unique_ptr<Observer> make_ptf_observer();

/// Symmetric scales [n] of weights [n, k]: max |w| / 127.5; / 127 where it is a row's only weight.
std::vector<float> weight_scales(std::span<const float> weight, std::size_t n);

/// u8 grid of the range [low, high]; of one that leaves 0 out, as the reference, the grid is
/// [0, high - low] or [low - high, 0].
Grid range_grid(float low, float high);

}  // namespace intaglio
