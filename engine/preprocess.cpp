#include "engine/preprocess.h"

#include <algorithm>
#include <string>

#include "engine/check_image.h"

namespace intaglio {
namespace {

void check(const char* what, std::int64_t value, std::int64_t min, std::int64_t max) {
  if (value >= min && value <= max) return;
  throw Error(ErrorCode::kInvalidArgument, std::string("preprocessing: ") + what + " is " +
                                               std::to_string(value) + ", expected " +
                                               std::to_string(min) + " to " + std::to_string(max));
}

/// Where a crop of `crop` pixels lies in the middle of a resized axis.
struct CenterCrop {
  int first;    // of the resized axis
  int count;    // pixels that exist
  int padding;  // black pixels before them, where the axis is shorter than the crop
};

CenterCrop center_crop(int size, int crop) {
  if (size < crop) return {0, size, (crop - size) / 2};
  // round(difference / 2) with halves to even, as Python rounds.
  const int half = (size - crop) / 2;
  const int odd = (size - crop) & 1;
  return {half + (odd & half), crop, 0};
}

/// Recomputes the axis unless it is of this size already.
void update(ResizeAxis& axis, const ResizeSpan& span) {
  if (axis.span != span) compute_axis(span, axis);
}

}  // namespace

Preprocessor::Preprocessor(const Preprocessing& preprocessing)
    : resize_(preprocessing.resize),
      height_(preprocessing.height),
      width_(preprocessing.width),
      interpolation_(preprocessing.interpolation) {
  check("resize", resize_, 1, 8192);
  check("height", height_, 1, 4096);
  check("width", width_, 1, 4096);
}

void Preprocessor::run(ImageView image, std::span<std::uint8_t> dst) {
  check("the image's width", image.width, 1, 65535);
  check("the image's height", image.height, 1, 65535);
  require_pixels(image);
  check("the output's size in bytes", static_cast<std::int64_t>(dst.size()), size(), size());

  // torchvision truncates resize * long / short as a real; the integer quotient is the same, since
  // a quotient this small is at least 1/65535 away from the next integer.
  const std::int64_t shorter = std::min(image.width, image.height);
  const auto resized = [&](std::int64_t side) {
    return static_cast<int>(resize_ * side / shorter);
  };
  const int resized_width = resized(image.width);
  const int resized_height = resized(image.height);
  const CenterCrop columns = center_crop(resized_width, width_);
  const CenterCrop rows = center_crop(resized_height, height_);
  update(horizontal_, {image.width, resized_width, columns.first, columns.count, interpolation_});
  update(vertical_, {image.height, resized_height, rows.first, rows.count, interpolation_});

  const std::size_t stride = 3 * static_cast<std::size_t>(width_);
  if (columns.count < width_ || rows.count < height_) std::ranges::fill(dst, std::uint8_t{0});
  std::uint8_t* corner = dst.data() + rows.padding * stride + 3 * columns.padding;
  intaglio::resize(image, horizontal_, vertical_, scratch_, corner, stride);
}

Image preprocess(ImageView image, const Preprocessing& preprocessing) {
  Preprocessor preprocessor(preprocessing);
  Image result(preprocessing.width, preprocessing.height);
  preprocessor.run(image, result.pixels);
  return result;
}

}  // namespace intaglio
