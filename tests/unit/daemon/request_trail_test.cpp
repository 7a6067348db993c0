#include "daemon/request_trail.hpp"

#include <catch2/catch.hpp>

#include <deque>

namespace nearcached::daemon {
namespace {

using Args = std::vector<std::string_view>;
using Shown = std::vector<std::string>;

}  // namespace

TEST_CASE("a trail gives back what was noted", "[trail]") {
  RequestTrail trail;
  const std::uint64_t ticket = trail.note("set", 77, Args{"SET", "k", ""});
  CHECK(ticket != 0);
  CHECK(trail.at(ticket).command == "set");
  CHECK(trail.at(ticket).taken_us == 77);
  CHECK(trail.args(ticket) == Shown{"SET", "k", ""});
}

TEST_CASE("a trail shortens arguments at 128 bytes", "[trail]") {
  RequestTrail trail;
  const std::string fits(128, 'a');
  const std::string longer(129, 'b');
  const std::uint64_t ticket = trail.note("set", 1, Args{"SET", fits, longer});
  CHECK(trail.args(ticket) == Shown{"SET", fits, longer.substr(0, 128) + "... (1 more bytes)"});
}

TEST_CASE("a trail keeps 32 arguments, or 31 and the number of the others", "[trail]") {
  RequestTrail trail;
  Args args(32, "x");
  CHECK(trail.args(trail.note("mget", 1, args)) == Shown(32, "x"));
  args.emplace_back("y");
  Shown shown(31, "x");
  shown.emplace_back("... (2 more arguments)");
  CHECK(trail.args(trail.note("mget", 1, args)) == shown);
}

TEST_CASE("a trail never holds a password", "[trail]") {
  RequestTrail trail;
  const std::uint64_t ticket = trail.note("auth", 1, Args{"AUTH", "u", "swordfish"});
  CHECK(trail.args(ticket) == Shown{"AUTH", "(redacted)", "(redacted)"});
}

TEST_CASE("a trail is right after any number of requests came and went", "[trail]") {
  RequestTrail trail;
  std::deque<std::pair<std::uint64_t, std::string>> open;
  std::uint32_t seed = 1;
  for (int i = 0; i < 20'000; ++i) {
    seed = seed * 1664525 + 1013904223;
    if ((seed >> 16) % 9 < 5 && open.size() < 200) {
      const std::string value(seed >> 25, 'v');
      open.emplace_back(trail.note("set", i, Args{"SET", std::to_string(i), value}), std::to_string(i));
    } else if (!open.empty()) {
      REQUIRE(trail.args(open.front().first)[1] == open.front().second);
      REQUIRE(trail.args(open.back().first)[1] == open.back().second);
      trail.drop(open.front().first);
      open.pop_front();
    }
  }
}

TEST_CASE("places without a trail between others are passed over by the next drop", "[trail]") {
  RequestTrail trail;
  static_cast<void>(trail.note("get", 1, Args{"GET", "a"}));
  const std::uint64_t second = trail.note("get", 2, Args{"GET", "b"});
  const std::uint64_t third = trail.note("get", 3, Args{"GET", "c"});
  trail.drop(second);
  CHECK(trail.args(third) == Shown{"GET", "c"});
  trail.drop(third);
  CHECK(trail.args(trail.note("get", 4, Args{"GET", "d"})) == Shown{"GET", "d"});
}

TEST_CASE("of a client that has much under way the names alone are kept", "[trail]") {
  RequestTrail trail;
  const std::string value(128, 'v');
  std::uint64_t last = 0;
  for (int i = 0; i < 4096; ++i) last = trail.note("mset", i, Args{"MSET", value, value, value});
  CHECK(trail.args(last) == Shown{"mset", "... (3 more arguments)"});
  CHECK(trail.at(last).taken_us == 4095);
  CHECK(trail.memory_bytes() < 4 * RequestTrail::kBytesMax + 4096 * 64);
  trail.drop(last);
  CHECK(trail.memory_bytes() <= 1024);
}

}  // namespace nearcached::daemon
