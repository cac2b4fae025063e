// Memory of the caller's: where sessions of C take it, and what they do where it is refused.
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "graph/model_file.h"
#include "tests/support/c_handles.h"
#include "tests/support/swin_micro.h"

namespace intaglio::test {
namespace {

/// Counts the caller's memory.
struct Memory {
  std::size_t held = 0, calls = 0, offset = 0;
  bool refuses = false;
  std::size_t left = SIZE_MAX;  // calls until one is refused
  bool aligned = true;          // as c_api.h says

  static void* allocate(void* context, std::size_t size, std::size_t alignment) {
    auto& self = *static_cast<Memory*>(context);
    self.aligned = self.aligned && alignment == 64;
    if (self.refuses || self.left-- == 0) return nullptr;
    self.held += size;
    ++self.calls;
    return static_cast<std::byte*>(
               std::aligned_alloc(alignment, (size / alignment + 2) * alignment)) +
           self.offset;
  }
  static void deallocate(void* context, void* memory, std::size_t size, std::size_t) {
    auto& self = *static_cast<Memory*>(context);
    self.held -= size;
    std::free(static_cast<std::byte*>(memory) - self.offset);
  }
  intaglio_session_options options() {
    intaglio_session_options options = INTAGLIO_SESSION_OPTIONS_INIT;
    options.allocate = allocate;
    options.deallocate = deallocate;
    options.allocator_context = this;
    return options;
  }
};

}  // namespace

TEST_CASE("C: a session takes the caller's memory") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  Memory memory;
  intaglio_session_options options = memory.options();
  {
    const SessionHandle session = make_session(model, &options);
    const std::size_t calls = memory.calls;
    CHECK(memory.held >= expected.model.session_bytes());
    CHECK(expected.equal(session.get()));
    CHECK(memory.calls == calls);
  }
  CHECK(memory.aligned);
  CHECK(memory.held == 0);
  intaglio_session* session = nullptr;
  memory.offset = 8;
  check_status(intaglio_session_create(model.get(), &options, &session), INTAGLIO_INVALID_ARGUMENT,
               "not aligned");
  CHECK(memory.held == 0);
  memory.refuses = true;
  check_status(intaglio_session_create(model.get(), &options, &session), INTAGLIO_OUT_OF_MEMORY,
               "out of memory");
  options.deallocate = nullptr;
  check_status(intaglio_session_create(model.get(), &options, &session), INTAGLIO_INVALID_ARGUMENT,
               "deallocate");
  CHECK(session == nullptr);
}

TEST_CASE("C: a session can be made when all of its memory is given, however often it was not") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  Memory memory;
  const intaglio_session_options options = memory.options();
  intaglio_session* session = nullptr;
  std::size_t given = 0;
  const auto create = [&] {
    memory.left = given;
    return intaglio_session_create(model.get(), &options, &session);
  };
  for (; create() != INTAGLIO_OK; ++given) {
    CHECK(std::string(intaglio_last_error()) == "out of memory");
    CHECK(session == nullptr);
    CHECK(memory.held == 0);
    REQUIRE(given < 100);
  }
  CHECK(given >= 2);  // intermediate values, logits
  const SessionHandle handle(session);
  CHECK(expected.equal(session));
}

TEST_CASE("C: a session whose memory is refused goes on when there is some") {
  const TestModel file = {"swin_micro", serialize_model(swin_micro(true))};
  const ModelHandle model = parse(file);
  Memory memory;
  intaglio_session_options options = memory.options();
  const SessionHandle session = make_session(model, &options);
  const SessionHandle plain = make_session(model);
  const std::size_t classes = describe(model).classes;
  const auto run = [&](const SessionHandle& with, int side) {
    const Image image(side, side);
    const intaglio_image_view view = view_of(image);
    std::vector<std::int32_t> logits(classes);
    const intaglio_status status =
        intaglio_session_run(with.get(), &view, 1, logits.data(), classes);
    return std::pair(status, logits);
  };
  const auto small = run(plain, 56);
  const auto large = run(plain, 160);
  REQUIRE((small.first == INTAGLIO_OK && large.first == INTAGLIO_OK));
  CHECK(run(session, 56) == small);
  memory.refuses = true;
  check_status(run(session, 160).first, INTAGLIO_OUT_OF_MEMORY, "out of memory");
  check_status(run(session, 160).first, INTAGLIO_OUT_OF_MEMORY, "out of memory");
  check_status(run(session, 56).first, INTAGLIO_OUT_OF_MEMORY, "out of memory");
  memory.refuses = false;
  CHECK(run(session, 56) == small);
  CHECK(run(session, 160) == large);
}

}  // namespace intaglio::test
