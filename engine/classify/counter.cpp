#include "engine/classify/counter.h"

#include <exception>

#include "engine/image_paths.h"

namespace intaglio {

ImageCounter::ImageCounter(std::vector<std::string> inputs, Shard shard) {
  try {
    thread_ = std::thread([this, inputs = std::move(inputs), shard] { count(inputs, shard); });
  } catch (const std::exception&) {
    // Without the time left, then.
  }
}

ImageCounter::~ImageCounter() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void ImageCounter::count(const std::vector<std::string>& inputs, Shard shard) {
  try {
    PathStream paths(inputs, &stop_);
    paths.refuse_streams();
    std::size_t images = 0;
    while (const auto path = paths.next()) {
      if (stop_ || has_archive_extension(*path)) return;
      images += 1;
    }
    if (!stop_) total_ = images / shard.count + (images % shard.count > shard.index);
  } catch (const std::exception&) {
    // The run meets the same error.
  }
}

}  // namespace intaglio
