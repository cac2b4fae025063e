#include "engine/classify/tensor_shards.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/classify/output_file.h"
#include "engine/classify/text.h"
#include "graph/error.h"

namespace intaglio {
namespace {

std::vector<std::string> names_in(const Safetensors& file) {
  const auto it = file.metadata().find("paths");
  const auto json = nlohmann::json::parse(it == file.metadata().end() ? "" : it->second, nullptr,
                                          /*allow_exceptions=*/false);
  std::vector<std::string> names;
  if (!json.is_array()) return names;
  for (const auto& name : json) names.push_back(name.is_string() ? name.get<std::string>() : "");
  return names;
}

}  // namespace

std::size_t ShardTensor::row_bytes() const {
  return std::accumulate(row_shape.begin(), row_shape.end(), dtype_size(dtype),
                         std::multiplies<>());
}

TensorShards::TensorShards(std::string prefix, std::vector<ShardTensor> tensors,
                           std::map<std::string, std::string> facts, std::size_t rows_per_file)
    : prefix_(std::move(prefix)),
      tensors_(std::move(tensors)),
      facts_(std::move(facts)),
      rows_per_file_(rows_per_file),
      data_(tensors_.size()) {
  facts_["rows_per_file"] = std::to_string(rows_per_file_);
}

std::filesystem::path TensorShards::path_of(std::size_t file) const {
  return prefix_ + format("-%05zu", file) + ".safetensors";
}

/// All that are there, whatever their numbers.
std::vector<std::filesystem::path> TensorShards::files() const {
  const std::filesystem::path prefix = prefix_ + '-';
  const std::string start = prefix.filename().string();
  const std::filesystem::path parent = prefix.parent_path();
  std::vector<std::filesystem::path> found;
  std::error_code absent;
  std::filesystem::directory_iterator it(parent.empty() ? "." : parent, absent);
  for (; !absent && it != std::filesystem::directory_iterator(); it.increment(absent)) {
    const std::filesystem::path name = it->path().filename();
    const std::string stem = name.stem().string();
    if (name.extension() != ".safetensors" || !stem.starts_with(start)) continue;
    const std::string_view number = std::string_view(stem).substr(start.size());
    if (number.size() < 5 || number.find_first_not_of("0123456789") != number.npos) continue;
    found.push_back(parent / name);
  }
  if (absent && absent != std::errc::no_such_file_or_directory) {
    throw Error(ErrorCode::kIo, parent.string() + ": " + absent.message());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void TensorShards::clear(bool remove) const {
  for (const std::filesystem::path& path : files()) {
    if (!remove) {
      throw Error(
          ErrorCode::kInvalidArgument,
          path.string() + ": this file exists; --resume continues a run, --overwrite begins anew");
    }
    std::filesystem::remove(path);
  }
}

std::size_t TensorShards::complete_rows() const {
  for (std::size_t file = 0;; ++file) {
    const std::filesystem::path path = path_of(file);
    if (!std::filesystem::exists(path)) return file * rows_per_file_;
    const Safetensors found = Safetensors::open(path);
    bool same = found.tensors().size() == tensors_.size();
    std::size_t rows = 0;
    for (const ShardTensor& tensor : tensors_) {
      const TensorView* view = found.find(tensor.name);
      same = same && view != nullptr && view->dtype == tensor.dtype && !view->shape.empty();
      if (!same) break;
      rows = view->shape[0];
      std::vector<std::size_t> shape = tensor.row_shape;
      shape.insert(shape.begin(), rows);
      same = view->shape == shape && rows <= rows_per_file_;
    }
    for (const auto& [key, value] : facts_) {
      const auto it = found.metadata().find(key);
      same = same && it != found.metadata().end() && it->second == value;
    }
    if (!same || names_in(found).size() != rows) {
      throw Error(ErrorCode::kInvalidArgument,
                  path.string() + ": made with another model or other options");
    }
    if (rows < rows_per_file_) return file * rows_per_file_;
  }
}

void TensorShards::check_name(std::size_t row, const std::string& name) {
  const std::size_t file = row / rows_per_file_;
  if (checked_.empty() || checked_file_ != file) {
    checked_ = names_in(Safetensors::open(path_of(file)));
    checked_file_ = file;
  }
  const std::size_t at = row % rows_per_file_;
  if (at >= checked_.size() || dump(checked_[at]) != dump(name)) {
    throw Error(ErrorCode::kInvalidArgument,
                path_of(file).string() + ", row " + std::to_string(at) + ": of " +
                    printable(at < checked_.size() ? checked_[at] : "") + ", but the list has " +
                    printable(name) + " there");
  }
}

void TensorShards::append(const std::string& name, bool failed,
                          const std::vector<std::span<const std::byte>>& rows) {
  if (failed) failed_.push_back(names_.size());
  names_.push_back(name);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    data_[i].insert(data_[i].end(), rows[i].begin(), rows[i].end());
  }
  if (names_.size() == rows_per_file_) write();
}

void TensorShards::finish() {
  if (!names_.empty()) write();
}

void TensorShards::write() {
  std::map<std::string, TensorView> views;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::vector<std::size_t> shape = tensors_[i].row_shape;
    shape.insert(shape.begin(), names_.size());
    views[tensors_[i].name] = {tensors_[i].dtype, std::move(shape), data_[i]};
  }
  std::map<std::string, std::string> metadata = facts_;
  metadata["paths"] = dump(names_);
  metadata["failed"] = dump(failed_);
  const std::vector<std::byte> bytes = serialize_safetensors(views, metadata);
  WholeFile whole(path_of(file_));
  whole.file().append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  whole.finish();
  ++file_;
  names_.clear();
  failed_.clear();
  for (std::vector<std::byte>& data : data_) data.clear();
}

}  // namespace intaglio
