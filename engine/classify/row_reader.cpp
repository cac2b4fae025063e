#include "engine/classify/row_reader.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {

std::string RowGroup::shown() const {
  return printable(text.substr(0, text.find('\n')));
}

RowReader::RowReader(std::filesystem::path path, RowFormat format)
    : path_(std::move(path)), format_(format), file_(path_, std::ios::binary) {
  if (!file_) throw Error(ErrorCode::kIo, path_.string() + ": cannot open this file");
  const std::string_view header = row_header(format_);
  std::string found(header.size(), '\0');
  file_.read(found.data(), static_cast<std::streamsize>(found.size()));
  found.resize(static_cast<std::size_t>(file_.gcount()));
  if (!header.starts_with(found)) {
    throw Error(ErrorCode::kFormat, path_.string() + ": expected the columns " +
                                        printable(header.substr(0, header.size() - 1)) +
                                        ", found " + printable(found.substr(0, found.find('\n'))));
  }
  if (found.size() == header.size()) end_ = header.size();
}

/// One line, or in CSV one record, whose quoted fields may hold ends of lines. False at the end of
/// what is whole.
bool RowReader::read_record(std::string& text) {
  // Of JSON a row has all classes. A quote too many in CSV makes one row of all that follows.
  const std::size_t most = (format_ == RowFormat::kCsv ? std::size_t{4} : 256) << 20;
  text.clear();
  bool quoted = false;
  try {
    for (int byte = 0; (byte = file_.rdbuf()->sbumpc()) != std::ifstream::traits_type::eof();) {
      text += static_cast<char>(byte);
      if (format_ == RowFormat::kCsv && byte == '"') quoted = !quoted;
      if (byte == '\n' && !quoted) return true;
      if (text.size() > most) fail_row(text);
    }
  } catch (const std::ios_base::failure&) {
    throw Error(ErrorCode::kIo, path_.string() + ": cannot read this file");
  }
  return false;
}

void RowReader::fail_row(std::string_view text) const {
  constexpr std::size_t kShown = 200;
  throw Error(ErrorCode::kFormat, path_.string() + ", row " + std::to_string(records_ + 1) + ": " +
                                      printable(text.substr(0, std::min(text.find('\n'), kShown))) +
                                      " is no row of intaglio-classify");
}

/// {"path":"...","top":[...]} or {"path":"...","error":"..."}, as they are written, without parsing
/// all of it.
bool RowReader::parse_json(Record& record) const {
  const std::string_view text = record.text;
  static constexpr std::string_view kStart = "{\"path\":\"";
  if (!text.starts_with(kStart) || !text.ends_with("}\n")) return false;
  std::size_t at = kStart.size();
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  const std::string_view rest = text.substr(std::min(at, text.size()));
  record.name_bytes = at + 2;
  record.failed = rest.starts_with("\",\"error\":\"");
  return record.failed || rest.starts_with("\",\"top\":[");
}

bool RowReader::parse_csv(Record& record) const {
  const std::string_view text = record.text;
  bool quoted = false;
  std::size_t at = 0;
  for (; at < text.size() && (quoted || text[at] != ','); ++at) quoted ^= text[at] == '"';
  if (at == text.size()) return false;
  record.name_bytes = at + 1;
  const std::string_view rest = text.substr(record.name_bytes);
  record.failed = rest.starts_with(",,,,,") && rest.size() > 6;
  if (record.failed) return true;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), record.rank);
  return error == std::errc() && *end == ',' && record.rank != 0 && rest.ends_with(",\n");
}

std::optional<RowReader::Record> RowReader::next_record() {
  Record record;
  if (!read_record(record.text)) return {};
  if (!(format_ == RowFormat::kCsv ? parse_csv(record) : parse_json(record))) {
    fail_row(record.text);
  }
  ++records_;
  return record;
}

std::optional<RowGroup> RowReader::next() {
  std::optional<Record> first = ahead_ ? std::exchange(ahead_, {}) : next_record();
  if (!first) return {};
  RowGroup group{first->text, 1, first->failed};
  if (format_ == RowFormat::kCsv && !first->failed) {
    if (first->rank != 1) {
      throw Error(ErrorCode::kFormat, path_.string() + ", row " + std::to_string(records_) +
                                          ": expected rank 1 of an image, found rank " +
                                          std::to_string(first->rank) + " in " + group.shown());
    }
    const std::string_view name = std::string_view(first->text).substr(0, first->name_bytes);
    while ((ahead_ = next_record()) && !ahead_->failed && ahead_->rank == group.rows + 1 &&
           ahead_->text.starts_with(name)) {
      group.text += ahead_->text;
      ++group.rows;
    }
  }
  end_ += group.text.size();
  return group;
}

std::optional<RowFormat> format_of_rows(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kIo, path.string() + ": cannot open this file");
  const int first = file.get();
  if (file.eof()) return {};
  return first == '{' ? RowFormat::kJson : RowFormat::kCsv;
}

}  // namespace intaglio
