// A graph for images of another size.
#pragma once

#include <cstddef>

#include "graph/graph.h"

namespace intaglio {

/// Whether the graph's parameters fit images of any size: it has no positions of its own, and says
/// what lies beyond images and maps.
bool takes_any_size(const Graph& graph);

/// The graph with the shapes that an image of `height` x `width` pixels, 1 to kMaxImageSide, gives
/// its values; parameters are shared. `graph` has passed check(), and so would the result. Throws
/// Error(kUnsupported) unless takes_any_size(graph) or the size is the graph's own, and
/// Error(kLimit) for sizes beyond the limits.
Graph resized(const Graph& graph, std::size_t height, std::size_t width);

}  // namespace intaglio
