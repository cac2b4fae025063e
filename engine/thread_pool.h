// An Executor with threads of its own. They sleep between calls.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/intaglio.h"

namespace intaglio {

/// The caller of run() works too: a pool of n has n - 1 threads. A process forked from the pool's
/// has none of them: there, the caller does all the work.
class INTAGLIO_API ThreadPool : public Executor {
 public:
  /// threads 0: one per CPU that this process may use. Throws Error(kLimit) when the system
  /// refuses to start as many.
  explicit ThreadPool(std::size_t threads = 0);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t concurrency() const override { return workers_.size() + 1; }
  /// One call at a time.
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override;

 private:
  bool forked() const;
  void stop();
  void work(std::size_t index);

  std::mutex mutex_;
  std::condition_variable start_, finished_;
  const std::function<void(std::size_t)>* task_ = nullptr;
  std::size_t count_ = 0;         // pieces of the current call
  std::size_t running_ = 0;       // workers that have not finished it
  std::uint64_t generation_ = 0;  // calls so far
  bool stop_ = false;
  int process_;  // that the workers live in
  std::vector<std::thread> workers_;
};

/// CPUs this process may use, by affinity and by its control groups' quota; at least 1.
INTAGLIO_API std::size_t available_cpus();

}  // namespace intaglio
