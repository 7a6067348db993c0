// nearcached_rule_cases: the same unit and mock cases as elsewhere, over sources in which rules can be taken out. Of each
// rule the case that is named for it passes with all rules kept, and fails without that one.
#include <sys/wait.h>
#include <unistd.h>

#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>

#include "tests/sim/rule_names.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers::io {

// In sources with seams the clock is whoever links them brings. Here it is the real one: mock cases have real sockets.
std::int64_t boot_us() noexcept {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace nearcached::tiers::io

namespace nearcached::sim {
namespace {

using tiers::coherence::disabled_rules;
using tiers::coherence::Rule;
using tiers::coherence::rule_bit;

// Milliseconds, but on a machine that others load as well.
constexpr unsigned kKeptSecondsMax = 60;
constexpr unsigned kTakenOutSecondsMax = 10;

struct RuleCase {
  Rule rule;
  const char* test;
};

constexpr RuleCase kCases[] = {
    {Rule::kFenceAtInstall, "a fill is not installed once anything happened to what it stood on"},
    {Rule::kFenceFromDispatch, "a fill is not installed once anything happened to what it stood on"},
    {Rule::kFenceUntilAnswered, "of two writes under way the first acknowledgement opens nothing"},
    {Rule::kEraseBeforeAnswer, "the end of a write drops what came in during it"},
    {Rule::kPushFencesAbsent, "a fill is not installed once anything happened to what it stood on"},
    {Rule::kJoinOnSameBasis, "a reader that comes after something happened to the key starts another flight"},
    {Rule::kGenerationAtInstall, "a fill is not installed once anything happened to what it stood on"},
    {Rule::kEpochAtInstall, "a fill is not installed once anything happened to what it stood on"},
    {Rule::kTopologyAtFill, "a read that waits while its slot gets another owner is not made here"},
    {Rule::kReadPastErases, "once a client was told a value past L1, no older one is served or installed"},
    {Rule::kPurgeKillsFlights, "a purge of a prefix takes its keys, and the fills that are under way"},
    {Rule::kWriteOnceOnly, "a write that is lost before its reply may have been executed: its announcement is made again"},
    {Rule::kExpiryFromPttl, "a key without TTL has no expiry, one that expires now does"},
    {Rule::kGoneByPttl, "a value whose key was gone by its PTTL is told and not kept"},
    {Rule::kFieldExpiry, "hash fields are read with their expiry where the server has that"},
    {Rule::kErrorsNotCached, "what is no live value is passed on and never kept"},
    {Rule::kAbsentInClosedSlots, "in a cluster an absent key is kept only while the owner shows its slot closed"},
    {Rule::kNestedPush, "a push inside the reply of another key's read is heard and not part of it"},
    {Rule::kGenerationAtHit, "an entry is not served once anything happened to what it stands on"},
    {Rule::kLossAtOnce, "a lost connection kills its entries first and answers every waiter once, second"},
    {Rule::kVerifiedAtHit, "an entry is served until its verification runs out, and again when it is renewed"},
    {Rule::kProvenFromSending, "verified is the sending of a good probe plus the staleness, not a moment longer"},
    {Rule::kRoleInProbe, "only the answers of the right node in a healthy cluster renew"},
    {Rule::kStateInProbe, "only the answers of the right node in a healthy cluster renew"},
    {Rule::kOwnViewInProbe, "only the answers of the right node in a healthy cluster renew"},
    {Rule::kSwapdbWatched, "a SWAPDB that trackers are not told of is seen in the server's counts"},
    {Rule::kNullPushPurges, "a flush kills everything that was read before it, at once"},
    {Rule::kEpochAtHit, "an entry is not served once anything happened to what it stands on"},
    {Rule::kEpochByTopology,
     "a slot that the polled topology gives to another node is a new slot, and back again another one"},
    {Rule::kEpochByOwnView, "slots that leave or come to the node's own view are new slots"},
    {Rule::kCausalWaits, "causal: what the client heard before its hit must have been delivered too"},
    {Rule::kStaleOnlyUnreachable, "stale_ok serves what is unverified while the node can't be reached, up to max_stale"},
    {Rule::kStaleBounded, "stale_ok serves what is unverified while the node can't be reached, up to max_stale"},
    {Rule::kPublishBehindWrite,
     "a write leaves with its announcement right behind it, and is published when both are answered"},
    {Rule::kAnswerAfterPublish,
     "a write leaves with its announcement right behind it, and is published when both are answered"},
    {Rule::kBusGap, "a message that is missing makes everything unverified at once, and what is under way not to be kept"},
    {Rule::kBusSilence, "a peer that falls silent ends the proof when its silence does, one that says BYE does not"},
    {Rule::kBusTtl, "an entry lives as long as the upstream's TTL lets it, and never longer than l1.ttl"},
};

// As a pattern, where commas and brackets mean something.
std::string pattern(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == ',' || c == '[' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

// In a process of its own: without its rule the code may also end on an assertion, or wait for ever.
bool passes(Catch::Session& session, const char* test, unsigned seconds_max) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds_max);
    session.configData().testsOrTags = {pattern(test)};
    session.configData().warnings = Catch::WarnAbout::NoTests;
    session.configData().outputFilename = "/dev/null";
    _exit(session.run() == 0 ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int run(Catch::Session& session) {
  int wrong = 0;
  for (const RuleCase& each : kCases) {
    disabled_rules = 0;
    const bool kept = passes(session, each.test, kKeptSecondsMax);
    disabled_rules = rule_bit(each.rule);
    const bool taken_out = passes(session, each.test, kTakenOutSecondsMax);
    const bool good = kept && !taken_out;
    if (!good) ++wrong;
    std::printf("%-24s %-34s %s\n", std::string(rule_name(each.rule)).c_str(),
                good    ? "noticed by"
                : !kept ? "FAILS OR IS MISSING, RULES KEPT:"
                        : "NOT NOTICED BY",
                each.test);
    std::fflush(stdout);
  }
  return wrong;
}

}  // namespace
}  // namespace nearcached::sim

int main() {
  Catch::Session session;
  return nearcached::sim::run(session) == 0 ? 0 : 1;
}
