// What lies beside a checkpoint: config.json and preprocessor_config.json of Hugging Face's
// transformers, config.json of timm, and the metadata of a safetensors file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "converters/checkpoint.h"
#include "converters/presets.h"

namespace intaglio {

enum class ModelFamily { kVit, kSwin };

/// Of a Swin, kDim is that of the first stage, kLastDim that of the last; depth and heads are those
/// of each stage.
enum class ModelSize {
  kImage,
  kPatch,
  kDim,
  kDepth,
  kHeads,
  kHidden,
  kClasses,
  kLastDim,
  kWindow,
  kStages
};

/// What a config says a size is.
struct SizeClaim {
  ModelSize size;
  std::size_t value = 0;
  std::string where;      ///< for people: "config.json: 'hidden_size'"
  std::size_t stage = 0;  ///< of a Swin
};

struct CheckpointConfig {
  std::vector<SizeClaim> sizes;                     ///< positive; config.json's before metadata's
  std::vector<PartialPreprocessing> preprocessing;  ///< the first that has a field is right
  std::optional<double> norm_epsilon;
  std::string architecture;        ///< timm's name of the model; empty: not said
  std::vector<std::string> notes;  ///< what cannot be followed exactly, for people
};

/// Reads what is there. `config` names config.json, and preprocessor_config.json is looked for
/// beside it; empty: both may lie beside the checkpoint. Throws Error(kIo) when `config` cannot be
/// read, Error(kFormat) for what is no JSON, too deep or of a wrong type, Error(kUnsupported) for
/// settings that change what a model of the family computes; messages name file and key.
CheckpointConfig read_checkpoint_config(const Checkpoint& checkpoint,
                                        const std::filesystem::path& config, ModelFamily family);

}  // namespace intaglio
