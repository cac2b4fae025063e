#include "bench/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/program.h"

namespace intaglio {
namespace {

using Json = nlohmann::ordered_json;

/// A step's figures, once for all formats. Rates are 0 where no time was measured.
struct StepFigures {
  double ms, share, gmac_s, of_peak, gb_s;
};

StepFigures figures_of(const StepGroup& step, const Measurement& row) {
  double total = 0;
  for (const StepGroup& s : row.steps) total += s.seconds;
  const auto per_second = [&](std::size_t amount) {
    return step.seconds > 0 ? 1e-9 * static_cast<double>(amount) / step.seconds : 0;
  };
  const double gmac_s = per_second(step.macs);
  return {1e3 * step.seconds, total > 0 ? step.seconds / total : 0, gmac_s,
          gmac_s / (row.peak_gmac_s * static_cast<double>(row.step_threads)),
          per_second(step.bytes)};
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json step_to_json(const StepGroup& step, const Measurement& row) {
  const StepFigures f = figures_of(step, row);
  return {{"name", step.name},   {"kind", step.kind}, {"count", step.count}, {"ms", f.ms},
          {"share", f.share},    {"macs", step.macs}, {"gmac_s", f.gmac_s},  {"of_peak", f.of_peak},
          {"bytes", step.bytes}, {"gb_s", f.gb_s}};
}

/// Everything but latency_ms and steps: the columns of CSV.
Json row_to_json(const Machine& machine, const Measurement& row) {
  const Configuration& c = row.configuration;
  return {{"model", c.model},
          {"isa", isa_name(c.isa)},
          {"threads", c.threads},
          {"batch", c.batch},
          {"images_per_s", row.images_per_s},
          {"calls", row.calls},
          {"spread", row.spread},
          {"load_ms", row.cost.load_ms},
          {"peak_rss_mb", row.cost.peak_rss_mb},
          {"macs", row.macs},
          {"peak_gmac_s", row.peak_gmac_s},
          {"floor_ms", row.floor_ms},
          {"ratio", row.ratio},
          {"checked_against", row.checked_against},
          {"round_spread", row.round_spread},
          {"peak_spread", row.peak_spread},
          {"other_processes", row.activity.others},
          {"stolen", row.activity.stolen},
          {"noisy", !row.noise().empty() || row.activity.noisy()},
          {"cpu", machine.cpu},
          {"cpus", machine.cpus},
          {"clock_ghz", machine.clock_ghz},
          {"compiler", machine.compiler},
          {"commit", machine.commit},
          {"date", machine.date}};
}

Json latency_to_json(const Measurement& row) {
  return {{"min", row.min_ms}, {"median", row.median_ms}, {"p90", row.p90_ms}, {"p99", row.p99_ms}};
}

/// 1234567 -> "1.2 M".
std::string short_number(double value) {
  const char* unit = "";
  for (const char* next : {"k", "M", "G"}) {
    if (value < 10e3 && !(value >= 1e3 && *unit != 0)) break;
    value /= 1e3, unit = next;
  }
  return fmt::format("{:.{}f} {}", value, *unit == 0 || value >= 100 ? 0 : 1, unit);
}

/// "deit_tiny, avx2, threads 1, batch 1".
std::string title(const Configuration& c) {
  return fmt::format("{}, {}, threads {}, batch {}", c.model, isa_name(c.isa), c.threads, c.batch);
}

std::string step_table(const Measurement& row) {
  std::size_t width = 4;
  std::size_t kind_width = 4;
  for (const StepGroup& step : row.steps) {
    width = std::max(width, step.name.size());
    kind_width = std::max(kind_width, step.kind.size());
  }
  std::string text = fmt::format(
      "\n{}: steps of one image\n{:<{}} {:<{}} {:>5} {:>9} "
      "{:>6} {:>8} {:>7} {:>7}\n",
      terminal_text(title(row.configuration)), "step", width, "kind", kind_width, "count", "ms",
      "time", "GMAC/s", "of peak", "GB/s");
  for (const StepGroup& step : row.steps) {
    const StepFigures f = figures_of(step, row);
    const std::string gmac_s = step.macs == 0 ? "-" : fmt::format("{:.1f}", f.gmac_s);
    const std::string of_peak = step.macs == 0 ? "-" : fmt::format("{:.1f} %", 100 * f.of_peak);
    text += fmt::format("{:<{}} {:<{}} {:>5} {:>9.4f} {:>4.1f} % {:>8} {:>7} {:>7.1f}\n",
                        terminal_text(step.name), width, step.kind, kind_width, step.count, f.ms,
                        100 * f.share, gmac_s, of_peak, f.gb_s);
  }
  return text;
}

}  // namespace

std::string text_report(const Machine& machine, const std::vector<Measurement>& rows) {
  std::string text = fmt::format("{}, {} CPUs, about {:.2f} GHz, {}, commit {}, {}\n\n",
                                 terminal_text(machine.cpu), machine.cpus, machine.clock_ghz,
                                 machine.compiler, machine.commit, machine.date);
  std::size_t width = 5;
  for (const Measurement& row : rows) width = std::max(width, row.configuration.model.size());
  text += fmt::format(
      "{:<{}} {:<11} {:>7} {:>5} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8} {:>8} {:>9} {:>6}\n",
      "model", width, "isa", "threads", "batch", "min ms", "median", "p90", "p99", "spread",
      "images/s", "load ms", "peak MB", "floor ms", "ratio");
  for (const Measurement& row : rows) {
    const Configuration& c = row.configuration;
    text += fmt::format(
        "{:<{}} {:<11} {:>7} {:>5} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>4.0f} % {:>9.1f} "
        "{:>8.1f} {:>8.1f} {:>9.3f} {:>6.2f}{}\n",
        terminal_text(c.model), width, isa_name(c.isa), c.threads, c.batch, row.min_ms,
        row.median_ms, row.p90_ms, row.p99_ms, 100 * row.spread, row.images_per_s, row.cost.load_ms,
        row.cost.peak_rss_mb, row.floor_ms, row.ratio, row.noise().empty() ? "" : " noisy");
  }
  text += '\n';
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Measurement& row = rows[i];
    const Configuration& c = row.configuration;
    const auto same = [&](const Configuration& o) { return o.model == c.model && o.isa == c.isa; };
    if (i > 0 && same(rows[i - 1].configuration)) continue;
    text += fmt::format("{}, {}: {}MACs per image, peak {:.1f} GMAC/s per core, {}\n",
                        terminal_text(c.model), isa_name(c.isa),
                        short_number(static_cast<double>(row.macs)), row.peak_gmac_s,
                        row.checked_against.empty() ? "logits not checked by another level"
                                                    : "logits equal " + row.checked_against + "'s");
  }
  for (const Measurement& row : rows) {
    if (!row.steps.empty()) text += step_table(row);
  }
  return text;
}

std::string csv_report(const Machine& machine, const std::vector<Measurement>& rows) {
  std::string text;
  for (const Measurement& row : rows) {
    Json columns = row_to_json(machine, row);
    const Json latency = latency_to_json(row);
    for (const auto& [key, value] : latency.items()) columns["latency_ms_" + key] = value;
    std::string header;
    std::string line;
    for (const auto& [key, value] : columns.items()) {
      std::string field = value.is_string() ? value.get<std::string>() : dump(value);
      for (std::size_t at = 0; (at = field.find('"', at)) != field.npos; at += 2) {
        field.insert(at, 1, '"');
      }
      if (field.find_first_of(",\"\r\n") != field.npos) field = '"' + field + '"';
      header += (header.empty() ? "" : ",") + key;
      line += (line.empty() ? "" : ",") + field;
    }
    text += (text.empty() ? header + '\n' : "") + line + '\n';
  }
  return text;
}

std::string json_report(const Machine& machine, const std::vector<Measurement>& rows) {
  std::string text;
  for (const Measurement& row : rows) {
    Json json = row_to_json(machine, row);
    json["latency_ms"] = latency_to_json(row);
    json["step_threads"] = row.step_threads;
    json["steps"] = Json::array();
    for (const StepGroup& step : row.steps) json["steps"].push_back(step_to_json(step, row));
    text += dump(json) + '\n';
  }
  return text;
}

std::vector<std::string> warnings(const std::vector<Measurement>& rows) {
  std::vector<std::string> lines;
  for (const Measurement& row : rows) {
    std::string reasons;
    for (const std::string& reason : row.noise()) {
      reasons += (reasons.empty() ? "" : ", ") + reason;
    }
    if (!reasons.empty()) {
      lines.push_back(title(row.configuration) +
                      ": too noisy to tell small differences: " + reasons);
    }
  }
  if (const Activity& a = rows.front().activity; a.noisy()) {
    lines.push_back(
        fmt::format("the machine was not idle: other processes took {:.0f} % of its time, the "
                    "hypervisor {:.0f} %",
                    100 * a.others, 100 * a.stolen));
  }
  return lines;
}

std::string trace(const std::vector<Measurement>& rows) {
  Json events = Json::array();
  for (std::size_t pid = 0; pid < rows.size(); ++pid) {
    const Measurement& row = rows[pid];
    events.push_back({{"name", "process_name"},
                      {"ph", "M"},
                      {"pid", pid},
                      {"args", {{"name", title(row.configuration)}}}});
    for (std::size_t i = 0; i < row.timeline.size(); ++i) {
      const StepInfo& info = row.infos[i];
      const Span& span = row.timeline[i];
      events.push_back({{"name", info.name},
                        {"cat", info.kind},
                        {"ph", "X"},
                        {"pid", pid},
                        {"tid", 0},
                        {"ts", span.begin},
                        {"dur", span.end - span.begin},
                        {"args",
                         {{"macs", info.multiply_accumulates},
                          {"parameter_bytes", info.parameter_bytes},
                          {"activation_bytes", info.activation_bytes}}}});
    }
  }
  return dump({{"displayTimeUnit", "ms"}, {"traceEvents", events}}) + '\n';
}

}  // namespace intaglio
