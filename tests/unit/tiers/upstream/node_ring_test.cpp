#include "tiers/upstream/node_ring.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

using Nodes = std::vector<Endpoint>;

const Endpoint kA{"a", 1}, kB{"b", 1}, kC{"c", 1}, kSeed{"seed", 1};
constexpr NodeRing::TimePoint kNow{std::chrono::hours(1)};

}  // namespace

TEST_CASE("primaries come before seeds, each node once", "[node_ring]") {
  NodeRing ring({kSeed, kB, kSeed});
  CHECK(ring.order(kNow) == Nodes{kSeed, kB});
  ring.set_primaries({kA, kB});
  ring.answered(kA);
  CHECK(ring.order(kNow) == Nodes{kA, kB, kSeed});
}

TEST_CASE("the node that answered last is asked first, wherever the list moves it", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA, kB, kC});
  ring.answered(kB);
  CHECK(ring.order(kNow) == Nodes{kB, kC, kSeed, kA});
  ring.set_primaries({kC, kA, kB});
  CHECK(ring.order(kNow).front() == kB);
  ring.set_primaries({kC, kA});
  CHECK(ring.order(kNow) == Nodes{kC, kA, kSeed});
}

TEST_CASE("a node outside the lists can't become the sticky one", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA});
  ring.answered(kA);
  ring.answered(kC);
  CHECK(ring.order(kNow) == Nodes{kA, kSeed});
}

TEST_CASE("an unreachable node comes last for a while, and is never left out", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA, kB});
  ring.answered(kA);
  ring.unreachable(kA, kNow);
  CHECK(ring.order(kNow) == Nodes{kB, kSeed, kA});
  CHECK(ring.order(kNow + NodeRing::kUnreachableFor) == Nodes{kA, kB, kSeed});
  ring.reachable(kA);
  CHECK(ring.order(kNow) == Nodes{kA, kB, kSeed});
  for (const Endpoint& node : {kA, kB, kSeed}) ring.refused(node, "x", kNow);
  CHECK(ring.order(kNow) == Nodes{kA, kB, kSeed});
}

TEST_CASE("advancing goes round the whole ring", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA, kB});
  ring.answered(kA);
  Nodes first;
  for (int i = 0; i < 4; ++i, ring.advance()) first.push_back(ring.order(kNow).front());
  CHECK(first == Nodes{kA, kB, kSeed, kA});
}

TEST_CASE("spreading begins at another node each time and leaves the sticky one alone", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA, kB});
  ring.answered(kB);
  Nodes first;
  for (int i = 0; i < 3; ++i) first.push_back(ring.spread(kNow).front());
  std::ranges::sort(first);
  CHECK(first == Nodes{kA, kB, kSeed});
  CHECK(ring.order(kNow).front() == kB);
}

TEST_CASE("the same words of a node are news once, until it has answered", "[node_ring]") {
  NodeRing ring({kSeed});
  CHECK(ring.refused(kSeed, "Connection refused", kNow));
  CHECK_FALSE(ring.refused(kSeed, "Connection refused", kNow));
  CHECK(ring.refused(kSeed, "LOADING", kNow));
  ring.reachable(kSeed);
  CHECK_FALSE(ring.refused(kSeed, "LOADING", kNow));
  ring.answered(kSeed);
  CHECK(ring.refused(kSeed, "LOADING", kNow));
}

TEST_CASE("a node that left the lists is forgotten, one that stays is not", "[node_ring]") {
  NodeRing ring({kSeed});
  ring.set_primaries({kA, kB});
  ring.refused(kA, "x", kNow);
  ring.refused(kB, "x", kNow);
  ring.set_primaries({kB});
  ring.set_primaries({kA, kB});
  CHECK(ring.refused(kA, "x", kNow));
  CHECK_FALSE(ring.refused(kB, "x", kNow));
}

}  // namespace nearcached::tiers::upstream
