// Each rule taken out: does the simulator notice?
#pragma once

#include <cstdint>
#include <string_view>

#include "tests/sim/script.hpp"
#include "tiers/coherence/rules.hpp"

namespace nearcached::sim {

struct Mutation {
  tiers::coherence::Rule rule;
  // Where its failure shows soonest, within so many schedules from seed 1 on. 0: not here, and `why` says what else does.
  Profile profile = Profile::kWrites;
  std::uint64_t schedules_max = 0;
  std::string_view why = {};
};

[[nodiscard]] const Mutation& mutation_of(tiers::coherence::Rule rule);

// Prints the table of all rules (or of one), each looked for in at most so many schedules. Returns how many rules should
// have been noticed and were not.
[[nodiscard]] int run_mutations(std::string_view only, std::uint64_t schedules_max);

}  // namespace nearcached::sim
