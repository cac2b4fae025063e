// The operators new of a program, counted; one of them may fail. Programs that link this cannot be
// sanitized: sanitizers have their own.
#pragma once

#include <atomic>
#include <cstddef>

namespace intaglio::test {

/// Of all threads.
struct CountedNew {
  std::atomic<std::size_t> calls = 0;
  std::atomic<std::size_t> held = 0;     ///< what is not freed
  std::atomic<std::size_t> largest = 0;  ///< bytes; since it was last set to 0, by one thread
  std::atomic<std::size_t> refused = 0;  ///< the call that fails, from 1
};
inline constinit CountedNew counted_new;

}  // namespace intaglio::test
