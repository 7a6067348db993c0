// Runs one script to its end.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "tests/sim/script.hpp"

namespace nearcached::sim {

struct Outcome {
  std::string failure;     // empty: everything held
  std::uint64_t hash = 0;  // of all that happened, in order
  std::uint64_t events = 0;
  std::uint64_t reads = 0;   // judged
  std::uint64_t hits = 0;    // in L1
  std::uint64_t errors = 0;  // requests answered with an error
  std::deque<std::string> trace;
};

// Sidecars and their links come up, the script's actions happen, faults end, things settle; then every client reads every
// key, must get the present value, and nothing may be unanswered.
[[nodiscard]] Outcome simulate(const Script& script, bool tracing = false);

}  // namespace nearcached::sim
