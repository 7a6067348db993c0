// A schedule as data: how the world is set up, and what clients, other writers and faults do when.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/history.hpp"
#include "tests/sim/world.hpp"

namespace nearcached::sim {

enum class ActionKind : std::uint8_t {
  // Clients of sidecars.
  kRead,
  kReadMany,
  kReadAfter,  // the strict key, and when its answer is here the other one
  kSet,
  kSetMany,
  kDelete,
  kIncrement,
  kSetField,
  kExpire,
  kScript,
  kFlush,
  // Writers that go to the servers straight.
  kDirectSet,
  kDirectDelete,
  kDirectIncrement,
  kDirectSetField,
  kDirectExpire,
  kDirectPair,  // data first, then the strict key that tells of it
  // What goes wrong.
  kReset,
  kHold,
  kSlow,
  kPauseSidecar,
  kPauseNode,
  kRestart,
  kMigrate,
  kTakeOver,
  kFailOver,
  kFailOverLosing,
  kFlushAll,
  kSwapDatabases,
  kDemote,
  kFailing,
  kRefuseTracking,
  kCutBetween,    // a connection breaks between two commands of one send, and its sidecar stands still
  kLoseMessages,  // what the node publishes reaches nobody
};

[[nodiscard]] constexpr bool is_fault(ActionKind kind) { return kind >= ActionKind::kReset; }
[[nodiscard]] constexpr bool is_direct(ActionKind kind) {
  return kind >= ActionKind::kDirectSet && kind <= ActionKind::kDirectPair;
}

struct Action {
  std::int64_t at_us = 0;  // since the start
  ActionKind kind = ActionKind::kRead;
  int sidecar = 0;
  int client = 0;
  int node = 0;
  std::size_t key = 0;
  std::size_t key2 = 0;
  ReadKind read = ReadKind::kGet;
  std::int64_t for_us = 0;   // of faults; the TTL of kSet and kExpire (0: none)
  std::uint64_t number = 0;  // the version that is written; of faults what they draw from

  [[nodiscard]] std::string describe(const std::vector<std::string>& keys) const;
};

// What a schedule is mostly about. Each rule's mutation is looked for in the one where its failure shows soonest.
enum class Profile : std::uint8_t {
  kWrites,
  kFaults,
  kSlots,
  kFailover,
  kExpiry,
  kServer,
  kLevels,
  kTtl,
  kBus,
  kPast,     // reads that go past L1 while the fill connection is late
  kForeign,  // on the bus, with writers that are not
  kCount
};
[[nodiscard]] std::string_view profile_name(Profile profile);
[[nodiscard]] std::optional<Profile> profile_of(std::string_view name);

struct Script {
  std::uint64_t seed = 0;
  Profile profile = Profile::kWrites;
  WorldOptions world;
  int clients = 4;                  // of each sidecar; client c is of worker c % workers
  std::uint64_t resp3_clients = 0;  // bit per client
  std::vector<Action> actions;      // in the order of their time
  std::int64_t span_us = 0;
};

// The profile is drawn as well where none is given.
[[nodiscard]] Script make_script(std::uint64_t seed, std::optional<Profile> profile);

}  // namespace nearcached::sim
