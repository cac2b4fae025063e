// The rows that intaglio-classify writes: what each image shows, or why that is not known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/intaglio.h"

namespace intaglio {

struct RankedClass {
  Prediction prediction;
  double probability = 0;
};

/// The outcome of one image: a ranking, or the reason why there is none.
struct Outcome {
  std::vector<RankedClass> top;
  std::string error;  ///< empty: classified
};

enum class RowFormat : std::uint8_t { kText, kJson, kCsv };

/// The first line of CSV.
inline constexpr std::string_view kCsvHeader = "path,rank,index,label,logit,probability,error\n";

/// What precedes all rows.
std::string_view row_header(RowFormat format);
/// How each row of an image begins, in JSON and CSV: with its name. No other name begins
/// so, unless both are no UTF-8.
std::string row_start(RowFormat format, const std::string& name);

/// Makes the rows of one image. The same image gives the same bytes, always.
class RowWriter {
 public:
  virtual ~RowWriter() = default;
  /// Appends to `rows`. `label`: the class that is right, where that is known.
  virtual void append(std::string& rows, const std::string& name, const Outcome& outcome,
                      std::optional<std::size_t> label) const = 0;
};
std::unique_ptr<RowWriter> make_row_writer(RowFormat format, const Model& model);

}  // namespace intaglio
