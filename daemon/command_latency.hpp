// LATENCY: how long commands took that left the process, and the slow ones as events.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/writer.hpp"

namespace nearcached::daemon {

// Calls by duration, in buckets whose bounds are those of Redis's LATENCY HISTOGRAM: 1, 2, 4, 8, 16, 33, 66 ... us.
struct LatencyRow {
  static constexpr std::size_t kBuckets = 25;

  std::uint64_t calls = 0;
  std::array<std::uint64_t, kBuckets> buckets{};  // the last one has no upper bound

  void add(std::int64_t duration_us);
  void add(const LatencyRow& other);
};

// By the command's name ("config|get").
using LatencyTable = std::map<std::string_view, LatencyRow>;

// One worker's histograms: rows are found by the address of the table's name, so that a forwarded command pays for a lookup
// of one pointer. Bounded by the number of names in the command table. Confined to the worker.
class CommandLatency {
 public:
  // `name` has static lifetime.
  void add(std::string_view name, std::int64_t duration_us);
  void add_to(LatencyTable& table) const;

 private:
  struct Named {
    std::string_view name;
    LatencyRow row;
  };
  std::unordered_map<const char*, Named> rows_;
};

// LATENCY HISTOGRAM's reply: of all commands, or of those named and, of a container, of its subcommands.
[[nodiscard]] std::string histogram_reply(const LatencyTable& table, std::span<const std::string> named,
                                          protocol::RespVersion version);

// What LATENCY LATEST, HISTORY, GRAPH and DOCTOR tell: for each kind of slow command the last kSamples seconds in which
// there was one, with the longest of each, as Redis keeps them. Synchronised inside: only what is slow already comes here.
class LatencyEvents {
 public:
  static constexpr std::size_t kSamples = 160;

  // `event` has static lifetime.
  void add(std::string_view event, std::int64_t time_s, std::int64_t duration_ms);
  [[nodiscard]] std::string latest_reply() const;
  [[nodiscard]] std::string history_reply(std::string_view event) const;
  // Text; nothing if there are no samples of the event.
  [[nodiscard]] std::optional<std::string> graph(std::string_view event, std::int64_t now_s) const;
  [[nodiscard]] std::string doctor() const;
  // Of these events, none given: of all. How many there were.
  std::size_t reset(std::span<const std::string_view> events);

 private:
  struct Sample {
    std::int64_t time_s = 0;
    std::int64_t duration_ms = 0;
  };
  struct Event {
    std::vector<Sample> samples;  // the oldest first
    std::int64_t longest_ms = 0;  // ever
  };

  mutable std::mutex mutex_;
  std::map<std::string_view, Event, std::less<>> events_;  // guarded by mutex_
};

}  // namespace nearcached::daemon
