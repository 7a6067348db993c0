#include <catch2/catch.hpp>

#include "tiers/l1/store.hpp"

using namespace nearcached::tiers::l1;

TEST_CASE("a seed is drawn anew by each call, which each process makes once") {
  CHECK(hash_seed() != hash_seed());
  CHECK(hash_key("key") == hash_key("key"));
}
