// The C functions of decoding and preprocessing: thin, over decode_image.h and preprocess.h.
#include "engine/c_image.h"

#include <utility>

#include "engine/c_support.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"

namespace {

using namespace intaglio;
using c::required;
using c::required_array;

thread_local c::LastError last_error;

template <typename Call>
intaglio_status guarded(const Call& call) noexcept {
  return c::guarded(last_error, call);
}

DecodeLimits decode_limits(const intaglio_decode_options* given) {
  const auto options = c::read_options(given, "options");
  DecodeLimits limits;
  if (options.max_file_bytes != 0) limits.max_file_bytes = options.max_file_bytes;
  if (options.max_pixels != 0) limits.max_pixels = options.max_pixels;
  limits.apply_orientation = options.as_stored == 0;
  return limits;
}

}  // namespace

struct intaglio_image {
  Image image;
};

struct intaglio_preprocessor {
  Preprocessor preprocessor;
};

const char* intaglio_image_last_error() {
  return last_error.what();
}

intaglio_status intaglio_image_decode(const void* bytes, size_t size, const char* name,
                                      const intaglio_decode_options* options,
                                      intaglio_image** image) {
  return guarded([&] {
    auto& to = required(image, "image");
    const auto* data = static_cast<const std::byte*>(bytes);
    required_array(data, size, "bytes");
    to = new intaglio_image{
        decode_image({data, size}, &required(name, "name"), decode_limits(options))};
  });
}

intaglio_status intaglio_image_load(const char* path, const intaglio_decode_options* options,
                                    intaglio_image** image) {
  return guarded([&] {
    auto& to = required(image, "image");
    to = new intaglio_image{load_image(&required(path, "path"), decode_limits(options))};
  });
}

void intaglio_image_free(intaglio_image* image) {
  delete image;
}

intaglio_status intaglio_image_pixels(const intaglio_image* image, intaglio_image_view* view) {
  return guarded([&] {
    const ImageView pixels = required(image, "image").image;
    required(view, "view") = {pixels.data, pixels.width, pixels.height, pixels.stride,
                              INTAGLIO_RGB};
  });
}

intaglio_status intaglio_preprocessor_create(const intaglio_preprocessing* preprocessing,
                                             intaglio_preprocessor** preprocessor) {
  return guarded([&] {
    auto& to = required(preprocessor, "preprocessor");
    to = new intaglio_preprocessor{Preprocessor(c::read_preprocessing(preprocessing))};
  });
}

void intaglio_preprocessor_free(intaglio_preprocessor* preprocessor) {
  delete preprocessor;
}

intaglio_status intaglio_preprocessor_run(intaglio_preprocessor* preprocessor,
                                          const intaglio_image_view* image, uint8_t* pixels,
                                          size_t size) {
  return guarded([&] {
    auto& p = required(preprocessor, "preprocessor").preprocessor;
    const ImageView view = c::image_view(required(image, "image"));
    required_array(pixels, size, "pixels");
    p.run(view, {pixels, size});
  });
}
