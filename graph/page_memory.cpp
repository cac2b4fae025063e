#include "graph/page_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <functional>
#include <new>

namespace intaglio {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// From here on, the unused rest of the last huge page is worth what the pages save.
constexpr std::size_t kLarge = kHugePage / 2;

}  // namespace

PageMemory::PageMemory(std::size_t bytes) : size_(bytes) {
  if (bytes < kLarge) {
    data_ = static_cast<std::byte*>(::operator new(bytes, kAlignment));
    return;
  }
  if (__builtin_add_overflow(bytes, 2 * kHugePage, &mapped_)) throw std::bad_alloc();
  mapped_ = mapped_ / kHugePage * kHugePage;  // whole pages, and one to align the first
  void* mapping =
      ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(mapping);
  data_ = mapping_ + (-reinterpret_cast<std::uintptr_t>(mapping) % kHugePage);
  // A hint: where it is refused, small pages do.
  ::madvise(data_, (bytes + kHugePage - 1) / kHugePage * kHugePage, MADV_HUGEPAGE);
}

PageMemory::~PageMemory() {
  if (mapping_ == nullptr) {
    ::operator delete(data_, kAlignment);
  } else {
    ::munmap(mapping_, mapped_);
  }
}

void PageMemory::discard_before(const std::byte* end) noexcept {
  const std::less<const std::byte*> before;
  if (mapping_ == nullptr || before(end, data_) || before(data_ + size_, end)) return;
  const std::size_t until = static_cast<std::size_t>(end - data_) / kHugePage * kHugePage;
  if (until <= discarded_) return;
  ::madvise(data_ + discarded_, until - discarded_, MADV_DONTNEED);
  discarded_ = until;
}

}  // namespace intaglio
