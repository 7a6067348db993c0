// The client loop against a scripted server on a unix socket.
#include "loadtest/client_loop.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <system_error>

#include "loadtest/workload.hpp"
#include "scripted_server.hpp"

using namespace nearcached::loadtest;

namespace {

LoopStats run_against(ScriptedServer& server, std::uint32_t pipeline, std::uint64_t requests, double rate = 0,
                      double drain_seconds = 5) {
  ClientLoop loop({server.target(), 1, pipeline, rate, 0, drain_seconds});
  EveryKeyOnce source({}, Operation::kGet, requests);
  return loop.run(source);
}

}  // namespace

TEST_CASE("every answered request is counted, nulls and errors apart") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 3);
    answer(fd, "$1\r\nv\r\n", 1);
    answer(fd, "$-1\r\n", 1);
    answer(fd, "-ERR out of luck\r\n", 1);
  });
  const LoopStats stats = run_against(server, 8, 3);
  CHECK(stats.replies == 3);
  CHECK(stats.latency.count() == 3);
  CHECK(stats.nulls == 1);
  CHECK(stats.errors == 1);
  CHECK(stats.first_error == "ERR out of luck");
  CHECK(stats.unanswered == 0);
}

TEST_CASE("a closed loop never has more than its pipeline in flight") {
  std::size_t first = 0;
  std::size_t second = 0;
  {
    ScriptedServer server([&](int fd) {
      first = read_commands(fd, 4);
      answer(fd, "+OK\r\n", first);
      second = read_commands(fd, 3);
      answer(fd, "+OK\r\n", second);
    });
    CHECK(run_against(server, 4, 7).replies == 7);
  }
  CHECK(first == 4);
  CHECK(second == 3);
}

TEST_CASE("requests on a connection that closes are unanswered, and the run ends") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 5);
    answer(fd, "+OK\r\n", 2);
  });
  const LoopStats stats = run_against(server, 5, 5);
  CHECK(stats.replies == 2);
  CHECK(stats.unanswered == 3);
  CHECK(stats.disconnects == 1);
}

TEST_CASE("a server that never answers ends the run after the drain's time") {
  ScriptedServer server([](int fd) { read_commands(fd, SIZE_MAX); });
  const LoopStats stats = run_against(server, 5, 5, 0, 0.05);
  CHECK(stats.replies == 0);
  CHECK(stats.unanswered == 5);
}

TEST_CASE("an answer nobody asked for is an error") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 1);
    answer(fd, "+OK\r\n+OK\r\n", 1);
    read_commands(fd, SIZE_MAX);
  });
  const LoopStats stats = run_against(server, 1, 1);
  CHECK(stats.errors == 1);
  CHECK(stats.disconnects == 1);
}

TEST_CASE("an open loop charges a stall to every request that was due meanwhile") {
  constexpr std::uint64_t kRequests = 100;
  ScriptedServer server([](int fd) { answer(fd, "+OK\r\n", read_commands(fd, kRequests)); });
  // 1000 a second and no answer before all have come: request n was due 99 - n milliseconds before the last one.
  const LoopStats stats = run_against(server, kRequests, kRequests, 1000);
  CHECK(stats.replies == kRequests);
  CHECK(stats.latency.max() >= 99'000'000);
  CHECK(stats.latency.percentile(50) >= 49'000'000);
}

TEST_CASE("a target that nobody listens on is named") {
  ClientLoop::Options options;
  options.target = "unix:/nonexistent/socket";
  CHECK_THROWS_WITH(ClientLoop(options), Catch::Contains("/nonexistent/socket"));
  options.target = "no-port";
  CHECK_THROWS_WITH(ClientLoop(options), Catch::Contains("no-port"));
}
