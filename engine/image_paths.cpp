#include "engine/image_paths.h"

#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "graph/error.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxPathBytes = 4096;

std::string lower_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_list(const std::string& path) {
  const fs::path extension = fs::path(path).extension();
  return extension == ".txt" || extension == ".lst";
}

bool is_pattern(const std::string& argument) {
  return argument.find_first_of("*?[") != argument.npos && !exists(argument);
}

class ListExpansion : public PathExpansion {
 public:
  ListExpansion(const std::string& list, const std::atomic<bool>* stop)
      : folder_(list == "-" ? fs::path() : fs::path(list).parent_path()), lines_(list, stop) {}

  std::optional<fs::path> next() override {
    const std::optional<std::string> line = lines_.next();
    if (!line) return {};
    return folder_ / *line;
  }

 private:
  fs::path folder_;
  LineReader lines_;
};

/// Depth first, each folder sorted by name: the order of the sorted paths.
class FolderExpansion : public PathExpansion {
 public:
  explicit FolderExpansion(const fs::path& folder) { open(folder); }

  std::optional<fs::path> next() override {
    while (!levels_.empty()) {
      Level& level = levels_.back();
      if (level.entries.empty()) {
        levels_.pop_back();
        continue;
      }
      const Entry entry = std::move(level.entries.back());
      level.entries.pop_back();
      fs::path path = level.folder / entry.name;
      if (!entry.folder) return path;
      open(path);
    }
    return {};
  }

 private:
  struct Entry {
    std::string name;
    bool folder;
  };
  struct Level {
    fs::path folder;
    std::vector<Entry> entries;  // the first one last
  };

  void open(const fs::path& folder) {
    Level level{folder, {}};
    std::error_code error;
    auto it = fs::directory_iterator(folder, error);
    for (; !error && it != fs::directory_iterator(); it.increment(error)) {
      std::error_code ignored;
      const bool is_folder = it->is_directory(ignored);
      // Links to folders may lead in circles.
      if (is_folder ? it->is_symlink(ignored) : !has_image_extension(it->path())) continue;
      level.entries.push_back({it->path().filename().string(), is_folder});
    }
    if (error) throw Error(ErrorCode::kIo, folder.string() + ": " + error.message());
    std::sort(level.entries.begin(), level.entries.end(),
              [](const Entry& a, const Entry& b) { return a.name > b.name; });
    levels_.push_back(std::move(level));
  }

  std::vector<Level> levels_;
};

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> matches;
  for (const char* path : std::span(found.gl_pathv, status == 0 ? found.gl_pathc : 0)) {
    matches.emplace_back(path);
  }
  ::globfree(&found);
  if (status == GLOB_NOMATCH) throw Error(ErrorCode::kIo, pattern + ": no file fits this pattern");
  if (status != 0) throw Error(ErrorCode::kIo, pattern + ": cannot look for files");
  std::reverse(matches.begin(), matches.end());
  return matches;
}

}  // namespace

bool has_image_extension(const fs::path& path) {
  static constexpr std::array kExtensions = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm"};
  const std::string extension = lower_extension(path);
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

LineReader::LineReader(std::string name, const std::atomic<bool>* stop)
    : name_(std::move(name)),
      stop_(stop),
      file_(name_ == "-" ? STDIN_FILENO : ::open(name_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (file_ < 0) {
    throw Error(ErrorCode::kIo,
                name_ + ": cannot read the list of images: " + std::strerror(errno));
  }
}

LineReader::~LineReader() {
  if (file_ != STDIN_FILENO) ::close(file_);
}

/// Reads more; false at the end.
bool LineReader::fill() {
  buffer_.erase(0, at_);
  at_ = 0;
  std::array<char, 1 << 16> block;
  for (;;) {
    if (stop_ != nullptr && *stop_) return false;
    pollfd waiting{file_, POLLIN, 0};
    constexpr int kMilliseconds = 100;
    const int ready = stop_ == nullptr ? 1 : ::poll(&waiting, 1, kMilliseconds);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t size = ::read(file_, block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      throw Error(ErrorCode::kIo, (name_ == "-" ? "standard input" : name_) +
                                      ": cannot read the list of images: " + std::strerror(errno));
    }
    buffer_.append(block.data(), static_cast<std::size_t>(size));
    return size != 0;
  }
}

std::optional<std::string> LineReader::next() {
  for (;;) {
    const std::size_t end = buffer_.find('\n', at_);
    if (std::min(end, buffer_.size()) - at_ > kMaxPathBytes) {
      throw Error(ErrorCode::kLimit,
                  (name_ == "-" ? "standard input" : name_) + ": expected paths of up to " +
                      std::to_string(kMaxPathBytes) + " bytes, one per line, found a longer one");
    }
    if (end == buffer_.npos && !ended_) {
      ended_ = !fill();
      continue;
    }
    if (end == buffer_.npos && (at_ == buffer_.size() || (stop_ != nullptr && *stop_))) return {};
    std::string line = buffer_.substr(at_, end - at_);
    at_ = std::min(end, buffer_.size() - 1) + 1;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) return line;
  }
}

PathStream::PathStream(std::vector<std::string> arguments, const std::atomic<bool>* stop)
    : arguments_(std::move(arguments)), stop_(stop) {}

void PathStream::expand_list(const std::string& list) {
  std::error_code ignored;
  if (refuse_streams_ && !fs::is_regular_file(list, ignored)) {
    throw Error(ErrorCode::kIo, list + ": no regular file");
  }
  expansion_ = std::make_unique<ListExpansion>(list, stop_);
}

/// False for one file. `literal`: the name of a file, whatever its characters.
bool PathStream::expand(const std::string& argument, bool literal) {
  if (!literal && argument == "-") {
    expand_list(argument);
  } else if (is_folder(argument)) {
    expansion_ = std::make_unique<FolderExpansion>(argument);
  } else if (is_list(argument)) {
    expand_list(argument);
  } else if (!literal && is_pattern(argument)) {
    matches_ = matches_of(argument);
  } else {
    return false;
  }
  return true;
}

std::optional<fs::path> PathStream::next() {
  for (;;) {
    if (expansion_) {
      if (std::optional<fs::path> path = expansion_->next()) return path;
      expansion_.reset();
    }
    const bool literal = !matches_.empty();
    std::string argument;
    if (literal) {
      argument = std::move(matches_.back());
      matches_.pop_back();
    } else if (next_argument_ < arguments_.size()) {
      argument = arguments_[next_argument_++];
    } else {
      return {};
    }
    if (!expand(argument, literal)) return argument;
  }
}

std::vector<fs::path> list_images(const std::vector<std::string>& arguments) {
  PathStream stream(arguments);
  std::vector<fs::path> paths;
  while (std::optional<fs::path> path = stream.next()) paths.push_back(std::move(*path));
  return paths;
}

bool names_one_file(const std::string& argument) {
  return argument != "-" && !is_folder(argument) && !is_list(argument) && !is_pattern(argument);
}

}  // namespace intaglio
