#include "engine/classify/earlier_rows.h"

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {

EarlierRows::EarlierRows(const std::filesystem::path& path, RowFormat format,
                         std::size_t rows_per_image)
    : path_(path), format_(format) {
  if (!std::filesystem::exists(path)) return;
  RowReader reader(path, format);
  end_ = reader.end();
  std::optional<RowGroup> lacking;
  while (const std::optional<RowGroup> group = reader.next()) {
    const bool whole = format != RowFormat::kCsv || group->failed || group->rows == rows_per_image;
    if (lacking || (!whole && group->rows > rows_per_image)) {
      const RowGroup& wrong = lacking ? *lacking : *group;
      throw Error(ErrorCode::kInvalidArgument,
                  path.string() + ", image " + std::to_string(images_ + 1) + ": expected " +
                      std::to_string(rows_per_image) + " rows, found " +
                      std::to_string(wrong.rows) +
                      " (another model or other options?): " + wrong.shown());
    }
    if (!whole) {
      lacking = group;
      continue;
    }
    if (!group->failed) last_classified_ = images_;
    ++images_;
    end_ = reader.end();
  }
  reader_.emplace(path, format);
}

std::string EarlierRows::place() const {
  return path_.string() + ", image " + std::to_string(given_);
}

RowGroup EarlierRows::next(const std::string& name) {
  std::optional<RowGroup> group = reader_->next();
  ++given_;
  if (!group) throw Error(ErrorCode::kIo, place() + ": changed while it was read");
  if (!group->text.starts_with(row_start(format_, name))) {
    throw Error(ErrorCode::kInvalidArgument, place() + ": the list has " + printable(name) +
                                                 " there, the file " + group->shown());
  }
  return *std::move(group);
}

void EarlierRows::fail_more() {
  const std::optional<RowGroup> group = reader_->next();
  ++given_;
  throw Error(ErrorCode::kInvalidArgument, place() + ": the list ends before it, the file has " +
                                               (group ? group->shown() : "more"));
}

}  // namespace intaglio
