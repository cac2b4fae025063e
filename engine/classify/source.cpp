#include "engine/classify/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/error.h"

namespace intaglio {
namespace {

/// Closes a file at the end.
struct Descriptor {
  explicit Descriptor(const std::string& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;
};

/// Reads a file of any kind: pipes work, endless devices end.
void read_file(const std::string& path, std::size_t max_bytes, std::vector<std::byte>& bytes) {
  const auto fail = [&](const char* what) {
    throw Error(ErrorCode::kIo, path + ": " + what + ": " + std::strerror(errno));
  };
  const Descriptor file(path);
  if (file.fd < 0) fail("cannot open this file");
  struct stat status {};
  std::size_t room = std::size_t{1} << 16;
  if (::fstat(file.fd, &status) == 0 && status.st_size > 0) {
    // One byte more: the read behind the last one finds the end.
    room = std::min(static_cast<std::size_t>(status.st_size), max_bytes) + 1;
  }
  std::size_t size = 0;
  while (size <= max_bytes) {
    if (size == 0 || size == bytes.size()) bytes.resize(std::max(2 * size, room));
    const ssize_t n = ::read(file.fd, bytes.data() + size, bytes.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot read this file");
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  bytes.resize(size);
  if (size > max_bytes) {
    throw Error(ErrorCode::kLimit,
                path + ": a file of more than " + std::to_string(max_bytes) + " bytes, the limit");
  }
}

}  // namespace

ImageSource::ImageSource(Paths paths, Shard shard, std::size_t max_file_bytes)
    : paths_(std::move(paths)), shard_(shard), max_file_bytes_(max_file_bytes) {}

/// To the next member of the archive, which is opened first if need be; false behind its last one.
bool ImageSource::next_member() {
  try {
    if (!archive_) archive_ = std::make_unique<Archive>(archive_name_);
    if (archive_->next()) {
      name_ = archive_name_ + '/' + archive_->member();
      return true;
    }
    archive_.reset();
    return false;
  } catch (const Error& e) {
    archive_.reset();
    if (e.code() != ErrorCode::kFormat) throw;
    name_ = archive_name_;
    error_ = e.what();
    return true;
  }
}

/// To the next image of any shard.
bool ImageSource::advance() {
  error_.clear();
  if (archive_ && next_member()) return true;
  while (const std::optional<std::filesystem::path> path = paths_()) {
    name_ = path->string();
    if (!has_archive_extension(*path)) return true;
    archive_name_ = name_;
    if (next_member()) return true;
  }
  return false;
}

bool ImageSource::next() {
  while (advance()) {
    if (listed_++ % shard_.count == shard_.index) return true;
  }
  return false;
}

std::string ImageSource::read(std::vector<std::byte>& bytes) {
  // Its old content is overwritten, not cleared: zeros would cost as much as reading.
  std::string error = error_;
  if (error.empty()) error = try_to_read(bytes);
  if (!error.empty()) bytes.clear();
  return error;
}

std::string ImageSource::try_to_read(std::vector<std::byte>& bytes) {
  try {
    if (archive_) {
      archive_->read(bytes, max_file_bytes_);
    } else {
      read_file(name_, max_file_bytes_, bytes);
    }
    return {};
  } catch (const Error& e) {
    if (!archive_) return e.what();
    const std::string error = name_ + ": " + e.what();
    if (e.code() == ErrorCode::kIo) throw Error(ErrorCode::kIo, error);
    return error;
  } catch (const std::bad_alloc&) {
    return name_ + ": out of memory";
  }
}

}  // namespace intaglio
