#include "tests/sim/rule_names.hpp"

#include <array>

namespace nearcached::sim {
namespace {

using tiers::coherence::kRules;
using tiers::coherence::Rule;

// In the order of the enumeration, which has no names of its own at run time.
constexpr std::array<std::string_view, kRules> kNames{
    "fence_at_install",
    "fence_from_dispatch",
    "fence_until_answered",
    "erase_before_answer",
    "push_fences_absent",
    "join_on_same_basis",
    "generation_at_install",
    "epoch_at_install",
    "topology_at_fill",
    "unacknowledged_bypass",
    "forward_after_fill",
    "read_past_erases",
    "unknown_writes_barrier",
    "purge_kills_flights",
    "write_once_only",
    "expiry_from_pttl",
    "gone_by_pttl",
    "field_expiry",
    "errors_not_cached",
    "absent_in_closed_slots",
    "nested_push",
    "generation_at_hit",
    "loss_at_once",
    "verified_at_hit",
    "proven_from_sending",
    "clock_after_read",
    "role_in_probe",
    "state_in_probe",
    "own_view_in_probe",
    "swapdb_watched",
    "null_push_purges",
    "epoch_at_hit",
    "epoch_by_topology",
    "epoch_by_own_view",
    "strict_never_from_l1",
    "causal_waits",
    "stale_only_unreachable",
    "stale_bounded",
    "publish_behind_write",
    "answer_after_publish",
    "bus_gap",
    "bus_silence",
    "bus_unknown_outcome",
    "bus_ttl",
};
static_assert(!kNames.back().empty());

}  // namespace

std::string_view rule_name(Rule rule) { return kNames[static_cast<std::size_t>(rule)]; }

std::optional<Rule> rule_of(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Rule>(i);
  }
  return std::nullopt;
}

}  // namespace nearcached::sim
