#include "engine/classify/merge.h"

#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "engine/classify/output_file.h"
#include "engine/classify/row_reader.h"
#include "engine/program.h"
#include "graph/error.h"

namespace intaglio {
namespace {

using Paths = std::vector<std::filesystem::path>;

/// All parts are open at the same time.
void allow_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// The format of the first part that has rows.
RowFormat format_of(const Paths& parts) {
  for (const std::filesystem::path& part : parts) {
    if (const auto format = format_of_rows(part)) return *format;
  }
  return RowFormat::kJson;
}

/// Gives the images of the parts in turn, and checks that each part has as many as it must.
class Turns {
 public:
  Turns(const Paths& parts, RowFormat format) {
    for (const std::filesystem::path& part : parts) {
      parts_.push_back({std::make_unique<RowReader>(part, format)});
    }
  }

  std::optional<RowGroup> next() {
    const std::size_t turn = images_ % parts_.size();
    std::optional<RowGroup> group = parts_[turn].reader->next();
    if (!group) {
      check_end(turn);
      return {};
    }
    check_rows(parts_[turn], *group);
    ++parts_[turn].images;
    ++images_;
    return group;
  }

 private:
  struct Part {
    std::unique_ptr<RowReader> reader;
    std::size_t images = 0;
  };

  /// Of CSV: all images have as many rows.
  void check_rows(const Part& part, const RowGroup& group) {
    if (group.failed) return;
    if (rows_ == 0) rows_ = group.rows;
    if (group.rows != rows_) {
      throw Error(ErrorCode::kFormat, part.reader->path().string() + ", image " +
                                          std::to_string(part.images + 1) + ": " +
                                          std::to_string(group.rows) + " rows where others have " +
                                          std::to_string(rows_) + ": " + group.shown());
    }
  }

  /// Behind the last image no part may have another one, and none half a row.
  void check_end(std::size_t turn) {
    for (const Part& part : parts_) {
      RowReader& reader = *part.reader;
      if (reader.next()) {
        throw Error(ErrorCode::kFormat,
                    "the parts do not fit: " + parts_[turn].reader->path().string() +
                        " ends after " + std::to_string(parts_[turn].images) + " images, " +
                        reader.path().string() + " has more than " + std::to_string(part.images));
      }
      if (reader.end() != std::filesystem::file_size(reader.path())) {
        throw Error(ErrorCode::kFormat,
                    reader.path().string() + ": the last row is not whole; resume that run first");
      }
    }
  }

  std::vector<Part> parts_;
  std::size_t images_ = 0, rows_ = 0;
};

void merge(const Paths& parts, const std::filesystem::path& output) {
  const RowFormat format = format_of(parts);
  std::size_t images = 0;
  {  // All is checked before anything is written.
    Turns turns(parts, format);
    while (turns.next()) ++images;
  }
  const std::filesystem::path written = WholeFile::written_for(output);
  for (const std::filesystem::path& part : parts) {
    std::error_code absent;
    if (std::filesystem::equivalent(part, written, absent)) {
      throw Error(ErrorCode::kInvalidArgument,
                  part.string() + ": the output is written there until it is whole");
    }
  }
  WholeFile whole(output);
  whole.file().append(row_header(format));
  Turns turns(parts, format);
  while (const auto group = turns.next()) whole.file().append(group->text);
  whole.finish();
  std::fprintf(stderr, "%zu images of %zu parts\n", images, parts.size());
}

}  // namespace

int merge_command(int argc, char** argv) {
  Paths parts;
  std::filesystem::path output;
  bool overwrite = false;
  CLI::App app{"Merges the outputs of all shards into that of a run without shards.",
               "intaglio-classify merge"};
  app.add_option("parts", parts, "Outputs of --shard 0/n, 1/n, ... in this order, JSON or CSV")
      ->required();
  app.add_option("--output,-o", output, "File to write")->required();
  app.add_flag("--overwrite", overwrite, "Replace the file if it exists");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  std::error_code absent;
  if (!overwrite && std::filesystem::is_regular_file(output, absent) &&
      std::filesystem::file_size(output) != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                output.string() + ": this file exists; --overwrite replaces it");
  }
  allow_open_files();
  ignore_write_signals();
  merge(parts, output);
  return 0;
}

}  // namespace intaglio
