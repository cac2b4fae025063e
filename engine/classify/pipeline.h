// Images become outcomes: one thread reads, workers decode and infer, the caller takes the
// outcomes in order.
//
//   reader -> files (few bytes) -> decode -> pixels (few images) -> infer -> outcomes, in order
//
// A worker that looks for its next piece of work infers when there are enough images of pixels, and
// decodes otherwise: so the workers are divided as the work is. Everything between the threads is
// bounded, whatever the number of images, and jobs with their buffers are used again and again.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/classify/source.h"
#include "engine/classify/worker.h"

namespace intaglio {

/// Seconds that the stages have taken, of all threads together.
struct StageTimes {
  double reading = 0, decoding = 0, inference = 0;  ///< of CPUs
  double reader_waited = 0;                         ///< for others, by the clock
  double workers_waited = 0;                        ///< likewise, of all workers together
};

class Pipeline {
 public:
  using MakeWorker = std::function<std::unique_ptr<Worker>()>;

  /// Starts at once, with the image behind source.next(). The source belongs to the pipeline until
  /// it is gone. `stop` is set when the pipeline ends early, so that a source that waits gives up.
  Pipeline(ImageSource& source, std::size_t workers, MakeWorker make_worker, const Job& empty,
           std::atomic<bool>& stop);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// The next image, in order; null if there is none within `patience`, or none at all (ended()).
  /// Throws what the source or making a worker has thrown, behind the images before.
  std::unique_ptr<Job> next(std::chrono::milliseconds patience);
  bool ended() const { return ended_; }
  /// Gives a job back.
  void recycle(std::unique_ptr<Job> job);
  /// Begins no other image; those that are begun come out.
  void stop();
  /// All of them only behind the end.
  StageTimes times();

 private:
  void read();
  void read_all();
  std::unique_ptr<Job> wait_for_room();
  void work();
  void work_with(Worker& worker, std::unique_lock<std::mutex>& lock);
  bool has_work() const;
  bool all_taken() const;
  void fail(std::exception_ptr error, bool worker);

  ImageSource& source_;
  MakeWorker make_worker_;
  const Job empty_;
  std::atomic<bool>& stop_;
  const std::size_t workers_count_, window_;

  std::mutex mutex_;
  std::condition_variable room_, work_, outcome_;
  std::vector<std::unique_ptr<Job>> unused_;
  std::vector<std::vector<std::uint8_t>> unused_pixels_;
  std::vector<std::vector<std::byte>> unused_bytes_;
  std::deque<std::unique_ptr<Job>> files_, pixels_;
  std::vector<std::unique_ptr<Job>> outcomes_;  // [window], by index
  std::size_t read_ = 0;                        // images that were put into files_
  std::size_t taken_ = 0;                       // images that were given out
  std::size_t file_bytes_ = 0;                  // in files_ and with decoders
  std::size_t decoding_ = 0;                    // workers that decode
  bool reader_ended_ = false, ended_ = false;
  bool broken_ = false;  // a worker has failed, and perhaps lost an image
  std::exception_ptr error_;
  StageTimes times_;
  std::vector<std::thread> threads_;
};

/// CPU seconds of the calling thread.
double thread_cpu_seconds();

}  // namespace intaglio
