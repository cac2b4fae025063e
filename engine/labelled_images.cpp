#include "engine/labelled_images.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <optional>

#include "engine/image_paths.h"
#include "graph/error.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;

/// Class names and decimal indices -> class index.
class LabelIndex {
 public:
  explicit LabelIndex(std::span<const std::string> classes) : classes_(classes.size()) {
    for (std::size_t i = 0; i < classes_; ++i) by_name_.emplace(classes[i], i);
  }
  std::optional<std::size_t> find(const std::string& text) const {
    if (const auto it = by_name_.find(text); it != by_name_.end()) return it->second;
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    if (error != std::errc() || end != text.data() + text.size() || index >= classes_) return {};
    return index;
  }
  /// An integer column is a class index even where classes are called by numbers.
  std::optional<std::size_t> find_index_first(const std::string& text) const {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    if (error == std::errc() && end == text.data() + text.size() && index < classes_) return index;
    return find(text);
  }

 private:
  std::size_t classes_;
  std::map<std::string, std::size_t> by_name_;
};

/// Fields of one CSV record (RFC 4180 quoting, within one line).
std::vector<std::string> split_csv(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += line[i++];
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += line[i];
    }
  }
  return fields;
}

std::vector<LabelledImage> read_csv(const fs::path& csv, const LabelIndex& labels) {
  std::ifstream file(csv);
  if (!file) throw Error(ErrorCode::kIo, csv.string() + ": cannot be read");
  std::vector<LabelledImage> images;
  std::optional<std::size_t> file_column, label_column;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const std::vector<std::string> fields = split_csv(line);
    if (!file_column) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        if (fields[i] == "file") file_column = i;
        if (fields[i] == "label") label_column = i;
      }
      if (!file_column || !label_column) {
        throw Error(ErrorCode::kFormat,
                    csv.string() + ": the first line must name the columns 'file' and 'label'");
      }
      continue;
    }
    const std::string where = csv.string() + ", line " + std::to_string(number) + ": ";
    if (fields.size() <= std::max(*file_column, *label_column)) {
      throw Error(ErrorCode::kFormat, where + "too few columns");
    }
    const auto label = labels.find_index_first(fields[*label_column]);
    if (!label) {
      throw Error(ErrorCode::kFormat,
                  where + "'" + fields[*label_column] + "' is no class of the model");
    }
    images.push_back({csv.parent_path() / fields[*file_column], *label});
  }
  if (!file_column) throw Error(ErrorCode::kFormat, csv.string() + ": empty");
  return images;
}

std::vector<LabelledImage> read_class_folders(const fs::path& root, const LabelIndex& labels) {
  std::vector<LabelledImage> images;
  for (const fs::path& path : list_images({root.string()})) {
    const std::string folder = path.lexically_relative(root).begin()->string();
    const auto label = labels.find(folder);
    if (!label || root / folder == path) {
      throw Error(ErrorCode::kFormat,
                  path.string() + ": folder '" + folder + "' is no class of the model");
    }
    images.push_back({path, *label});
  }
  return images;
}

}  // namespace

std::vector<LabelledImage> list_labelled_images(const fs::path& eval,
                                                const std::vector<fs::path>& images,
                                                std::span<const std::string> classes) {
  const LabelIndex labels(classes);
  std::error_code ignored;
  std::vector<LabelledImage> all =
      fs::is_directory(eval, ignored) ? read_class_folders(eval, labels) : read_csv(eval, labels);
  if (images.empty()) return all;
  std::map<fs::path, std::size_t> known;
  for (const LabelledImage& image : all)
    known.emplace(fs::weakly_canonical(image.path), image.label);
  std::vector<LabelledImage> chosen;
  for (const fs::path& image : images) {
    const auto it = known.find(fs::weakly_canonical(image));
    if (it == known.end()) {
      throw Error(ErrorCode::kInvalidArgument, image.string() + ": not listed in " + eval.string());
    }
    chosen.push_back({image, it->second});
  }
  return chosen;
}

}  // namespace intaglio
