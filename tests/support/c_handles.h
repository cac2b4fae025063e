// What the tests of the C functions share: handles that free themselves, and what C++ gives.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "engine/c_api.h"
#include "engine/c_image.h"
#include "tests/support/models.h"

namespace intaglio::test {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* handle) const {
    kFree(handle);
  }
};
using ModelHandle = std::unique_ptr<intaglio_model, Free<intaglio_model_free>>;
using SessionHandle = std::unique_ptr<intaglio_session, Free<intaglio_session_free>>;
using PoolHandle = std::unique_ptr<intaglio_thread_pool, Free<intaglio_thread_pool_free>>;
using ImageHandle = std::unique_ptr<intaglio_image, Free<intaglio_image_free>>;
using PreprocessorHandle = std::unique_ptr<intaglio_preprocessor, Free<intaglio_preprocessor_free>>;

inline const std::string kSample = INTAGLIO_GLYPHS "/samples/A_0.jpg";

inline ModelHandle parse(const TestModel& file, const intaglio_load_options* options = nullptr) {
  intaglio_model* model = nullptr;
  REQUIRE(intaglio_model_parse(file.bytes.data(), file.bytes.size(), file.name.c_str(), options,
                               &model) == INTAGLIO_OK);
  return ModelHandle(model);
}

inline SessionHandle make_session(const ModelHandle& model,
                                  const intaglio_session_options* options = nullptr) {
  intaglio_session* session = nullptr;
  const intaglio_status status = intaglio_session_create(model.get(), options, &session);
  INFO(intaglio_last_error());
  REQUIRE(status == INTAGLIO_OK);
  return SessionHandle(session);
}

inline intaglio_model_info describe(const ModelHandle& model) {
  intaglio_model_info info = INTAGLIO_MODEL_INFO_INIT;
  REQUIRE(intaglio_model_describe(model.get(), &info) == INTAGLIO_OK);
  return info;
}

inline intaglio_image_view view_of(ImageView image) {
  return {image.data, image.width, image.height, image.stride, INTAGLIO_RGB};
}

inline void check_status(intaglio_status found, intaglio_status expected,
                         const std::string& piece) {
  CHECK(found == expected);
  CHECK_THAT(intaglio_last_error(), Catch::Contains(piece));
}
inline void check_image_status(intaglio_status found, intaglio_status expected,
                               const std::string& piece) {
  CHECK(found == expected);
  CHECK_THAT(intaglio_image_last_error(), Catch::Contains(piece));
}

/// The embedded model and what C++ makes of images with it.
struct Expected {
  TestModel file = embedded_model();
  Model model = Model::parse(file.bytes, file.name);
  std::vector<Image> images = test_images(model, 5);
  std::vector<intaglio_image_view> views;
  std::vector<std::int32_t> logits;

  Expected() : logits(images.size() * model.classes()) {
    std::vector<ImageView> all(images.begin(), images.end());
    for (const ImageView& image : all) views.push_back(view_of(image));
    Session(model).run(all, logits);
  }

  bool equal(intaglio_session* session) const {
    std::vector<std::int32_t> found(logits.size());
    return intaglio_session_run(session, views.data(), views.size(), found.data(), found.size()) ==
               INTAGLIO_OK &&
           found == logits;
  }
};

}  // namespace intaglio::test
