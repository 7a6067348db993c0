// MEMORY DOCTOR of this process.
#pragma once

#include <string>

#include "daemon/stats_report.hpp"

namespace nearcached::daemon {

// A paragraph for people: what L1 and the buffers hold of what they may, how many clients there are, and what to raise when
// that is nearly all. Ends with a newline.
[[nodiscard]] std::string memory_report(const StatsSnapshot& snapshot);

}  // namespace nearcached::daemon
