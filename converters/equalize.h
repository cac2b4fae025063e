// Changes of a network that leave its function as it is and make it easier to quantize.
//
// Scales and offsets of channels move between a tensor's producer and its consumer, until every
// channel uses the one u8 grid of the tensor about as well as its weights deserve. A channel's
// scale is sqrt(radius / size of the weights that read it), so that neither side keeps an outlier
// (the idea of SmoothQuant, Xiao et al. 2023, and RepQ-ViT, Li et al. 2023): a network in which
// somebody moved scales about comes out the same.
#pragma once

#include "converters/network.h"
#include "converters/tensor_ranges.h"

namespace intaglio {

inline constexpr std::size_t kEnoughRows = 64;

/// Makes the pixels themselves the input codes: scale and offset of their normalization go into the
/// patch embedding.
void fold_normalization(Network& network);

/// - LayerNorm and the linear layer behind it, perhaps behind a mean of rows: scale and offset of
///   each channel. Where fewer than kEnoughRows rows were seen (of the last norm of a ViT, each
///   image has but one or two), they are guessed from gamma and beta.
/// - q and k: scale of each channel, and the offset of k, which the softmax does not see.
/// - v and proj: scale and offset of each channel, as the probabilities of a row sum to one; and
///   the scale of v as a whole, so that it fills the grid it shares with q and k.
/// A feature that a norm makes for such a layer gets a norm of its own, "<feature>.norm".
/// `ranges` are those of `network` before.
void equalize(Network& network, const TensorRanges& ranges);

}  // namespace intaglio
