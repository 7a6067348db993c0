// A failing schedule with everything left out that it does not need to fail.
#pragma once

#include <cstdint>
#include <functional>

#include "tests/sim/script.hpp"

namespace nearcached::sim {

// Leaves out actions, in halves first and one by one at last, as long as what is left still `fails`; at most `tries_max`
// runs. What is left may fail in another way than the whole did: it is a failure all the same.
[[nodiscard]] Script shrink(const Script& script, const std::function<bool(const Script&)>& fails, int tries_max);

}  // namespace nearcached::sim
