// Reads rows back that intaglio-classify has written, whole or cut off anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "engine/classify/rows.h"

namespace intaglio {

/// All rows of one image.
struct RowGroup {
  std::string text;      ///< with the ends of its lines
  std::size_t rows = 0;  ///< JSON: 1; CSV: one per class
  bool failed = false;   ///< an error instead of classes

  std::string shown() const;  ///< its beginning, for messages
};

/// Groups of rows one after another. A row without an end is no row: the groups end before it. In
/// CSV the last group may lack rows, which only shows by comparison with others.
class RowReader {
 public:
  /// Throws Error: kIo, kFormat for another header (half a header is no rows).
  RowReader(std::filesystem::path path, RowFormat format);

  /// Throws Error(kFormat) naming file and row: not written by this program.
  std::optional<RowGroup> next();
  /// Where the last group ends that next() gave, in bytes.
  std::uint64_t end() const { return end_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Record {
    std::string text;
    std::size_t name_bytes = 0;  ///< of `text`, the separator included
    std::size_t rank = 0;        ///< CSV; 0: failed
    bool failed = false;
  };
  bool read_record(std::string& text);
  std::optional<Record> next_record();
  [[noreturn]] void fail_row(std::string_view text) const;
  bool parse_json(Record& record) const;
  bool parse_csv(Record& record) const;

  std::filesystem::path path_;
  RowFormat format_;
  std::ifstream file_;
  std::optional<Record> ahead_;
  std::uint64_t end_ = 0;
  std::size_t records_ = 0;
};

/// The format of a file of rows, by its beginning; nothing for an empty file.
std::optional<RowFormat> format_of_rows(const std::filesystem::path& path);

}  // namespace intaglio
