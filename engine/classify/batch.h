// A run of intaglio-classify: from the list of images to rows, logits and features.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/classify/rows.h"
#include "engine/classify/source.h"
#include "engine/classify/worker.h"

namespace intaglio {

struct BatchOptions {
  std::vector<std::string> inputs;  ///< as PathStream takes them
  std::filesystem::path eval;       ///< empty: no evaluation
  std::filesystem::path output;     ///< empty: standard output
  RowFormat format = RowFormat::kText;
  bool resume = false, overwrite = false;
  Shard shard;
  Wanted wanted;                  ///< what the rows and the files below need
  std::string logits, features;   ///< prefixes of files; empty: none
  std::size_t rows_per_file = 0;  ///< 0: chosen by the size of a row
  std::size_t max_failures = 0;   ///< 0: no limit
  std::size_t threads = 0;        ///< 0: one per CPU
  DecodeLimits limits;
};

/// Returns the exit status.
int run_batch(const BatchOptions& options, const Model& model);

}  // namespace intaglio
