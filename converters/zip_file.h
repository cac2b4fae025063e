// Zip archives, as PyTorch and NumPy write them, through libzip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "graph/safetensors.h"

struct zip;

namespace intaglio {

/// A zip archive in a mapped file, stored or deflated. Not for several threads at once.
class ZipFile {
 public:
  struct Entry {
    std::uint64_t index = 0;
    std::size_t size = 0;   ///< bytes, as declared: nothing backs them if the entry is deflated
    bool is_stored = true;  ///< then `size` bytes are no more than the file's
  };

  /// `name` stands in messages. Throws Error(kFormat) for what is no archive, is inconsistent or
  /// has a name twice, Error(kUnsupported) for encryption and other compressions.
  ZipFile(MappedFile file, std::string name);

  const std::string& name() const { return name_; }
  std::size_t file_bytes() const { return file_.bytes.size(); }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  /// Null when absent.
  const Entry* find(const std::string& entry) const;
  /// `size` bytes from `offset` on. When they are the last ones and all before were read too, the
  /// checksum is verified. Throws Error(kFormat) for damage, or if the entry is shorter.
  std::vector<std::byte> read(const Entry& entry, std::size_t offset, std::size_t size) const;

 private:
  void add_entry(std::uint64_t index);

  std::string name_;
  MappedFile file_;
  std::shared_ptr<zip> archive_;
  std::map<std::string, Entry> entries_;
};

}  // namespace intaglio
