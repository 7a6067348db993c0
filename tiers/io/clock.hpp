// The one clock of the process.
#pragma once

#include <time.h>

#include <cstdint>

namespace nearcached::tiers::io {

// Microseconds of CLOCK_BOOTTIME: goes on while the machine sleeps, so that a suspended process wakes up with everything it
// had verified run out (coherence.md, Verification). Read once per batch of requests, after the read that delivered them.
#ifdef NEARCACHED_SEAMS
[[nodiscard]] std::int64_t boot_us() noexcept;  // the simulator's (tests/sim)
#else
[[nodiscard]] inline std::int64_t boot_us() noexcept {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
}
#endif

}  // namespace nearcached::tiers::io
