// The arithmetic of its size; what it does with sockets is in tests/mock/pinned_pool_test.cpp.
#include "tiers/upstream/pinned_pool.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

void seconds(PinnedSizing& sizing, int count, int acquired, std::int64_t held_us) {
  for (int second = 0; second < count; ++second) {
    for (int i = 0; i < acquired; ++i) {
      sizing.acquired();
      sizing.released(held_us);
    }
    sizing.second();
  }
}

}  // namespace

TEST_CASE("a pool that nobody asks wants no connection", "[pinned_sizing]") {
  PinnedSizing sizing;
  CHECK(sizing.target() == 0);
  seconds(sizing, 100, 0, 0);
  CHECK(sizing.target() == 0);
}

TEST_CASE("its size is rate times time held and a fifth more", "[pinned_sizing]") {
  PinnedSizing sizing;
  seconds(sizing, 60, 100, 200'000);  // 100 a second for 0.2 s: 20 at a time
  CHECK(sizing.target() == 24);
  PinnedSizing brief;
  seconds(brief, 60, 100, 100);  // 0.01 at a time
  CHECK(brief.target() == 1);
}

TEST_CASE("what was needed once is forgotten in some seconds, not at once", "[pinned_sizing]") {
  PinnedSizing sizing;
  seconds(sizing, 60, 100, 200'000);
  seconds(sizing, 1, 0, 0);
  CHECK(sizing.target() >= 18);
  seconds(sizing, 30, 0, 0);
  CHECK(sizing.target() <= 1);
}

}  // namespace nearcached::tiers::upstream
