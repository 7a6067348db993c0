#include "tiers/upstream/refresh_schedule.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

using namespace std::chrono_literals;

constexpr RefreshSchedule::TimePoint kStart{1h};

// The middle of the random range is no jitter at all.
RefreshSchedule make(double random = 0.5) {
  return RefreshSchedule({.poll_interval = 1000ms, .interval_min = 50ms, .random = [random] { return random; }}, kStart);
}

void run_round(RefreshSchedule& schedule, RefreshSchedule::TimePoint at, bool good) {
  schedule.begin(at);
  schedule.end(at, good);
}

}  // namespace

TEST_CASE("the first round is due at once, the next after the poll interval", "[refresh_schedule]") {
  auto schedule = make();
  CHECK(schedule.due() == kStart);
  CHECK_FALSE(schedule.begin(kStart));
  schedule.end(kStart + 10ms, true);
  CHECK(schedule.due() == kStart + 1000ms);
}

TEST_CASE("the poll interval is jittered by ten per cent either way", "[refresh_schedule]") {
  auto low = make(0.0);
  run_round(low, kStart, true);
  CHECK(low.due() == kStart + 900ms);
  auto high = make(1.0);
  run_round(high, kStart, true);
  CHECK(high.due() == kStart + 1100ms);
}

TEST_CASE("after a quiet time an asked-for refresh is due at once", "[refresh_schedule]") {
  auto schedule = make();
  run_round(schedule, kStart, true);
  schedule.ask();
  CHECK(schedule.due() <= kStart + 60ms);
  CHECK(schedule.begin(kStart + 500ms));
}

TEST_CASE("asked-for refreshes are coalesced and spaced", "[refresh_schedule]") {
  auto schedule = make();
  run_round(schedule, kStart, true);
  for (int i = 0; i < 1000; ++i) schedule.ask();
  CHECK(schedule.due() == kStart + 50ms);
  CHECK(schedule.begin(kStart + 50ms));
  schedule.end(kStart + 51ms, true);
  CHECK(schedule.due() == kStart + 1050ms);
}

TEST_CASE("nothing is due while a round runs, and what was asked meanwhile gets its own round", "[refresh_schedule]") {
  auto schedule = make();
  schedule.begin(kStart);
  schedule.ask();
  CHECK(schedule.due() == RefreshSchedule::TimePoint::max());
  schedule.end(kStart + 5ms, true);
  CHECK(schedule.due() == kStart + 50ms);
  CHECK(schedule.begin(kStart + 50ms));
}

TEST_CASE("failures are retried unasked, with a spacing that doubles up to one second", "[refresh_schedule]") {
  auto schedule = make();
  auto now = kStart;
  for (const auto gap : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    run_round(schedule, now, false);
    CHECK(schedule.due() == now + gap);
    schedule.ask();
    CHECK(schedule.due() == now + gap);
    now += gap;
  }
  run_round(schedule, now, true);
  schedule.ask();
  CHECK(schedule.due() == now + 50ms);
}

TEST_CASE("a failed round that took long is followed by a pause all the same", "[refresh_schedule]") {
  auto schedule = make();
  schedule.begin(kStart);
  schedule.end(kStart + 5s, false);
  CHECK(schedule.due() == kStart + 5s + 100ms);
}

TEST_CASE("intervals of zero don't spin", "[refresh_schedule]") {
  RefreshSchedule schedule({.poll_interval = 0ms, .interval_min = 0ms, .random = [] { return 0.5; }}, kStart);
  run_round(schedule, kStart, true);
  CHECK(schedule.due() == kStart + 1ms);
}

TEST_CASE("a minimum above one second is kept while failing", "[refresh_schedule]") {
  RefreshSchedule schedule({.poll_interval = 10s, .interval_min = 3s, .random = [] { return 0.5; }}, kStart);
  run_round(schedule, kStart, false);
  CHECK(schedule.due() == kStart + 3s);
}

}  // namespace nearcached::tiers::upstream
