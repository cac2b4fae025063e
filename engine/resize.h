// Pillow's antialiased resampling of RGB8 images, bit for bit, in integers. Sources of any pixel
// format give what their copies in RGB would: the first pass picks the channels.
//
// An output pixel is a weighted sum of the source pixels under a filter kernel. When an image
// shrinks the kernel widens with it, so that every source pixel counts (antialiasing). Rows and
// columns are separate passes: first the columns' positions change, then the rows', each rounded to
// 8 bits. The weights of an axis depend on nothing but sizes and filter; they are the only reals,
// computed once per size (resize_coefficients.cpp) and rounded to integers.
// Source of the idea and of every rounding: Pillow 9.4, src/libImaging/Resample.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/image.h"
#include "graph/preprocessing.h"
#include "kernels/api.h"

namespace intaglio {

/// Weights have 22 fractional bits: 8 of 32 bits are the pixel's, 2 leave room for a sign and for
/// negative lobes.
inline constexpr int kWeightBits = 32 - 8 - 2;

/// Which part of which resized axis is wanted.
struct ResizeSpan {
  int src_size = 0;   ///< pixels of the source axis
  int full_size = 0;  ///< pixels of the resized axis
  int first = 0;      ///< the wanted part of it: first + [0, count)
  int count = 0;
  Interpolation filter = Interpolation::kBicubic;

  bool operator==(const ResizeSpan&) const = default;
};

/// The weights of one axis. Output pixel i is the sum over t < taps of
/// weights[i * taps + t] * source pixel (begin[i] + t). Where the kernel covers fewer than `taps`
/// pixels the others have weight 0; all lie within the source.
struct ResizeAxis {
  ResizeSpan span;
  int taps = 0;
  std::vector<int> begin;             // [count], never decreasing
  std::vector<std::int32_t> weights;  // [count, taps]

  /// The size stays, every kernel is a single 1: nothing to compute.
  bool is_identity() const { return span.src_size == span.full_size; }
  /// The source pixels that the wanted part depends on: [source_first, source_end).
  int source_first() const { return begin.front(); }
  int source_end() const { return begin.back() + taps; }
};

/// Fills `axis` for `span`. Allocates only if its vectors are too small.
INTAGLIO_API void compute_axis(const ResizeSpan& span, ResizeAxis& axis);

/// Writes the part of the resized image that the two axes span to `dst` [vertical count, horizontal
/// count, 3], RGB, rows `dst_stride` bytes apart. The axes must fit the source, whose stride has
/// been checked. `scratch` holds the rows
/// between the two passes; it grows when needed and keeps its memory.
INTAGLIO_API void resize(ImageView src, const ResizeAxis& horizontal, const ResizeAxis& vertical,
                         std::vector<std::uint8_t>& scratch, std::uint8_t* dst,
                         std::size_t dst_stride);

/// The whole image in RGB, resized; of its own size, just in RGB. Throws Error(kInvalidArgument)
/// unless all sizes are 1 to 65535 and the stride fits.
INTAGLIO_API Image resize(ImageView src, int width, int height, Interpolation filter);

}  // namespace intaglio
