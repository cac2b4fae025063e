// What callers hand over as an image is looked at before its pixels are.
#pragma once

#include <limits>
#include <string>

#include "engine/image.h"
#include "graph/error.h"

namespace intaglio {

/// Throws Error(kInvalidArgument) unless there are pixels of a known format, in rows that do not
/// overlap and whose addresses can be computed.
inline void require_pixels(const ImageView& image) {
  const std::size_t bytes = pixel_bytes(image.format);
  if (bytes == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "an image has the unknown pixel format " +
                    std::to_string(static_cast<unsigned>(image.format)));
  }
  constexpr auto kMaxBytes = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  if (image.data == nullptr || image.width <= 0 || image.height <= 0 ||
      image.stride / bytes < static_cast<std::size_t>(image.width) ||
      image.stride > kMaxBytes / static_cast<std::size_t>(image.height)) {
    throw Error(ErrorCode::kInvalidArgument,
                "an image needs pixels, " + std::to_string(image.width) + " x " +
                    std::to_string(image.height) + " of them, and a stride of whole rows, not " +
                    std::to_string(image.stride));
  }
}

}  // namespace intaglio
