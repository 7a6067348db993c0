#include "daemon/slow_log.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon {
namespace {

SlowCommand command(std::string name) {
  SlowCommand slow;
  slow.time_s = 1700000000;
  slow.duration_us = 12345;
  slow.args = {std::move(name), "k"};
  slow.address = "127.0.0.1:5";
  slow.name = "me";
  return slow;
}

}  // namespace

TEST_CASE("a slow log has the newest first and forgets the oldest", "[slowlog]") {
  SlowLog log(2);
  for (const char* name : {"a", "b", "c"}) log.add(command(name));
  const auto newest = log.newest(10);
  REQUIRE(newest.size() == 2);
  CHECK(newest[0].args[0] == "c");
  CHECK(newest[0].id == 2);
  CHECK(newest[1].id == 1);
  CHECK(log.newest(1).size() == 1);
  CHECK(log.newest(0).empty());
  CHECK(log.length() == 2);
}

TEST_CASE("ids of a slow log go on after a reset", "[slowlog]") {
  SlowLog log(2);
  log.add(command("a"));
  log.reset();
  CHECK(log.length() == 0);
  log.add(command("b"));
  CHECK(log.newest(1)[0].id == 1);
}

TEST_CASE("a slow log's reply has six elements for each command", "[slowlog]") {
  SlowLog log(2);
  CHECK(slow_log_reply(log.newest(5)) == "*0\r\n");
  log.add(command("get"));
  CHECK(slow_log_reply(log.newest(5)) ==
        "*1\r\n*6\r\n:0\r\n:1700000000\r\n:12345\r\n*2\r\n$3\r\nget\r\n$1\r\nk\r\n$11\r\n127.0.0.1:5\r\n$2\r\nme\r\n");
}

TEST_CASE("a slow log's count is what Redis takes", "[slowlog]") {
  std::size_t count = 7;
  CHECK(parse_slow_log_count("0", count));
  CHECK(count == 0);
  CHECK(parse_slow_log_count("-1", count));
  CHECK(count > 1'000'000);
  for (const char* wrong : {"", "-2", "x", "1x", " 1", "99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_slow_log_count(wrong, count));
  }
}

}  // namespace nearcached::daemon
