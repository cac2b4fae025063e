#include "converters/checkpoint.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <string_view>

#include "converters/checkpoint_source.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::string_view kSaveAgain =
    "; load it with PyTorch and torch.save() its state_dict() as a file of its own";

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size()};
}

bool is_pickle(std::string_view text) {
  return text.size() >= 2 && text[0] == '\x80' && text[1] >= 1 && text[1] <= 5;
}

/// A safetensors file may begin with this byte too, but its length of a header is below 2^32.
bool is_json(std::string_view text) {
  return text.starts_with('{') && (text.size() < 8 || text[7] != '\0');
}

CheckpointSource open_archive(MappedFile file, const std::string& name, const std::string& key) {
  const auto archive = std::make_shared<const ZipFile>(std::move(file), name);
  for (const auto& [entry, where] : archive->entries()) {
    if (entry.ends_with("/data.pkl")) return open_torch_checkpoint(archive, key);
  }
  return open_numpy_checkpoint(archive);
}

CheckpointSource open_source(const std::filesystem::path& path, const std::string& key) {
  const std::string name = path.string();
  MappedFile file = map_file(path);
  const std::string_view text = text_of(file);
  if (text.starts_with("PK\3\4") || text.starts_with("PK\5\6")) {
    return open_archive(std::move(file), name, key);
  }
  if (is_pickle(text)) {
    throw Error(ErrorCode::kUnsupported,
                name + ": expected a checkpoint, found a bare pickle, as PyTorch before 1.6 wrote" +
                    std::string(kSaveAgain));
  }
  if (is_json(text)) return open_sharded_checkpoint(file, path);
  if (text.size() > 8 && text[8] == '{') {
    return open_safetensors_checkpoint(std::move(file), name);
  }
  throw Error(ErrorCode::kUnsupported,
              name +
                  ": expected a safetensors file, a zip archive of PyTorch or NumPy (.npz), or "
                  "the index of a checkpoint in several files, found none of them");
}

/// A file of few bytes must not make a model of many: tensors may share their bytes or be deflated.
void check_amount(const CheckpointSource& source, const std::string& name) {
  constexpr std::size_t kAlways = std::size_t{16} << 20;
  constexpr std::size_t kTimes = 16;
  if (source.tensor_bytes <= kAlways) return;
  if ((source.tensor_bytes - kAlways) / kTimes > source.file_bytes) {
    throw Error(ErrorCode::kLimit, name + ": expected tensors of at most 16 MiB and " +
                                       std::to_string(kTimes) + " times the file's " +
                                       std::to_string(source.file_bytes) + " bytes, found " +
                                       std::to_string(source.tensor_bytes) + " bytes");
  }
}

}  // namespace

std::optional<std::size_t> checked_elements(const std::vector<std::size_t>& shape,
                                            std::size_t element_size) {
  std::size_t elements = 1;
  std::size_t bytes = element_size;
  for (const std::size_t n : shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
    elements *= n;
  }
  return elements;
}

void CheckpointSource::add(const std::string& tensor, std::vector<std::size_t> shape,
                           std::string type, std::size_t bytes, const std::string& what) {
  if (!shapes.emplace(tensor, std::move(shape)).second) {
    throw Error(ErrorCode::kFormat, what + ": expected once, found twice");
  }
  types.emplace(tensor, std::move(type));
  if (__builtin_add_overflow(tensor_bytes, bytes, &tensor_bytes)) {
    tensor_bytes = std::numeric_limits<std::size_t>::max();
  }
}

Checkpoint Checkpoint::open(const std::filesystem::path& path, const std::string& key) {
  CheckpointSource source = open_source(path, key);
  Checkpoint checkpoint;
  checkpoint.name_ = path.string();
  if (!key.empty() && !source.container.starts_with("PyTorch")) {
    throw Error(ErrorCode::kInvalidArgument, checkpoint.name_ +
                                                 ": expected a PyTorch file for the key " +
                                                 printable(key) + ", found " + source.container);
  }
  check_amount(source, checkpoint.name_);
  checkpoint.source_ = std::make_shared<const CheckpointSource>(std::move(source));
  return checkpoint;
}

const std::string& Checkpoint::container() const {
  return source_->container;
}
const std::map<std::string, std::vector<std::size_t>>& Checkpoint::shapes() const {
  return source_->shapes;
}
const std::map<std::string, std::string>& Checkpoint::types() const {
  return source_->types;
}
const std::map<std::string, std::string>& Checkpoint::metadata() const {
  return source_->metadata;
}

std::vector<float> Checkpoint::read(const std::string& tensor) const {
  const std::string what = name_ + ": tensor " + printable(tensor);
  if (!has(tensor)) {
    const auto other = source_->others.find(tensor);
    if (other == source_->others.end()) throw Error(ErrorCode::kFormat, what + " is missing");
    throw Error(ErrorCode::kFormat, what + ": expected a tensor, found " + other->second);
  }
  std::vector<float> values = source_->read(tensor, what);
  const auto bad = std::ranges::find_if(values, [](float x) { return !std::isfinite(x); });
  if (bad != values.end()) {
    throw Error(ErrorCode::kFormat, what + ": expected finite numbers of float32, found " +
                                        (std::isnan(*bad) ? "NaN" : "an infinite one") +
                                        " as element " + std::to_string(bad - values.begin()));
  }
  return values;
}

}  // namespace intaglio
