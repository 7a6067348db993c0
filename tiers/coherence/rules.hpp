// The rules that make L1 safe, by name, and the one seam through which a test takes one of them away.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace nearcached::tiers::coherence {

// Each is a sentence of docs/consistency.md, and a bug that somebody shipped. The code that keeps it asks enforced(): in the
// product the answer is a constant, so that the question costs nothing; in a build with NEARCACHED_SEAMS (tests/sim) a rule
// can be disabled at run time, and a check must then notice (the table in docs/consistency.md, tests/sim/mutations).
enum class Rule : std::uint8_t {
  // Installing
  kFenceAtInstall,        // a fill installs only if nothing happened to the key since it left
  kFenceFromDispatch,     // an own write fences from its dispatch, not from its acknowledgement
  kFenceUntilAnswered,    // ... and to its acknowledgement
  kEraseBeforeAnswer,     // the key is erased at the write's end, before the client is answered
  kPushFencesAbsent,      // an invalidation moves the fence also when there is no entry
  kJoinOnSameBasis,       // a reader after a write or an invalidation starts a fill of its own
  kGenerationAtInstall,   // a fill of a connection that was lost is not installed
  kEpochAtInstall,        // nor one of a slot that moved meanwhile
  kTopologyAtFill,        // nor one that was routed by an older topology
  kUnacknowledgedBypass,  // a session's reads of keys it has in flight go past L1, behind them
  kForwardAfterFill,      // a forwarded command waits for the session's own fills of its keys
  kReadPastErases,        // a reply that came past L1 erases the entry it may be newer than
  kUnknownWritesBarrier,  // a command whose keys are unknown is answered after its invalidations
  kPurgeKillsFlights,     // FLUSHALL and purges also end the fills that are under way
  kWriteOnceOnly,         // a write is never sent again once a byte of it left, but where the node refused it
  // What is read
  kExpiryFromPttl,       // the upstream's TTL, counted from before the read, bounds an entry
  kGoneByPttl,           // a value whose key was gone by its PTTL is not kept
  kFieldExpiry,          // where hash fields expire, HPTTL or max_staleness bounds hash replies
  kErrorsNotCached,      // errors, redirects among them, are not kept
  kAbsentInClosedSlots,  // an absent key is kept only in a slot that its owner shows closed
  kNestedPush,           // a push inside an aggregate is heard
  // Verification
  kGenerationAtHit,    // entries of a lost connection are unverified
  kLossAtOnce,         // ... at the loss, not at the reconnect
  kVerifiedAtHit,      // entries are served only while their connection is verified
  kProvenFromSending,  // verification counts from the question's sending, not from its answer
  kClockAfterRead,     // the clock is read after the read that delivered the request
  kRoleInProbe,        // a demoted node proves nothing
  kStateInProbe,       // nor one that says cluster_state:fail
  kOwnViewInProbe,     // nor one whose own view lacks the slots
  kSwapdbWatched,      // SWAPDB, which signals nothing, is seen in the statistics
  kNullPushPurges,     // a null invalidation (FLUSHALL) drops everything of the connection
  kEpochAtHit,         // entries of a slot that changed hands, also away and back, are dead
  kEpochByTopology,    // the polled topology bumps epochs
  kEpochByOwnView,     // so does the node's own view
  // Levels
  kStrictNeverFromL1,
  kCausalWaits,           // after something came from elsewhere, hits wait for a probe sent later
  kStaleOnlyUnreachable,  // stale_ok serves unverified entries only while the node can't be reached
  kStaleBounded,          // ... and no older than max_stale
  // Bus
  kPublishBehindWrite,  // the message is published behind the write on the same connection
  kAnswerAfterPublish,  // the client is answered after both
  kBusGap,              // a gap in a publisher's sequence makes what it covers unverified
  kBusSilence,          // so does its silence
  kBusUnknownOutcome,   // a write of unknown outcome is published, quarantined and published again
  kBusTtl,              // entries live at most l1.ttl where nobody signals expiry
  kCount,
};

inline constexpr std::size_t kRules = static_cast<std::size_t>(Rule::kCount);
static_assert(kRules <= 64);

#ifdef NEARCACHED_SEAMS
inline std::uint64_t disabled_rules = 0;  // bit per Rule; set by a test before anything runs
#else
inline constexpr std::uint64_t disabled_rules = 0;  // the product keeps them all: the style check proves this line
#endif

[[nodiscard]] inline constexpr std::uint64_t rule_bit(Rule rule) { return std::uint64_t{1} << static_cast<unsigned>(rule); }

#ifdef NEARCACHED_SEAMS
[[nodiscard]] inline bool enforced(Rule rule) { return (disabled_rules & rule_bit(rule)) == 0; }
#else
[[nodiscard]] constexpr bool enforced(Rule rule) { return (disabled_rules & rule_bit(rule)) == 0; }
#endif

}  // namespace nearcached::tiers::coherence
