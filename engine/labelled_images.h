// Images and what is known to be on them, for evaluation.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace intaglio {

struct LabelledImage {
  std::filesystem::path path;
  std::size_t label = 0;  ///< class index
};

/// Images with labels. `eval` is a CSV file with the columns file,label (paths relative to it,
/// labels as class index or name), or a folder of folders named after classes. With `images`, only
/// these, and each must be listed. `classes`: their names, in the order of the logits. Throws Error
/// naming file and line.
std::vector<LabelledImage> list_labelled_images(const std::filesystem::path& eval,
                                                const std::vector<std::filesystem::path>& images,
                                                std::span<const std::string> classes);

}  // namespace intaglio
