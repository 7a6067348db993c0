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
    {&Counters::fills_started, &Totals::fills_started},
    {&Counters::fills_joined, &Totals::fills_joined},
    {&Counters::fills_installed, &Totals::fills_installed},
    {&Counters::fills_discarded, &Totals::fills_discarded},
    {&Counters::fills_forwarded, &Totals::fills_forwarded},
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

TEST_CASE("no counter is forgotten by the list above") {
  constexpr std::size_t kArrays = kCommandClassNames.size() + kMissReasonNames.size() + kInvalidationSourceNames.size();
  constexpr std::size_t kHistograms = 2 * (Histogram::kBoundsUs.size() + 2);
  constexpr std::size_t kLoopTurn = 1;
  CHECK(sizeof(Counters) == (kPairs.size() + kArrays + kHistograms + kLoopTurn) * sizeof(Counter));
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
  CHECK(totals.commands_total() == 72);
  CHECK(totals.l1_misses_total() == 200);
  CHECK(totals.invalidations_total() == 3000);
}

TEST_CASE("histograms are summed bucket by bucket and counted") {
  Counters worker;
  worker.upstream_latency.observe(50);
  worker.upstream_latency.observe(70);
  worker.fill_latency.observe(9'000'000);
  Totals totals;
  totals.add(worker);
  totals.add(worker);
  CHECK(totals.upstream_latency.buckets[0] == 2);
  CHECK(totals.upstream_latency.buckets[1] == 2);
  CHECK(totals.upstream_latency.count() == 4);
  CHECK(totals.upstream_latency.sum_us == 240);
  CHECK(totals.fill_latency.buckets.back() == 2);
  CHECK(totals.fill_latency.count() == 2);
}

}  // namespace
}  // namespace nearcached::tiers::insight
