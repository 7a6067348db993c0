#include "tests/sim/script.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace nearcached::sim {
namespace {

using tiers::Consistency;
using tiers::coherence::ChangeSource;

constexpr std::array<std::string_view, static_cast<std::size_t>(Profile::kCount)> kProfileNames{
    "writes", "faults", "slots", "failover", "expiry", "server", "levels", "ttl", "bus", "past", "foreign"};

constexpr std::int64_t kStalenessUs = 90'000;
constexpr std::int64_t kFirstActionUs = 40'000;

struct Weighted {
  ActionKind kind;
  unsigned weight;
};

ActionKind pick(const std::vector<Weighted>& from, Rng& rng) {
  unsigned sum = 0;
  for (const Weighted& each : from) sum += each.weight;
  auto at = static_cast<unsigned>(rng.below(sum));
  for (const Weighted& each : from) {
    if (at < each.weight) return each.kind;
    at -= each.weight;
  }
  return from.front().kind;
}

std::vector<Weighted> operations(Profile profile) {
  using enum ActionKind;
  switch (profile) {
    case Profile::kWrites:
      return {{kRead, 50},    {kReadMany, 8}, {kSet, 16},      {kSetMany, 3},        {kDelete, 4}, {kIncrement, 3},
              {kSetField, 4}, {kScript, 4},   {kDirectSet, 8}, {kDirectSetField, 3}, {kFlush, 1}};
    case Profile::kFaults:
      return {{kRead, 55},    {kReadMany, 5},   {kSet, 12},         {kDelete, 2},
              {kSetField, 3}, {kDirectSet, 18}, {kDirectDelete, 3}, {kDirectSetField, 3}};
    case Profile::kSlots:
      return {{kRead, 55}, {kReadMany, 4}, {kSet, 12}, {kDelete, 6}, {kSetField, 3}, {kDirectSet, 12}, {kDirectDelete, 6}};
    case Profile::kFailover: return {{kRead, 60}, {kSet, 14}, {kDirectSet, 20}, {kDirectDelete, 2}};
    case Profile::kExpiry:
      return {{kRead, 55}, {kReadMany, 4}, {kSet, 14}, {kExpire, 6}, {kDirectSet, 12}, {kDirectExpire, 8}, {kSetField, 3}};
    case Profile::kServer:
      return {{kRead, 55}, {kReadMany, 6}, {kSet, 12}, {kDelete, 3}, {kScript, 5}, {kDirectSet, 14}, {kFlush, 1}};
    case Profile::kLevels:
      return {{kRead, 60}, {kReadMany, 4}, {kSet, 10}, {kDirectSet, 10}, {kDirectPair, 14}, {kReadAfter, 25}};
    case Profile::kTtl: return {{kRead, 60}, {kReadMany, 4}, {kSet, 12}, {kDirectSet, 16}, {kDelete, 4}};
    case Profile::kBus:
      return {{kRead, 55},  {kReadMany, 5}, {kSet, 24},   {kSetMany, 3},
              {kDelete, 4}, {kSetField, 4}, {kExpire, 2}, {kScript, 2}};
    case Profile::kPast: return {{kRead, 50}, {kReadMany, 4}, {kSet, 4}, {kSetMany, 10}, {kScript, 10}, {kDirectSet, 22}};
    case Profile::kForeign: return {{kRead, 60}, {kSet, 8}, {kDirectSet, 20}, {kDirectDelete, 4}};
    case Profile::kCount: break;
  }
  return {{kRead, 1}};
}

std::vector<Weighted> faults(Profile profile) {
  using enum ActionKind;
  switch (profile) {
    case Profile::kWrites: return {{kReset, 4}, {kSlow, 3}, {kFlushAll, 2}, {kHold, 2}, {kPauseSidecar, 1}};
    case Profile::kFaults:
      return {{kReset, 6},   {kHold, 6},     {kSlow, 4},    {kPauseSidecar, 6}, {kPauseNode, 3},
              {kRestart, 3}, {kFlushAll, 2}, {kFailing, 2}, {kMigrate, 2},      {kFailOver, 1}};
    case Profile::kSlots: return {{kMigrate, 10}, {kTakeOver, 8}, {kSlow, 2}, {kHold, 1}, {kReset, 1}, {kFailOver, 2}};
    case Profile::kFailover: return {{kFailOverLosing, 10}, {kFailOver, 4}, {kHold, 1}, {kRestart, 1}};
    case Profile::kExpiry: return {{kSlow, 3}, {kHold, 2}, {kReset, 1}, {kPauseSidecar, 1}};
    case Profile::kServer:
      return {{kSwapDatabases, 8}, {kDemote, 8}, {kFlushAll, 4}, {kReset, 2}, {kSlow, 2}, {kRestart, 1}};
    case Profile::kLevels: return {{kHold, 6}, {kSlow, 4}, {kReset, 5}, {kPauseSidecar, 2}, {kRestart, 5}};
    case Profile::kTtl: return {{kReset, 2}, {kSlow, 3}, {kPauseSidecar, 2}};
    case Profile::kBus:
      return {{kReset, 6},   {kHold, 6},           {kSlow, 5},        {kPauseSidecar, 4}, {kPauseNode, 2},
              {kRestart, 2}, {kRefuseTracking, 1}, {kCutBetween, 10}, {kLoseMessages, 5}};
    case Profile::kPast: return {{kSlow, 10}, {kReset, 1}};
    case Profile::kForeign: return {{kReset, 3}, {kSlow, 3}};
    case Profile::kCount: break;
  }
  return {{kReset, 1}};
}

void set_up_levels(WorldOptions& world, std::int64_t max_stale_us) {
  world.namespaces = {{"strict:", Consistency::kStrict, kStalenessUs},
                      {"causal:", Consistency::kCausal, kStalenessUs},
                      {"stale:", Consistency::kStaleOk, kStalenessUs, max_stale_us}};
}

// Which keys there are; by their names a sidecar tells namespaces, a reader of this file types.
std::vector<std::string> keys_of(Profile profile) {
  switch (profile) {
    case Profile::kLevels: return {"strict:q", "causal:d", "causal:e", "stale:s", "stale:t", "k0"};
    case Profile::kFailover: return {"k1", "k3", "k5", "k7"};  // of the node that has a replica
    default: return {"k0", "k1", "k2", "k3", "hash0", "counter0"};
  }
}

WorldOptions make_world(Profile profile, Rng& rng) {
  WorldOptions world;
  world.model.cluster =
      profile != Profile::kServer && !(profile != Profile::kSlots && profile != Profile::kFailover && rng.percent(25));
  world.model.keys = keys_of(profile);
  world.workers = rng.percent(75) ? 2 : 1;
  world.otherwise.max_staleness_us = kStalenessUs;
  if (profile == Profile::kLevels) set_up_levels(world, rng.percent(50) ? 150'000 : 10'000'000);
  if (profile == Profile::kServer) world.swapdb_never = false;
  if (profile == Profile::kTtl) {
    world.sources = {ChangeSource::kTracking, ChangeSource::kTtl};
    world.tracking_refused = true;
  }
  if (profile == Profile::kBus || profile == Profile::kForeign) world.sources = {ChangeSource::kBus};
  // Alone there are no others whose silence would say what its own unknown writes do.
  if (profile == Profile::kBus && rng.percent(20)) world.sidecars = 1;
  if (profile == Profile::kForeign) world.l1_ttl_us = world.bound_us = 150'000;
  if (profile == Profile::kFailover) world.hello_lies = rng.percent(30);
  if (rng.percent(15)) world.tracking_keys_max = 1 + rng.below(3);
  world.nested_pushes = rng.percent(50);
  return world;
}

ReadKind read_kind(const std::string& key, Rng& rng) {
  if (key.starts_with("hash")) return rng.percent(50) ? ReadKind::kHashAll : ReadKind::kHashField;
  const std::uint64_t kind = rng.below(10);
  return kind < 7 ? ReadKind::kGet : kind < 9 ? ReadKind::kGetRange : ReadKind::kExists;
}

// A key that the kind of action can be done to.
std::size_t key_for(ActionKind kind, const std::vector<std::string>& keys, std::size_t focus, Rng& rng) {
  const bool field = kind == ActionKind::kSetField || kind == ActionKind::kDirectSetField;
  const bool number = kind == ActionKind::kIncrement || kind == ActionKind::kDirectIncrement;
  const bool any = kind == ActionKind::kRead || kind == ActionKind::kDelete || kind == ActionKind::kDirectDelete ||
                   kind == ActionKind::kExpire || kind == ActionKind::kDirectExpire;
  for (int tries = 0; tries < 64; ++tries) {
    const std::size_t key = rng.percent(55) ? focus : rng.below(keys.size());
    const bool hash = keys[key].starts_with("hash");
    const bool counter = keys[key].starts_with("counter");
    if (any || (field ? hash : number ? counter : !hash && !counter)) return key;
    focus = rng.below(keys.size());
  }
  return 0;
}

Action make_operation(Profile profile, const Script& script, std::size_t focus, Rng& rng) {
  const std::vector<std::string>& keys = script.world.model.keys;
  Action action;
  action.kind = pick(operations(profile), rng);
  const bool has_hash = std::any_of(keys.begin(), keys.end(), [](const std::string& k) { return k.starts_with("hash"); });
  if (!has_hash && (action.kind == ActionKind::kSetField || action.kind == ActionKind::kDirectSetField))
    action.kind = ActionKind::kSet;
  action.sidecar = static_cast<int>(rng.below(static_cast<std::uint64_t>(script.world.sidecars)));
  action.client = static_cast<int>(rng.below(static_cast<std::uint64_t>(script.clients)));
  action.key = key_for(action.kind, keys, focus, rng);
  action.key2 = key_for(ActionKind::kSet, keys, focus, rng);
  if (action.kind == ActionKind::kReadMany || action.kind == ActionKind::kSetMany)
    action.key = key_for(ActionKind::kSet, keys, focus, rng);
  // Two answers of one command for one key are in no order.
  if (action.kind == ActionKind::kReadMany && action.key == action.key2) action.kind = ActionKind::kRead;
  if (action.kind == ActionKind::kDirectPair || action.kind == ActionKind::kReadAfter) action.key = 1 + rng.below(2);
  action.read = read_kind(keys[action.key], rng);
  const bool expires = action.kind == ActionKind::kExpire || action.kind == ActionKind::kDirectExpire ||
                       (profile == Profile::kExpiry && rng.percent(60));
  if (expires) action.for_us = rng.range(5, 250) * 1000;
  return action;
}

Action make_fault(Profile profile, const Script& script, Rng& rng) {
  Action action;
  action.kind = pick(faults(profile), rng);
  action.at_us = rng.range(kFirstActionUs, script.span_us);
  action.sidecar = static_cast<int>(rng.below(static_cast<std::uint64_t>(script.world.sidecars)));
  const int nodes = script.world.model.cluster ? script.world.model.primaries + 1 : 1;
  action.node = static_cast<int>(rng.below(static_cast<std::uint64_t>(nodes)));
  action.key = rng.below(script.world.model.keys.size());
  action.for_us = rng.range(20'000, 350'000);
  // It takes its time until its consequences show: the earlier the better.
  if (profile == Profile::kFailover || profile == Profile::kSlots)
    action.at_us = rng.range(kFirstActionUs, script.span_us / 3);
  action.number = rng.next();
  return action;
}

}  // namespace

std::string_view profile_name(Profile profile) { return kProfileNames[static_cast<std::size_t>(profile)]; }

std::optional<Profile> profile_of(std::string_view name) {
  for (std::size_t i = 0; i < kProfileNames.size(); ++i) {
    if (kProfileNames[i] == name) return static_cast<Profile>(i);
  }
  return std::nullopt;
}

Script make_script(std::uint64_t seed, std::optional<Profile> profile) {
  Rng rng(seed, 0x5C);
  Script script;
  script.seed = seed;
  script.profile = profile.value_or(static_cast<Profile>(rng.below(static_cast<std::uint64_t>(Profile::kCount))));
  script.world = make_world(script.profile, rng);
  script.resp3_clients = rng.next();
  script.span_us = rng.range(200'000, 700'000);
  if (script.profile == Profile::kFailover || script.profile == Profile::kSlots) script.span_us += 300'000;
  const std::size_t focus = rng.below(script.world.model.keys.size());
  const int operations_wanted = static_cast<int>(rng.range(20, 70));
  Action last;
  for (int n = 0; n < operations_wanted; ++n) {
    Action action = make_operation(script.profile, script, focus, rng);
    // Near the one before: in its pipeline, or from another client within the time of a round trip.
    const std::uint64_t near = n == 0 ? 99 : rng.below(100);
    if (near < 25) {
      action.at_us = last.at_us;
      action.sidecar = last.sidecar;
      action.client = last.client;
    } else if (last.for_us != 0 && near < 55) {
      // About when its time is over.
      action.at_us = std::min(script.span_us, last.at_us + last.for_us + rng.range(-1'500, 2'500));
    } else if (near < 65) {
      action.at_us = last.at_us + rng.range(0, 2'500);
    } else {
      action.at_us = rng.range(kFirstActionUs, script.span_us);
    }
    action.number = static_cast<std::uint64_t>(n) + 1;
    last = action;
    script.actions.push_back(action);
  }
  const int faults_wanted = static_cast<int>(rng.below(4));
  for (int n = 0; n < faults_wanted; ++n) script.actions.push_back(make_fault(script.profile, script, rng));
  std::stable_sort(script.actions.begin(), script.actions.end(),
                   [](const Action& a, const Action& b) { return a.at_us < b.at_us; });
  return script;
}

std::string Action::describe(const std::vector<std::string>& keys) const {
  static constexpr std::array<std::string_view, 34> kNames{"read",
                                                           "read many",
                                                           "read after",
                                                           "set",
                                                           "set many",
                                                           "delete",
                                                           "increment",
                                                           "set field",
                                                           "expire",
                                                           "script",
                                                           "flush",
                                                           "direct set",
                                                           "direct delete",
                                                           "direct increment",
                                                           "direct set field",
                                                           "direct expire",
                                                           "direct pair",
                                                           "reset",
                                                           "hold",
                                                           "slow",
                                                           "pause sidecar",
                                                           "pause node",
                                                           "restart",
                                                           "migrate",
                                                           "take over",
                                                           "fail over",
                                                           "fail over losing",
                                                           "flushall",
                                                           "swapdb",
                                                           "demote",
                                                           "failing",
                                                           "refuse tracking",
                                                           "cut between",
                                                           "lose messages"};
  std::string text = std::to_string(at_us / 1000) + "." + std::to_string(at_us % 1000 / 100) + " ms  ";
  text += kNames[static_cast<std::size_t>(kind)];
  if (is_fault(kind)) {
    text += " sidecar " + std::to_string(sidecar) + " node " + std::to_string(node) + " " + keys[key] + " for " +
            std::to_string(for_us / 1000) + " ms";
    return text;
  }
  if (!is_direct(kind)) text += " by sidecar " + std::to_string(sidecar) + " client " + std::to_string(client);
  text += " " + keys[key] + " v" + std::to_string(number);
  if (kind == ActionKind::kReadMany || kind == ActionKind::kSetMany || kind == ActionKind::kDirectPair)
    text += " " + keys[key2];
  if (for_us != 0) text += " px " + std::to_string(for_us / 1000);
  return text;
}

}  // namespace nearcached::sim
