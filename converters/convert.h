// Makes models within an application; intaglio-convert does the same on the command line, byte for
// byte.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/error.h"
#include "kernels/api.h"

namespace intaglio {

/// What a float checkpoint does not tell, or the caller knows better.
struct QuantizeOptions {
  std::vector<std::string> labels;   ///< names of the classes, one per class, or none
  std::string key;                   ///< dictionary within a PyTorch file; empty: the usual ones
  std::optional<std::size_t> heads;  ///< of attention
  std::string preset;                ///< recipe of preprocessing; empty: what the files say
  std::filesystem::path config;      ///< config.json; empty: beside the checkpoint, if there
  std::size_t batch = 16;            ///< images that are observed at a time, 1..1024
  std::size_t threads = 0;           ///< 0: one per CPU that this process may use
  /// Told which share of the calibration is done, 0..1.
  std::function<void(double share)> progress;
};

/// Quantizes a float checkpoint of a ViT, DeiT or Swin (safetensors, PyTorch, NumPy) by the default
/// method, calibrated on `images` (about 100), in their order. The bytes of a .intg file, which
/// Model::parse takes too. Throws Error naming what is wrong: kInvalidArgument for options and
/// where there are no images, kIo, kFormat, kUnsupported or kLimit for files.
INTAGLIO_API std::vector<std::byte> quantize(const std::filesystem::path& checkpoint,
                                             std::span<const std::filesystem::path> images,
                                             const QuantizeOptions& options = {});

/// Takes a calibrated FQ-ViT checkpoint (safetensors) as it is. Throws Error likewise.
INTAGLIO_API std::vector<std::byte> import_calibrated(const std::filesystem::path& checkpoint,
                                                      std::vector<std::string> labels = {});

}  // namespace intaglio
