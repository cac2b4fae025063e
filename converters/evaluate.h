// How close an integer model comes to the network it was made of.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "converters/logit_sums.h"
#include "converters/network.h"
#include "engine/intaglio.h"
#include "engine/labelled_images.h"

namespace intaglio {

/// Of labelled images.
struct Evaluation {
  LogitFit fit;            ///< of those that could be read
  std::size_t failed = 0;  ///< could not be read
};

struct EvaluateOptions {
  std::size_t threads = 1;
  std::function<void(std::size_t done)> progress;
  std::function<void(const std::string& message)> failed;  ///< an image cannot be read
};

/// Runs `network` in float32 and `model` in integers on the same pixels. Every image has a label.
Evaluation evaluate(const Network& network, const Model& model,
                    std::span<const LabelledImage> images, const EvaluateOptions& options);

}  // namespace intaglio
