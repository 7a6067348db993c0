#include "tiers/io/resolver.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <thread>
#include <utility>
#include <vector>

namespace nearcached::tiers::io {
namespace {

constexpr std::chrono::seconds kPatience{20};

}  // namespace

TEST_CASE("an address is answered on the resolver's thread", "[resolver]") {
  Resolver resolver;
  std::promise<std::pair<std::vector<SocketAddress>, std::thread::id>> answered;
  resolver.look_up("127.0.0.1", 6379, [&](std::vector<SocketAddress> found) {
    answered.set_value({found, std::this_thread::get_id()});
  });
  auto future = answered.get_future();
  REQUIRE(future.wait_for(kPatience) == std::future_status::ready);
  const auto [found, thread] = future.get();
  REQUIRE(found.size() == 1);
  CHECK(found[0].family() == AF_INET);
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("a name that is none is answered with no address", "[resolver]") {
  Resolver resolver;
  std::promise<std::size_t> answered;
  resolver.look_up("no-such-host.invalid", 1, [&](std::vector<SocketAddress> found) { answered.set_value(found.size()); });
  auto future = answered.get_future();
  REQUIRE(future.wait_for(kPatience) == std::future_status::ready);
  CHECK(future.get() == 0);
}

TEST_CASE("one question too many is answered at once, with nothing, by whoever asked", "[resolver]") {
  // Asking is far quicker than the name service, so the queue fills.
  std::atomic<int> elsewhere{0};
  Resolver resolver;
  const std::thread::id here = std::this_thread::get_id();
  bool refused = false;
  std::size_t asked = 0;
  while (!refused && asked < 1'000'000) {
    ++asked;
    resolver.look_up("no-such-host.invalid", 1, [&](const std::vector<SocketAddress>& found) {
      if (std::this_thread::get_id() == here) {
        refused = found.empty();
      } else {
        ++elsewhere;
      }
    });
  }
  resolver.stop();
  CHECK(refused);
  CHECK(asked > Resolver::kQueueMax);
  CHECK(asked <= Resolver::kQueueMax + static_cast<std::size_t>(elsewhere) + 2);  // one in hand, one refused
}

TEST_CASE("a resolver that stops waits for the answer that is being given", "[resolver]") {
  std::promise<void> started, release;
  std::atomic<bool> given{false};
  Resolver resolver;
  resolver.look_up("127.0.0.1", 1, [&](const std::vector<SocketAddress>&) {
    started.set_value();
    release.get_future().wait();
    given = true;
  });
  REQUIRE(started.get_future().wait_for(kPatience) == std::future_status::ready);
  bool given_at_end = false;
  std::thread stopper([&] {
    resolver.stop();
    given_at_end = given;
  });
  release.set_value();
  stopper.join();
  CHECK(given_at_end);
}

}  // namespace nearcached::tiers::io
