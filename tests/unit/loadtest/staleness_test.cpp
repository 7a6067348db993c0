#include "loadtest/staleness.hpp"

#include <catch2/catch.hpp>

using nearcached::loadtest::Acknowledgements;
using nearcached::loadtest::Delays;
using nearcached::loadtest::delays;
using nearcached::loadtest::Observations;

TEST_CASE("a write whose predecessor nobody read after its acknowledgement has no delay") {
  Observations seen(1);
  seen.saw(0, 0, 90, 120);  // answered after the acknowledgement, but asked before
  seen.saw(0, 1, 110, 130);
  const Delays found = delays({{100}}, seen, 0);
  CHECK(found.by_sent.count() == 1);
  CHECK(found.by_sent.max() == 0);
  CHECK(found.by_received.max() == 0);
  CHECK(found.stale == 0);
}

TEST_CASE("the delay runs to the last request that was answered with an older version") {
  Observations seen(1);
  seen.saw(0, 0, 110, 115);
  seen.saw(0, 0, 140, 190);
  seen.saw(0, 1, 150, 195);
  const Delays found = delays({{100}}, seen, 0);
  CHECK(found.by_sent.max() == 40);
  CHECK(found.by_received.max() == 90);
  CHECK(found.stale == 1);
}

TEST_CASE("an old version read late counts against every write since, not only the next one") {
  Observations seen(1);
  seen.saw(0, 0, 500, 510);
  const Delays found = delays({{100, 200, 300}}, seen, 0);
  CHECK(found.stale == 3);
  CHECK(found.by_sent.max() == 400);
  CHECK(found.by_sent.percentile(1) == 200);
}

TEST_CASE("of two older versions the one that was read later counts, whichever is older") {
  Observations newer_first(1);
  newer_first.saw(0, 1, 250, 260);
  newer_first.saw(0, 0, 270, 280);
  CHECK(newer_first.back_in_time() == 1);
  CHECK(delays({{100, 200}}, newer_first, 0).by_sent.percentile(1) == 70);
  Observations in_order(1);
  in_order.saw(0, 0, 230, 235);
  in_order.saw(0, 1, 270, 280);
  CHECK(in_order.back_in_time() == 0);
  CHECK(delays({{100, 200}}, in_order, 0).by_sent.percentile(1) == 70);
}

TEST_CASE("a version that is newer than the write says nothing about it") {
  Observations seen(1);
  seen.saw(0, 2, 1000, 1010);
  CHECK(delays({{100, 200}}, seen, 0).stale == 0);
}

TEST_CASE("writes of the warm-up are left out, but what was read of them is not") {
  Observations seen(1);
  seen.saw(0, 1, 260, 270);
  const Delays found = delays({{100, 200}}, seen, 150);
  CHECK(found.by_sent.count() == 1);
  CHECK(found.by_sent.max() == 60);
}

TEST_CASE("keys do not mix") {
  Observations seen(2);
  seen.saw(0, 0, 500, 510);
  seen.saw(1, 1, 500, 510);
  const Delays found = delays({{100}, {100}}, seen, 0);
  CHECK(found.by_sent.count() == 2);
  CHECK(found.stale == 1);
}

TEST_CASE("what no writer can have written is counted apart and takes no memory") {
  Observations seen(1);
  seen.saw(1, 0, 1, 2);
  seen.saw(0, Observations::kVersionsMax + 1, 1, 2);
  CHECK(seen.unusable() == 2);
  CHECK(seen.reads() == 0);
  CHECK(seen.of(0).empty());
}
