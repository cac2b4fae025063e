// What intaglio-classify prints: one record per image, and a summary.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/classify_inputs.h"
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

struct Summary {
  std::size_t images = 0;  ///< all, failed ones included
  std::size_t failed = 0;
  std::optional<double> top1, top5;  ///< percent of the images that were read; with evaluation only
  double seconds = 0;                ///< wall time of everything after loading the model
};

/// Writes records as they come.
class Report {
 public:
  virtual ~Report() = default;
  virtual void image(const InputImage& input, const Outcome& outcome) = 0;
  virtual void summary(const Summary& summary) = 0;
};

enum class ReportFormat { kText, kJson, kCsv };
std::unique_ptr<Report> make_report(ReportFormat format, const Model& model, std::ostream& out);

}  // namespace intaglio
