// How an encoded image becomes the pixels a model takes. Part of every model file.
#pragma once

#include <array>

namespace intaglio {

enum class Interpolation { kBilinear, kBicubic };

/// Resize the shorter side to `resize` with antialiasing, then cut `height` x `width` from the
/// centre, as torchvision's Resize and CenterCrop do on a Pillow image.
struct Preprocessing {
  int resize = 256;  ///< pixels of the shorter side, 1..8192
  int height = 224;  ///< pixels, 1..4096
  int width = 224;   ///< pixels, 1..4096
  Interpolation interpolation = Interpolation::kBicubic;
  std::array<double, 3> mean{};  ///< of RGB / 255; folded into the integer graph, read by pixels_of
  std::array<double, 3> std{};   ///< likewise

  bool operator==(const Preprocessing&) const = default;
};

}  // namespace intaglio
