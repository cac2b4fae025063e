// Position embeddings for images of another size.
#pragma once

#include <cstddef>
#include <vector>

namespace intaglio {

/// Resamples position[prefix + from * from, dim], learnt on a square grid of patches, to a grid of
/// `to` * `to`: bicubic (Keys, a = -3/4), pixel centres aligned, borders repeated, no antialiasing,
/// as PyTorch's interpolate() does. The `prefix` rows stay as they are. `from` and `to` are
/// positive.
std::vector<float> resample_position(const std::vector<float>& position, std::size_t prefix,
                                     std::size_t from, std::size_t to, std::size_t dim);

}  // namespace intaglio
