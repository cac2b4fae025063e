// Runs a network in float32 on oneDNN: what calibration observes, and what accuracy is measured
// against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "converters/attention_pieces.h"
#include "converters/network.h"

namespace intaglio {

/// Told of every tensor where a quantizer may stand; what it writes there is what the network goes
/// on with.
class TensorObserver {
 public:
  virtual ~TensorObserver() = default;
  /// `values` [rows, channels]; `name` is that of a layer's result, or kTokenGrid, kPositionGrid.
  virtual void tensor(const std::string& name, std::span<float> values, std::size_t channels) = 0;
  /// What the softmax is to take: scaled scores, with the relative position bias where there is
  /// one, under the name of their quantizer, of all images. True: they have been replaced by
  /// probabilities, and no softmax is wanted. Of an attention with a bias, tensor() is told of the
  /// scores without it, and of the bias, one channel each.
  virtual bool scores(const std::string& name, std::span<float> values,
                      const ScoreLayout& layout) = 0;
  /// Probabilities under the name of their quantizer, whoever made them.
  virtual void probabilities(const std::string& /*name*/, std::span<float> /*values*/,
                             const ScoreLayout& /*layout*/) {}
};

/// Images of a batch are shared out over threads. One caller at a time; OpenMP, which oneDNN may be
/// built with, is limited to one thread on those that run.
class FloatExecutor {
 public:
  /// The network must outlive the executor. threads 0: one per CPU that this process may use.
  explicit FloatExecutor(const Network& network, std::size_t threads = 0);

  /// pixels [images, height, width, 3], RGB; returns logits [images, classes]. Throws
  /// Error(kUnsupported) naming the tensor where float32 overflows.
  std::vector<float> run(std::span<const std::uint8_t> pixels, std::size_t images,
                         TensorObserver* observer = nullptr);

 private:
  const Network& network_;
  std::vector<std::size_t> last_reader_;  ///< per layer: when its result may go
  std::size_t threads_;
};

}  // namespace intaglio
