// Float checkpoints of any container (docs/file_format.md, "Float checkpoints"): named tensors.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace intaglio {

struct CheckpointSource;

/// The tensors of a safetensors file (or of several, by their index), a PyTorch file or a NumPy
/// archive. Tensors are read when they are asked for; the file must not change meanwhile. Copies
/// share the file. Not for several threads at once.
class Checkpoint {
 public:
  /// Decides by the content what the file is. `key` names the dictionary of tensors within a
  /// PyTorch file; without it the first of state_dict_ema, model_ema, state_dict, model, module
  /// that holds tensors is taken, else the top level. A prefix `module.` that all names have is
  /// dropped. Throws Error(kIo), Error(kFormat) for damage, Error(kUnsupported) for other formats,
  /// Error(kLimit) for tensors far larger than the file, Error(kInvalidArgument) for a `key` that
  /// leads to no dictionary of tensors.
  static Checkpoint open(const std::filesystem::path& path, const std::string& key = "");

  /// The file's, for messages.
  const std::string& name() const { return name_; }
  /// For people: "safetensors", "PyTorch (model_ema)", "NumPy archive".
  const std::string& container() const;
  /// Every tensor's shape, by name.
  const std::map<std::string, std::vector<std::size_t>>& shapes() const;
  /// Every tensor's element type: "F32", "BF16", "I64", ... as in safetensors, or in the file's own
  /// words one that cannot be read.
  const std::map<std::string, std::string>& types() const;
  /// A safetensors file's metadata, else empty.
  const std::map<std::string, std::string>& metadata() const;

  bool has(const std::string& tensor) const { return shapes().contains(tensor); }
  /// The elements as float32, row-major. Throws Error that names file and tensor: kFormat when it
  /// is missing, no tensor, damaged, or a value is not finite; kUnsupported when its type is not
  /// F32, F16, BF16 or F64.
  std::vector<float> read(const std::string& tensor) const;

 private:
  std::string name_;
  std::shared_ptr<const CheckpointSource> source_;
};

}  // namespace intaglio
