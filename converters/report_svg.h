// Drawings and texts of the HTML report.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "converters/accuracy.h"

namespace intaglio {

/// Text from outside as HTML text or the value of a quoted attribute: valid UTF-8, nothing in it is
/// markup, no control characters.
std::string html_text(std::string_view text);

/// "23.4 dB", "exact", "unknown".
std::string ratio_text(double db);
/// "0.123 %"; 0 is "0", and what rounds to it "< 0.001 %".
std::string share_text(double share);
/// Few digits, a true minus sign.
std::string number_text(double value);

/// Top of the scale that all ratios are drawn on, dB: multiples of 10 up to 70.
double ratio_scale(std::span<const TensorAccuracy> tensors);

/// Ratios over depth: a line for the residual stream, dots for the rest.
std::string depth_chart(std::span<const TensorAccuracy> tensors);
/// A bar of the ratio, and a tick where the grid alone would be.
std::string ratio_bar(const GridFit& fit, double scale);
/// The range of the floats before that of their grid.
std::string range_bar(const GridFit& fit);
/// A bar of channels by exponent.
std::string exponent_bar(std::span<const std::size_t> counts);
/// Shares of the softmax's codes.
std::string code_histogram(const AttentionFit& attention);

}  // namespace intaglio
