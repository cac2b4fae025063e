// The real-valued half of resizing: filter kernels, evaluated in double in the order of Pillow's
// operations, normalized and rounded to 22 fractional bits. Compile it without contraction to fused
// multiply-adds, which round differently.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "engine/resize.h"

namespace intaglio {
namespace {

double bilinear_real(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

/// Cubic convolution (R. Keys 1981) with a = -1/2.
double bicubic_real(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

/// The kernel of one axis: where it lies for an output pixel and what it weighs.
struct Kernel {
  double (*filter_real)(double);
  double scale;    // source pixels per output pixel
  double stretch;  // how much wider than the filter the kernel is: never narrower
  double inverse_stretch;
  double support;  // half the kernel's width in source pixels
  int src_size;

  explicit Kernel(const ResizeSpan& span)
      : filter_real(span.filter == Interpolation::kBicubic ? bicubic_real : bilinear_real),
        scale(static_cast<double>(span.src_size) / span.full_size),
        stretch(std::max(scale, 1.0)),
        inverse_stretch(1.0 / stretch),
        support((span.filter == Interpolation::kBicubic ? 2.0 : 1.0) * stretch),
        src_size(span.src_size) {}

  double center(int output) const { return (output + 0.5) * scale; }
  int begin(int output) const {
    return std::max(0, static_cast<int>(center(output) - support + 0.5));
  }
  int end(int output) const {
    return std::min(src_size, static_cast<int>(center(output) + support + 0.5));
  }
  double weight_real(int output, int source) const {
    return filter_real((source - center(output) + 0.5) * inverse_stretch);
  }
};

/// To 22 fractional bits, halves away from zero.
std::int32_t fixed_weight(double weight_real) {
  const double scaled = weight_real * (1 << kWeightBits);
  return static_cast<std::int32_t>(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

/// The weights of one output pixel; weights[0] belongs to source pixel `first`.
void compute_weights(const Kernel& kernel, int output, int first, std::int32_t* weights) {
  const int begin = kernel.begin(output);
  const int end = kernel.end(output);
  double sum_real = 0.0;
  for (int source = begin; source < end; ++source) sum_real += kernel.weight_real(output, source);
  for (int source = begin; source < end; ++source) {
    const double weight_real = kernel.weight_real(output, source);
    weights[source - first] = fixed_weight(sum_real != 0.0 ? weight_real / sum_real : weight_real);
  }
}

}  // namespace

void compute_axis(const ResizeSpan& span, ResizeAxis& axis) {
  assert(span.src_size > 0 && span.full_size > 0 && span.count > 0);
  assert(span.first >= 0 && span.count <= span.full_size - span.first);
  axis.span = {};  // no axis, should memory be refused: a span says that the rest is there
  axis.begin.resize(span.count);
  if (span.src_size == span.full_size) {
    axis.taps = 1;
    axis.weights.assign(span.count, 1 << kWeightBits);
    std::iota(axis.begin.begin(), axis.begin.end(), span.first);
    axis.span = span;
    return;
  }
  const Kernel kernel(span);
  axis.taps = 0;
  for (int i = 0; i < span.count; ++i) {
    axis.taps = std::max(axis.taps, kernel.end(span.first + i) - kernel.begin(span.first + i));
  }
  axis.weights.assign(static_cast<std::size_t>(span.count) * axis.taps, 0);
  for (int i = 0; i < span.count; ++i) {
    // A kernel cut off by the image's end leaves taps unused; they must not read past it.
    axis.begin[i] = std::min(kernel.begin(span.first + i), span.src_size - axis.taps);
    std::int32_t* weights = &axis.weights[static_cast<std::size_t>(i) * axis.taps];
    compute_weights(kernel, span.first + i, axis.begin[i], weights);
    // Sums of 255 * weight and the rounding half stay within 31 bits.
    assert(std::accumulate(weights, weights + axis.taps, std::int64_t{0},
                           [](std::int64_t sum, std::int32_t w) { return sum + std::abs(w); }) <
           (std::int64_t{2} << kWeightBits));
  }
  axis.span = span;
}

}  // namespace intaglio
