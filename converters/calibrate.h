// Calibration as in the paper (FQ-ViT, Lin et al. 2022).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/network.h"
#include "converters/observers.h"

namespace intaglio {

/// Preprocessed images, in the order and the batches that calibration sees.
struct CalibrationImages {
  std::vector<std::uint8_t> pixels;  ///< [count, size, size, 3]
  std::size_t count = 0;
  std::size_t batch = 16;  ///< images at a time; the last batch may be smaller

  std::size_t batches() const { return (count + batch - 1) / batch; }
  std::size_t images_of(std::size_t index) const { return std::min(batch, count - index * batch); }
  std::span<const std::uint8_t> pixels_of(std::size_t index) const {
    const std::size_t per_image = pixels.size() / count;
    return {pixels.data() + index * batch * per_image, images_of(index) * per_image};
  }
};

/// Throws Error(kInvalidArgument) where there are none.
void require_images(const CalibrationImages& images);

/// Notes in the provenance how `network` is quantized.
void describe_calibration(Network& network, const std::string& method, std::size_t images,
                          std::size_t batch);

/// Told how much of the work is done: 0..1.
using ReportProgress = std::function<void(double share)>;

/// Grids of all quantizers of the paper's graph: `kind` for activations, minmax for weights, PTF
/// for residual streams; `softmax` kLogInt is the paper's own, kUniform its 8/8/8 variant, where
/// `kind` observes the probabilities too. Without an input quantizer where pixels are normalized
/// alike in all channels. threads 0: one per CPU that this process may use.
Calibration calibrate_as_paper(const Network& network, const CalibrationImages& images,
                               ObserverKind kind, SoftmaxForm softmax = SoftmaxForm::kLogInt,
                               const ReportProgress& progress = {}, std::size_t threads = 0);

}  // namespace intaglio
