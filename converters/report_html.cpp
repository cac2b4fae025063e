#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "converters/report.h"
#include "converters/report_style.h"
#include "converters/report_svg.h"

namespace intaglio {
namespace {

using Tensors = std::vector<TensorAccuracy>;

std::string tile(const std::string& term, const std::string& value, const std::string& more) {
  return fmt::format(
      "<div><dt>{}</dt><dd class=\"value\">{}</dd><dd class=\"more\">{}</dd></div>\n", term, value,
      more);
}

std::string percent(std::size_t part, std::size_t all) {
  return fmt::format("{:.1f} %", 100 * double(part) / double(std::max<std::size_t>(all, 1)));
}

std::string megabytes(std::size_t bytes) {
  return bytes < 1000000 ? fmt::format("{:.1f} kB", double(bytes) / 1e3)
                         : fmt::format("{:.1f} MB", double(bytes) / 1e6);
}

std::string summary_tiles(const AccuracySummary& s) {
  std::string html = "<dl class=\"tiles\">\n";
  if (s.labelled != 0) {
    const double points =
        100 * (double(s.integer_right) - double(s.float_right)) / double(s.labelled);
    const std::string sign = points < 0 ? "\u2212" : points > 0 ? "+" : "\u00b1";
    html += tile("Top-1, integers", percent(s.integer_right, s.labelled),
                 fmt::format("{}{:.1f} points to float, {}\u00a0of\u00a0{}", sign, std::abs(points),
                             s.integer_right, s.labelled));
    html += tile("Top-1, float", percent(s.float_right, s.labelled),
                 fmt::format("{} of {}", s.float_right, s.labelled));
  }
  html += tile("Same best class", percent(s.agreeing, s.images),
               fmt::format("{} of {} images", s.agreeing, s.images));
  html += tile("Error of the logits", number_text(s.logit_rmse),
               "root mean square; largest " + number_text(s.logit_max_error));
  const double ratio = double(s.float_bytes) / double(std::max<std::size_t>(s.integer_bytes, 1));
  html += tile("Parameters", megabytes(s.integer_bytes),
               fmt::format("{} in float32, {:.1f} times as much", megabytes(s.float_bytes), ratio));
  return html + "</dl>\n";
}

/// The tensor of the smallest `key`; null where no key is a number.
template <typename KeyOf>
const TensorAccuracy* least(const Tensors& tensors, const KeyOf& key) {
  const TensorAccuracy* found = nullptr;
  for (const TensorAccuracy& t : tensors) {
    if (!std::isnan(key(t)) && (found == nullptr || key(t) < key(*found))) found = &t;
  }
  return found;
}

/// Where to look first.
std::string finding_tiles(const Tensors& tensors) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  std::string html = "<dl class=\"tiles\">\n";
  const auto add = [&](const char* term, const TensorAccuracy* t, const std::string& name,
                       const std::string& more) {
    if (t != nullptr) html += tile(term, "<span class=\"name\">" + name + "</span>", more);
  };
  const auto* far = least(tensors, [](const auto& t) { return t.fit.snr_db; });
  if (far != nullptr) {
    add("Farthest from float", far, html_text(far->name), ratio_text(far->fit.snr_db));
  }
  const auto clipped = [](const TensorAccuracy& t) {
    return t.fit.clipped_low + t.fit.clipped_high;
  };
  const auto* cut = least(tensors, [&](const auto& t) { return -clipped(t); });
  if (cut != nullptr && clipped(*cut) > 0) {
    add("Clipped most", cut, html_text(cut->name), share_text(clipped(*cut)) + " of its values");
  }
  const auto* coarse =
      least(tensors, [&](const auto& t) { return t.weight_snr_db.value_or(none); });
  if (coarse != nullptr) {
    add("Coarsest weights", coarse, html_text(coarse->layer), ratio_text(*coarse->weight_snr_db));
  }
  return html + "</dl>\n";
}

std::string legend_item(const std::string& mark, const char* text) {
  return "<li><svg width=\"22\" height=\"10\" aria-hidden=\"true\">" + mark + "</svg>" + text +
         "</li>\n";
}

std::string depth_section(const Tensors& tensors) {
  std::string html =
      "<section><h2>Error over depth</h2>\n<p class=\"note\">Power of the signal to power of the "
      "error, in dB: at 40 dB the error is 1&nbsp;% of the signal, at 20 dB 10&nbsp;%, at 10 dB "
      "32&nbsp;%. Both networks run from the image to the logits, so errors add up along the "
      "way; the dashed line is what rounding the float stream to its grid costs by itself. What is "
      "better than the scale stands at its top.</p>\n"
      "<ul class=\"legend\">";
  html += legend_item(
      "<path class=\"line\" d=\"M0 5H22\"/><circle class=\"dot stream\" cx=\"11\" cy=\"5\" "
      "r=\"3.4\"/>",
      "residual stream");
  html += legend_item("<path class=\"line alone\" d=\"M0 5H22\"/>", "its grid alone");
  const auto dot = [](const std::string& css_class) {
    return "<circle class=\"dot " + css_class + "\" cx=\"11\" cy=\"5\" r=\"4\"/>";
  };
  html += legend_item(dot("linear"), "linear") + legend_item(dot("attention"), "attention") +
          legend_item(dot("norm"), "LayerNorm") + legend_item(dot("gelu"), "GELU") +
          legend_item(dot("other"), "other");
  return html + "</ul>\n<div class=\"scroll\">" + depth_chart(tensors) + "</div></section>\n";
}

/// Keys of cells: sortable numbers, also of what is infinite or unknown.
std::string key(double value) {
  return std::isnan(value) ? "1e9" : fmt::format("{:.9g}", std::clamp(value, -1e9, 1e9));
}

std::string clipped_cell(const GridFit& fit) {
  const double all = fit.clipped_low + fit.clipped_high;
  std::string html =
      fmt::format("<td class=\"num\" data-label=\"Clipped\" data-key=\"{}\">", key(all));
  if (!(all > 0)) return html + "0</td>";
  return html + fmt::format(
                    "<span class=\"{}\">{}</span><small>{} below</small><small>{} above"
                    "</small></td>",
                    all >= 0.01 ? "poor-text" : "", share_text(all), share_text(fit.clipped_low),
                    share_text(fit.clipped_high));
}

std::string table_row(const TensorAccuracy& t, std::size_t index, double scale) {
  const GridFit& fit = t.fit;
  std::string html = fmt::format(
      "<tr><td class=\"wide\" data-key=\"{}\"><span class=\"name\">{}</span><small>{} of {}</small>"
      "<small>{} \u00d7 {}, {}</small></td>",
      index, html_text(t.name), html_text(t.kind), html_text(t.layer), t.rows, t.channels,
      html_text(t.codes));
  html += fmt::format("<td class=\"num wide\" data-label=\"End to end\" data-key=\"{}\">{}{}</td>",
                      key(fit.snr_db), ratio_text(fit.snr_db), ratio_bar(fit, scale));
  html += fmt::format("<td class=\"num\" data-label=\"Grid alone\" data-key=\"{}\">{}</td>",
                      key(fit.local_snr_db), ratio_text(fit.local_snr_db));
  html += fmt::format("<td class=\"num\" data-label=\"Weights\" data-key=\"{}\">{}</td>",
                      key(t.weight_snr_db.value_or(1e9)),
                      t.weight_snr_db ? ratio_text(*t.weight_snr_db) : "\u2013");
  html += fmt::format(
      "<td class=\"wide\" data-label=\"Range\" data-key=\"{}\">{}<small>float {} \u2026 {}</small>"
      "<small>grid {} \u2026 {}</small></td>",
      key(fit.float_high - fit.float_low), range_bar(fit), number_text(fit.float_low),
      number_text(fit.float_high), number_text(fit.grid_low), number_text(fit.grid_high));
  html += clipped_cell(fit);
  const bool counted = fit.codes_all != 0;
  html += fmt::format(
      "<td class=\"num\" data-label=\"Codes used\" data-key=\"{}\">{}<small>{}</small></td></tr>\n",
      counted ? key(double(fit.codes_used) / double(fit.codes_all)) : "2",
      counted ? fmt::format("{}", fit.codes_used) : "\u2013",
      counted ? fmt::format("of {}", fit.codes_all) : "");
  return html;
}

std::string table_section(const Tensors& tensors) {
  std::string html =
      "<section><h2>Tensors, worst first</h2>\n<p class=\"note\">The tick on a ratio's bar is what "
      "the grid alone would leave. A range's bar shows the float values (blue) within their grid "
      "(grey) and outside of it (red), with a mark at zero; clipped are those that lie more than "
      "half a step outside. With powers of two per channel, the grid is that of the widest "
      "channel.</p>\n<table><thead><tr>"
      "<th data-sort=\"up\">Tensor</th><th data-sort=\"up\" aria-sort=\"ascending\">End to "
      "end</th><th data-sort=\"up\">Grid alone</th><th data-sort=\"up\">Weights</th>"
      "<th data-sort=\"down\">Range</th><th data-sort=\"down\">Clipped</th>"
      "<th data-sort=\"up\">Codes used</th></tr></thead><tbody>\n";
  std::vector<std::size_t> order(tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto ratio = [&](std::size_t i) {
    const double db = tensors[i].fit.snr_db;
    return std::isnan(db) ? -std::numeric_limits<double>::infinity() : db;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return ratio(a) < ratio(b); });
  const double scale = ratio_scale(tensors);
  for (const std::size_t i : order) html += table_row(tensors[i], i, scale);
  return html + "</tbody></table></section>\n";
}

std::string exponent_section(const Tensors& tensors) {
  std::string cards;
  std::size_t exponents = 0;
  for (const TensorAccuracy& t : tensors) {
    const auto& counts = t.exponent_counts;
    if (counts.empty()) continue;
    exponents = std::max(exponents, counts.size());
    std::string text;
    for (std::size_t k = 0; k < counts.size(); ++k) {
      text += fmt::format("{}{}:\u00a0{}", k == 0 ? "" : " \u00b7 ", k, counts[k]);
    }
    cards += "<div><span class=\"name\">" + html_text(t.name) + "</span>" + exponent_bar(counts) +
             "<small>" + text + "</small></div>\n";
  }
  if (cards.empty()) return "";
  std::string html =
      "<section><h2>Powers of two of the channels</h2>\n<p class=\"note\">Channels by exponent: a "
      "channel of exponent k has steps of 2<sup>k</sup> times the tensor's scale.</p>\n"
      "<ul class=\"legend\">";
  for (std::size_t k = 0; k < exponents; ++k) {
    html += fmt::format(
        "<li><svg width=\"14\" height=\"12\" aria-hidden=\"true\"><rect class=\"e{}\" "
        "width=\"14\" height=\"12\"/></svg>{}</li>",
        std::min<std::size_t>(k, 7), k);
  }
  return html + "</ul>\n<div class=\"cards\">" + cards + "</div></section>\n";
}

std::string attention_section(const Tensors& tensors) {
  std::string cards;
  SoftmaxForm form = SoftmaxForm::kLogInt;
  for (const TensorAccuracy& t : tensors) {
    if (!t.attention) continue;
    const AttentionFit& a = *t.attention;
    form = a.form;
    cards += "<div><span class=\"name\">" + html_text(t.layer) + "</span>" +
             (a.code_shares.empty() ? "" : code_histogram(a)) + "<small>scores " +
             ratio_text(a.scores.snr_db) + ", grid alone " + ratio_text(a.scores.local_snr_db) +
             "</small>" + range_bar(a.scores) +
             fmt::format("<small>float {} \u2026 {}</small><small>grid {} \u2026 {}</small>",
                         number_text(a.scores.float_low), number_text(a.scores.float_high),
                         number_text(a.scores.grid_low), number_text(a.scores.grid_high)) +
             "<small>clipped " + share_text(a.scores.clipped_low) + " below, " +
             share_text(a.scores.clipped_high) + " above</small></div>\n";
  }
  if (cards.empty()) return "";
  std::string note = "The range of the scores and of their grid.";
  if (form != SoftmaxForm::kUniform) {
    note = fmt::format(
        "How often the integer softmax gave each code. Code c weighs 2<sup>\u2212c</sup>{}; grey "
        "codes weigh nothing. Below, the range of the scores and of their grid.",
        form == SoftmaxForm::kRowRelative ? " relative to the largest of its row" : "");
  }
  return "<section><h2>Attention</h2>\n<p class=\"note\">" + note + "</p>\n<div class=\"cards\">" +
         cards + "</div></section>\n";
}

}  // namespace

std::string html_report(const AccuracyReport& report) {
  const Tensors& tensors = report.accuracy.tensors;
  const AccuracySummary& summary = report.accuracy.summary;
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      html_text(report.model) + ": accuracy</title>\n<style>" + kReportStyle +
      "</style></head>\n<body><main>\n";
  html += "<header><p class=\"eyebrow\">Intaglio accuracy report</p><h1>" +
          html_text(report.model) + "</h1><p class=\"method\">" + html_text(report.method) +
          "</p></header>\n";
  html += summary_tiles(summary) + finding_tiles(tensors);
  html += depth_section(tensors) + table_section(tensors);
  html += exponent_section(tensors) + attention_section(tensors);
  html += fmt::format(
      "<footer>Measured on {} image{}, every tensor of the integer graph against the float "
      "network in float32.</footer>\n",
      summary.images, summary.images == 1 ? "" : "s");
  return html + "</main><script>" + kReportScript + "</script></body></html>\n";
}

}  // namespace intaglio
