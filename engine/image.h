// Pixels in memory: always RGB, one byte per channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace intaglio {

/// An RGB image owned by somebody else.
struct ImageView {
  const std::uint8_t* data = nullptr;  // [height, width, 3], rows `stride` bytes apart
  int width = 0;
  int height = 0;
  std::size_t stride = 0;  ///< bytes from one row to the next, at least 3 * width

  const std::uint8_t* row(int y) const { return data + static_cast<std::size_t>(y) * stride; }
};

/// An RGB image without gaps between its rows.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  // [height, width, 3]

  Image() = default;
  /// A black image.
  Image(int image_width, int image_height)
      : width(image_width),
        height(image_height),
        pixels(3 * static_cast<std::size_t>(image_width) * static_cast<std::size_t>(image_height)) {
  }

  std::size_t stride() const { return 3 * static_cast<std::size_t>(width); }
  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * stride(); }
  operator ImageView() const { return {pixels.data(), width, height, stride()}; }
};

}  // namespace intaglio
