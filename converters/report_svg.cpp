#include "converters/report_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

namespace intaglio {
namespace {

/// `value` in 0..1 of a drawing that what is not a number must not break.
double unit(double value) {
  return std::isnan(value) ? 0 : std::clamp(value, 0.0, 1.0);
}

/// Geometry of the chart over depth.
struct Frame {
  double width = 960, height = 330, left = 44, right = 12, top = 14, bottom = 38;
  std::size_t count = 1;
  double scale = 10;  ///< dB at the top

  double x(std::size_t index) const {
    const double step = (width - left - right) / double(count);
    return left + (double(index) + 0.5) * step;
  }
  double y(double db) const { return height - bottom - unit(db / scale) * inner_height(); }
  double inner_height() const { return height - top - bottom; }
};

/// N of "blocks.N.rest".
std::optional<std::string> block_of(const std::string& name) {
  const std::size_t first = name.find('.');
  if (first == name.npos) return {};
  const std::size_t last = name.find('.', first + 1);
  const std::string number = name.substr(first + 1, last == name.npos ? 0 : last - first - 1);
  const bool digits =
      !number.empty() && number.size() <= 4 &&
      std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::optional(number) : std::nullopt;
}

std::string grid_lines(const Frame& f) {
  std::string svg;
  for (int db = 0; db <= int(f.scale); db += 10) {
    svg += fmt::format(
        "<line class=\"rule\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text class=\"axis\" text-anchor=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>",
        f.left, f.width - f.right, f.y(db), f.y(db), f.left - 8, f.y(db) + 4, db);
  }
  return svg;
}

/// Every other block shaded, with its number below.
std::string block_bands(const Frame& f, std::span<const TensorAccuracy> tensors) {
  std::string svg;
  const double half = f.x(1) / 2 - f.x(0) / 2;
  std::size_t blocks = 0;
  for (std::size_t begin = 0; begin < tensors.size();) {
    const auto block = block_of(tensors[begin].name);
    std::size_t end = begin + 1;
    while (end < tensors.size() && block_of(tensors[end].name) == block) ++end;
    if (block) {
      const double left = f.x(begin) - half;
      const double width = f.x(end - 1) + half - left;
      if (blocks++ % 2 == 0) {
        svg += fmt::format(
            "<rect class=\"band\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
            left, f.top, width, f.inner_height());
      }
      svg += fmt::format(
          "<text class=\"axis\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>",
          left + width / 2, f.height - f.bottom + 17, *block);
    }
    begin = end;
  }
  return svg;
}

/// The residual stream's ratios: end to end, or those of its grid alone.
std::string stream_line(const Frame& f, std::span<const TensorAccuracy> tensors,
                        const char* css_class, double GridFit::*ratio) {
  std::string points;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].stream) continue;
    points += fmt::format("{:.1f},{:.1f} ", f.x(i), f.y(tensors[i].fit.*ratio));
  }
  return fmt::format("<polyline class=\"{}\" points=\"{}\"/>", css_class, points);
}

const char* dot_class(const TensorAccuracy& tensor) {
  if (tensor.stream) return "stream";
  if (tensor.kind == "linear") return "linear";
  if (tensor.kind == "attention") return "attention";
  if (tensor.kind == "layernorm") return "norm";
  return tensor.kind == "gelu" ? "gelu" : "other";
}

std::string bar(const char* css_class, double from, double to, double height) {
  return fmt::format("<rect class=\"{}\" x=\"{:.2f}\" y=\"0\" width=\"{:.2f}\" height=\"{:.0f}\"/>",
                     css_class, from, std::max(to - from, 0.0), height);
}

}  // namespace

std::string html_text(std::string_view text) {
  using Json = nlohmann::json;
  const std::string valid =
      Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
  std::string html;
  for (const char c : valid) {
    switch (c) {  // clang-format off
      case '&': html += "&amp;"; break;
      case '<': html += "&lt;"; break;
      case '>': html += "&gt;"; break;
      case '"': html += "&quot;"; break;
      case '\'': html += "&#39;"; break;
      default: html += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }  // clang-format on
  }
  return html;
}

std::string ratio_text(double db) {
  if (std::isnan(db)) return "unknown";
  if (std::isinf(db)) return db > 0 ? "exact" : "lost";
  return (db < 0 ? "\u2212" : "") + fmt::format("{:.1f} dB", std::abs(db));
}

std::string share_text(double share) {
  if (std::isnan(share)) return "unknown";
  if (share == 0) return "0";
  const double percent = 100 * share;
  if (percent < 0.001) return "&lt; 0.001 %";
  return fmt::format("{:.{}f} %", percent, percent < 1 ? 3 : 1);
}

std::string number_text(double value) {
  return (value < 0 ? "\u2212" : "") + fmt::format("{:.3g}", std::abs(value));
}

double ratio_scale(std::span<const TensorAccuracy> tensors) {
  double largest = 10;
  for (const TensorAccuracy& tensor : tensors) {
    if (tensor.kind == "patches") continue;  // nearly exact, whatever the rest
    for (const double db : {tensor.fit.snr_db, tensor.stream ? tensor.fit.local_snr_db : 0.0}) {
      if (std::isfinite(db)) largest = std::max(largest, db);
    }
  }
  return std::min(70.0, 10 * std::ceil(largest / 10));
}

std::string depth_chart(std::span<const TensorAccuracy> tensors) {
  Frame f;
  f.count = std::max<std::size_t>(1, tensors.size());
  f.scale = ratio_scale(tensors);
  std::string svg = fmt::format(
      "<svg class=\"depth\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"depth-title "
      "depth-text\"><title id=\"depth-title\">Signal to error ratio over depth</title><desc "
      "id=\"depth-text\">One mark per tensor in order of execution, in decibels; the residual "
      "stream is a line. The table below has the same numbers.</desc>",
      f.width, f.height);
  svg += block_bands(f, tensors) + grid_lines(f);
  svg += stream_line(f, tensors, "line alone", &GridFit::local_snr_db);
  svg += stream_line(f, tensors, "line", &GridFit::snr_db);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorAccuracy& t = tensors[i];
    svg += fmt::format(
        "<circle class=\"dot {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}: {}, grid alone "
        "{}</title></circle>",
        dot_class(t), f.x(i), f.y(t.fit.snr_db), t.stream ? "3.4" : "3", html_text(t.name),
        ratio_text(t.fit.snr_db), ratio_text(t.fit.local_snr_db));
  }
  return svg + fmt::format(
                   "<text class=\"axis\" text-anchor=\"middle\" x=\"{:.0f}\" "
                   "y=\"{:.0f}\">block</text></svg>",
                   (f.left + f.width - f.right) / 2, f.height - 4);
}

std::string ratio_bar(const GridFit& fit, double scale) {
  const char* level = fit.snr_db < 10 ? "poor" : fit.snr_db < 20 ? "fair" : "good";
  const double alone = 100 * unit(fit.local_snr_db / scale);
  return "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" "
         "aria-hidden=\"true\">" +
         bar("track", 0, 100, 8) + bar(level, 0, 100 * unit(fit.snr_db / scale), 8) +
         bar("tick", std::min(alone, 98.8), std::min(alone, 98.8) + 1.2, 8) + "</svg>";
}

std::string range_bar(const GridFit& fit) {
  const double low = std::min(fit.float_low, fit.grid_low);
  const double high = std::max(fit.float_high, fit.grid_high);
  const auto at = [&](double value) { return 100 * unit((value - low) / (high - low)); };
  const double inner_low = std::clamp(fit.grid_low, fit.float_low, fit.float_high);
  const double inner_high = std::clamp(fit.grid_high, fit.float_low, fit.float_high);
  std::string svg =
      "<svg class=\"bar range\" viewBox=\"0 0 100 12\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">" +
      bar("track", at(fit.grid_low), at(fit.grid_high), 12);
  svg += "<g transform=\"translate(0 3)\">" + bar("outside", at(fit.float_low), at(inner_low), 6) +
         bar("inside", at(inner_low), at(inner_high), 6) +
         bar("outside", at(inner_high), at(fit.float_high), 6) + "</g>";
  return svg + bar("zero", at(0) - 0.4, at(0) + 0.4, 12) + "</svg>";
}

std::string exponent_bar(std::span<const std::size_t> counts) {
  const std::size_t all = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
  std::string svg =
      "<svg class=\"bar exponents\" viewBox=\"0 0 100 12\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">";
  double from = 0;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    const double to = from + 100 * double(counts[k]) / double(std::max<std::size_t>(all, 1));
    svg += bar(fmt::format("e{}", std::min<std::size_t>(k, 7)).c_str(), from, to, 12);
    from = to;
  }
  return svg + "</svg>";
}

std::string code_histogram(const AttentionFit& attention) {
  const auto& shares = attention.code_shares;
  const double largest = shares.empty() ? 1 : *std::max_element(shares.begin(), shares.end());
  std::string svg = fmt::format(
      "<svg class=\"histogram\" viewBox=\"0 0 {} 74\" role=\"img\" aria-label=\"Shares of the "
      "softmax codes\">",
      12 * shares.size());
  for (std::size_t c = 0; c < shares.size(); ++c) {
    const double height = 58 * unit(shares[c] / largest);
    const bool zero = int(c) >= attention.zero_code;
    const std::string weight = zero ? "0" : fmt::format("2^\u2212{}", c);
    svg += fmt::format(
        "<rect class=\"{}\" x=\"{}\" y=\"{:.2f}\" width=\"10\" height=\"{:.2f}\"><title>code {}, "
        "weight {}: {}</title></rect>",
        zero ? "none" : "code", 12 * c + 1, 60 - height, height, c, weight, share_text(shares[c]));
    if (c % 4 == 0) {
      svg += fmt::format("<text class=\"axis\" text-anchor=\"middle\" x=\"{}\" y=\"72\">{}</text>",
                         12 * c + 6, c);
    }
  }
  return svg + "</svg>";
}

}  // namespace intaglio
