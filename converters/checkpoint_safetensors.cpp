// Safetensors files, one or several.
#include <nlohmann/json.hpp>

#include "converters/checkpoint_source.h"
#include "converters/float_tensor.h"
#include "graph/error.h"

namespace intaglio {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxIndexBytes = std::size_t{16} << 20;

/// Which file holds which tensor.
std::map<std::string, std::string> parse_index(const MappedFile& file, const std::string& name) {
  if (file.bytes.size() > kMaxIndexBytes) {
    throw Error(ErrorCode::kLimit, name + ": expected an index of at most " +
                                       std::to_string(kMaxIndexBytes) + " bytes, found " +
                                       std::to_string(file.bytes.size()));
  }
  const char* begin = reinterpret_cast<const char*>(file.bytes.data());
  const json index = json::parse(begin, begin + file.bytes.size(), nullptr, false);
  const auto fail = [&](const std::string& what) -> void {
    throw Error(ErrorCode::kFormat, name + ": the index of a checkpoint in several files: " + what);
  };
  if (index.is_discarded()) fail("expected valid JSON, found an error");
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail("expected an object 'weight_map', found none");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, where] : index["weight_map"].items()) {
    if (!where.is_string()) fail("tensor " + printable(tensor) + ": expected a file's name");
    const auto& part = where.get_ref<const std::string&>();
    // The index may lead nowhere but to its neighbours.
    if (part.empty() || part == "." || part == ".." ||
        part.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
      fail("tensor " + printable(tensor) +
           ": expected the name of a file beside the index, found " + printable(part));
    }
    files.emplace(tensor, part);
  }
  return files;
}

}  // namespace

CheckpointSource open_safetensors_checkpoint(MappedFile file, const std::string& name) {
  CheckpointSource source;
  source.container = "safetensors";
  source.file_bytes = file.bytes.size();
  auto tensors = std::make_shared<const Safetensors>(
      Safetensors::parse(std::move(file.owner), file.bytes, name));
  source.metadata = tensors->metadata();
  for (const auto& [tensor, view] : tensors->tensors()) {
    source.add(tensor, view.shape, std::string(dtype_name(view.dtype)), view.bytes.size(), name);
  }
  source.read = [tensors](const std::string& tensor, const std::string& what) {
    const TensorView& view = tensors->at(tensor);
    return to_floats(view.dtype, view.bytes, what);
  };
  return source;
}

CheckpointSource open_sharded_checkpoint(const MappedFile& index,
                                         const std::filesystem::path& path) {
  const std::map<std::string, std::string> files = parse_index(index, path.string());
  std::map<std::string, Safetensors> parts;
  std::map<std::string, TensorView> views;
  CheckpointSource source;
  for (const auto& [tensor, file] : files) {
    const std::filesystem::path part_path = path.parent_path() / file;
    auto part = parts.find(file);
    if (part == parts.end()) {
      part = parts.emplace(file, Safetensors::open(part_path)).first;
      source.file_bytes += part->second.bytes().size();
    }
    const TensorView& view = part->second.at(tensor);
    source.add(tensor, view.shape, std::string(dtype_name(view.dtype)), view.bytes.size(),
               path.string());
    views.emplace(tensor, view);
  }
  source.container = "safetensors, files: " + std::to_string(parts.size());
  // The views need the parts to live on.
  source.read = [parts = std::move(parts), views = std::move(views)](const std::string& tensor,
                                                                     const std::string& what) {
    const TensorView& view = views.at(tensor);
    return to_floats(view.dtype, view.bytes, what);
  };
  return source;
}

}  // namespace intaglio
