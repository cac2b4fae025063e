// The .intg file: a safetensors container whose metadata carries the graph as JSON. See
// docs/file_format.md.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace intaglio {

/// Version of the file format this build writes, and the only one it reads.
inline constexpr int kModelFileVersion = 3;

/// Reads, with up to `threads` threads, verifies the checksum, parses and check()s. Constants stay
/// views into Graph::memory. Throws Error naming the path and what is wrong.
Graph load_model_file(const std::filesystem::path& path, std::size_t threads = 1);
/// The same for bytes in memory, which are copied. `name` stands in messages.
Graph parse_model(std::span<const std::byte> bytes, const std::string& name);

/// The bytes of the file; the same graph gives the same bytes. check()s first.
std::vector<std::byte> serialize_model(const Graph& graph);
/// serialize_model to a temporary file, then rename.
void save_model_file(const Graph& graph, const std::filesystem::path& path);

}  // namespace intaglio
