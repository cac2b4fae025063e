#include "engine/classify/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

/// Where the content of `path` lies, or will lie.
std::filesystem::path followed(const std::filesystem::path& path) {
  std::error_code absent;
  std::filesystem::path target = std::filesystem::canonical(path, absent);
  return absent ? path : target;
}

std::filesystem::path part_of(const std::filesystem::path& target) {
  std::error_code absent;
  const auto kind = std::filesystem::status(target, absent).type();
  const bool replaced =
      kind == std::filesystem::file_type::regular || kind == std::filesystem::file_type::not_found;
  return replaced ? std::filesystem::path(target.string() + ".part") : target;
}

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path, Existing existing)
    : name_(path.empty() ? "standard output" : path.string()) {
  file_ = path.empty() ? ::dup(STDOUT_FILENO)
                       : ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
  if (file_ < 0) fail("cannot open");
  struct stat status {};
  if (::fstat(file_, &status) != 0) fail("cannot open");
  regular_ = S_ISREG(status.st_mode);
  if (existing == Existing::kContinue && !regular_) {
    ::close(file_);
    throw Error(ErrorCode::kInvalidArgument, name_ + ": only a regular file can be continued");
  }
  if (path.empty() || !regular_) return;
  try {
    // File systems without locks are written to all the same.
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw Error(ErrorCode::kIo, name_ + ": another process writes to this file");
    }
    if (::fstat(file_, &status) != 0) fail("cannot open");
    // Whoever had the lock may have given the file another name meanwhile.
    struct stat named {};
    if (::stat(path.c_str(), &named) != 0 || named.st_ino != status.st_ino ||
        named.st_dev != status.st_dev) {
      throw Error(ErrorCode::kIo, name_ + ": another process writes to this file");
    }
    if (existing == Existing::kRefuse && status.st_size != 0) {
      throw Error(ErrorCode::kInvalidArgument, name_ +
                                                   ": this file exists; --resume continues it, "
                                                   "--overwrite replaces it");
    }
    if (existing == Existing::kReplace) cut(0);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

OutputFile::~OutputFile() {
  if (file_ >= 0) ::close(file_);
}

void OutputFile::fail(const char* what) const {
  throw Error(ErrorCode::kIo, name_ + ": " + what + ": " + std::strerror(errno));
}

void OutputFile::append(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) flush();
}

void OutputFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(file_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      // What is written must not be written again.
      const int error = errno;
      buffer_.erase(0, done);
      errno = error;
      fail("cannot write");
    }
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

void OutputFile::cut(std::uint64_t size) {
  if (::ftruncate(file_, static_cast<off_t>(size)) != 0) fail("cannot cut off its end");
  if (::lseek(file_, static_cast<off_t>(size), SEEK_SET) < 0) fail("cannot cut off its end");
}

void OutputFile::sync() {
  flush();
  // Network file systems tell some errors only here.
  if (regular_ && ::fsync(file_) != 0 && errno != EINVAL) fail("cannot write");
}

void OutputFile::close() {
  sync();
  const int file = std::exchange(file_, -1);
  if (::close(file) != 0 && errno != EINTR) fail("cannot write");
}

WholeFile::WholeFile(const std::filesystem::path& path)
    : target_(followed(path)), written_(part_of(target_)), file_(written_, Existing::kReplace) {}

std::filesystem::path WholeFile::written_for(const std::filesystem::path& path) {
  return part_of(followed(path));
}

WholeFile::~WholeFile() {
  // Locked, and so nobody else's; file systems without locks are at the mercy of their users.
  if (!finished_ && written_ != target_) ::unlink(written_.c_str());
}

void WholeFile::finish() {
  // Locked until it has its name: nobody else may write to it before.
  file_.sync();
  if (written_ != target_ && ::rename(written_.c_str(), target_.c_str()) != 0) {
    throw Error(ErrorCode::kIo, target_.string() + ": cannot replace: " + std::strerror(errno));
  }
  finished_ = true;
  file_.close();
}

}  // namespace intaglio
