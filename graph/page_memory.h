// Large memory, in huge pages where the system has them: first touches of small pages can cost more
// than everything else that loading a model does.
#pragma once

#include <cstddef>

namespace intaglio {

/// Memory aligned to 64 bytes. Small ones come from the heap, large ones from the system.
class PageMemory {
 public:
  /// Throws std::bad_alloc.
  explicit PageMemory(std::size_t bytes);
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// Gives back what lies before `end`, as far as whole pages go; what was there is lost. An `end`
  /// outside is no mistake. One call at a time.
  void discard_before(const std::byte* end) noexcept;

 private:
  std::byte* data_;
  std::size_t size_;
  std::byte* mapping_ = nullptr;  // null: from the heap. data_ lies in it, aligned
  std::size_t mapped_ = 0;
  std::size_t discarded_ = 0;  // bytes from the beginning
};

}  // namespace intaglio
