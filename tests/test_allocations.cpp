// A session allocates nothing once it is built. A program of its own, because it replaces operator
// new; sanitizers have their own.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>

#include "engine/thread_pool.h"
#include "tests/support/models.h"

namespace {
std::atomic<std::size_t> allocations = 0;
}

// Counts every allocation of this program.
void* operator new(std::size_t size) {
  ++allocations;
  void* p = std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}

namespace intaglio::test {

TEST_CASE("a session allocates nothing per image") {
  const TestModel embedded = embedded_model();
  const Model model = Model::parse(embedded.bytes, embedded.name);
  const std::vector<Image> images = test_images(model, 2);
  const ImageView views[] = {images[0], images[1]};
  std::vector<std::int32_t> logits(2 * model.classes());
  ThreadPool pool(2);
  Session alone(model);
  Session shared(model, &pool);
  alone.run(views, logits);
  shared.run(views, logits);
  const std::size_t before = allocations;
  for (int i = 0; i < 10; ++i) {
    alone.run(views, logits);
    alone.run(images[0]);
    shared.run(views, logits);
  }
  CHECK(allocations == before);
}

}  // namespace intaglio::test
