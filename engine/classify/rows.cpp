#include "engine/classify/rows.h"

#include <nlohmann/json.hpp>

#include "engine/classify/text.h"
#include "engine/program.h"

namespace intaglio {
namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + "\"";
}

class TextRows : public RowWriter {
 public:
  explicit TextRows(const Model& model) : model_(model) {}

  void append(std::string& rows, const std::string& name, const Outcome& outcome,
              std::optional<std::size_t> label) const override {
    if (!outcome.error.empty()) return;  // said on stderr
    rows += terminal_text(name);
    if (label) {
      const bool right = !outcome.top.empty() && outcome.top[0].prediction.index == *label;
      rows += right ? "  (right)" : "  (is " + terminal_text(model_.label(*label)) + ")";
    }
    rows += '\n';
    for (const RankedClass& ranked : outcome.top) {
      rows += format("  %5.1f %%  ", 100 * ranked.probability);
      rows += terminal_text(model_.label(ranked.prediction.index)) + '\n';
    }
  }

 private:
  const Model& model_;
};

class JsonRows : public RowWriter {
 public:
  explicit JsonRows(const Model& model) : model_(model) {}

  void append(std::string& rows, const std::string& name, const Outcome& outcome,
              std::optional<std::size_t>) const override {
    nlohmann::ordered_json json;
    json["path"] = name;
    if (!outcome.error.empty()) {
      json["error"] = outcome.error;
    } else {
      json["top"] = nlohmann::ordered_json::array();
      for (const RankedClass& ranked : outcome.top) {
        json["top"].push_back({{"index", ranked.prediction.index},
                               {"label", model_.label(ranked.prediction.index)},
                               {"logit", ranked.prediction.logit},
                               {"probability", ranked.probability}});
      }
    }
    rows += dump(json) + '\n';
  }

 private:
  const Model& model_;
};

class CsvRows : public RowWriter {
 public:
  explicit CsvRows(const Model& model) : model_(model) {}

  void append(std::string& rows, const std::string& name, const Outcome& outcome,
              std::optional<std::size_t>) const override {
    const std::string start = row_start(RowFormat::kCsv, name);
    if (!outcome.error.empty()) rows += start + ",,,,," + quoted(outcome.error) + '\n';
    for (std::size_t rank = 0; rank < outcome.top.size(); ++rank) {
      const RankedClass& ranked = outcome.top[rank];
      rows += start + std::to_string(rank + 1) + ',' + std::to_string(ranked.prediction.index) +
              ',' + quoted(model_.label(ranked.prediction.index)) + ',' +
              std::to_string(ranked.prediction.logit) + format(",%.9g,\n", ranked.probability);
    }
  }

 private:
  const Model& model_;
};

}  // namespace

std::string_view row_header(RowFormat format) {
  return format == RowFormat::kCsv ? kCsvHeader : std::string_view();
}

std::string row_start(RowFormat format, const std::string& name) {
  return format == RowFormat::kCsv ? quoted(name) + ',' : "{\"path\":" + dump(name) + ',';
}

std::unique_ptr<RowWriter> make_row_writer(RowFormat format, const Model& model) {
  switch (format) {
    case RowFormat::kJson:
      return std::make_unique<JsonRows>(model);
    case RowFormat::kCsv:
      return std::make_unique<CsvRows>(model);
    case RowFormat::kText:
      break;
  }
  return std::make_unique<TextRows>(model);
}

}  // namespace intaglio
