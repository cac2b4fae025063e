// Containers from and to files.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "graph/error.h"
#include "graph/parallel.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

/// From errno.
Error io_error(const std::filesystem::path& path, const char* what) {
  const std::string reason = std::generic_category().message(errno);
  return {ErrorCode::kIo, path.string() + ": " + what + ": " + reason};
}

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// A descriptor, or -1 and errno.
int open_for_reading(const std::filesystem::path& path) {
  // Non-blocking: opening a pipe must not wait for its writer.
  return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

std::size_t size_of_regular(const Descriptor& file, const std::filesystem::path& path) {
  if (file.get() < 0) throw io_error(path, "cannot open");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw io_error(path, "cannot stat");
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::kIo, path.string() + ": expected a regular file, found a " +
                                    (S_ISDIR(status.st_mode) ? "directory" : "pipe or device"));
  }
  if (status.st_size == 0) {
    throw Error(ErrorCode::kIo, path.string() + ": expected a file with content, found it empty");
  }
  return static_cast<std::size_t>(status.st_size);
}

/// Fills `bytes` from `offset` on.
void read_all(const Descriptor& file, std::size_t offset, std::span<std::byte> bytes,
              const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw io_error(path, "cannot read");
    if (n == 0) throw Error(ErrorCode::kIo, path.string() + ": became shorter while it was read");
    offset += static_cast<std::size_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void write_all(const Descriptor& file, std::span<const std::byte> bytes,
               const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw io_error(path, "cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// Creates `name`, a new file beside `target`; -1 and errno if it cannot. O_EXCL makes it unique,
/// whoever else counts. It is short, whatever the length of the name of the target.
int create_beside(const std::filesystem::path& target, std::filesystem::path& name) {
  constexpr int kAttempts = 1000;
  for (int i = 0; i < kAttempts; ++i) {
    name = target.parent_path() /
           (".intaglio-" + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp");
    const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

}  // namespace

MappedFile map_file(const std::filesystem::path& path) {
  const Descriptor file(open_for_reading(path));
  const std::size_t size = size_of_regular(file, path);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) throw io_error(path, "cannot map");
  std::shared_ptr<const void> owner(data, [data, size](const void*) { ::munmap(data, size); });
  return {std::move(owner), {static_cast<const std::byte*>(data), size}};
}

Safetensors Safetensors::open(const std::filesystem::path& path) {
  MappedFile file = map_file(path);
  return parse(std::move(file.owner), file.bytes, path.string());
}

Safetensors Safetensors::read(const std::filesystem::path& path, std::size_t threads) {
  const Descriptor file(open_for_reading(path));
  const std::size_t size = size_of_regular(file, path);
  auto memory = std::make_shared<PageMemory>(size);
  constexpr std::size_t kPiece = std::size_t{8} << 20;
  run_pieces((size + kPiece - 1) / kPiece, threads, [&](std::size_t i) {
    const std::size_t begin = i * kPiece;
    read_all(file, begin, {memory->data() + begin, std::min(kPiece, size - begin)}, path);
  });
  Safetensors read = parse(memory, {memory->data(), size}, path.string());
  read.memory_ = std::move(memory);
  return read;
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    // A device or a pipe: nothing to protect, and a rename would put a file in its place.
    const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (file.get() < 0) throw io_error(path, "cannot open");
    return write_all(file, bytes, path);
  }
  // A link stays a link, /dev/stdout too when it leads to a file.
  std::error_code no_target;
  std::filesystem::path target = std::filesystem::canonical(path, no_target);
  if (no_target) target = path;
  std::filesystem::path temporary;
  const Descriptor file(create_beside(target, temporary));
  if (file.get() < 0) throw io_error(path, "cannot create a file beside it");
  try {
    write_all(file, bytes, path);
    // Without it, a crash of the machine may leave the new name with no content.
    if (::fsync(file.get()) != 0) throw io_error(path, "cannot write");
    if (::rename(temporary.c_str(), target.c_str()) != 0) throw io_error(path, "cannot replace");
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace intaglio
