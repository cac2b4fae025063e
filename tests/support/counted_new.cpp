// Apart from what uses it: gcc takes an operator delete that is inlined for one that does not
// match.
#include "tests/support/counted_new.h"

#include <cstdlib>
#include <new>

namespace {

using intaglio::test::counted_new;

void count(std::size_t size) {
  if (++counted_new.calls == counted_new.refused) throw std::bad_alloc();
  if (size > counted_new.largest) counted_new.largest = size;
}

void* taken(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  ++counted_new.held;
  return p;
}

void release(void* p) noexcept {
  if (p != nullptr) --counted_new.held;
  std::free(p);
}

}  // namespace

void* operator new(std::size_t size) {
  count(size);
  return taken(std::malloc(size == 0 ? 1 : size));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  count(size);
  return taken(std::aligned_alloc(static_cast<std::size_t>(alignment), size));
}
void operator delete(void* p, std::align_val_t) noexcept {
  release(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  release(p);
}
void operator delete(void* p) noexcept {
  release(p);
}
void operator delete(void* p, std::size_t) noexcept {
  release(p);
}
