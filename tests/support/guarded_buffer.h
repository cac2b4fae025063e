// Memory in which a step outside an operand does not go unnoticed: the array lies between two pages
// that cannot be touched, and whatever is left of its own pages is filled with a pattern.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>

namespace intaglio::test {

/// Where the array lies between its guard pages.
enum class Placement : std::uint8_t {
  kEndsAtGuard,    ///< one element too far is a fault
  kBeginsAtGuard,  ///< one element before is a fault
  kMiddle,         ///< pattern on both sides, at any misalignment
};

template <class T>
class GuardedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// `misalignment` counts elements behind a 64-byte boundary and matters for kMiddle only.
  explicit GuardedBuffer(std::size_t count, Placement placement = Placement::kEndsAtGuard,
                         std::size_t misalignment = 0)
      : count_(count), page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    const std::size_t bytes = count * sizeof(T);
    const std::size_t front = kMargin + misalignment * sizeof(T);
    inner_ = (bytes + front + kMargin + page_ - 1) / page_ * page_;
    void* base = mmap(nullptr, inner_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(base);
    if (mprotect(base_ + page_, inner_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    const std::size_t offset = placement == Placement::kEndsAtGuard     ? inner_ - bytes
                               : placement == Placement::kBeginsAtGuard ? 0
                                                                        : front;
    data_ = base_ + page_ + offset;
    std::fill(base_ + page_, base_ + page_ + inner_, kPattern);
  }
  GuardedBuffer(std::span<const T> content, Placement placement, std::size_t misalignment = 0)
      : GuardedBuffer(content.size(), placement, misalignment) {
    std::copy(content.begin(), content.end(), data());
  }
  ~GuardedBuffer() { munmap(base_, inner_ + 2 * page_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() noexcept { return reinterpret_cast<T*>(data_); }
  const T* data() const noexcept { return reinterpret_cast<const T*>(data_); }
  std::size_t size() const noexcept { return count_; }
  std::span<T> span() noexcept { return {data(), count_}; }

  /// Nothing around the array was written.
  bool surroundings_intact() const noexcept {
    const auto is_pattern = [](std::byte b) { return b == kPattern; };
    const std::byte* end = data_ + count_ * sizeof(T);
    return std::all_of(static_cast<const std::byte*>(base_) + page_,
                       static_cast<const std::byte*>(data_), is_pattern) &&
           std::all_of(end, static_cast<const std::byte*>(base_) + page_ + inner_, is_pattern);
  }

 private:
  static constexpr std::size_t kMargin = 64;
  static constexpr std::byte kPattern{0xa5};

  std::size_t count_;
  std::size_t page_;
  std::size_t inner_ = 0;  ///< bytes between the guards
  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
};

}  // namespace intaglio::test
