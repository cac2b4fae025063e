#include "engine/resize.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <string>

#include "engine/check_image.h"

namespace intaglio {
namespace {

constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

/// Rounds a weighted sum that started at kHalf. Sums overshoot 0..255 where weights are negative.
std::uint8_t to_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

/// Where a pixel has its channels.
struct Channels {
  std::size_t red, green, blue;
};

constexpr Channels channels_of(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb:
    case PixelFormat::kRgba:
      return {0, 1, 2};
    case PixelFormat::kBgr:
    case PixelFormat::kBgra:
      return {2, 1, 0};
    case PixelFormat::kGrey:
      break;
  }
  return {0, 0, 0};
}

/// The columns' pass: all rows of `src`, RGB afterwards. |sum| < 255 * 2 * 2^22 + 2^21 < 2^31, as
/// the weights' absolute values sum to less than 2.
template <PixelFormat kFormat>
ImageView resize_columns(ImageView src, const ResizeAxis& axis,
                         std::vector<std::uint8_t>& scratch) {
  constexpr std::size_t kBytes = pixel_bytes(kFormat);
  constexpr Channels kAt = channels_of(kFormat);
  const std::size_t stride = 3 * static_cast<std::size_t>(axis.span.count);
  const std::size_t size = stride * static_cast<std::size_t>(src.height);
  if (scratch.size() < size) scratch.resize(size);
  std::uint8_t* dst = scratch.data();
  for (int y = 0; y < src.height; ++y) {
    const std::int32_t* weights = axis.weights.data();
    for (int i = 0; i < axis.span.count; ++i, weights += axis.taps, dst += 3) {
      const std::uint8_t* pixel = src.row(y) + kBytes * static_cast<std::size_t>(axis.begin[i]);
      std::int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (int t = 0; t < axis.taps; ++t, pixel += kBytes) {
        red += pixel[kAt.red] * weights[t];
        green += pixel[kAt.green] * weights[t];
        blue += pixel[kAt.blue] * weights[t];
      }
      dst[0] = to_pixel(red);
      dst[1] = to_pixel(green);
      dst[2] = to_pixel(blue);
    }
  }
  return {scratch.data(), axis.span.count, src.height, stride};
}

ImageView resize_columns(ImageView src, const ResizeAxis& axis,
                         std::vector<std::uint8_t>& scratch) {
  switch (src.format) {
    case PixelFormat::kRgb:
      return resize_columns<PixelFormat::kRgb>(src, axis, scratch);
    case PixelFormat::kBgr:
      return resize_columns<PixelFormat::kBgr>(src, axis, scratch);
    case PixelFormat::kRgba:
      return resize_columns<PixelFormat::kRgba>(src, axis, scratch);
    case PixelFormat::kBgra:
      return resize_columns<PixelFormat::kBgra>(src, axis, scratch);
    case PixelFormat::kGrey:
      break;
  }
  return resize_columns<PixelFormat::kGrey>(src, axis, scratch);
}

/// One row of the rows' pass: `size` bytes, each the weighted sum of a column of `taps` bytes. By
/// blocks, so that the sums stay in the nearest cache and every inner loop is a plain one.
void blend_rows(const std::uint8_t* src, std::size_t stride, const std::int32_t* weights, int taps,
                std::size_t size, std::uint8_t* dst) {
  constexpr std::size_t kBlock = 256;
  for (std::size_t start = 0; start < size; start += kBlock) {
    std::array<std::int32_t, kBlock> sums;
    sums.fill(kHalf);
    const std::size_t block = std::min(kBlock, size - start);
    for (int t = 0; t < taps; ++t) {
      const std::uint8_t* row = src + static_cast<std::size_t>(t) * stride + start;
      for (std::size_t i = 0; i < block; ++i) sums[i] += row[i] * weights[t];
    }
    for (std::size_t i = 0; i < block; ++i) dst[start + i] = to_pixel(sums[i]);
  }
}

}  // namespace

void resize(ImageView src, const ResizeAxis& horizontal, const ResizeAxis& vertical,
            std::vector<std::uint8_t>& scratch, std::uint8_t* dst, std::size_t dst_stride) {
  assert(horizontal.span.src_size == src.width && vertical.span.src_size == src.height);
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(horizontal.span.count);
  // Only the rows that the second pass reads.
  const int first_row = vertical.source_first();
  ImageView rows = src;
  rows.data = src.row(first_row);
  rows.height = vertical.source_end() - first_row;
  if (horizontal.is_identity() && src.format == PixelFormat::kRgb) {
    rows.data += 3 * static_cast<std::size_t>(horizontal.span.first);
  } else {
    rows = resize_columns(rows, horizontal, scratch);
  }
  for (int y = 0; y < vertical.span.count; ++y, dst += dst_stride) {
    const std::uint8_t* row = rows.row(vertical.begin[y] - first_row);
    if (vertical.is_identity()) {
      std::memcpy(dst, row, row_bytes);
    } else {
      const std::size_t weights = static_cast<std::size_t>(y) * vertical.taps;
      blend_rows(row, rows.stride, &vertical.weights[weights], vertical.taps, row_bytes, dst);
    }
  }
}

Image resize(ImageView src, int width, int height, Interpolation filter) {
  constexpr int kMaxSide = 65535;
  for (const int side : {src.width, src.height, width, height}) {
    if (side < 1 || side > kMaxSide) {
      throw Error(ErrorCode::kInvalidArgument,
                  "resize: a side of " + std::to_string(side) + " pixels, expected 1 to 65535");
    }
  }
  require_pixels(src);
  ResizeAxis horizontal, vertical;
  compute_axis({src.width, width, 0, width, filter}, horizontal);
  compute_axis({src.height, height, 0, height, filter}, vertical);
  std::vector<std::uint8_t> scratch;
  Image image(width, height);
  resize(src, horizontal, vertical, scratch, image.pixels.data(), image.stride());
  return image;
}

}  // namespace intaglio
