// Sums of Counters as plain numbers: what a report or a scrape works on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "tiers/insight/counters.hpp"

namespace nearcached::tiers::insight {

// Copyable image of one or more Histograms. Buckets are not cumulative.
struct HistogramTotals {
  std::array<std::uint64_t, Histogram::kBoundsUs.size() + 1> buckets{};
  std::uint64_t sum_us = 0;

  void add(const Histogram& histogram) noexcept {
    for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] += histogram.buckets[i].value();
    sum_us += histogram.sum_us.value();
  }
  [[nodiscard]] std::uint64_t count() const noexcept {
    std::uint64_t n = 0;
    for (const std::uint64_t bucket : buckets) n += bucket;
    return n;
  }
};

// The sum of several workers' Counters, field by field under the same names. Counters itself can be neither copied nor
// summed in place: its single-writer rule would be broken by the reader. Each number is exact; together they are not one
// instant of the process, since workers go on counting while they are read. `loop_turn_ms` has no meaningful sum and is
// reported per worker. Plain data: confined to whoever made it.
struct Totals {
  std::array<std::uint64_t, kCommandClassNames.size()> commands{};
  std::uint64_t l1_hits = 0, l1_stale_hits = 0, l1_unpacked = 0, l1_unreadable = 0;
  std::array<std::uint64_t, kMissReasonNames.size()> l1_misses{};
  std::array<std::uint64_t, kInvalidationSourceNames.size()> invalidations{};
  std::uint64_t pending_reads = 0;
  std::uint64_t fills_started = 0, fills_joined = 0, fills_installed = 0, fills_discarded = 0, fills_forwarded = 0;
  std::uint64_t invalidations_unexplained = 0;
  std::uint64_t bus_published = 0, bus_publish_failures = 0, bus_gaps = 0;
  std::uint64_t audit_checked = 0, audit_stale = 0;
  std::uint64_t redirects_moved = 0, redirects_ask = 0, retries = 0, timeouts = 0, upstream_errors = 0;
  std::uint64_t clients_accepted = 0, clients_refused = 0, clients_closed_idle = 0, clients_closed_output = 0;
  std::uint64_t protocol_errors = 0;
  std::uint64_t clients = 0;  // gauge
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::uint64_t buffer_bytes = 0;  // gauge
  std::uint64_t upstream_bytes_in = 0, upstream_bytes_out = 0;
  HistogramTotals upstream_latency;
  HistogramTotals fill_latency;
  HistogramTotals invalidation_delay;
  HistogramTotals flush_latency;
  HistogramTotals audit_staleness;

  // Adds one worker's counters. Any thread may call it while that worker counts on.
  void add(const Counters& worker) noexcept {
    add_all(commands, worker.commands);
    l1_hits += worker.l1_hits.value();
    l1_stale_hits += worker.l1_stale_hits.value();
    l1_unpacked += worker.l1_unpacked.value();
    l1_unreadable += worker.l1_unreadable.value();
    add_all(l1_misses, worker.l1_misses);
    add_all(invalidations, worker.invalidations);
    pending_reads += worker.pending_reads.value();
    fills_started += worker.fills_started.value();
    fills_joined += worker.fills_joined.value();
    fills_installed += worker.fills_installed.value();
    fills_discarded += worker.fills_discarded.value();
    fills_forwarded += worker.fills_forwarded.value();
    invalidations_unexplained += worker.invalidations_unexplained.value();
    bus_published += worker.bus_published.value();
    bus_publish_failures += worker.bus_publish_failures.value();
    bus_gaps += worker.bus_gaps.value();
    audit_checked += worker.audit_checked.value();
    audit_stale += worker.audit_stale.value();
    redirects_moved += worker.redirects_moved.value();
    redirects_ask += worker.redirects_ask.value();
    retries += worker.retries.value();
    timeouts += worker.timeouts.value();
    upstream_errors += worker.upstream_errors.value();
    clients_accepted += worker.clients_accepted.value();
    clients_refused += worker.clients_refused.value();
    clients_closed_idle += worker.clients_closed_idle.value();
    clients_closed_output += worker.clients_closed_output.value();
    protocol_errors += worker.protocol_errors.value();
    clients += worker.clients.value();
    bytes_in += worker.bytes_in.value();
    bytes_out += worker.bytes_out.value();
    buffer_bytes += worker.buffer_bytes.value();
    upstream_bytes_in += worker.upstream_bytes_in.value();
    upstream_bytes_out += worker.upstream_bytes_out.value();
    upstream_latency.add(worker.upstream_latency);
    fill_latency.add(worker.fill_latency);
    invalidation_delay.add(worker.invalidation_delay);
    flush_latency.add(worker.flush_latency);
    audit_staleness.add(worker.audit_staleness);
  }

  [[nodiscard]] std::uint64_t commands_total() const noexcept { return sum(commands); }
  [[nodiscard]] std::uint64_t l1_misses_total() const noexcept { return sum(l1_misses); }
  [[nodiscard]] std::uint64_t invalidations_total() const noexcept { return sum(invalidations); }

 private:
  template <std::size_t N>
  static void add_all(std::array<std::uint64_t, N>& to, const std::array<Counter, N>& from) noexcept {
    for (std::size_t i = 0; i < N; ++i) to[i] += from[i].value();
  }
  template <std::size_t N>
  static std::uint64_t sum(const std::array<std::uint64_t, N>& values) noexcept {
    std::uint64_t n = 0;
    for (const std::uint64_t value : values) n += value;
    return n;
  }
};

}  // namespace nearcached::tiers::insight
