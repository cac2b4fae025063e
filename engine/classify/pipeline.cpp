#include "engine/classify/pipeline.h"

#include <time.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "graph/error.h"

namespace intaglio {
namespace {

using Clock = std::chrono::steady_clock;

/// Of files that wait to be decoded. One file may be larger.
constexpr std::size_t kFileBytes = std::size_t{32} << 20;
/// Larger buffers and more of them are not kept for other files.
constexpr std::size_t kKeptBytes = std::size_t{1} << 20;
constexpr std::size_t kKeptBuffers = 32;

/// So many images may be between the first one whose outcome is not known and the last one read:
/// enough that a large one does not hold up the workers at once, but not more than memory bears
/// where each has many features.
std::size_t window_of(std::size_t workers, const Job& job) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  std::size_t bytes = sizeof(Job) + job.logits.size() * sizeof(job.logits[0]);
  for (const std::vector<float>& feature : job.features) bytes += feature.size() * sizeof(float);
  return std::clamp(kBytes / bytes, 2 * workers, 32 + 32 * workers);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double thread_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Pipeline::Pipeline(ImageSource& source, std::size_t workers, MakeWorker make_worker,
                   const Job& empty, std::atomic<bool>& stop)
    : source_(source),
      make_worker_(std::move(make_worker)),
      empty_(empty),
      stop_(stop),
      workers_count_(workers),
      window_(window_of(workers, empty)),
      outcomes_(window_) {
  try {
    threads_.emplace_back([this] { read(); });
    for (std::size_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // Fewer workers do, as long as there is one.
    if (threads_.size() > 1) return;
    this->stop();
    for (std::thread& thread : threads_) thread.join();
    throw Error(ErrorCode::kIo, "cannot start threads");
  }
}

Pipeline::~Pipeline() {
  stop();
  for (std::thread& thread : threads_) thread.join();
}

void Pipeline::stop() {
  const std::lock_guard lock(mutex_);
  stop_ = true;
  // Workers take files in order: those left are the last ones.
  read_ -= files_.size();
  for (auto& job : files_) unused_.push_back(std::move(job));
  files_.clear();
  room_.notify_all();
  work_.notify_all();
  outcome_.notify_all();
}

void Pipeline::fail(std::exception_ptr error, bool worker) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
  broken_ |= worker;
  work_.notify_all();
  outcome_.notify_all();
}

void Pipeline::read() {
  const double before = thread_cpu_seconds();
  try {
    read_all();
  } catch (...) {
    fail(std::current_exception(), false);
  }
  const std::lock_guard lock(mutex_);
  times_.reading = thread_cpu_seconds() - before;
  reader_ended_ = true;
  work_.notify_all();
  outcome_.notify_all();
}

/// A job for the next file; null when the pipeline stops.
std::unique_ptr<Job> Pipeline::wait_for_room() {
  std::unique_lock lock(mutex_);
  const auto start = Clock::now();
  room_.wait(lock, [&] {
    return stop_ || (read_ - taken_ < window_ && (file_bytes_ < kFileBytes || files_.empty()));
  });
  times_.reader_waited += seconds_since(start);
  if (stop_) return nullptr;
  if (unused_.empty()) unused_.push_back(std::make_unique<Job>(empty_));
  std::unique_ptr<Job> job = std::move(unused_.back());
  unused_.pop_back();
  if (!unused_bytes_.empty()) {
    job->bytes = std::move(unused_bytes_.back());
    unused_bytes_.pop_back();
  }
  return job;
}

void Pipeline::read_all() {
  while (source_.next()) {
    std::unique_ptr<Job> job = wait_for_room();
    if (!job) return;
    job->name = source_.name();
    job->outcome.error = source_.read(job->bytes);
    job->outcome.top.clear();
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    job->index = read_++;
    file_bytes_ += job->bytes.size();
    files_.push_back(std::move(job));
    work_.notify_one();
  }
}

bool Pipeline::has_work() const {
  const bool all_decoded = (reader_ended_ || stop_) && files_.empty() && decoding_ == 0;
  return !files_.empty() || !pixels_.empty() || all_decoded;
}

void Pipeline::work() {
  try {
    const std::unique_ptr<Worker> worker = make_worker_();
    std::unique_lock lock(mutex_);
    for (;;) {
      if (!has_work()) {
        const auto start = Clock::now();
        work_.wait(lock, [this] { return has_work(); });
        times_.workers_waited += seconds_since(start);
      }
      if (files_.empty() && pixels_.empty()) break;
      work_with(*worker, lock);
    }
  } catch (...) {
    fail(std::current_exception(), true);
    this->stop();
  }
}

/// One piece of work.
void Pipeline::work_with(Worker& worker, std::unique_lock<std::mutex>& lock) {
  const bool infer = pixels_.size() >= workers_count_ || files_.empty();
  std::deque<std::unique_ptr<Job>>& queue = infer ? pixels_ : files_;
  std::unique_ptr<Job> job = std::move(queue.front());
  queue.pop_front();
  if (!infer) {
    ++decoding_;
    if (!unused_pixels_.empty()) {
      job->pixels = std::move(unused_pixels_.back());
      unused_pixels_.pop_back();
    }
  }
  lock.unlock();
  const double before = thread_cpu_seconds();
  infer ? worker.infer(*job) : worker.decode(*job);
  const double spent = thread_cpu_seconds() - before;
  lock.lock();
  (infer ? times_.inference : times_.decoding) += spent;
  if (infer) {
    unused_pixels_.push_back(std::move(job->pixels));
    std::unique_ptr<Job>& place = outcomes_[job->index % window_];
    place = std::move(job);
    outcome_.notify_one();
  } else {
    --decoding_;
    file_bytes_ -= job->bytes.size();
    if (job->bytes.capacity() <= kKeptBytes && unused_bytes_.size() < kKeptBuffers) {
      unused_bytes_.push_back(std::move(job->bytes));
    }
    job->bytes = {};
    pixels_.push_back(std::move(job));
    room_.notify_one();
    work_.notify_all();
  }
}

bool Pipeline::all_taken() const {
  return (reader_ended_ || stop_) && taken_ == read_;
}

std::unique_ptr<Job> Pipeline::next(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  std::unique_ptr<Job>& place = outcomes_[taken_ % window_];
  outcome_.wait_for(lock, patience, [&] { return place || broken_ || all_taken(); });
  if (broken_) std::rethrow_exception(error_);
  if (place) {
    ++taken_;
    room_.notify_one();
    return std::move(place);
  }
  ended_ = all_taken();
  if (ended_ && error_) std::rethrow_exception(error_);
  return nullptr;
}

StageTimes Pipeline::times() {
  const std::lock_guard lock(mutex_);
  return times_;
}

void Pipeline::recycle(std::unique_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  unused_.push_back(std::move(job));
}

}  // namespace intaglio
