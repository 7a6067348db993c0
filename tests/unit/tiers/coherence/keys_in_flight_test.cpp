#include "tiers/coherence/keys_in_flight.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::coherence {

TEST_CASE("a key is in until each of its writes is acknowledged", "[keys_in_flight]") {
  KeysInFlight keys;
  CHECK(keys.empty());
  CHECK_FALSE(keys.contains(0));  // 0 is a hash like any other
  REQUIRE(keys.add(0));
  REQUIRE(keys.add(7));
  REQUIRE(keys.add(7));
  CHECK(keys.contains(0));
  CHECK(keys.contains(7));
  CHECK_FALSE(keys.contains(8));
  keys.remove(7);
  CHECK(keys.contains(7));
  keys.remove(7);
  CHECK_FALSE(keys.contains(7));
  CHECK(keys.contains(0));
  CHECK_FALSE(keys.empty());
  keys.remove(0);
  CHECK(keys.empty());
}

TEST_CASE("one key too many counts against all keys until it is acknowledged", "[keys_in_flight]") {
  KeysInFlight keys;
  for (std::uint64_t hash = 1; hash <= KeysInFlight::kKeysMax; ++hash) REQUIRE(keys.add(hash));
  CHECK_FALSE(keys.contains(1000));
  REQUIRE_FALSE(keys.add(1000));
  CHECK(keys.contains(1000));
  CHECK(keys.contains(2000));
  REQUIRE(keys.add(1));  // known keys still have their place
  keys.remove_all();
  CHECK_FALSE(keys.contains(2000));
  CHECK(keys.contains(1));
  keys.remove(1);
  CHECK(keys.contains(1));
  for (std::uint64_t hash = 1; hash <= KeysInFlight::kKeysMax; ++hash) keys.remove(hash);
  CHECK(keys.empty());
  REQUIRE(keys.add(1000));
}

TEST_CASE("the removal of a key in the middle loses none of the others", "[keys_in_flight]") {
  for (std::uint64_t removed = 0; removed < KeysInFlight::kKeysMax; ++removed) {
    KeysInFlight keys;
    for (std::uint64_t hash = 0; hash < KeysInFlight::kKeysMax; ++hash) REQUIRE(keys.add(hash));
    keys.remove(removed);
    for (std::uint64_t hash = 0; hash < KeysInFlight::kKeysMax; ++hash) CHECK(keys.contains(hash) == (hash != removed));
  }
}

TEST_CASE("writes of unknown keys are counted, not only noted", "[keys_in_flight]") {
  KeysInFlight keys;
  keys.add_all();
  keys.add_all();
  keys.remove_all();
  CHECK(keys.contains(5));
  CHECK_FALSE(keys.empty());
  keys.remove_all();
  CHECK_FALSE(keys.contains(5));
  CHECK(keys.empty());
}

}  // namespace nearcached::tiers::coherence
