// A session allocates nothing once it is built. A program of its own, because of counted_new.h.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <new>

#include "engine/thread_pool.h"
#include "tests/support/c_handles.h"
#include "tests/support/counted_new.h"
#include "tests/support/counting_resource.h"

namespace intaglio::test {

namespace {

/// Memory that is there before.
constexpr std::size_t kRoom = std::size_t{64} << 20;

}  // namespace

TEST_CASE("a session takes its memory where it is told to") {
  const TestModel embedded = embedded_model();
  const Model model = Model::parse(embedded.bytes, embedded.name);
  const Image image = test_images(model, 1)[0];
  Session plain(model);
  const auto expected = plain.run(image);

  CountingResource counting;
  {
    Session session(model, nullptr, &counting);
    CHECK(counting.held >= model.session_bytes());
    const std::size_t taken = counting.taken;
    CHECK(std::ranges::equal(session.run(image), expected));
    CHECK(counting.taken == taken);
    session.features(image);
    Session moved = std::move(session);
    CHECK(std::ranges::equal(moved.run(image), expected));
  }
  CHECK(counting.held == 0);
  for (const std::size_t most : {std::size_t{0}, model.session_bytes() - 1}) {
    counting.most = most;
    CHECK_THROWS_AS(Session(model, nullptr, &counting), std::bad_alloc);
    CHECK(counting.held == 0);
  }

  // Of a block of the caller's, and nothing in bulk from elsewhere.
  std::vector<std::byte> block(kRoom);
  std::pmr::monotonic_buffer_resource resource(block.data(), block.size(),
                                               std::pmr::null_memory_resource());
  counted_new.largest = 0;
  Session session(model, nullptr, &resource);
  session.features(image);
  CHECK(std::ranges::equal(session.run(image), expected));
  CHECK(counted_new.largest < model.session_bytes() / 8);
}

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
  const std::size_t before = counted_new.calls;
  for (int i = 0; i < 10; ++i) {
    alone.run(views, logits);
    alone.run(images[0]);
    shared.run(views, logits);
  }
  CHECK(counted_new.calls == before);
}

TEST_CASE("nor does one of C") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  const SessionHandle session = make_session(model);
  std::vector<std::int32_t> logits(expected.logits.size());
  const auto run = [&] {
    return intaglio_session_run(session.get(), expected.views.data(), expected.views.size(),
                                logits.data(), logits.size());
  };
  REQUIRE(run() == INTAGLIO_OK);
  const std::size_t before = counted_new.calls;
  const intaglio_status status = run();
  CHECK(counted_new.calls == before);
  CHECK(status == INTAGLIO_OK);
  CHECK(logits == expected.logits);
}

}  // namespace intaglio::test
