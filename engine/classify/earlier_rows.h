// The rows that an earlier run has left, for the one that goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "engine/classify/row_reader.h"

namespace intaglio {

class EarlierRows {
 public:
  /// Reads the whole file once. `rows_per_image`: of CSV. A row without an end, or the rows of the
  /// last image when some lack, do not count. A file that does not exist has none. Throws Error:
  /// kIo, kFormat, kInvalidArgument for other numbers of rows per image.
  EarlierRows(const std::filesystem::path& path, RowFormat format, std::size_t rows_per_image);

  std::size_t images() const { return images_; }
  /// The last image that was classified, whose rows tell model and options; the last one of all if
  /// there is none.
  std::size_t last_telling() const { return last_classified_.value_or(images_ - 1); }
  /// Where the last one ends, in bytes; 0: not even the header is whole.
  std::uint64_t end() const { return end_; }

  /// Whether next() has more.
  bool more() const { return given_ < images_; }
  /// The rows of the next image, which must be those of `name`. Throws Error(kInvalidArgument).
  RowGroup next(const std::string& name);
  /// What next() gave last, for messages: "out.jsonl, image 17".
  std::string place() const;
  /// Throws Error(kInvalidArgument): there are more rows than images.
  [[noreturn]] void fail_more();

 private:
  std::filesystem::path path_;
  RowFormat format_;
  std::size_t images_ = 0, given_ = 0;
  std::optional<std::size_t> last_classified_;
  std::uint64_t end_ = 0;
  std::optional<RowReader> reader_;
};

}  // namespace intaglio
