// A graph for people: operations, shapes, grids, multiplies and bytes.
#pragma once

#include <string>

#include "graph/graph.h"

namespace intaglio {

/// A table, one line per operation, with totals; ends in a newline.
std::string print(const Graph& graph);
/// The same facts as one JSON object.
std::string print_json(const Graph& graph);

}  // namespace intaglio
