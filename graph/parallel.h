// Work that several threads share, for loading.
#pragma once

#include <cstddef>
#include <functional>

namespace intaglio {

/// Calls piece(i) once for each i < count and returns when all are done. Pieces are begun in order,
/// by up to `threads` threads; when the system refuses a thread, the others do its work. If pieces
/// throw, the exception of the first of them is thrown on, and those that have not begun are left
/// out.
void run_pieces(std::size_t count, std::size_t threads,
                const std::function<void(std::size_t)>& piece);

}  // namespace intaglio
