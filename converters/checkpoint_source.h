// What the readers of the containers give to Checkpoint.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converters/zip_file.h"
#include "graph/safetensors.h"

namespace intaglio {

struct CheckpointSource {
  std::string container;
  std::map<std::string, std::vector<std::size_t>> shapes;
  std::map<std::string, std::string> types;
  std::map<std::string, std::string> others;  ///< what stands under names without being a tensor
  std::map<std::string, std::string> metadata;
  std::size_t file_bytes = 0;
  std::size_t tensor_bytes = 0;  ///< all tensors', as the file holds them; saturates
  /// Reads one of `shapes` as float32; `what` starts messages.
  std::function<std::vector<float>(const std::string& tensor, const std::string& what)> read;

  /// Adds a tensor. Throws Error(kFormat), starting with `what`, if the name is there already.
  void add(const std::string& tensor, std::vector<std::size_t> shape, std::string type,
           std::size_t bytes, const std::string& what);
};

/// The number of elements, or nothing if they or their bytes do not fit.
std::optional<std::size_t> checked_elements(const std::vector<std::size_t>& shape,
                                            std::size_t element_size);

CheckpointSource open_safetensors_checkpoint(MappedFile file, const std::string& name);
/// By the index (JSON) of a checkpoint in several files, which lie beside it.
CheckpointSource open_sharded_checkpoint(const MappedFile& index,
                                         const std::filesystem::path& path);
CheckpointSource open_torch_checkpoint(std::shared_ptr<const ZipFile> file, const std::string& key);
CheckpointSource open_numpy_checkpoint(std::shared_ptr<const ZipFile> file);

}  // namespace intaglio
