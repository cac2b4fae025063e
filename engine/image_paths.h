// Which files a command line means: they come one after another, nothing is held as a whole but
// the names of one folder, which are sorted.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace intaglio {

/// By its extension: what decode_image() reads.
bool has_image_extension(const std::filesystem::path& path);

/// Lines of a file or of standard input, without their ends; empty ones are left out.
class LineReader {
 public:
  /// "-": standard input. `stop`, unless null: once it is true, the lines end, even while the
  /// reader waits for more of them. Throws Error(kIo).
  explicit LineReader(std::string name, const std::atomic<bool>* stop = nullptr);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// Throws Error: kIo, kLimit for lines longer than a path can be.
  std::optional<std::string> next();

 private:
  bool fill();

  std::string name_;
  const std::atomic<bool>* stop_;
  int file_;
  std::string buffer_;
  std::size_t at_ = 0;
  bool ended_ = false;
};

/// One step of arguments that name many files.
class PathExpansion {
 public:
  virtual ~PathExpansion() = default;
  virtual std::optional<std::filesystem::path> next() = 0;
};

/// The paths that arguments name, always in the same order: files as they are named; folders
/// recursively, images by extension, sorted; lists (.txt, .lst: one path per line, relative to the
/// list); "-": paths on standard input; patterns of glob(3) where no file has that name. A file
/// that does not exist is a path like others: reading it reports it.
class PathStream {
 public:
  explicit PathStream(std::vector<std::string> arguments, const std::atomic<bool>* stop = nullptr);

  /// From now on, a list that is no regular file is an error: what is read from a pipe is lost for
  /// others.
  void refuse_streams() { refuse_streams_ = true; }
  /// Throws Error(kIo): a list or a folder that cannot be read, a pattern that no file fits.
  std::optional<std::filesystem::path> next();

 private:
  bool expand(const std::string& argument, bool literal);
  void expand_list(const std::string& list);

  std::vector<std::string> arguments_;
  std::size_t next_argument_ = 0;
  const std::atomic<bool>* stop_;
  bool refuse_streams_ = false;
  std::vector<std::string> matches_;  // of the current pattern, the first one last
  std::unique_ptr<PathExpansion> expansion_;
};

/// All of them.
std::vector<std::filesystem::path> list_images(const std::vector<std::string>& arguments);

/// Whether the argument names one file, whatever it holds.
bool names_one_file(const std::string& argument);

}  // namespace intaglio
