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
  // Bits of rules that are taken out as well, before it: those that keep what it keeps a second time. Then the schedule
  // that shows it must pass with these out and this one kept.
  std::uint64_t covered_by = 0;
};

[[nodiscard]] const Mutation& mutation_of(tiers::coherence::Rule rule);

// Prints the table of all rules (of one; or of those that are missed within kQuickSchedules). Returns how many rules should
// have been noticed and were not.
inline constexpr std::uint64_t kQuickSchedules = 4'000;
[[nodiscard]] int run_mutations(std::string_view only, bool quick);

}  // namespace nearcached::sim
