// intaglio-classify merge: the rows of all shards become the rows of a run without shards.
#pragma once

namespace intaglio {

/// Image k of a list is in shard k % n: the parts give their images in turn. `argv` from "merge"
/// on. Throws Error; the exit status otherwise.
int merge_command(int argc, char** argv);

}  // namespace intaglio
