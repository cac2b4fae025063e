#include "engine/classify/archive.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>

#include "engine/image_paths.h"
#include "graph/error.h"

namespace intaglio {
namespace {

std::string reason(archive* a) {
  const char* text = ::archive_error_string(a);
  return text == nullptr ? "unknown error" : text;
}

/// Whether the last error is the file's, not that of its content.
bool cannot_be_read(archive* a) {
  // libarchive has no public names for them; -1: anything else, EILSEQ: the format.
  static constexpr std::array kOfContent = {0, -1, EILSEQ, EINVAL, ERANGE};
  return std::find(kOfContent.begin(), kOfContent.end(), ::archive_errno(a)) == kOfContent.end();
}

}  // namespace

bool has_archive_extension(const std::filesystem::path& path) {
  static constexpr std::array kExtensions = {".tar",  ".tar.gz", ".tgz", ".tar.bz2",
                                             ".tbz2", ".tar.xz", ".txz", ".tar.zst",
                                             ".tzst", ".tar.lz4"};
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::any_of(kExtensions.begin(), kExtensions.end(),
                     [&](const char* extension) { return name.ends_with(extension); });
}

Archive::Archive(const std::filesystem::path& path)
    : path_(path), archive_(::archive_read_new(), ::archive_read_free) {
  archive* a = archive_.get();
  if (a == nullptr) throw std::bad_alloc();
  // Only what is decompressed here: others would start programs.
  ::archive_read_support_filter_gzip(a);
  ::archive_read_support_filter_bzip2(a);
  ::archive_read_support_filter_xz(a);
  ::archive_read_support_filter_zstd(a);
  ::archive_read_support_filter_lz4(a);
  ::archive_read_support_format_tar(a);
  constexpr std::size_t kBlock = std::size_t{1} << 18;
  if (::archive_read_open_filename(a, path.c_str(), kBlock) != ARCHIVE_OK) fail();
}

void Archive::fail_damaged() const {
  throw Error(ErrorCode::kFormat, path_.string() + ": damaged or cut off, behind " +
                                      std::to_string(members_) + " images");
}

void Archive::fail() const {
  if (!cannot_be_read(archive_.get())) fail_damaged();
  throw Error(ErrorCode::kIo,
              path_.string() + ": cannot read this archive: " + reason(archive_.get()));
}

bool Archive::next() {
  for (;;) {
    const int status = ::archive_read_next_header(archive_.get(), &entry_);
    if (status == ARCHIVE_EOF) {
      // Members that nobody reads are skipped by seeking, even behind the end of the file.
      std::error_code ignored;
      const std::uintmax_t size = std::filesystem::file_size(path_, ignored);
      const std::int64_t used = ::archive_filter_bytes(archive_.get(), -1);
      if (!ignored && used > 0 && static_cast<std::uintmax_t>(used) > size) fail_damaged();
      return false;
    }
    if (status < ARCHIVE_WARN) fail();
    // Outside the current locale's characters only the second one has the name.
    const char* name = ::archive_entry_pathname(entry_);
    if (name == nullptr) name = ::archive_entry_pathname_utf8(entry_);
    if (name == nullptr || ::archive_entry_filetype(entry_) == AE_IFDIR) continue;
    member_ = name;
    if (!has_image_extension(member_)) continue;
    ++members_;
    return true;
  }
}

void Archive::read(std::vector<std::byte>& bytes, std::size_t max_bytes) {
  if (::archive_entry_hardlink(entry_) != nullptr || ::archive_entry_filetype(entry_) != AE_IFREG) {
    throw Error(ErrorCode::kUnsupported, "a link or a device within an archive");
  }
  // What an archive states is not believed beyond this. One byte more: the read behind the last
  // one finds the end.
  constexpr std::int64_t kBelieved = std::int64_t{16} << 20;
  const std::int64_t stated = ::archive_entry_size(entry_);
  const auto room = static_cast<std::size_t>(std::clamp<std::int64_t>(stated, 0, kBelieved)) + 1;
  std::size_t size = 0;
  for (;;) {
    if (size > max_bytes) {
      throw Error(ErrorCode::kLimit,
                  "a file of more than " + std::to_string(max_bytes) + " bytes, the limit");
    }
    if (size == 0 || size == bytes.size()) bytes.resize(std::max(2 * size, room));
    const la_ssize_t n =
        ::archive_read_data(archive_.get(), bytes.data() + size, bytes.size() - size);
    if (n == ARCHIVE_RETRY) continue;
    if (n < 0 && cannot_be_read(archive_.get())) {
      throw Error(ErrorCode::kIo, "cannot read the archive: " + reason(archive_.get()));
    }
    if (n < 0) throw Error(ErrorCode::kFormat, "the archive is damaged here");
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  bytes.resize(size);
}

}  // namespace intaglio
