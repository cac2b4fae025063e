#include "bench/workload.h"

#include <algorithm>
#include <atomic>
#include <random>

namespace intaglio {

std::vector<std::uint8_t> test_pixels(const Model& model) {
  std::vector<std::uint8_t> pixels(3 * model.height() * model.width());
  std::mt19937 random(1);
  for (std::uint8_t& pixel : pixels) pixel = static_cast<std::uint8_t>(random() >> 24);
  return pixels;
}

Workload::Workload(const Model& model, std::size_t threads, std::size_t batch)
    // A pool of 1 is the caller's thread alone.
    : pool_(batch == 1 ? threads : std::min(threads, batch)),
      pixels_(test_pixels(model)),
      image_{pixels_.data(), static_cast<int>(model.width()), static_cast<int>(model.height()),
             3 * model.width()},
      logits_(batch * model.classes()),
      batch_(batch),
      classes_(model.classes()) {
  const bool shared = batch == 1 && pool_.concurrency() > 1;
  const std::size_t sessions = shared ? 1 : pool_.concurrency();
  for (std::size_t i = 0; i < sessions; ++i)
    sessions_.emplace_back(model, shared ? &pool_ : nullptr);
}

void Workload::run() {
  std::atomic<std::size_t> next = 0;
  const auto work = [&](std::size_t worker) {
    for (std::size_t i = next++; i < batch_; i = next++) {
      sessions_[worker].run({&image_, 1}, {logits_.data() + i * classes_, classes_});
    }
  };
  if (sessions_.size() == 1) {
    work(0);
  } else {
    pool_.run(sessions_.size(), work);
  }
}

bool Workload::gave(std::span<const std::int32_t> logits) const {
  for (std::size_t i = 0; i < batch_; ++i) {
    if (!std::equal(logits.begin(), logits.end(), logits_.data() + i * classes_)) return false;
  }
  return true;
}

}  // namespace intaglio
