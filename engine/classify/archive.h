// Images in tar files, as WebDataset keeps them, compressed ones too: one after another, without
// unpacking.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

struct archive;
struct archive_entry;

namespace intaglio {

/// By its extension: .tar, .tar.gz, .tgz, .tar.zst, ...
bool has_archive_extension(const std::filesystem::path& path);

class Archive {
 public:
  /// Throws Error naming the archive: kFormat if it is damaged, kIo if it cannot be read, which may
  /// be otherwise the next time.
  explicit Archive(const std::filesystem::path& path);

  /// To the next member with the extension of an image; false at the end. Throws as the
  /// constructor, Error(kFormat) at the same member with the same words, whether or not members
  /// before it were read.
  bool next();
  const std::string& member() const { return member_; }
  /// The member's bytes. Throws Error that does not name the archive; kIo only where the archive
  /// cannot be read.
  void read(std::vector<std::byte>& bytes, std::size_t max_bytes);

 private:
  [[noreturn]] void fail_damaged() const;
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  std::shared_ptr<archive> archive_;
  archive_entry* entry_ = nullptr;
  std::string member_;
  std::size_t members_ = 0;
};

}  // namespace intaglio
