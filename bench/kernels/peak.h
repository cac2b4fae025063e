// The yardstick: multiply-accumulates per second of a loop that does nothing else.
#pragma once

#include <cstdint>

namespace intaglio::bench {

/// This CPU has the instruction that the yardstick is made of.
bool has_peak() noexcept;

/// Runs at least `macs` multiply-accumulates of u8 x s8 on registers alone (vpdpbusd, 64 per
/// instruction) and returns how many it ran. Only where has_peak().
std::uint64_t run_peak(std::uint64_t macs) noexcept;

/// GMAC/s of run_peak() on this core, the best of `rounds` rounds, each shorter than the
/// time between two ticks of the system's clock (1 ms: a tick costs 4 % of a millisecond).
double measure_peak(int rounds);

}  // namespace intaglio::bench
