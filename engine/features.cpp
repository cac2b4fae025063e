// Features as floats: with predictions.cpp the only floating point of the engine.
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

}  // namespace intaglio
