#include "daemon/command_latency.hpp"

#include <algorithm>

#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {
namespace {

using protocol::equal_ignoring_case;
using protocol::RespVersion;

constexpr std::int64_t kBarMax = 60;
// Names may be repeated without end.
constexpr std::size_t kReplyMax = std::size_t{1} << 20;

// Redis counts in powers of 1024 ns and says the upper end of what its histogram takes for the same, in whole microseconds.
constexpr std::int64_t bound_us(std::size_t bucket) { return (std::int64_t{1032} << bucket) / 1000; }
static_assert(bound_us(0) == 1 && bound_us(5) == 33 && bound_us(7) == 132 && bound_us(24) == 17314086);

// The rows that a name given by a client means: of that command, or of a container's subcommands.
bool is_named(std::string_view command, std::string_view name) {
  if (equal_ignoring_case(command, name)) return true;
  const std::size_t bar = command.find('|');
  return bar != command.npos && equal_ignoring_case(command.substr(0, bar), name);
}

void append_map_header(std::string& out, std::size_t pairs, RespVersion version) {
  const bool resp3 = version == RespVersion::kResp3;
  protocol::append_header(out, resp3 ? '%' : '*', static_cast<std::int64_t>(resp3 ? pairs : 2 * pairs));
}

void append_row(std::string& out, const LatencyRow& row, RespVersion version) {
  append_map_header(out, 2, version);
  protocol::append_bulk(out, "calls");
  protocol::append_integer(out, static_cast<std::int64_t>(row.calls));
  protocol::append_bulk(out, "histogram_usec");
  const auto used = std::count_if(row.buckets.begin(), row.buckets.end(), [](std::uint64_t calls) { return calls != 0; });
  append_map_header(out, static_cast<std::size_t>(used), version);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < row.buckets.size(); ++i) {
    if (row.buckets[i] == 0) continue;
    sum += row.buckets[i];
    protocol::append_integer(out, bound_us(i));
    protocol::append_integer(out, static_cast<std::int64_t>(sum));
  }
}

}  // namespace

void LatencyRow::add(std::int64_t duration_us) {
  std::size_t bucket = 0;
  while (bucket + 1 < kBuckets && duration_us > bound_us(bucket)) ++bucket;
  ++buckets[bucket];
  ++calls;
}

void LatencyRow::add(const LatencyRow& other) {
  calls += other.calls;
  for (std::size_t i = 0; i < kBuckets; ++i) buckets[i] += other.buckets[i];
}

void CommandLatency::add(std::string_view name, std::int64_t duration_us) {
  Named& named = rows_[name.data()];
  named.name = name;
  named.row.add(duration_us);
}

void CommandLatency::add_to(LatencyTable& table) const {
  for (const auto& [_, named] : rows_) table[named.name].add(named.row);
}

std::string histogram_reply(const LatencyTable& table, std::span<const std::string> named, RespVersion version) {
  std::string rows;
  std::size_t count = 0;
  const auto append = [&](std::string_view command, const LatencyRow& row) {
    ++count;
    protocol::append_bulk(rows, command);
    append_row(rows, row, version);
  };
  if (named.empty()) {
    for (const auto& [command, row] : table) append(command, row);
  }
  // In the order of the names, and as often as they are named.
  for (const std::string& name : named) {
    if (rows.size() > kReplyMax) break;
    for (const auto& [command, row] : table) {
      if (is_named(command, name)) append(command, row);
    }
  }
  std::string reply;
  append_map_header(reply, count, version);
  return reply + rows;
}

void LatencyEvents::add(std::string_view name, std::int64_t time_s, std::int64_t duration_ms) {
  const std::lock_guard lock(mutex_);
  Event& event = events_[name];
  event.longest_ms = std::max(event.longest_ms, duration_ms);
  if (!event.samples.empty() && event.samples.back().time_s == time_s) {
    event.samples.back().duration_ms = std::max(event.samples.back().duration_ms, duration_ms);
    return;
  }
  if (event.samples.size() == kSamples) event.samples.erase(event.samples.begin());
  event.samples.push_back({time_s, duration_ms});
}

std::string LatencyEvents::latest_reply() const {
  const std::lock_guard lock(mutex_);
  std::string reply;
  protocol::append_header(reply, '*', static_cast<std::int64_t>(events_.size()));
  for (const auto& [name, event] : events_) {
    protocol::append_header(reply, '*', 4);
    protocol::append_bulk(reply, name);
    protocol::append_integer(reply, event.samples.back().time_s);
    protocol::append_integer(reply, event.samples.back().duration_ms);
    protocol::append_integer(reply, event.longest_ms);
  }
  return reply;
}

std::string LatencyEvents::history_reply(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto event = events_.find(name);
  std::string reply;
  protocol::append_header(reply, '*', event == events_.end() ? 0 : static_cast<std::int64_t>(event->second.samples.size()));
  if (event == events_.end()) return reply;
  for (const Sample& sample : event->second.samples) {
    protocol::append_header(reply, '*', 2);
    protocol::append_integer(reply, sample.time_s);
    protocol::append_integer(reply, sample.duration_ms);
  }
  return reply;
}

std::optional<std::string> LatencyEvents::graph(std::string_view name, std::int64_t now_s) const {
  const std::lock_guard lock(mutex_);
  const auto event = events_.find(name);
  if (event == events_.end()) return std::nullopt;
  const std::vector<Sample>& samples = event->second.samples;
  const auto shorter = [](const Sample& a, const Sample& b) { return a.duration_ms < b.duration_ms; };
  const auto [low, high] = std::minmax_element(samples.begin(), samples.end(), shorter);
  std::string text = std::string(name) + " - high " + std::to_string(high->duration_ms) + " ms, low " +
                     std::to_string(low->duration_ms) + " ms (all time high " + std::to_string(event->second.longest_ms) +
                     " ms)\n";
  for (const Sample& sample : samples) {
    const auto bar = static_cast<std::size_t>(kBarMax * sample.duration_ms / std::max<std::int64_t>(high->duration_ms, 1));
    text += std::string(bar, '#') + " " + std::to_string(sample.duration_ms) + " ms, " +
            std::to_string(now_s - sample.time_s) + " s ago\n";
  }
  return text;
}

std::string LatencyEvents::doctor() const {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return "No command took longer than slowlog.slower_than since the last LATENCY RESET.\n";
  std::string text = "Commands took longer than slowlog.slower_than; SLOWLOG GET has the last ones:\n";
  for (const auto& [name, event] : events_) {
    std::int64_t sum = 0;
    for (const Sample& sample : event.samples) sum += sample.duration_ms;
    text += std::string(name) + ": in " + std::to_string(event.samples.size()) +
            " of the latest seconds, mean of each one's longest " +
            std::to_string(sum / static_cast<std::int64_t>(event.samples.size())) + " ms, longest ever " +
            std::to_string(event.longest_ms) + " ms\n";
  }
  return text;
}

std::size_t LatencyEvents::reset(std::span<const std::string_view> names) {
  const std::lock_guard lock(mutex_);
  if (names.empty()) {
    const std::size_t all = events_.size();
    events_.clear();
    return all;
  }
  std::size_t count = 0;
  for (const std::string_view name : names) {
    const auto event = events_.find(name);
    if (event == events_.end()) continue;
    events_.erase(event);
    ++count;
  }
  return count;
}

}  // namespace nearcached::daemon
