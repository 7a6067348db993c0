// The one snapshot of the process, and its two texts: /stats (JSON) and INFO's `# nearcached` section.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/insight/totals.hpp"
#include "tiers/l1/compressor.hpp"
#include "tiers/l1/store.hpp"
#include "tiers/write_behind/log.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::daemon {

// What tiers::l1::Removal is called in reports, by its value.
inline constexpr std::array<std::string_view, tiers::l1::kRemovals> kRemovalNames = {"evicted", "expired", "invalidated",
                                                                                     "purged", "replaced"};

// One upstream node, all connections to it of all workers and identities taken together.
struct NodeRow {
  std::string endpoint;               // Endpoint::text()
  std::string state;                  // "tracking", "greeting", "refused", ...: free text for people
  std::string coherence = "off";      // who tells of changes: "tracking", "bus", "ttl" (nobody) or "off"
  std::string coherence_reason;       // why it is not better; empty when there is nothing to explain
  std::uint64_t connections = 0;      // open now
  std::uint64_t requests = 0;         // sent since start
  std::uint64_t errors = 0;           // lost or refused connections, timeouts
  std::uint64_t pending = 0;          // in flight now
  std::int64_t verified_age_ms = -1;  // since the proof its L1 entries stand on; -1: unknown or none
  std::uint64_t invalidations = 0;    // pushes received on its fill connection
  std::uint64_t fills_in_flight = 0;  // reads for L1 on their way
  std::uint64_t fills_waiting = 0;    // reads for L1 that wait for their turn or for the connection
};

struct WorkerRow {
  std::uint64_t clients = 0;
  std::uint64_t commands = 0;
  std::int64_t loop_age_ms = -1;  // since the last turn of its loop; -1: has not turned yet
};

// Everything the process tells about itself, taken at one moment. INFO, /stats and /metrics print this and nothing else,
// so the three can't disagree on what a number means. Plain data that owns all it holds: made by whoever may look at the
// workers, then passed by value to any thread. Taking one costs a few microseconds per worker; it is made per scrape, never
// per request.
// Upstream connections that clients have for themselves, of all workers.
struct PinnedRow {
  std::uint64_t in_use = 0;
  std::uint64_t idle = 0;
  std::uint64_t waiting = 0;  // clients that wait for one
  std::uint64_t max = 0;
  std::uint64_t acquired = 0;
  std::uint64_t opened = 0;
  std::uint64_t timeouts = 0;  // clients that waited in vain
};

struct WriteBehindRow {
  std::string mode = "off";  // "log", "memory" (eventual only) or "through" (the disk fails)
  tiers::write_behind::QueueStats queue;
  tiers::write_behind::LogStats log;
  std::int64_t oldest_age_ms = 0;  // of what waits; 0: nothing does
  std::uint64_t replayed = 0;      // records that the start found in the log
};

struct StatsSnapshot {
  std::string version;  // "0.1.0"
  std::string build;    // compiler and build type, free text
  std::int64_t start_time_unix_ms = 0;
  std::int64_t uptime_ms = 0;
  std::uint32_t threads = 0;

  std::string coherence_mode;    // "tracking", "bus", "ttl", "mixed" (by node) or "off"
  std::string coherence_reason;  // "upstream refuses CLIENT TRACKING"; empty when there is nothing to explain

  tiers::l1::Stats l1;
  tiers::l1::CompressionStats compression;
  std::size_t l1_max_bytes = 0;  // 0: L1 is disabled

  tiers::insight::Totals totals;   // all workers
  std::vector<WorkerRow> workers;  // by worker index
  std::vector<NodeRow> nodes;

  std::uint64_t topology_version = 0;
  std::int64_t topology_age_ms = -1;  // -1: no good answer yet

  std::uint64_t clients = 0;  // connected now
  std::uint64_t clients_max = 0;
  std::uint64_t identities = 0;  // users, times the databases each has selected
  std::uint64_t identities_max = 0;
  std::uint64_t buffer_bytes = 0;  // all client and upstream buffers
  std::uint64_t buffer_limit_bytes = 0;

  PinnedRow pinned;
  WriteBehindRow write_behind;
};

using StatsSource = std::function<StatsSnapshot()>;

// How old an answer from L1 may be in the snapshot's mode, in words; of "mixed", for each mode that a node is in.
[[nodiscard]] std::string coherence_bound(const StatsSnapshot& snapshot);

// One JSON object, valid UTF-8 whatever the strings hold, ending with a newline.
[[nodiscard]] std::string stats_json(const StatsSnapshot& snapshot);

// "# nearcached\r\n" and `name:value\r\n` lines, as INFO prints a section; no blank line around it.
[[nodiscard]] std::string stats_info_section(const StatsSnapshot& snapshot);

}  // namespace nearcached::daemon
