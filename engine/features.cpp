// Features as floats, floats as pixels: with predictions.cpp the only floating point of the engine.
#include <algorithm>
#include <cmath>

#include "engine/intaglio.h"

namespace intaglio {
namespace {

template <typename T>
void convert(const FeatureMap& f, const T* codes, FeatureLayout layout, float* floats) {
  const std::size_t rows = f.height * f.width;
  for (std::size_t c = 0; c < f.channels; ++c) {
    const int exponent = f.exponents.empty() ? 0 : f.exponents[c];
    const double scale = std::ldexp(f.scale, exponent);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t nhwc = r * f.channels + c;
      const std::size_t at = layout == FeatureLayout::kNhwc ? nhwc : c * rows + r;
      floats[at] = static_cast<float>(scale * (codes[nhwc] - f.zero_point));
    }
  }
}

}  // namespace

void to_float(const FeatureMap& feature, FeatureLayout layout, std::span<float> floats) {
  const std::size_t count = feature.height * feature.width * feature.channels;
  if (floats.size() != count) {
    throw Error(ErrorCode::kInvalidArgument, "the feature has " + std::to_string(count) +
                                                 " elements, the buffer " +
                                                 std::to_string(floats.size()));
  }
  if (feature.codes_s16 != nullptr) {
    convert(feature, feature.codes_s16, layout, floats.data());
  } else {
    convert(feature, feature.codes_u8, layout, floats.data());
  }
}

void pixels_of(std::span<const float> normalized, FeatureLayout layout,
               const Preprocessing& preprocessing, std::span<std::uint8_t> pixels) {
  const std::size_t count = normalized.size();
  if (pixels.size() != count || count % 3 != 0) {
    throw Error(ErrorCode::kInvalidArgument, "a tensor of " + std::to_string(count) +
                                                 " elements has no room as RGB in " +
                                                 std::to_string(pixels.size()) + " bytes");
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t c = i % 3;
    const float value = normalized[layout == FeatureLayout::kNhwc ? i : c * (count / 3) + i / 3];
    const double code = 255 * (value * preprocessing.std[c] + preprocessing.mean[c]) + 0.5;
    pixels[i] = std::isnan(code) ? 0 : static_cast<std::uint8_t>(std::clamp(code, 0.0, 255.0));
  }
}

}  // namespace intaglio
