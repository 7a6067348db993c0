#include "tiers/insight/totals.hpp"

#include <catch2/catch.hpp>
#include <vector>

namespace nearcached::tiers::insight {
namespace {

// Every plain counter but loop_turn_ms, beside the total it has to arrive in.
struct Pair {
  Counter Counters::*counter;
  std::uint64_t Totals::*total;
};
const std::vector<Pair> kPairs = {
    {&Counters::l1_hits, &Totals::l1_hits},
    {&Counters::l1_stale_hits, &Totals::l1_stale_hits},
    {&Counters::l1_unpacked, &Totals::l1_unpacked},
    {&Counters::l1_unreadable, &Totals::l1_unreadable},
    {&Counters::pending_reads, &Totals::pending_reads},
    {&Counters::fills_started, &Totals::fills_started},
    {&Counters::fills_joined, &Totals::fills_joined},
    {&Counters::fills_installed, &Totals::fills_installed},
    {&Counters::fills_discarded, &Totals::fills_discarded},
    {&Counters::fills_forwarded, &Totals::fills_forwarded},
    {&Counters::invalidations_unexplained, &Totals::invalidations_unexplained},
    {&Counters::bus_published, &Totals::bus_published},
    {&Counters::bus_publish_failures, &Totals::bus_publish_failures},
    {&Counters::bus_gaps, &Totals::bus_gaps},
    {&Counters::audit_checked, &Totals::audit_checked},
    {&Counters::audit_stale, &Totals::audit_stale},
    {&Counters::redirects_moved, &Totals::redirects_moved},
    {&Counters::redirects_ask, &Totals::redirects_ask},
    {&Counters::retries, &Totals::retries},
    {&Counters::timeouts, &Totals::timeouts},
    {&Counters::upstream_errors, &Totals::upstream_errors},
    {&Counters::clients_accepted, &Totals::clients_accepted},
    {&Counters::clients_refused, &Totals::clients_refused},
    {&Counters::clients_closed_idle, &Totals::clients_closed_idle},
    {&Counters::clients_closed_output, &Totals::clients_closed_output},
    {&Counters::protocol_errors, &Totals::protocol_errors},
    {&Counters::clients, &Totals::clients},
    {&Counters::bytes_in, &Totals::bytes_in},
    {&Counters::bytes_out, &Totals::bytes_out},
    {&Counters::buffer_bytes, &Totals::buffer_bytes},
    {&Counters::upstream_bytes_in, &Totals::upstream_bytes_in},
    {&Counters::upstream_bytes_out, &Totals::upstream_bytes_out},
};

struct HistogramPair {
  Histogram Counters::*histogram;
  HistogramTotals Totals::*total;
};
const std::vector<HistogramPair> kHistogramPairs = {
    {&Counters::upstream_latency, &Totals::upstream_latency},
    {&Counters::fill_latency, &Totals::fill_latency},
    {&Counters::invalidation_delay, &Totals::invalidation_delay},
    {&Counters::flush_latency, &Totals::flush_latency},
    {&Counters::audit_staleness, &Totals::audit_staleness},
};

TEST_CASE("each counter of each worker arrives in the total of its own name and in no other") {
  for (std::size_t chosen = 0; chosen < kPairs.size(); ++chosen) {
    Counters first;
    Counters second;
    (first.*kPairs[chosen].counter).add(3);
    (second.*kPairs[chosen].counter).add(40);
    Totals totals;
    totals.add(first);
    totals.add(second);
    for (std::size_t i = 0; i < kPairs.size(); ++i) {
      INFO("counter " << chosen << ", total " << i);
      CHECK(totals.*kPairs[i].total == (i == chosen ? 43u : 0u));
    }
  }
}

TEST_CASE("no counter is forgotten by the lists above") {
  constexpr std::size_t kArrays = kCommandClassNames.size() + kMissReasonNames.size() + kInvalidationSourceNames.size();
  const std::size_t histograms = kHistogramPairs.size() * (Histogram::kBoundsUs.size() + 2);
  constexpr std::size_t kLoopTurn = 1;
  CHECK(sizeof(Counters) == (kPairs.size() + kArrays + histograms + kLoopTurn) * sizeof(Counter));
}

TEST_CASE("arrays are summed element by element") {
  Counters worker;
  for (std::size_t i = 0; i < worker.commands.size(); ++i) worker.commands[i].add(i + 1);
  for (std::size_t i = 0; i < worker.l1_misses.size(); ++i) worker.l1_misses[i].add(10 * (i + 1));
  for (std::size_t i = 0; i < worker.invalidations.size(); ++i) worker.invalidations[i].add(100 * (i + 1));
  Totals totals;
  totals.add(worker);
  totals.add(worker);
  for (std::size_t i = 0; i < totals.commands.size(); ++i) CHECK(totals.commands[i] == 2 * (i + 1));
  for (std::size_t i = 0; i < totals.l1_misses.size(); ++i) CHECK(totals.l1_misses[i] == 20 * (i + 1));
  for (std::size_t i = 0; i < totals.invalidations.size(); ++i) CHECK(totals.invalidations[i] == 200 * (i + 1));
  CHECK(totals.commands_total() == 90);
  CHECK(totals.l1_misses_total() == 420);       // 20 * (1 + ... + 6)
  CHECK(totals.invalidations_total() == 5600);  // 200 * (1 + ... + 7)
}

TEST_CASE("histograms are summed bucket by bucket and counted, each under its own name") {
  for (std::size_t chosen = 0; chosen < kHistogramPairs.size(); ++chosen) {
    Counters worker;
    Histogram& histogram = worker.*kHistogramPairs[chosen].histogram;
    for (const std::uint64_t us : {50, 70, 9'000'000}) histogram.observe(us);
    Totals totals;
    totals.add(worker);
    totals.add(worker);
    for (std::size_t i = 0; i < kHistogramPairs.size(); ++i) {
      INFO("histogram " << chosen << ", total " << i);
      const HistogramTotals& total = totals.*kHistogramPairs[i].total;
      const std::uint64_t each = i == chosen ? 2 : 0;
      CHECK(total.buckets[0] == each);
      CHECK(total.buckets[1] == each);
      CHECK(total.buckets.back() == each);
      CHECK(total.count() == 3 * each);
      CHECK(total.sum_us == 9'000'120 * each);
    }
  }
}

}  // namespace
}  // namespace nearcached::tiers::insight
