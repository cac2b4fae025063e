// The images of a run, one after another, and their bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/classify/archive.h"

namespace intaglio {

/// Image k of the list belongs to shard k % count.
struct Shard {
  std::size_t index = 0, count = 1;
};

/// Names images in the order of the paths, of tar files in the order of their members
/// ("photos.tar/0001.jpg"), and reads them. An archive that is damaged is an image that cannot be
/// read, behind those that can. One that cannot be read at all is an error: with other images in
/// its place all that follow would belong to other shards.
class ImageSource {
 public:
  using Paths = std::function<std::optional<std::filesystem::path>()>;
  ImageSource(Paths paths, Shard shard, std::size_t max_file_bytes);

  /// To the next image of the shard; false at the end. Throws what the paths throw, Error(kIo)
  /// for an archive that cannot be read.
  bool next();
  const std::string& name() const { return name_; }
  /// Its bytes, in place of others. Returns why there are none, or nothing. Throws
  /// Error(kIo) for an archive that cannot be read.
  std::string read(std::vector<std::byte>& bytes);
  /// Images so far, of all shards.
  std::size_t listed() const { return listed_; }

 private:
  bool advance();
  bool next_member();
  std::string try_to_read(std::vector<std::byte>& bytes);

  Paths paths_;
  Shard shard_;
  std::size_t max_file_bytes_;
  std::size_t listed_ = 0;
  std::unique_ptr<Archive> archive_;
  std::string archive_name_, name_, error_;
};

}  // namespace intaglio
