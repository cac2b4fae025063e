#include "engine/classify_report.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/program.h"

namespace intaglio {
namespace {

/// printf into a string; for numbers and short texts.
template <typename... Args>
std::string format(const char* text, Args... args) {
  char buffer[128];
  std::snprintf(buffer, sizeof buffer, text, args...);
  return buffer;
}

class TextReport : public Report {
 public:
  TextReport(const Model& model, std::ostream& out) : model_(model), out_(out) {}

  void image(const InputImage& input, const Outcome& outcome) override {
    if (!outcome.error.empty()) return;  // said on stderr
    out_ << terminal_text(input.path.string());
    if (input.label) {
      const bool right = !outcome.top.empty() && outcome.top[0].prediction.index == *input.label;
      out_ << (right ? "  (right)" : "  (is " + terminal_text(model_.label(*input.label)) + ")");
    }
    out_ << '\n';
    for (const RankedClass& ranked : outcome.top) {
      out_ << format("  %5.1f %%  ", 100 * ranked.probability)
           << terminal_text(model_.label(ranked.prediction.index)) << '\n';
    }
  }
  void summary(const Summary& s) override {
    const std::size_t read = s.images - s.failed;
    out_ << read << (read == 1 ? " image" : " images");
    if (s.failed != 0) out_ << ", " << s.failed << " failed";
    if (s.top1) out_ << format(", top-1 %.2f %%, top-5 %.2f %%", *s.top1, *s.top5);
    if (read != 0) {
      out_ << format(", %.2f s, %.2f ms per image", s.seconds, 1e3 * s.seconds / double(read));
    }
    out_ << '\n';
  }

 private:
  const Model& model_;
  std::ostream& out_;
};

class JsonReport : public Report {
 public:
  JsonReport(const Model& model, std::ostream& out) : model_(model), out_(out) {}

  void image(const InputImage& input, const Outcome& outcome) override {
    nlohmann::ordered_json json;
    json["path"] = input.path.string();
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
    line(json);
  }
  void summary(const Summary& s) override {
    if (!s.top1) return;
    line({{"images", s.images},
          {"failed", s.failed},
          {"top1", *s.top1},
          {"top5", *s.top5},
          {"seconds", s.seconds}});
  }

 private:
  void line(const nlohmann::ordered_json& json) {
    // Paths are bytes, not necessarily UTF-8.
    out_ << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
  const Model& model_;
  std::ostream& out_;
};

class CsvReport : public Report {
 public:
  CsvReport(const Model& model, std::ostream& out) : model_(model), out_(out) {
    out_ << "path,rank,index,label,logit,probability,error\n";
  }

  void image(const InputImage& input, const Outcome& outcome) override {
    const std::string path = quoted(input.path.string());
    if (!outcome.error.empty()) out_ << path << ",,,,,," << quoted(outcome.error) << '\n';
    for (std::size_t rank = 0; rank < outcome.top.size(); ++rank) {
      const RankedClass& ranked = outcome.top[rank];
      out_ << path << ',' << rank + 1 << ',' << ranked.prediction.index << ','
           << quoted(model_.label(ranked.prediction.index)) << ',' << ranked.prediction.logit << ','
           << format("%.9g", ranked.probability) << ",\n";
    }
  }
  void summary(const Summary& s) override {
    if (!s.top1) return;
    std::fprintf(stderr, "%zu images, %zu failed, top-1 %.2f %%, top-5 %.2f %%, %.2f s\n", s.images,
                 s.failed, *s.top1, *s.top5, s.seconds);
  }

 private:
  static std::string quoted(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == text.npos) return text;
    std::string result = "\"";
    for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
    return result + "\"";
  }
  const Model& model_;
  std::ostream& out_;
};

}  // namespace

std::unique_ptr<Report> make_report(ReportFormat format, const Model& model, std::ostream& out) {
  switch (format) {
    case ReportFormat::kJson:
      return std::make_unique<JsonReport>(model, out);
    case ReportFormat::kCsv:
      return std::make_unique<CsvReport>(model, out);
    case ReportFormat::kText:
      break;
  }
  return std::make_unique<TextReport>(model, out);
}

}  // namespace intaglio
