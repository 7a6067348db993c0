// What nodes said of their lowest slot, for whoever publishes on them.
#include "tiers/coherence/bus_views.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::coherence {
namespace {

const upstream::Endpoint kNode{"10.0.0.1", 6379};

}  // namespace

TEST_CASE("a publisher finds what was said before it came, and sees what is said after", "[bus_views]") {
  BusViews views;
  views.note(kNode, 7, 100);
  const auto view = views.of(kNode);
  CHECK(view->lowest == 7);
  CHECK(view->asked_us == 100);
  views.note(kNode, 3, 200);
  CHECK(view->lowest == 3);
  CHECK(view == views.of(kNode));
  CHECK(views.of({"10.0.0.1", 6380})->asked_us == 0);
}

TEST_CASE("an older question that is answered later changes nothing", "[bus_views]") {
  BusViews views;
  views.note(kNode, 7, 200);
  views.note(kNode, 3, 100);
  CHECK(views.of(kNode)->lowest == 7);
}

TEST_CASE("nodes that nobody publishes on make room, the others stay", "[bus_views]") {
  BusViews views;
  const auto kept = views.of(kNode);
  views.note(kNode, 7, 100);
  for (std::uint16_t port = 1; port <= BusViews::kNodesMax + 10; ++port) views.note({"10.0.0.2", port}, 1, 100);
  CHECK(views.of(kNode) == kept);
  CHECK(kept->lowest == 7);
  CHECK(views.of({"10.0.0.2", 1})->asked_us == 0);
  CHECK(views.of({"10.0.0.2", BusViews::kNodesMax + 10})->asked_us == 100);
}

}  // namespace nearcached::tiers::coherence
