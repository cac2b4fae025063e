// Memory for sessions that is counted, and may be refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <utility>

namespace intaglio::test {

class CountingResource : public std::pmr::memory_resource {
 public:
  std::size_t taken = 0, held = 0;
  std::size_t most = SIZE_MAX;  ///< bytes to be held
  bool refuses = false;         ///< the next time
  bool aligned = true;          ///< what was asked for, as intaglio.h says

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    aligned = aligned && alignment == 64;
    if (std::exchange(refuses, false) || bytes > most - held) throw std::bad_alloc();
    taken += bytes;
    held += bytes;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    held -= bytes;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace intaglio::test
