// The bare tracking client and the poller against scripted servers.
#include <poll.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "loadtest/cache_poller.hpp"
#include "loadtest/connect.hpp"
#include "loadtest/tracking_cache.hpp"
#include "loadtest/version_writer.hpp"
#include "loadtest/versioned_values.hpp"
#include "scripted_server.hpp"

using namespace nearcached::loadtest;

namespace {

constexpr std::string_view kPush = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ndelay:0\r\n";

std::string value_reply(std::uint32_t key, std::uint64_t version) {
  const std::string text = value_text({key, version}, 0);
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

void greet(int fd) {
  read_commands(fd, 1);
  answer(fd, "%1\r\n$5\r\nproto\r\n:3\r\n", 1);
  read_commands(fd, 1);
  answer(fd, "+OK\r\n", 1);
}

void receive_next(TrackingCache& cache) {
  pollfd readable{cache.fd(0), POLLIN, 0};
  REQUIRE(::poll(&readable, 1, 5000) == 1);
  cache.receive(0);
}

std::vector<std::int64_t> times_of(const Observations& observed) {
  std::vector<std::int64_t> times;
  for (const auto& read : observed.of(0)) {
    times.push_back(read.sent);
  }
  return times;
}

}  // namespace

TEST_CASE("a bare client serves what it fetched until the push, and then fetches again") {
  ScriptedServer server([](int fd) {
    greet(fd);
    read_commands(fd, 1);
    answer(fd, value_reply(0, 4), 1);
    read_commands(fd, 1);  // a sign from the test: it has looked at the value
    answer(fd, kPush, 1);
    read_commands(fd, 1);
    answer(fd, value_reply(0, 5), 1);
  });
  const Placement placement{{server.target()}, {0}};
  TrackingCache cache(placement, {});
  cache.poll(10);  // absent: fetches
  cache.poll(11);  // being fetched: neither read nor fetched again
  CHECK(cache.fetches() == 1);
  CHECK(cache.observed().reads() == 0);
  receive_next(cache);
  cache.poll(20);
  cache.poll(21);
  CHECK(times_of(cache.observed()) == std::vector<std::int64_t>{0, 0, 0, 0, 21});
  REQUIRE(::send(cache.fd(0), "*", 1, MSG_NOSIGNAL) == 1);
  receive_next(cache);  // the push
  CHECK(cache.pushes() == 1);
  cache.poll(30);
  CHECK(cache.fetches() == 2);
  receive_next(cache);
  cache.poll(40);
  CHECK(times_of(cache.observed()) == std::vector<std::int64_t>{0, 0, 0, 0, 21, 40});
}

TEST_CASE("a client that is told by the writer fetches again also when the write came during its fetch") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 1);
    answer(fd, "%1\r\n$5\r\nproto\r\n:3\r\n", 1);
    read_commands(fd, 1);
    answer(fd, value_reply(0, 4), 1);
    read_commands(fd, 1);
  });
  const Placement placement{{server.target()}, {0}};
  TrackingCache cache(placement, {TrackingCache::Told::kByWriter, false});
  cache.poll(10);
  cache.drop(0);  // version 5 is acknowledged while the fetch, which may have read version 4, is under way
  receive_next(cache);
  cache.poll(20);
  CHECK(cache.observed().reads() == 0);
  CHECK(cache.fetches() == 2);
}

TEST_CASE("a server that refuses tracking is no bare client's server") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 1);
    answer(fd, "%1\r\n$5\r\nproto\r\n:3\r\n", 1);
    read_commands(fd, 1);
    answer(fd, "-NOPERM no\r\n", 1);
  });
  const Placement placement{{server.target()}, {0}};
  CHECK_THROWS_AS(TrackingCache(placement, {}), std::runtime_error);
}

TEST_CASE("a silent sidecar is asked on, and its late answers count from when they were asked for") {
  constexpr std::size_t kAsked = 5;
  std::atomic<bool> stop{false};
  ScriptedServer server([&stop](int fd) {
    const std::size_t asked = read_commands(fd, kAsked);  // none is answered before that many have come
    stop = true;
    answer(fd, value_reply(0, 3), asked);
    while (const std::size_t more = read_commands(fd, 1)) {
      answer(fd, value_reply(0, 3), more);
    }
  });
  auto connected = std::make_unique<CachePoller>(CachePoller::Options{{server.target()}, {}, 1, 1, 1'000'000});
  CachePoller& poller = *connected;
  const std::int64_t before = monotonic_nanoseconds();
  poller.run(stop);
  CHECK(poller.polls() >= kAsked);
  CHECK(poller.observed()[0].reads() == poller.polls());
  const auto& last = poller.observed()[0].of(0)[3];
  CHECK(last.sent >= before);
  CHECK(last.sent < last.received);
  connected.reset();  // closes the connection, which ends the script
}

TEST_CASE("an answer that is not of the key that was asked for ends the run") {
  for (const std::string& reply : {value_reply(1, 0), std::string("$-1\r\n"), std::string("-ERR away\r\n")}) {
    std::atomic<bool> stop{false};
    ScriptedServer server([&reply](int fd) {
      read_commands(fd, 1);
      answer(fd, reply, 1);
      read_commands(fd, 1'000'000);
    });
    auto poller = std::make_unique<CachePoller>(CachePoller::Options{{server.target()}, {}, 1, 1, 1'000'000});
    CHECK_THROWS_AS(poller->run(stop), std::runtime_error);
    poller.reset();  // closes the connection, which ends the script
  }
}
