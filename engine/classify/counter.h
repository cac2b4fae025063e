// How many images there are, counted beside the run, for the time left.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/classify/source.h"

namespace intaglio {

class ImageCounter {
 public:
  /// Counts what files, folders, lists and patterns name; nothing where standard input, pipes or
  /// archives would have to be read for it.
  ImageCounter(std::vector<std::string> inputs, Shard shard);
  ~ImageCounter();
  ImageCounter(const ImageCounter&) = delete;
  ImageCounter& operator=(const ImageCounter&) = delete;

  /// Of the shard; 0 as long as it is not known.
  std::size_t total() const { return total_; }

 private:
  void count(const std::vector<std::string>& inputs, Shard shard);

  std::atomic<std::size_t> total_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace intaglio
