// One configuration's inference: what is timed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/intaglio.h"
#include "engine/thread_pool.h"

namespace intaglio {

/// A pseudo-random photograph of the model's size, the same for all.
std::vector<std::uint8_t> test_pixels(const Model& model);

/// `batch` images on `threads` threads. One image is shared by all threads; of several, each thread
/// takes one at a time, with a Session of its own.
class Workload {
 public:
  Workload(const Model& model, std::size_t threads, std::size_t batch);

  /// One call: the whole batch.
  void run();
  /// Whether every image of the last run() has exactly these logits.
  bool gave(std::span<const std::int32_t> logits) const;
  /// The Session whose steps are looked at.
  Session& first() { return sessions_.front(); }
  /// Threads that share one step.
  std::size_t threads_per_step() const { return sessions_.size() == 1 ? pool_.concurrency() : 1; }

 private:
  ThreadPool pool_;
  std::vector<std::uint8_t> pixels_;
  ImageView image_;
  std::vector<Session> sessions_;
  std::vector<std::int32_t> logits_;  // [batch, classes]
  std::size_t batch_, classes_;
};

}  // namespace intaglio
