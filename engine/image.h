// Pixels in memory: one byte per channel. Images of ours are RGB; those of others may be anything
// that PixelFormat names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace intaglio {

/// The bytes of a pixel in their order. Alpha is not looked at; grey is all three channels.
enum class PixelFormat : std::uint8_t { kRgb, kBgr, kRgba, kBgra, kGrey };

/// Bytes of a pixel.
constexpr std::size_t pixel_bytes(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb:
    case PixelFormat::kBgr:
      return 3;
    case PixelFormat::kRgba:
    case PixelFormat::kBgra:
      return 4;
    case PixelFormat::kGrey:
      return 1;
  }
  return 0;
}

/// An image owned by somebody else.
struct ImageView {
  const std::uint8_t* data = nullptr;  // [height, width, bytes of a pixel], rows `stride` apart
  int width = 0;
  int height = 0;
  std::size_t stride = 0;  ///< bytes from one row to the next, at least those of a row's pixels
  PixelFormat format = PixelFormat::kRgb;

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
