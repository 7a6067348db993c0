#include "tiers/l1/ghosts.hpp"

#include <catch2/catch.hpp>

using nearcached::tiers::l1::Ghosts;

TEST_CASE("a ghost is taken once") {
  Ghosts ghosts;
  REQUIRE(ghosts.resize(16));
  ghosts.add(7);
  CHECK(ghosts.knows(7));
  CHECK(ghosts.take(7));
  CHECK_FALSE(ghosts.knows(7));
  CHECK_FALSE(ghosts.take(7));
}

TEST_CASE("a full set forgets its oldest ghost, and being added again makes one young") {
  Ghosts ghosts;
  REQUIRE(ghosts.resize(16));  // one set
  for (std::uint32_t i = 1; i <= 16; ++i) ghosts.add(i);
  ghosts.add(1);
  ghosts.add(100);
  CHECK(ghosts.knows(1));
  CHECK_FALSE(ghosts.knows(2));
  CHECK(ghosts.knows(3));
  CHECK(ghosts.knows(100));
}

TEST_CASE("a gap left in a full set is used before a ghost is forgotten") {
  Ghosts ghosts;
  REQUIRE(ghosts.resize(16));
  for (std::uint32_t i = 1; i <= 16; ++i) ghosts.add(i);
  CHECK(ghosts.take(9));
  ghosts.add(100);
  for (std::uint32_t i = 1; i <= 16; ++i) CHECK(ghosts.knows(i) == (i != 9));
}

TEST_CASE("fingerprint zero is a ghost like any other") {
  Ghosts ghosts;
  REQUIRE(ghosts.resize(16));
  CHECK_FALSE(ghosts.knows(0));
  ghosts.add(0);
  CHECK(ghosts.take(0));
  CHECK_FALSE(ghosts.knows(0));
}

TEST_CASE("growing keeps every ghost, shrinking keeps the youngest") {
  Ghosts ghosts;
  REQUIRE(ghosts.resize(16));
  for (std::uint32_t i = 1; i <= 16; ++i) ghosts.add(i << 28);
  REQUIRE(ghosts.resize(1000));
  CHECK(ghosts.capacity() >= 1000);
  CHECK(ghosts.bytes() >= 4000);
  CHECK(ghosts.bytes() <= Ghosts::bytes_for(1000));
  for (std::uint32_t i = 1; i <= 16; ++i) CHECK(ghosts.knows(i << 28));
  REQUIRE(ghosts.resize(1));
  CHECK(ghosts.capacity() == 16);
}

TEST_CASE("without capacity nothing is known") {
  Ghosts ghosts;
  ghosts.add(1);
  CHECK_FALSE(ghosts.knows(1));
  CHECK_FALSE(ghosts.take(1));
  CHECK(ghosts.bytes() == 0);
}
