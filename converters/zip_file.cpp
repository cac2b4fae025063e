#include "converters/zip_file.h"

#include <zip.h>

#include <algorithm>
#include <array>
#include <limits>

#include "graph/error.h"

namespace intaglio {
namespace {

using OpenEntry = std::unique_ptr<zip_file_t, int (*)(zip_file_t*)>;

/// Owns a zip_error_t and knows its text.
struct ZipError {
  zip_error_t error{};
  ZipError() { zip_error_init(&error); }
  ~ZipError() { zip_error_fini(&error); }
  ZipError(const ZipError&) = delete;
  ZipError& operator=(const ZipError&) = delete;
};

/// Leaves the `count` bytes before an offset behind.
bool skip(zip_file_t* file, std::size_t count, bool is_stored) {
  if (count == 0) return true;
  if (is_stored) return zip_fseek(file, static_cast<zip_int64_t>(count), SEEK_SET) == 0;
  std::array<char, 4096> ignored{};
  while (count > 0) {
    const zip_int64_t n = zip_fread(file, ignored.data(), std::min(count, ignored.size()));
    if (n <= 0) return false;
    count -= static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

ZipFile::ZipFile(MappedFile file, std::string name)
    : name_(std::move(name)), file_(std::move(file)) {
  ZipError error;
  const auto fail = [&] {
    throw Error(ErrorCode::kFormat, name_ + ": expected a zip archive, found it damaged: " +
                                        zip_error_strerror(&error.error));
  };
  zip_source_t* source =
      zip_source_buffer_create(file_.bytes.data(), file_.bytes.size(), 0, &error.error);
  if (source == nullptr) fail();
  archive_.reset(zip_open_from_source(source, ZIP_RDONLY, &error.error), [](zip* archive) {
    if (archive != nullptr) zip_discard(archive);
  });
  if (archive_ == nullptr) {
    zip_source_free(source);
    fail();
  }
  const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) add_entry(static_cast<std::uint64_t>(i));
}

void ZipFile::add_entry(std::uint64_t index) {
  const char* raw_name = zip_get_name(archive_.get(), index, ZIP_FL_ENC_RAW);
  zip_stat_t status;
  zip_stat_init(&status);
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  if (raw_name == nullptr || zip_stat_index(archive_.get(), index, 0, &status) != 0 ||
      (status.valid & kNeeded) != kNeeded) {
    throw Error(ErrorCode::kFormat, name_ + ": expected a name and a size for entry " +
                                        std::to_string(index) + " of the archive, found none");
  }
  const std::string subject = name_ + ": entry " + printable(raw_name);
  const bool is_stored = status.comp_method == ZIP_CM_STORE;
  if ((!is_stored && status.comp_method != ZIP_CM_DEFLATE) ||
      status.encryption_method != ZIP_EM_NONE) {
    throw Error(ErrorCode::kUnsupported,
                subject + ": expected it stored or deflated, found " +
                    (status.encryption_method != ZIP_EM_NONE
                         ? "it encrypted"
                         : "compression method " + std::to_string(status.comp_method)));
  }
  if (status.comp_size > file_.bytes.size() || (is_stored && status.size != status.comp_size) ||
      status.size > std::numeric_limits<std::size_t>::max() / 2) {
    throw Error(ErrorCode::kFormat, subject + ": expected data within the file's " +
                                        std::to_string(file_.bytes.size()) + " bytes, found " +
                                        std::to_string(status.comp_size) + " bytes for " +
                                        std::to_string(status.size));
  }
  if (!entries_.emplace(raw_name, Entry{index, status.size, is_stored}).second) {
    throw Error(ErrorCode::kFormat, subject + ": expected once, found twice");
  }
}

const ZipFile::Entry* ZipFile::find(const std::string& entry) const {
  const auto it = entries_.find(entry);
  return it == entries_.end() ? nullptr : &it->second;
}

std::vector<std::byte> ZipFile::read(const Entry& entry, std::size_t offset,
                                     std::size_t size) const {
  const OpenEntry file(zip_fopen_index(archive_.get(), entry.index, 0), zip_fclose);
  const auto fail = [&] {
    const std::string reason = file ? zip_file_strerror(file.get()) : zip_strerror(archive_.get());
    const char* entry_name = zip_get_name(archive_.get(), entry.index, ZIP_FL_ENC_RAW);
    throw Error(ErrorCode::kFormat,
                name_ + ": entry " + printable(entry_name == nullptr ? "" : entry_name) +
                    ": expected " + std::to_string(size) + " bytes from byte " +
                    std::to_string(offset) + " on, found it damaged: " + reason);
  };
  if (!file || !skip(file.get(), offset, entry.is_stored)) fail();
  std::vector<std::byte> bytes(size);
  for (std::size_t done = 0; done < size;) {
    const zip_int64_t n = zip_fread(file.get(), bytes.data() + done, size - done);
    if (n <= 0) fail();
    done += static_cast<std::size_t>(n);
  }
  // libzip compares the checksum when it finds the end.
  char beyond = 0;
  if (offset + size == entry.size && zip_fread(file.get(), &beyond, 1) != 0) fail();
  return bytes;
}

}  // namespace intaglio
