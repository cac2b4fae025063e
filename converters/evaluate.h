// How close an integer model comes to the network it was made of.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "converters/network.h"
#include "engine/classify_inputs.h"
#include "engine/intaglio.h"

namespace intaglio {

/// Of labelled images, in percent of those that could be read.
struct Evaluation {
  std::size_t images = 0;  ///< compared
  std::size_t failed = 0;  ///< could not be read
  double float_top1 = 0;
  double integer_top1 = 0;
  double agreement = 0;   ///< same top-1 class in both
  double logit_rmse = 0;  ///< root of the mean squared difference of the real logits
};

struct EvaluateOptions {
  std::size_t threads = 1;
  std::function<void(std::size_t done)> progress;
  std::function<void(const std::string& message)> failed;  ///< an image cannot be read
};

/// Runs `network` in float32 and `model` in integers on the same pixels. Every image has a label.
Evaluation evaluate(const Network& network, const Model& model, std::span<const InputImage> images,
                    const EvaluateOptions& options);

}  // namespace intaglio
