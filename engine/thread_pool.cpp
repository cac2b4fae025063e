#include "engine/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "engine/cpu_quota.h"

namespace intaglio {

std::size_t available_cpus() {
  std::size_t cpus = std::thread::hardware_concurrency();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = static_cast<std::size_t>(CPU_COUNT(&set));
  return std::max<std::size_t>(1, std::min(cpus, quota_cpus("/").value_or(cpus)));
}

ThreadPool::ThreadPool(std::size_t threads) : process_(::getpid()) {
  const std::size_t total = threads == 0 ? available_cpus() : threads;
  try {
    workers_.reserve(total - 1);
    for (std::size_t i = 1; i < total; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::bad_alloc&) {
    stop();  // a thread that is not joined would end the program
    throw;
  } catch (const std::exception& e) {
    stop();
    throw Error(ErrorCode::kLimit,
                "cannot start " + std::to_string(total) + " threads: " + e.what());
  }
}

ThreadPool::~ThreadPool() {
  if (!forked()) {
    stop();
    return;
  }
  // Nobody is left to be joined, or to leave the condition variables that their destructors wait
  // for: new objects take the places of the old, which are not destroyed.
  for (std::thread& worker : workers_) std::construct_at(&worker);
  std::construct_at(&start_);
  std::construct_at(&finished_);
}

bool ThreadPool::forked() const {
  return process_ != ::getpid();
}

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::size_t count, const std::function<void(std::size_t)>& task) {
  if (forked()) {  // no lock: one of the threads that are gone may hold it
    for (std::size_t i = 0; i < count; ++i) task(i);
    return;
  }
  if (count > 1) {
    const std::lock_guard lock(mutex_);
    task_ = &task;
    count_ = count;
    running_ = workers_.size();
    ++generation_;
    start_.notify_all();
  }
  if (count > 0) task(0);
  if (count > 1) {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return running_ == 0; });
  }
}

void ThreadPool::work(std::size_t index) {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    start_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    if (index < count_) {
      const auto* task = task_;
      lock.unlock();
      (*task)(index);
      lock.lock();
    }
    if (--running_ == 0) finished_.notify_one();
  }
}

}  // namespace intaglio
