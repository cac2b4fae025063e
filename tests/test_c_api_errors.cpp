// The C functions refuse what is wrong, and understand structs of other versions.
#include <climits>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <utility>

#include "tests/support/c_handles.h"

namespace intaglio::test {

namespace {

void invalid(intaglio_status status, const std::string& piece) {
  check_status(status, INTAGLIO_INVALID_ARGUMENT, piece);
}

}  // namespace

TEST_CASE("C: NULLs and impossible arguments of models are errors") {
  const Expected expected;
  const ModelHandle handle = parse(expected.file);
  intaglio_model* const model = handle.get();
  intaglio_model* other = nullptr;
  const char* text = nullptr;
  const auto& bytes = expected.file.bytes;
  intaglio_model_free(nullptr);
  intaglio_session_free(nullptr);
  intaglio_thread_pool_free(nullptr);
  invalid(intaglio_model_load(nullptr, nullptr, &other), "path");
  invalid(intaglio_model_load("x", nullptr, nullptr), "model");
  invalid(intaglio_model_parse(nullptr, 1, "x", nullptr, &other), "bytes");
  invalid(intaglio_model_parse(bytes.data(), SIZE_MAX, "x", nullptr, &other), "a count");
  invalid(intaglio_model_parse(bytes.data(), bytes.size(), nullptr, nullptr, &other), "name");
  invalid(intaglio_model_parse(bytes.data(), bytes.size(), "x", nullptr, nullptr), "model");
  invalid(intaglio_model_retain(nullptr), "model");
  invalid(intaglio_model_describe(nullptr, nullptr), "model");
  invalid(intaglio_model_describe(model, nullptr), "info");
  invalid(intaglio_model_preprocessing(model, nullptr), "preprocessing");
  invalid(intaglio_model_preprocessing(nullptr, nullptr), "model");
  invalid(intaglio_model_label(nullptr, 0, &text), "model");
  invalid(intaglio_model_label(model, 0, nullptr), "label");
  invalid(intaglio_model_label(model, expected.model.classes(), &text), "index 32 of 32");
  invalid(intaglio_model_feature_name(model, 99, &text), "index 99");
  invalid(intaglio_model_feature_name(nullptr, 0, &text), "model");
  invalid(intaglio_model_feature_name(model, 0, nullptr), "name");
  invalid(intaglio_thread_pool_create(1, nullptr), "pool");
  CHECK(other == nullptr);
}

TEST_CASE("C: NULLs and impossible arguments of sessions are errors") {
  const Expected expected;
  const ModelHandle handle = parse(expected.file);
  intaglio_model* const model = handle.get();
  const SessionHandle session_handle = make_session(handle);
  intaglio_session* const session = session_handle.get();
  intaglio_session* other = nullptr;
  invalid(intaglio_session_create(nullptr, nullptr, &other), "model");
  invalid(intaglio_session_create(model, nullptr, nullptr), "session");

  CHECK(other == nullptr);

  const intaglio_image_view* views = expected.views.data();
  std::vector<std::int32_t> logits(expected.model.classes());
  const auto run = [&](const intaglio_image_view* images, std::size_t n) {
    return intaglio_session_run(session, images, n, logits.data(), logits.size());
  };
  invalid(intaglio_session_run(nullptr, views, 1, logits.data(), logits.size()), "session");
  invalid(intaglio_session_run(session, views, 1, nullptr, logits.size()), "logits");
  invalid(intaglio_session_run(session, views, SIZE_MAX, logits.data(), 1), "a count");
  invalid(run(nullptr, 1), "images");
  invalid(run(views, 2), "room for 2 x 32");
  intaglio_image_view view = views[0];
  view.stride = 1;
  invalid(run(&view, 1), "stride");
  view = views[0];
  for (const int format : {-1, 5, INT_MAX}) {
    view.format = format;
    invalid(run(&view, 1), "unknown pixel format");
  }
  view.format = INTAGLIO_BGR;
  check_status(run(&view, 1), INTAGLIO_UNSUPPORTED, "takes RGB");
  view = views[0];
  view.height = 5;
  CHECK(run(&view, 1) == INTAGLIO_UNSUPPORTED);
}

TEST_CASE("C: NULLs and impossible arguments of features are errors") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  const SessionHandle handle = make_session(model);
  intaglio_session* const session = handle.get();
  const intaglio_image_view* views = expected.views.data();
  std::size_t count = 0;
  invalid(intaglio_session_features(nullptr, views, nullptr, 0, &count), "session");
  invalid(intaglio_session_features(session, nullptr, nullptr, 0, &count), "image");
  invalid(intaglio_session_features(session, views, nullptr, 0, nullptr), "count");
  invalid(intaglio_session_features(session, views, nullptr, 1, &count), "names");
  const char* names[] = {nullptr};
  invalid(intaglio_session_features(session, views, names, 1, &count), "a name");
  invalid(intaglio_session_features(session, views, names, 0, &count), "no names");
  intaglio_feature feature = INTAGLIO_FEATURE_INIT;
  invalid(intaglio_session_feature(nullptr, 0, &feature), "session");
  invalid(intaglio_session_feature_floats(nullptr, 0, 0, nullptr, 0), "session");
  REQUIRE(intaglio_session_features(session, views, nullptr, 0, &count) == INTAGLIO_OK);
  invalid(intaglio_session_feature(session, 0, nullptr), "feature");
  invalid(intaglio_session_feature_floats(session, 0, 0, nullptr, 1), "floats");
  // The next run forgets them.
  std::vector<std::int32_t> logits(expected.model.classes());
  REQUIRE(intaglio_session_run(session, views, 1, logits.data(), logits.size()) == INTAGLIO_OK);
  invalid(intaglio_session_feature(session, 0, &feature), "0 of 0");
}

TEST_CASE("C: NULLs and impossible arguments of predictions and tensors are errors") {
  const std::vector<std::int32_t> logits(32);
  std::vector<double> shares(logits.size());
  intaglio_prediction best[2];
  invalid(intaglio_top_k(nullptr, 2, best, 2), "logits");
  invalid(intaglio_top_k(logits.data(), 2, nullptr, 2), "best");
  invalid(intaglio_top_k(logits.data(), 1, best, 2), "the 2 largest of 1");
  CHECK(intaglio_top_k(nullptr, 0, nullptr, 0) == INTAGLIO_OK);
  invalid(intaglio_probabilities(nullptr, 2, 1, shares.data()), "logits");
  invalid(intaglio_probabilities(logits.data(), 2, 1, nullptr), "probabilities");
  std::uint8_t pixels[3];
  const float tensor[3] = {};
  invalid(intaglio_pixels_of(nullptr, 3, 0, nullptr, pixels), "normalized");
  invalid(intaglio_pixels_of(tensor, 3, 0, nullptr, nullptr), "pixels");
  invalid(intaglio_pixels_of(tensor, 3, 0, nullptr, pixels), "preprocessing");
}

TEST_CASE("C: errors keep their kinds") {
  TestModel file = embedded_model();
  intaglio_model* model = nullptr;
  const auto parsed = [&] {
    return intaglio_model_parse(file.bytes.data(), file.bytes.size(), "the model", nullptr, &model);
  };
  check_status(intaglio_model_load("/nowhere/x.intg", nullptr, &model), INTAGLIO_IO,
               "/nowhere/x.intg");
  intaglio_load_options options = INTAGLIO_LOAD_OPTIONS_INIT;
  options.isa = "mmx";
  check_status(intaglio_model_load("x", &options, &model), INTAGLIO_INVALID_ARGUMENT, "'mmx'");
  file.bytes.back() ^= std::byte{1};
  check_status(parsed(), INTAGLIO_INTEGRITY, "the model");
  file.bytes.resize(20);
  check_status(parsed(), INTAGLIO_FORMAT, "the model");
  file.bytes.clear();
  check_status(parsed(), INTAGLIO_FORMAT, "the model");
  intaglio_thread_pool* pool = nullptr;
  check_status(intaglio_thread_pool_create(SIZE_MAX, &pool), INTAGLIO_LIMIT, "cannot start");
  const std::string name(5000, 'n');
  const char byte = 0;
  CHECK(intaglio_model_parse(&byte, 1, name.c_str(), nullptr, &model) == INTAGLIO_FORMAT);
  CHECK(std::string(intaglio_last_error()) == name.substr(0, 2047));
  CHECK((model == nullptr && pool == nullptr));
}

TEST_CASE("C: nothing that a callback throws comes out") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  int kind = 0;
  intaglio_session_options options = INTAGLIO_SESSION_OPTIONS_INIT;
  options.concurrency = 2;
  options.executor_context = &kind;
  options.run_tasks = [](void* context, std::size_t count, void (*task)(void*, std::size_t),
                         void* argument) {
    const int what = *static_cast<int*>(context);
    if (what == 1) throw 1;
    if (what == 2) throw std::bad_alloc();
    if (what == 3) throw std::logic_error("of the caller's");
    for (std::size_t i = 0; i < count; ++i) task(argument, i);
  };
  const SessionHandle session = make_session(model, &options);
  std::vector<std::int32_t> logits(expected.model.classes());
  const auto run = [&](int what) {
    kind = what;
    return intaglio_session_run(session.get(), expected.views.data(), 1, logits.data(),
                                logits.size());
  };
  check_status(run(1), INTAGLIO_UNKNOWN, "unknown type");
  check_status(run(2), INTAGLIO_OUT_OF_MEMORY, "out of memory");
  check_status(run(3), INTAGLIO_UNKNOWN, "of the caller's");
  CHECK(run(0) == INTAGLIO_OK);
  CHECK(expected.equal(session.get()));
}

TEST_CASE("C: structs of other versions") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  intaglio_session* session = nullptr;
  struct Newer {
    intaglio_session_options options = INTAGLIO_SESSION_OPTIONS_INIT;
    std::uint64_t added = 0;
  } newer;
  const auto create = [&] {
    return intaglio_session_create(model.get(), &newer.options, &session);
  };
  newer.options.struct_size = sizeof newer;
  REQUIRE(create() == INTAGLIO_OK);
  CHECK(expected.equal(session));
  intaglio_session_free(std::exchange(session, nullptr));
  newer.added = 1;
  check_status(create(), INTAGLIO_UNSUPPORTED, "does not know");
  newer.options.run_tasks = [](void*, std::size_t, void (*)(void*, std::size_t), void*) {};
  newer.options.struct_size = sizeof newer.options;
  check_status(create(), INTAGLIO_INVALID_ARGUMENT, "concurrency");
  // Of an older version, which had no such member.
  newer.options.struct_size = offsetof(intaglio_session_options, run_tasks);
  REQUIRE(create() == INTAGLIO_OK);
  CHECK(expected.equal(session));
  intaglio_session_free(std::exchange(session, nullptr));
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{4097}, SIZE_MAX}) {
    newer.options.struct_size = size;
    check_status(create(), INTAGLIO_INVALID_ARGUMENT, "struct_size is " + std::to_string(size));
  }
  CHECK(session == nullptr);

  intaglio_model_info info = INTAGLIO_MODEL_INFO_INIT;
  info.struct_size = offsetof(intaglio_model_info, takes_any_size);
  info.classes = 12345;  // not the library's to write
  REQUIRE(intaglio_model_describe(model.get(), &info) == INTAGLIO_OK);
  CHECK(info.struct_size == offsetof(intaglio_model_info, takes_any_size));
  CHECK(info.width == expected.model.width());
  CHECK(info.classes == 12345);
  struct {
    intaglio_model_info info = INTAGLIO_MODEL_INFO_INIT;
    std::uint64_t added = 77;
  } larger;
  larger.info.struct_size = sizeof larger;
  REQUIRE(intaglio_model_describe(model.get(), &larger.info) == INTAGLIO_OK);
  CHECK(larger.info.classes == expected.model.classes());
  CHECK(larger.added == 0);
}

TEST_CASE("C: images and preprocessing refuse what is wrong") {
  intaglio_image* image = nullptr;
  intaglio_preprocessor* preprocessor = nullptr;
  intaglio_image_view view = {};
  intaglio_image_free(nullptr);
  intaglio_preprocessor_free(nullptr);
  const auto invalid = [](intaglio_status status, const std::string& piece) {
    check_image_status(status, INTAGLIO_INVALID_ARGUMENT, piece);
  };
  invalid(intaglio_image_load(nullptr, nullptr, &image), "path");
  invalid(intaglio_image_load("x", nullptr, nullptr), "image");
  invalid(intaglio_image_decode(nullptr, 1, "x", nullptr, &image), "bytes");
  invalid(intaglio_image_decode("", 0, nullptr, nullptr, &image), "name");
  invalid(intaglio_image_decode("", 0, "x", nullptr, nullptr), "image");
  invalid(intaglio_image_pixels(nullptr, &view), "image");
  check_image_status(intaglio_image_load("/nowhere.png", nullptr, &image), INTAGLIO_IO,
                     "/nowhere.png");
  check_image_status(intaglio_image_decode("GIF89a", 6, "a gif", nullptr, &image),
                     INTAGLIO_UNSUPPORTED, "a gif");
  intaglio_decode_options options = INTAGLIO_DECODE_OPTIONS_INIT;
  options.max_pixels = 4;
  check_image_status(intaglio_image_load(kSample.c_str(), &options, &image), INTAGLIO_LIMIT, "A_0");
  options.max_pixels = 0;
  options.max_file_bytes = 4;
  check_image_status(intaglio_image_load(kSample.c_str(), &options, &image), INTAGLIO_LIMIT, "A_0");
  options.struct_size = 0;
  invalid(intaglio_image_load(kSample.c_str(), &options, &image), "struct_size");
  CHECK(image == nullptr);
  REQUIRE(intaglio_image_load(kSample.c_str(), nullptr, &image) == INTAGLIO_OK);
  const ImageHandle loaded(image);
  invalid(intaglio_image_pixels(image, nullptr), "view");
  REQUIRE(intaglio_image_pixels(image, &view) == INTAGLIO_OK);

  intaglio_preprocessing preprocessing = INTAGLIO_PREPROCESSING_INIT;
  invalid(intaglio_preprocessor_create(nullptr, &preprocessor), "preprocessing");
  invalid(intaglio_preprocessor_create(&preprocessing, nullptr), "preprocessor");
  invalid(intaglio_preprocessor_create(&preprocessing, &preprocessor), "resize is 0");
  preprocessing.resize = preprocessing.height = preprocessing.width = 4;
  preprocessing.interpolation = 2;
  invalid(intaglio_preprocessor_create(&preprocessing, &preprocessor), "interpolation 2");
  preprocessing.interpolation = INTAGLIO_BICUBIC;
  CHECK(preprocessor == nullptr);
  REQUIRE(intaglio_preprocessor_create(&preprocessing, &preprocessor) == INTAGLIO_OK);
  const PreprocessorHandle made(preprocessor);
  std::uint8_t pixels[48];
  invalid(intaglio_preprocessor_run(nullptr, &view, pixels, 48), "preprocessor");
  invalid(intaglio_preprocessor_run(preprocessor, nullptr, pixels, 48), "image");
  invalid(intaglio_preprocessor_run(preprocessor, &view, nullptr, 48), "pixels");
  invalid(intaglio_preprocessor_run(preprocessor, &view, pixels, 47), "size in bytes is 47");
  view.format = INTAGLIO_RGBA;
  invalid(intaglio_preprocessor_run(preprocessor, &view, pixels, 48), "stride");
  view.format = 9;
  invalid(intaglio_preprocessor_run(preprocessor, &view, pixels, 48), "pixel format 9");
}

}  // namespace intaglio::test
