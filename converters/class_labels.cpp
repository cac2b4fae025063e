#include "converters/class_labels.h"

#include <fstream>

#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::size_t kMaxLabelBytes = 4096;

}  // namespace

std::vector<std::string> read_labels(const std::filesystem::path& path, std::size_t classes) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path)) {
    throw Error(ErrorCode::kIo, path.string() + ": cannot read the labels");
  }
  std::vector<std::string> labels;
  std::string line;
  while (std::getline(file, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.size() > kMaxLabelBytes || labels.size() > classes) break;
    labels.push_back(line);
  }
  if (labels.size() != classes) {
    throw Error(ErrorCode::kFormat,
                path.string() + ": expected " + std::to_string(classes) +
                    " labels, one per line, found " +
                    (labels.size() > classes ? "more" : std::to_string(labels.size())));
  }
  return labels;
}

}  // namespace intaglio
