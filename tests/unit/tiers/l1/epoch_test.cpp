#include "tiers/l1/epoch.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

using nearcached::tiers::l1::Epoch;

TEST_CASE("the epoch passes a reader once and then waits for it") {
  const std::uint64_t start = Epoch::current();
  Epoch::enter();
  CHECK(Epoch::try_advance());
  CHECK_FALSE(Epoch::try_advance());
  CHECK(Epoch::current() == start + 1);
  Epoch::leave();
  CHECK(Epoch::try_advance());
}

TEST_CASE("a nested section ends with the outermost one") {
  Epoch::enter();
  Epoch::enter();
  Epoch::leave();
  CHECK(Epoch::try_advance());
  CHECK_FALSE(Epoch::try_advance());
  Epoch::leave();
  CHECK(Epoch::try_advance());
}

TEST_CASE("a section of another thread holds the epoch back until it ends") {
  std::atomic<int> step{0};
  std::thread reader([&] {
    Epoch::enter();
    step = 1;
    step.notify_all();
    step.wait(1);
    Epoch::leave();
  });
  step.wait(0);
  CHECK(Epoch::try_advance());
  CHECK_FALSE(Epoch::try_advance());
  step = 2;
  step.notify_all();
  reader.join();
  CHECK(Epoch::try_advance());
}

TEST_CASE("threads that end give their slots back") {
  for (int i = 0; i < 2 * Epoch::kThreadsMax; ++i) {
    std::thread([] {
      Epoch::enter();
      Epoch::leave();
    }).join();
  }
  CHECK(Epoch::try_advance());
}
