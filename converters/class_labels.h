// Names of classes, from a text file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace intaglio {

/// One label per line, as many as there are classes; a last empty line does not count. Throws
/// Error naming the file: kIo when it cannot be read, kFormat for another number of lines.
std::vector<std::string> read_labels(const std::filesystem::path& path, std::size_t classes);

}  // namespace intaglio
