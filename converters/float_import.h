// From a float checkpoint to a Vit or Swin: names, sizes, preprocessing (docs/file_format.md,
// "Float checkpoints").
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "converters/checkpoint.h"
#include "converters/presets.h"
#include "converters/swin.h"
#include "converters/vit.h"

namespace intaglio {

/// What a user knows better than the files.
struct FloatImportOptions {
  std::optional<std::size_t> heads;
  std::optional<ImageSize> image_size;  ///< of a ViT a square, to which positions are resampled
  std::optional<std::array<double, 3>> mean, std;
  std::optional<double> crop_pct;  ///< longer cropped side / resized shorter side, in [0.5, 1]
  std::optional<Interpolation> interpolation;
  std::string preset;            ///< recipe of preprocessing (presets.h); empty: what files say
  std::filesystem::path config;  ///< config.json; empty: beside the checkpoint, if there
  /// All tokens of a ViT's last block are a feature. Calibration then regards them, too, and not
  /// only what is classified.
  bool token_feature = false;
};

struct ImportedModel {
  std::variant<Vit, Swin> model;
  std::string scheme;                ///< whose names: "timm"
  std::string heads_source;          ///< "config.json: num_attention_heads", ...
  std::string preprocessing_source;  ///< "preprocessor_config.json (mean, std), ..."
  std::vector<std::string> notes;    ///< what was assumed or changed, a sentence each

  const Vit& vit() const { return std::get<Vit>(model); }
  const Swin& swin() const { return std::get<Swin>(model); }
};

/// Its layers; takes the model out.
Network network_of(ImportedModel imported);

/// Reads a ViT or DeiT with names of timm, Hugging Face or JAX; distilled models classify both
/// tokens; layer scale is folded into weights. Reads a Swin with names of timm, Microsoft, Hugging
/// Face or detectors. Sizes come from shapes; heads of a ViT from options, else shapes (JAX),
/// config.json, metadata, else channels; image size of a Swin from options, configs, the name, else
/// 224; preprocessing from options, else a preset asked for, preprocessor_config.json or
/// config.json, metadata, else a preset by the names. Throws Error: kFormat for missing or
/// misshapen tensors and contradicting configs, kUnsupported for models that compute something
/// else, kInvalidArgument for impossible options; the message names the tensor or key, what was
/// expected and what was found.
ImportedModel import_float(const Checkpoint& checkpoint, const FloatImportOptions& options);

}  // namespace intaglio
