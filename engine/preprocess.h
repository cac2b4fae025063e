// An image becomes the pixels a model takes: the shorter side resized, the centre cut out.
//
// The pixels are those of torchvision 0.14 on a Pillow image, Resize(size) then
// CenterCrop((height, width)), byte for byte. Only what the crop keeps is computed, so a strip of
// 1 x 65535 pixels costs no more memory than a photo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/image.h"
#include "engine/resize.h"
#include "graph/preprocessing.h"
#include "kernels/api.h"

namespace intaglio {

/// Preprocesses one image after another. Keeps its buffers and the weights of the last size: no
/// allocation while sizes repeat. One per thread.
class INTAGLIO_API Preprocessor {
 public:
  /// Throws Error(kInvalidArgument) if a size is outside the range that Preprocessing states.
  explicit Preprocessor(const Preprocessing& preprocessing);

  /// Bytes of one preprocessed image.
  std::size_t size() const { return 3 * static_cast<std::size_t>(width_) * height_; }

  /// Writes `size()` bytes, RGB [height, width, 3], to `dst`. The image may have any pixel format:
  /// it is read where it lies. Throws Error(kInvalidArgument) if a side of the image is not 1 to
  /// 65535 pixels, if its stride is too short, or for a `dst` of another size.
  void run(ImageView image, std::span<std::uint8_t> dst);

 private:
  int resize_, height_, width_;
  Interpolation interpolation_;
  ResizeAxis horizontal_, vertical_;
  std::vector<std::uint8_t> scratch_;
};

/// The same for a single image.
INTAGLIO_API Image preprocess(ImageView image, const Preprocessing& preprocessing);

}  // namespace intaglio
