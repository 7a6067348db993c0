#include "tiers/io/ring.hpp"

#include <catch2/catch.hpp>
#include <deque>
#include <memory>
#include <random>

namespace nearcached::tiers::io {

TEST_CASE("a ring is a queue whose elements keep their numbers", "[ring]") {
  Ring<int> ring;
  std::deque<int> model;
  std::mt19937 random(7);
  std::uint64_t pushed = 0;
  for (int step = 0; step < 100'000; ++step) {
    if (model.empty() || random() % 100 < (step / 20'000 % 2 == 0 ? 55u : 45u)) {
      REQUIRE(ring.next() == pushed);
      CHECK(ring.push(step) == step);
      model.push_back(step);
      ++pushed;
    } else {
      REQUIRE(ring.front() == model.front());
      ring.pop();
      model.pop_front();
    }
    REQUIRE(ring.size() == model.size());
    REQUIRE(ring.empty() == model.empty());
    REQUIRE(ring.first() == pushed - model.size());
    if (model.empty()) continue;
    REQUIRE(ring.back() == model.back());
    const std::size_t any = random() % model.size();
    REQUIRE(ring.at(ring.first() + any) == model[any]);
  }
}

TEST_CASE("a ring holds what was pushed and not yet popped", "[ring]") {
  Ring<int> ring;
  CHECK_FALSE(ring.holds(0));
  ring.push(1);
  ring.push(2);
  CHECK(ring.holds(0));
  CHECK(ring.holds(1));
  CHECK_FALSE(ring.holds(2));
  ring.pop();
  CHECK_FALSE(ring.holds(0));
  CHECK(ring.holds(1));
}

TEST_CASE("a popped element lets go of what it held", "[ring]") {
  Ring<std::shared_ptr<int>> ring;
  const auto held = std::make_shared<int>(1);
  for (int i = 0; i < 20; ++i) ring.push(held);
  CHECK(held.use_count() == 21);
  ring.pop();
  CHECK(held.use_count() == 20);
  while (!ring.empty()) ring.pop();
  CHECK(held.use_count() == 1);
}

TEST_CASE("a ring that was long once goes on counting after it gave its memory back", "[ring]") {
  Ring<int> ring;
  for (int i = 0; i < 1000; ++i) ring.push(i);
  ring.shrink();
  CHECK(ring.front() == 0);  // not empty: nothing given back
  for (int i = 0; i < 1000; ++i) ring.pop();
  ring.shrink();
  CHECK(ring.next() == 1000);
  ring.push(7);
  CHECK(ring.first() == 1000);
  CHECK(ring.at(1000) == 7);
}

}  // namespace nearcached::tiers::io
