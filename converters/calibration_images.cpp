#include "converters/calibration_images.h"

#include <algorithm>
#include <mutex>
#include <random>

#include "engine/decode_image.h"
#include "engine/image_paths.h"
#include "engine/preprocess.h"
#include "graph/error.h"
#include "graph/parallel.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxListed = 1'000'000;
constexpr std::uint64_t kMaxPixelBytes = std::uint64_t{4} << 30;

/// The same order for the same list, on every machine: the distributions of the standard library
/// differ.
void shuffle(std::vector<fs::path>& paths) {
  std::mt19937_64 random(2022);
  for (std::size_t i = paths.size(); i > 1; --i) std::swap(paths[i - 1], paths[random() % i]);
}

/// Decodes and preprocesses with several threads. each(i, load) is told to load image i; images
/// for which load() has thrown stay black.
std::vector<std::uint8_t> decode(
    std::span<const fs::path> images, const Preprocessing& preprocessing, std::size_t threads,
    const std::function<void(std::size_t, const std::function<void()>&)>& each) {
  const std::size_t workers = std::max<std::size_t>(1, std::min(threads, images.size()));
  std::vector<Preprocessor> preprocessors(workers, Preprocessor(preprocessing));
  const std::size_t size = preprocessors[0].size();
  if (images.size() > kMaxPixelBytes / size) {
    throw Error(ErrorCode::kLimit, "expected at most " + std::to_string(kMaxPixelBytes / size) +
                                       " images of " + std::to_string(size) + " bytes, found " +
                                       std::to_string(images.size()));
  }
  std::vector<std::uint8_t> pixels(images.size() * size);
  std::mutex mutex;
  std::vector<Preprocessor*> idle;
  for (Preprocessor& preprocessor : preprocessors) idle.push_back(&preprocessor);
  run_pieces(images.size(), workers, [&](std::size_t i) {
    Preprocessor* mine = nullptr;
    {
      const std::lock_guard lock(mutex);
      mine = idle.back();
      idle.pop_back();
    }
    // A piece that throws keeps its preprocessor: its thread begins no other piece.
    each(i, [&] { mine->run(load_image(images[i]), std::span(pixels).subspan(i * size, size)); });
    const std::lock_guard lock(mutex);
    idle.push_back(mine);
  });
  return pixels;
}

}  // namespace

SelectedImages select_images(const std::vector<std::string>& arguments,
                             std::optional<std::size_t> limit) {
  std::vector<fs::path> named, in_folders;
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    std::vector<fs::path>& paths = fs::is_directory(argument, ignored) ? in_folders : named;
    PathStream stream({argument});
    while (std::optional<fs::path> path = stream.next()) {
      if (&paths == &named && paths.size() >= kMaxListed) {
        throw Error(ErrorCode::kLimit, argument + ": expected at most " +
                                           std::to_string(kMaxListed) + " paths, found more");
      }
      paths.push_back(std::move(*path));
    }
  }
  std::sort(in_folders.begin(), in_folders.end());
  in_folders.erase(std::unique(in_folders.begin(), in_folders.end()), in_folders.end());
  shuffle(in_folders);

  SelectedImages selected{std::move(named), 0};
  selected.found = selected.paths.size() + in_folders.size();
  if (!limit) in_folders.resize(std::min(in_folders.size(), kFolderImages));
  std::move(in_folders.begin(), in_folders.end(), std::back_inserter(selected.paths));
  if (limit && *limit < selected.paths.size()) selected.paths.resize(*limit);
  return selected;
}

std::vector<std::uint8_t> load_pixels(std::span<const fs::path> images,
                                      const Preprocessing& preprocessing, std::size_t threads,
                                      const std::function<void(std::size_t)>& done) {
  std::size_t finished = 0;
  std::mutex mutex;
  return decode(images, preprocessing, threads, [&](std::size_t, const auto& load) {
    load();
    const std::lock_guard lock(mutex);
    if (done) done(++finished);
  });
}

ReadableImages load_readable(std::span<const fs::path> images, const Preprocessing& preprocessing,
                             std::size_t threads) {
  std::vector<std::string> errors(images.size());
  ReadableImages readable;
  readable.pixels = decode(images, preprocessing, threads, [&](std::size_t i, const auto& load) {
    try {
      load();
    } catch (const Error& error) {
      errors[i] = error.what();
    }
  });
  const std::size_t size = images.empty() ? 0 : readable.pixels.size() / images.size();
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!errors[i].empty()) {
      readable.errors.push_back(std::move(errors[i]));
      continue;
    }
    // The images that can be read move together.
    const std::size_t to = readable.read.size();
    if (to < i) {
      std::copy_n(readable.pixels.data() + i * size, size, readable.pixels.data() + to * size);
    }
    readable.read.push_back(i);
  }
  readable.pixels.resize(readable.read.size() * size);
  return readable;
}

}  // namespace intaglio
