// The C functions give what the C++ ones give.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <thread>

#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "tests/support/c_handles.h"

namespace intaglio::test {
namespace {

/// An image file, and what C++ makes of it for the embedded model.
struct Sample {
  Expected expected;
  ModelHandle model = parse(expected.file);
  intaglio_preprocessing preprocessing = INTAGLIO_PREPROCESSING_INIT;
  PreprocessorHandle preprocessor;
  Image decoded = load_image(kSample);
  Image wanted = preprocess(decoded, expected.model.preprocessing());

  Sample() {
    REQUIRE(intaglio_model_preprocessing(model.get(), &preprocessing) == INTAGLIO_OK);
    intaglio_preprocessor* made = nullptr;
    REQUIRE(intaglio_preprocessor_create(&preprocessing, &made) == INTAGLIO_OK);
    preprocessor.reset(made);
  }

  /// What C makes of it.
  std::vector<std::uint8_t> pixels_of(const intaglio_image_view& image) const {
    std::vector<std::uint8_t> pixels(wanted.pixels.size());
    REQUIRE(intaglio_preprocessor_run(preprocessor.get(), &image, pixels.data(), pixels.size()) ==
            INTAGLIO_OK);
    return pixels;
  }
};

}  // namespace

TEST_CASE("C: a model says what it is") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  const intaglio_model_info info = describe(model);
  CHECK(info.height == expected.model.height());
  CHECK(info.width == expected.model.width());
  CHECK(info.takes_any_size == 0);
  CHECK(info.classes == expected.model.classes());
  CHECK(info.logit_scale == expected.model.logit_scale());
  CHECK(info.features == expected.model.features().size());
  CHECK(info.session_bytes == expected.model.session_bytes());
  CHECK(std::string(info.isa) == isa_name(expected.model.isa()));
  const char* text = nullptr;
  for (std::size_t i = 0; i < info.classes; ++i) {
    REQUIRE(intaglio_model_label(model.get(), i, &text) == INTAGLIO_OK);
    CHECK(expected.model.label(i) == text);
  }
  for (std::size_t i = 0; i < info.features; ++i) {
    REQUIRE(intaglio_model_feature_name(model.get(), i, &text) == INTAGLIO_OK);
    CHECK(expected.model.features()[i] == text);
  }
  intaglio_preprocessing preprocessing = INTAGLIO_PREPROCESSING_INIT;
  REQUIRE(intaglio_model_preprocessing(model.get(), &preprocessing) == INTAGLIO_OK);
  const Preprocessing& p = expected.model.preprocessing();
  CHECK(preprocessing.resize == p.resize);
  CHECK(preprocessing.height == p.height);
  CHECK(preprocessing.width == p.width);
  CHECK((preprocessing.interpolation == INTAGLIO_BICUBIC) ==
        (p.interpolation == Interpolation::kBicubic));
  CHECK(std::equal(p.mean.begin(), p.mean.end(), preprocessing.mean));
  CHECK(std::equal(p.std.begin(), p.std.end(), preprocessing.std));

  intaglio_load_options options = INTAGLIO_LOAD_OPTIONS_INIT;
  options.isa = "scalar";
  options.threads = 2;
  CHECK(std::string(describe(parse(expected.file, &options)).isa) == "scalar");
}

TEST_CASE("C: logits with every kind of executor, and handles freed in any order") {
  const Expected expected;
  ModelHandle model = parse(expected.file);
  const SessionHandle alone = make_session(model);
  intaglio_thread_pool* made = nullptr;
  REQUIRE(intaglio_thread_pool_create(3, &made) == INTAGLIO_OK);
  PoolHandle pool(made);
  intaglio_session_options options = INTAGLIO_SESSION_OPTIONS_INIT;
  options.thread_pool = pool.get();
  const SessionHandle shared = make_session(model, &options);

  std::size_t tasks = 0;
  options = INTAGLIO_SESSION_OPTIONS_INIT;
  options.concurrency = 4;
  options.executor_context = &tasks;
  options.run_tasks = [](void* context, std::size_t count, void (*task)(void*, std::size_t),
                         void* argument) {
    *static_cast<std::size_t*>(context) += count;
    for (std::size_t i = count; i-- > 0;) task(argument, i);
  };
  const SessionHandle own = make_session(model, &options);

  REQUIRE(intaglio_model_retain(model.get()) == INTAGLIO_OK);
  intaglio_model_free(model.get());
  model.reset();
  pool.reset();
  for (const SessionHandle* session : {&alone, &shared, &own})
    CHECK(expected.equal(session->get()));
  CHECK(tasks == 2 * 4);  // four images at once, and the fifth
}

TEST_CASE("C: sessions of one model on many threads") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      intaglio_session* session = nullptr;
      if (intaglio_model_retain(model.get()) != INTAGLIO_OK) return;
      if (intaglio_session_create(model.get(), nullptr, &session) != INTAGLIO_OK) return;
      intaglio_model_free(model.get());
      right += expected.equal(session);
      // Every thread has its own message.
      const bool failed = intaglio_session_run(session, nullptr, 1, nullptr, 0) != INTAGLIO_OK;
      right += failed && std::strstr(intaglio_last_error(), "images") != nullptr;
      intaglio_session_free(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 2 * 16);
}

TEST_CASE("C: features") {
  const Expected expected;
  const ModelHandle model = parse(expected.file);
  const SessionHandle session = make_session(model);
  Session reference(expected.model);
  const auto features = reference.features(expected.images[0]);
  std::size_t count = 0;
  REQUIRE(intaglio_session_features(session.get(), expected.views.data(), nullptr, 0, &count) ==
          INTAGLIO_OK);
  REQUIRE(count == features.size());
  for (std::size_t i = 0; i < count; ++i) {
    intaglio_feature found = INTAGLIO_FEATURE_INIT;
    REQUIRE(intaglio_session_feature(session.get(), i, &found) == INTAGLIO_OK);
    const FeatureMap& f = features[i];
    CHECK(f.name == found.name);
    CHECK((found.height == f.height && found.width == f.width && found.channels == f.channels));
    CHECK((found.scale == f.scale && found.zero_point == f.zero_point));
    CHECK((found.exponents == nullptr) == f.exponents.empty());
    CHECK(std::equal(f.exponents.begin(), f.exponents.end(), found.exponents));
    CHECK((found.codes_u8 == nullptr) == (f.codes_u8 == nullptr));
    CHECK((found.codes_s16 == nullptr) == (f.codes_s16 == nullptr));
    std::vector<float> floats(f.height * f.width * f.channels), wanted(floats.size());
    for (const auto layout : {FeatureLayout::kNchw, FeatureLayout::kNhwc}) {
      to_float(f, layout, wanted);
      REQUIRE(intaglio_session_feature_floats(session.get(), i, static_cast<int>(layout),
                                              floats.data(), floats.size()) == INTAGLIO_OK);
      CHECK(floats == wanted);
    }
    check_status(intaglio_session_feature_floats(session.get(), i, 0, floats.data(), 1),
                 INTAGLIO_INVALID_ARGUMENT, "the buffer 1");
    check_status(intaglio_session_feature_floats(session.get(), i, 2, floats.data(), floats.size()),
                 INTAGLIO_INVALID_ARGUMENT, "layout: 2");
  }
  const char* names[] = {"tokens"};
  REQUIRE(intaglio_session_features(session.get(), expected.views.data(), names, 1, &count) ==
          INTAGLIO_OK);
  CHECK(count == 1);
  names[0] = "stage9";
  check_status(intaglio_session_features(session.get(), expected.views.data(), names, 1, &count),
               INTAGLIO_INVALID_ARGUMENT, "stage9");
  intaglio_feature found = INTAGLIO_FEATURE_INIT;
  check_status(intaglio_session_feature(session.get(), 0, &found), INTAGLIO_INVALID_ARGUMENT,
               "feature 0 of 0");
}

TEST_CASE("C: an image becomes pixels, from a path, from memory, in another format") {
  const Sample sample;
  std::ifstream stream(kSample, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(stream), {});
  intaglio_image* loaded[2] = {};
  REQUIRE(intaglio_image_load(kSample.c_str(), nullptr, &loaded[0]) == INTAGLIO_OK);
  REQUIRE(intaglio_image_decode(bytes.data(), bytes.size(), "A", nullptr, &loaded[1]) ==
          INTAGLIO_OK);
  const Image& decoded = sample.decoded;
  for (intaglio_image* image : loaded) {
    const ImageHandle handle(image);
    intaglio_image_view view = {};
    REQUIRE(intaglio_image_pixels(image, &view) == INTAGLIO_OK);
    REQUIRE((view.width == decoded.width && view.height == decoded.height));
    CHECK(std::equal(decoded.pixels.begin(), decoded.pixels.end(), view.data));
    CHECK(sample.pixels_of(view) == sample.wanted.pixels);
  }
  std::vector<std::uint8_t> bgra(decoded.pixels.size() / 3 * 4, 99);
  for (std::size_t i = 0; i < decoded.pixels.size(); ++i) {
    bgra[i / 3 * 4 + 2 - i % 3] = decoded.pixels[i];
  }
  CHECK(sample.pixels_of({bgra.data(), decoded.width, decoded.height,
                          4 * static_cast<std::size_t>(decoded.width), INTAGLIO_BGRA}) ==
        sample.wanted.pixels);
}

TEST_CASE("C: an image becomes a class") {
  const Sample sample;
  const Model& reference = sample.expected.model;
  const SessionHandle session = make_session(sample.model);
  const std::vector<std::uint8_t> pixels = sample.pixels_of(view_of(sample.decoded));
  const int width = sample.preprocessing.width;
  const intaglio_image_view input = {pixels.data(), width, sample.preprocessing.height,
                                     3 * static_cast<std::size_t>(width), INTAGLIO_RGB};
  std::vector<std::int32_t> logits(reference.classes());
  REQUIRE(intaglio_session_run(session.get(), &input, 1, logits.data(), logits.size()) ==
          INTAGLIO_OK);
  intaglio_prediction best[3];
  REQUIRE(intaglio_top_k(logits.data(), logits.size(), best, 3) == INTAGLIO_OK);
  CHECK(reference.label(best[0].index) == "A");
  CHECK(best[0].logit == logits[best[0].index]);
  CHECK((best[0].logit >= best[1].logit && best[1].logit >= best[2].logit));
  std::vector<double> shares(logits.size());
  REQUIRE(intaglio_probabilities(logits.data(), logits.size(), reference.logit_scale(),
                                 shares.data()) == INTAGLIO_OK);
  CHECK(shares == probabilities(logits, reference.logit_scale()));
}

TEST_CASE("C: a float tensor becomes the pixels it was made of") {
  const Sample sample;
  const std::vector<std::uint8_t>& pixels = sample.wanted.pixels;
  std::vector<float> tensor(pixels.size());
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    tensor[i] = static_cast<float>((pixels[i] / 255.0 - sample.preprocessing.mean[i % 3]) /
                                   sample.preprocessing.std[i % 3]);
  }
  std::vector<std::uint8_t> codes(pixels.size());
  REQUIRE(intaglio_pixels_of(tensor.data(), tensor.size(), INTAGLIO_NHWC, &sample.preprocessing,
                             codes.data()) == INTAGLIO_OK);
  CHECK(codes == pixels);
}

}  // namespace intaglio::test
