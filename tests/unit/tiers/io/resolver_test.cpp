#include "tiers/io/resolver.hpp"

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
  resolver.look_up("127.0.0.1", 6379,
                   [&](std::vector<SocketAddress> found) { answered.set_value({found, std::this_thread::get_id()}); });
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

TEST_CASE("one question too many is answered at once, with nothing, and the others keep their turn", "[resolver]") {
  std::promise<void> started, release;
  std::size_t answers = 0;
  std::promise<void> all;
  Resolver resolver;
  resolver.look_up("127.0.0.1", 1, [&](std::vector<SocketAddress>) {
    started.set_value();
    release.get_future().wait();
  });
  REQUIRE(started.get_future().wait_for(kPatience) == std::future_status::ready);
  for (std::size_t i = 0; i < Resolver::kQueueMax; ++i) {
    resolver.look_up("127.0.0.1", 1, [&](std::vector<SocketAddress> found) {
      if (found.size() == 1 && ++answers == Resolver::kQueueMax) all.set_value();
    });
  }
  bool refused = false;
  resolver.look_up("127.0.0.1", 1, [&](std::vector<SocketAddress> found) { refused = found.empty(); });
  CHECK(refused);
  release.set_value();
  CHECK(all.get_future().wait_for(kPatience) == std::future_status::ready);
}

}  // namespace nearcached::tiers::io
