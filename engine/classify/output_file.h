// A file that rows are appended to, through a buffer; nothing is lost without an Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace intaglio {

/// What becomes of a file that is there already.
enum class Existing : std::uint8_t { kRefuse, kReplace, kContinue };

/// Locked while it is open, so that two processes cannot mix their rows. All members throw
/// Error(kIo) naming the file.
class OutputFile {
 public:
  /// An empty path: standard output. Throws Error(kInvalidArgument) for a file with content that is
  /// to be refused.
  OutputFile(const std::filesystem::path& path, Existing existing);
  /// Drops what has not been flushed.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void append(std::string_view text);
  void flush();
  bool buffered() const { return !buffer_.empty(); }
  /// Cuts the file; what is appended follows there.
  void cut(std::uint64_t size);
  /// Flushes; when it returns, all is on the disk.
  void sync();
  /// sync(), and lets others write.
  void close();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string name_;
  int file_ = -1;
  bool regular_ = false;
  std::string buffer_;
};

/// A new file in place of `path`, whole or not at all: it is written as `path` with ".part" behind,
/// which a process that was killed leaves and the next one replaces; after an error nothing is
/// left. Links are followed; a device or a pipe is written to directly.
class WholeFile {
 public:
  explicit WholeFile(const std::filesystem::path& path);
  ~WholeFile();
  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;
  /// What that writes to at first.
  static std::filesystem::path written_for(const std::filesystem::path& path);
  OutputFile& file() { return file_; }
  /// Gives it its name and closes it.
  void finish();

 private:
  std::filesystem::path target_, written_;
  OutputFile file_;
  bool finished_ = false;
};

}  // namespace intaglio
