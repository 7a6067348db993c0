#include "tiers/coherence/bus_unknowns.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::coherence {

TEST_CASE("a key of unknown outcome is quarantined until its deadline, then given back once", "[bus_unknowns]") {
  BusUnknowns unknowns;
  CHECK_FALSE(unknowns.contains(1));
  CHECK(unknowns.add("a", 1, 100));
  CHECK(unknowns.contains(1));
  CHECK_FALSE(unknowns.contains(2));
  CHECK(unknowns.next_due_us() == 100);

  CHECK(unknowns.due(99).keys.empty());
  CHECK(unknowns.contains(1));
  const BusUnknowns::Due due = unknowns.due(100);
  REQUIRE(due.keys.size() == 1);
  CHECK(due.keys[0].key == "a");
  CHECK(due.keys[0].hash == 1);
  CHECK_FALSE(due.everything);
  CHECK_FALSE(unknowns.contains(1));
  CHECK(unknowns.due(1000).keys.empty());
}

TEST_CASE("deadlines need not come in order", "[bus_unknowns]") {
  BusUnknowns unknowns;
  CHECK(unknowns.add("late", 1, 300));
  CHECK(unknowns.add("early", 2, 100));
  CHECK(unknowns.add("middle", 3, 200));
  CHECK(unknowns.next_due_us() == 100);
  const BusUnknowns::Due due = unknowns.due(250);
  REQUIRE(due.keys.size() == 2);
  CHECK(due.keys[0].key == "early");
  CHECK(due.keys[1].key == "middle");
  CHECK(unknowns.next_due_us() == 300);
  CHECK(unknowns.contains(1));
  CHECK_FALSE(unknowns.contains(2));
}

TEST_CASE("each write of one key is given back by itself, the last one ends the quarantine", "[bus_unknowns]") {
  BusUnknowns unknowns;
  CHECK(unknowns.add("a", 1, 100));
  CHECK(unknowns.add("a", 1, 200));
  CHECK(unknowns.due(100).keys.size() == 1);
  CHECK(unknowns.contains(1));
  CHECK(unknowns.due(200).keys.size() == 1);
  CHECK_FALSE(unknowns.contains(1));
}

TEST_CASE("keys that share a hash are both given back", "[bus_unknowns]") {
  BusUnknowns unknowns;
  CHECK(unknowns.add("a", 1, 100));
  CHECK(unknowns.add("b", 1, 100));
  CHECK(unknowns.due(100).keys.size() == 2);
}

TEST_CASE("more unknown keys than the bound are all keys, until the last deadline", "[bus_unknowns]") {
  BusUnknowns unknowns;
  for (std::size_t i = 0; i < BusUnknowns::kKeysMax; ++i) REQUIRE(unknowns.add("k", i, 100));
  CHECK_FALSE(unknowns.everything());
  CHECK_FALSE(unknowns.contains(99'999));
  CHECK_FALSE(unknowns.add("x", 50'000, 300));
  CHECK_FALSE(unknowns.add("y", 50'001, 200));
  CHECK(unknowns.size() == BusUnknowns::kKeysMax);
  CHECK(unknowns.contains(99'999));

  BusUnknowns::Due due = unknowns.due(299);
  CHECK(due.keys.size() == BusUnknowns::kKeysMax);
  CHECK_FALSE(due.everything);
  CHECK(unknowns.contains(99'999));
  CHECK(unknowns.next_due_us() == 300);

  due = unknowns.due(300);
  CHECK(due.everything);
  CHECK_FALSE(unknowns.everything());
  CHECK_FALSE(unknowns.contains(99'999));
  CHECK_FALSE(unknowns.due(10'000).everything);
  CHECK(unknowns.add("again", 1, 400));
}

}  // namespace nearcached::tiers::coherence
