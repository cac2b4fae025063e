// Which photos calibration sees, and their pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/preprocessing.h"

namespace intaglio {

/// How many images of folders are taken unless a limit is given.
inline constexpr std::size_t kFolderImages = 128;

struct SelectedImages {
  std::vector<std::filesystem::path> paths;  ///< in the order that calibration sees
  std::size_t found = 0;                     ///< before the limit
};

/// Files, and those that lists, patterns and standard input name (PathStream), in their order;
/// behind them the images of all folders, recursively, in one random order that is always the same.
/// Of all that the first `limit`; without a limit, all files and kFolderImages of the folders. A
/// file that does not exist stays in the list. Throws Error: kIo for lists and folders that cannot
/// be read, kLimit for lists beyond a million lines.
SelectedImages select_images(const std::vector<std::string>& arguments,
                             std::optional<std::size_t> limit);

/// Decodes and preprocesses with up to `threads` threads: [images, height, width, 3]. `done` is
/// told how many are, one call at a time. Throws Error that names the first image that cannot be
/// read, kLimit when the pixels would pass 4 GiB.
std::vector<std::uint8_t> load_pixels(std::span<const std::filesystem::path> images,
                                      const Preprocessing& preprocessing, std::size_t threads,
                                      const std::function<void(std::size_t)>& done = {});

/// Of images some of which cannot be read.
struct ReadableImages {
  std::vector<std::uint8_t> pixels;  ///< [read, height, width, 3]
  std::vector<std::size_t> read;     ///< indices of those that could be
  std::vector<std::string> errors;   ///< of the others, in order
};
/// The same as load_pixels(), leaving out what cannot be read.
ReadableImages load_readable(std::span<const std::filesystem::path> images,
                             const Preprocessing& preprocessing, std::size_t threads);

}  // namespace intaglio
