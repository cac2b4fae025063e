// Whichever allocation of a C function fails, its status tells, and nothing is lost.
#include <algorithm>
#include <atomic>
#include <new>

#include "graph/model_file.h"
#include "graph/parallel.h"
#include "tests/support/c_handles.h"
#include "tests/support/counted_new.h"
#include "tests/support/swin_micro.h"

namespace intaglio::test {
namespace {

/// Calls a function with its first allocation refused, then with its second one, and so on until it
/// has all that it needs. Returns how many were missed: some things can be done without, such as a
/// thread more.
template <typename Call>
std::size_t refuse_each(const Call& call, const char* (*last_error)() = intaglio_last_error) {
  std::size_t missed = 0;
  for (std::size_t number = 1;; ++number) {
    counted_new.refused = counted_new.calls + number;
    const intaglio_status status = call();
    const bool enough = counted_new.calls < counted_new.refused;
    counted_new.refused = 0;
    INFO("allocation " << number);
    if (enough || status == INTAGLIO_OK) {
      REQUIRE(status == INTAGLIO_OK);
    } else {
      REQUIRE(status == INTAGLIO_OUT_OF_MEMORY);
      REQUIRE(std::string(last_error()) == "out of memory");
      ++missed;
    }
    if (enough) return missed;
  }
}

/// The same of a function that makes something, which is freed.
template <typename Handle, typename Make>
std::size_t refuse_each_of(const Make& make, const char* (*last_error)() = intaglio_last_error) {
  const std::size_t before = counted_new.held;
  const std::size_t missed = refuse_each(
      [&] {
        typename Handle::pointer made = nullptr;
        const intaglio_status status = make(&made);
        const Handle handle(made);
        return (handle != nullptr) == (status == INTAGLIO_OK) ? status : INTAGLIO_UNKNOWN;
      },
      last_error);
  CHECK(counted_new.held == before);
  return missed;
}

}  // namespace

TEST_CASE("C: refused memory for a session or its features, and then given") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  CHECK(refuse_each_of<SessionHandle>([&](intaglio_session** made) {
          return intaglio_session_create(model.get(), nullptr, made);
        }) >= 3);
  const SessionHandle session = make_session(model);
  CHECK(expected.equal(session.get()));
  std::size_t count = 0;
  CHECK(refuse_each([&] {
          return intaglio_session_features(session.get(), expected.views.data(), nullptr, 0,
                                           &count);
        }) > 100);
  CHECK(count == expected.model.features().size());
  CHECK(expected.equal(session.get()));
}

TEST_CASE("C: refused memory for images of other sizes, and then given") {
  const TestModel file = {"swin_micro", serialize_model(swin_micro(true))};
  const ModelHandle model = parse(file);
  const SessionHandle session = make_session(model);
  const SessionHandle plain = make_session(model);
  const std::size_t classes = describe(model).classes;
  std::vector<std::int32_t> found(classes), wanted(classes);
  for (const int side : {160, 96}) {
    const Image image(side, side);
    const intaglio_image_view view = view_of(image);
    CHECK(refuse_each([&] {
            return intaglio_session_run(session.get(), &view, 1, found.data(), classes);
          }) > 100);
    REQUIRE(intaglio_session_run(plain.get(), &view, 1, wanted.data(), classes) == INTAGLIO_OK);
    CHECK(found == wanted);
  }
}

TEST_CASE("C: refused memory for threads, images and preprocessors") {
  CHECK(refuse_each_of<PoolHandle>(
            [](intaglio_thread_pool** made) { return intaglio_thread_pool_create(3, made); }) >= 3);
  CHECK(
      refuse_each_of<ImageHandle>(
          [](intaglio_image** made) { return intaglio_image_load(kSample.c_str(), nullptr, made); },
          intaglio_image_last_error) >= 2);
  intaglio_preprocessing preprocessing = INTAGLIO_PREPROCESSING_INIT;
  preprocessing.resize = preprocessing.height = preprocessing.width = 4;
  const auto create = [&](intaglio_preprocessor** made) {
    return intaglio_preprocessor_create(&preprocessing, made);
  };
  CHECK(refuse_each_of<PreprocessorHandle>(create, intaglio_image_last_error) >= 1);
  intaglio_preprocessor* made = nullptr;
  REQUIRE(create(&made) == INTAGLIO_OK);
  const PreprocessorHandle preprocessor(made);
  const std::vector<std::uint8_t> grey(35, 9);
  const intaglio_image_view view = {grey.data(), 7, 5, 7, INTAGLIO_GREY};
  std::uint8_t pixels[48];
  CHECK(
      refuse_each([&] { return intaglio_preprocessor_run(preprocessor.get(), &view, pixels, 48); },
                  intaglio_image_last_error) >= 1);
  CHECK(std::ranges::all_of(pixels, [](int value) { return value == 9; }));
}

TEST_CASE("C: refused memory for a model") {
  const Expected expected;
  const TestModel& file = expected.file;
  intaglio_load_options options = INTAGLIO_LOAD_OPTIONS_INIT;
  options.threads = 1;  // thousands of times: no others to wait for
  CHECK(refuse_each_of<ModelHandle>([&](intaglio_model** made) {
          const intaglio_status status =
              intaglio_model_parse(file.bytes.data(), file.bytes.size(), "m", &options, made);
          // What is made without an allocation is whole.
          const bool refused = counted_new.calls >= counted_new.refused;
          if (status != INTAGLIO_OK || !refused) return status;
          intaglio_session* session = nullptr;
          REQUIRE(intaglio_session_create(*made, nullptr, &session) == INTAGLIO_OK);
          CHECK(expected.equal(SessionHandle(session).get()));
          return status;
        }) > 1000);
}

TEST_CASE("refused memory for helpers: there are fewer, or nothing is done") {
  bool enough = false;
  for (std::size_t number = 1; !enough; ++number) {
    std::atomic<int> pieces = 0;
    bool refused = false;
    counted_new.refused = counted_new.calls + number;
    try {
      run_pieces(5, 3, [&](std::size_t) { ++pieces; });
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    enough = counted_new.calls < counted_new.refused;
    counted_new.refused = 0;
    CHECK(pieces == (refused ? 0 : 5));
    CHECK(refused == (number == 1));  // the list of helpers
    CHECK((number >= 4) == enough);   // and one for each of them
  }
}

}  // namespace intaglio::test
