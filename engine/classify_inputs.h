// Which images the programs work on, and what is known to be on them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace intaglio {

struct InputImage {
  std::filesystem::path path;
  std::optional<std::size_t> label;  ///< class index, where evaluation was asked for
};

/// Files as they are named; folders recursively, images by extension, sorted; "-": paths on
/// standard input, one per line. A path that does not exist stays in the list: reading it reports
/// it.
std::vector<InputImage> list_images(const std::vector<std::string>& arguments);

/// Images with labels. `eval` is a CSV file with the columns file,label (paths relative to it,
/// labels as class index or name), or a folder of folders named after classes. With `images`, only
/// these, and each must be listed. `classes`: their names, in the order of the logits. Throws Error
/// naming file and line.
std::vector<InputImage> list_labelled_images(const std::filesystem::path& eval,
                                             const std::vector<InputImage>& images,
                                             std::span<const std::string> classes);

}  // namespace intaglio
