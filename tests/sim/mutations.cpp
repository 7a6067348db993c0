#include "tests/sim/mutations.hpp"

#include <chrono>
#include <cstdio>
#include <string>

#include "tests/sim/rule_names.hpp"
#include "tests/sim/simulation.hpp"

namespace nearcached::sim {
namespace {

using tiers::coherence::disabled_rules;
using tiers::coherence::kRules;
using tiers::coherence::Rule;
using tiers::coherence::rule_bit;

// Most are missed within some hundred schedules, some within thousands; which seed it is changes with the product.
constexpr std::uint64_t kUsual = kQuickSchedules;
constexpr std::uint64_t kRare = 20'000;

constexpr Mutation kMutations[kRules] = {
    {Rule::kFenceAtInstall, Profile::kWrites, kUsual},
    {Rule::kFenceFromDispatch, Profile::kWrites, kUsual},
    {Rule::kFenceUntilAnswered, Profile::kWrites, kUsual},
    {Rule::kEraseBeforeAnswer, Profile::kWrites, kUsual, {}, rule_bit(Rule::kFenceUntilAnswered)},
    {Rule::kPushFencesAbsent, Profile::kWrites, kUsual},
    {Rule::kJoinOnSameBasis, Profile::kWrites, kUsual},
    {Rule::kGenerationAtInstall, Profile::kFaults, 0, "what was installed would not be served: generation_at_hit"},
    {Rule::kEpochAtInstall, Profile::kSlots, 0, "what was installed would not be served: epoch_at_hit"},
    {Rule::kTopologyAtFill, Profile::kSlots, 0, "needs an owner that does not know yet that it is none"},
    {Rule::kUnacknowledgedBypass, Profile::kWrites, kUsual},
    {Rule::kForwardAfterFill, Profile::kWrites, kUsual},
    {Rule::kReadPastErases, Profile::kPast, 0, "in some 10'000 schedules once: the reply and the push must be far apart"},
    {Rule::kUnknownWritesBarrier, Profile::kServer, kUsual},
    {Rule::kPurgeKillsFlights, Profile::kWrites, 0, "the generation that a flush bumps does it, but for prefixes"},
    {Rule::kWriteOnceOnly, Profile::kFaults, kUsual},
    {Rule::kExpiryFromPttl, Profile::kExpiry, kUsual},
    {Rule::kGoneByPttl, Profile::kExpiry, 0, "the key's last millisecond must end between two commands of one send"},
    {Rule::kFieldExpiry, Profile::kExpiry, 0, "the model's hash fields do not expire"},
    {Rule::kErrorsNotCached, Profile::kSlots, kUsual},
    {Rule::kAbsentInClosedSlots, Profile::kSlots, kUsual},
    {Rule::kNestedPush, Profile::kWrites, kUsual},
    {Rule::kGenerationAtHit, Profile::kFaults, kUsual},
    {Rule::kLossAtOnce, Profile::kFaults, kRare, {}, rule_bit(Rule::kVerifiedAtHit)},
    {Rule::kVerifiedAtHit, Profile::kFaults, kUsual},
    {Rule::kProvenFromSending, Profile::kPast, kRare},
    {Rule::kClockAfterRead, Profile::kFaults, kUsual},
    {Rule::kRoleInProbe, Profile::kServer, kUsual},
    {Rule::kStateInProbe, Profile::kFailover, kUsual},
    {Rule::kOwnViewInProbe, Profile::kFailover, 0, "slots that leave the view are dead by epoch_by_own_view"},
    {Rule::kSwapdbWatched, Profile::kServer, kUsual},
    {Rule::kNullPushPurges, Profile::kServer, kUsual},
    {Rule::kEpochAtHit, Profile::kSlots, kUsual},
    {Rule::kEpochByTopology, Profile::kSlots, kUsual, {}, rule_bit(Rule::kEpochByOwnView)},
    {Rule::kEpochByOwnView, Profile::kSlots, kUsual},
    {Rule::kStrictNeverFromL1, Profile::kLevels, kUsual},
    {Rule::kCausalWaits, Profile::kLevels, kUsual},
    {Rule::kStaleOnlyUnreachable, Profile::kLevels, kUsual},
    {Rule::kStaleBounded, Profile::kLevels, kRare},
    {Rule::kPublishBehindWrite, Profile::kBus, kRare},
    {Rule::kAnswerAfterPublish, Profile::kBus, 0, "what is published later than acknowledged is heard within the bound"},
    {Rule::kBusGap, Profile::kBus, kRare},
    {Rule::kBusSilence, Profile::kBus, kRare},
    {Rule::kBusUnknownOutcome, Profile::kBus, kRare},
    {Rule::kBusTtl, Profile::kForeign, kUsual},
};

std::string failure_of(std::uint64_t seed, const Mutation& mutation, bool taken_out) {
  const std::uint64_t before = disabled_rules;
  disabled_rules |= mutation.covered_by;
  if (taken_out) disabled_rules |= rule_bit(mutation.rule);
  std::string failure = simulate(make_script(seed, mutation.profile)).failure;
  disabled_rules = before;
  return failure;
}

// The seed that notices, 0 if none does. One that fails with the rule kept as well has noticed something else.
std::uint64_t hunt(const Mutation& mutation, std::uint64_t schedules_max, std::string& failure) {
  for (std::uint64_t seed = 1; seed <= schedules_max; ++seed) {
    failure = failure_of(seed, mutation, true);
    if (!failure.empty() && failure_of(seed, mutation, false).empty()) return seed;
  }
  return 0;
}

}  // namespace

const Mutation& mutation_of(Rule rule) { return kMutations[static_cast<std::size_t>(rule)]; }

int run_mutations(std::string_view only, bool quick) {
  int unnoticed = 0;
  std::printf("%-24s %-9s %9s %8s  %s\n", "rule taken out", "profile", "schedules", "seconds", "what failed then");
  for (const Mutation& mutation : kMutations) {
    const std::string name(rule_name(mutation.rule));
    if (!only.empty() && only != name) continue;
    if (quick && mutation.schedules_max > kQuickSchedules) continue;
    if (mutation.schedules_max == 0) {
      std::printf("%-24s %-9s %9s %8s  %s\n", name.c_str(), "-", "-", "-", std::string(mutation.why).c_str());
      continue;
    }
    const auto begin = std::chrono::steady_clock::now();
    std::string failure;
    const std::uint64_t tries = mutation.schedules_max;
    const std::uint64_t seed = hunt(mutation, tries, failure);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (seed == 0) ++unnoticed;
    std::printf("%-24s %-9s %9llu %8.1f  %s\n", name.c_str(), std::string(profile_name(mutation.profile)).c_str(),
                static_cast<unsigned long long>(seed == 0 ? tries : seed), seconds,
                seed == 0 ? "NOTHING NOTICED IT" : failure.substr(0, failure.find('\n')).c_str());
    std::fflush(stdout);
  }
  return unnoticed;
}

}  // namespace nearcached::sim
