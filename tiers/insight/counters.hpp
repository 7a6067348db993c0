// What the process counts. One Counters per worker, written by its thread alone, read by whoever scrapes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nearcached::tiers::insight {

// Single writer, any reader: a relaxed load and store, no locked instruction.
class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Latency histogram with fixed upper bounds in microseconds; the last bucket is unbounded.
class Histogram {
 public:
  static constexpr std::array<std::uint32_t, 14> kBoundsUs = {50,    100,   250,   500,    1000,   2500,   5000,
                                                              10000, 25000, 50000, 100000, 250000, 500000, 1000000};
  void observe(std::uint64_t us) noexcept {
    std::size_t i = 0;
    while (i < kBoundsUs.size() && us > kBoundsUs[i]) ++i;
    buckets[i].add();
    sum_us.add(us);
  }
  std::array<Counter, kBoundsUs.size() + 1> buckets;  // not cumulative
  Counter sum_us;
};

enum class CommandClass : std::uint8_t {
  kLocal,
  kCachedRead,
  kForward,
  kSplit,
  kFanOut,
  kAnyNode,
  kPinned,
  kRefused,
  kUnknown
};
inline constexpr std::array<std::string_view, 9> kCommandClassNames = {
    "local", "cached_read", "forward", "split", "fan_out", "any_node", "pinned", "refused", "unknown"};

// Why a read that could have been a hit was not one.
enum class MissReason : std::uint8_t {
  kAbsent,
  kExpired,
  kUnverified,      // the proof it stood on has run out, or its connection was lost
  kUnacknowledged,  // the client has a request of the key in flight
  kUnproven,        // causal: it waits for a proof from after what the client heard last
  kStrict,          // its namespace is never read from L1
};
inline constexpr std::array<std::string_view, 6> kMissReasonNames = {"absent",         "expired",  "unverified",
                                                                     "unacknowledged", "unproven", "strict"};

enum class InvalidationSource : std::uint8_t { kTracking, kBus, kOwnWrite, kFlush, kPurge, kGeneration, kSlotMoved };
inline constexpr std::array<std::string_view, 7> kInvalidationSourceNames = {"tracking", "bus",        "own_write", "flush",
                                                                             "purge",    "generation", "slot_moved"};

struct Counters {
  std::array<Counter, kCommandClassNames.size()> commands;
  Counter l1_hits;        // those in l1_stale_hits included
  Counter l1_stale_hits;  // unverified, served by a stale_ok namespace
  Counter l1_unpacked;    // replies of L1 that were stored packed and asked for
  Counter l1_unreadable;  // those of them that could not be unpacked, which were misses
  std::array<Counter, kMissReasonNames.size()> l1_misses;
  std::array<Counter, kInvalidationSourceNames.size()> invalidations;
  Counter pending_reads;  // answered from a deferred write that is not upstream yet
  Counter fills_started, fills_joined, fills_installed, fills_discarded, fills_forwarded;
  Counter invalidations_unexplained;            // the value read next was the one that had been dropped
  Counter bus_published, bus_publish_failures;  // messages that a node has acknowledged, or refused
  Counter bus_gaps;                             // messages of peers that are missing
  Counter audit_checked, audit_stale;           // hits compared with the upstream; those found untrue under fences
  Counter redirects_moved, redirects_ask, retries, timeouts, upstream_errors;
  Counter clients_accepted, clients_refused, clients_closed_idle, clients_closed_output, protocol_errors;
  Counter clients;                            // gauge: connected now
  Counter bytes_in, bytes_out, buffer_bytes;  // buffer_bytes is a gauge
  Counter upstream_bytes_in, upstream_bytes_out;
  Counter loop_turn_ms;          // gauge: CLOCK_BOOTTIME milliseconds of the last turn of the worker's loop
  Histogram upstream_latency;    // request written -> reply complete, on data connections
  Histogram fill_latency;        // fill asked for -> answered
  Histogram invalidation_delay;  // own write acknowledged -> its invalidation is here; 0 if that came first
  Histogram flush_latency;       // deferred write sent upstream -> answered
  Histogram audit_staleness;     // audited hit -> its value was found to have been replaced
};

}  // namespace nearcached::tiers::insight
