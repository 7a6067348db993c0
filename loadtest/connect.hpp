// What every client of this folder needs of the system: a connection and a clock.
#pragma once

#include <cstdint>
#include <string>

namespace nearcached::loadtest {

// A connected blocking stream socket with TCP_NODELAY; the caller closes it. `target`: host:port, [host]:port or unix:path.
// Throws std::system_error or std::invalid_argument naming the target.
[[nodiscard]] int connect_to(const std::string& target);

// CLOCK_MONOTONIC.
[[nodiscard]] std::int64_t monotonic_nanoseconds();

}  // namespace nearcached::loadtest
