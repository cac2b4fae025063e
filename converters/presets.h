// How the makers of a checkpoint prepared its images: known recipes, and the choice between what
// flags, files and recipes say.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "graph/preprocessing.h"

namespace intaglio {

/// Pixels that a model is made for.
struct ImageSize {
  std::size_t height = 0, width = 0;

  std::size_t longer() const { return std::max(height, width); }
};

/// What one source says about preprocessing; the rest is left to the next source.
struct PartialPreprocessing {
  std::string source;  ///< for people: "preprocessor_config.json", "preset deit"
  std::optional<std::array<double, 3>> mean, std;  ///< of RGB / 255
  std::optional<double> crop_pct;                  ///< longer cropped side / resized shorter side
  std::string interpolation;                       ///< "bilinear", "bicubic", ...; empty: not said
};

/// The recipe called `name`, for images of `longer_side` pixels: from 384 pixels on,
/// published models are evaluated without cropping. Throws Error(kInvalidArgument) that lists the
/// names.
PartialPreprocessing preprocessing_preset(const std::string& name, std::size_t longer_side);

struct ChosenPreprocessing {
  Preprocessing preprocessing;
  std::string source;  ///< for people: "config.json (mean, std), preset vit (crop)"
};

/// Each field comes from the first source that has it; together they must have all. Whatever the
/// shape of an image, the crop lies within it once it is resized. Throws
/// Error(kFormat) for impossible values, Error(kUnsupported) for other filters; the message names
/// `file` and the source.
ChosenPreprocessing choose_preprocessing(const std::vector<PartialPreprocessing>& sources,
                                         ImageSize image_size, const std::string& file);

}  // namespace intaglio
