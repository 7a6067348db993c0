#include "daemon/monitor.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace nearcached::daemon {
namespace {

using Args = std::vector<std::string_view>;

std::string line(std::string_view name, const Args& args) {
  std::string out;
  append_monitor_line(out, 1339518083'107412, 4, "127.0.0.1:60866", name, args);
  return out;
}

}  // namespace

TEST_CASE("a monitor's line is Redis's", "[monitor]") {
  CHECK(line("keys", {"keys", "*"}) == "+1339518083.107412 [4 127.0.0.1:60866] \"keys\" \"*\"\r\n");
  std::string early;
  append_monitor_line(early, 5'000'007, 0, "unix", "ping", Args{"PING"});
  CHECK(early == "+5.000007 [0 unix] \"PING\"\r\n");
}

TEST_CASE("no argument breaks a monitor's line", "[monitor]") {
  using namespace std::string_view_literals;
  CHECK(line("set", {"SET", "\r\n\t\a\b\\\"", "\0\x7f\xff ~"sv, ""}) ==
        "+1339518083.107412 [4 127.0.0.1:60866] \"SET\" \"\\r\\n\\t\\a\\b\\\\\\\"\" \"\\x00\\x7f\\xff ~\" \"\"\r\n");
}

TEST_CASE("a monitor sees no password", "[monitor]") {
  CHECK(line("auth", {"AUTH", "u", "p"}).ends_with(" \"AUTH\" \"(redacted)\" \"(redacted)\"\r\n"));
}

TEST_CASE("a monitor's line of a huge argument is bounded and says so", "[monitor]") {
  const std::string huge(kMonitoredBytes + 5, '\x01');
  const std::string text = line("set", {"SET", "k", huge});
  CHECK(text.size() < 5 * kMonitoredBytes);
  CHECK(text.ends_with("\\x01\"... (5 more bytes)\r\n"));
}

TEST_CASE("a feed is watched while there are monitors", "[monitor]") {
  MonitorFeed feed;
  CHECK_FALSE(feed.watched());
  feed.join();
  feed.join();
  feed.leave();
  CHECK(feed.watched());
  feed.leave();
  CHECK_FALSE(feed.watched());
}

TEST_CASE("a feed drops and counts what is more than may be on its way, and goes on when that has arrived", "[monitor]") {
  MonitorFeed feed;
  const std::string half(MonitorFeed::kBytesMax / 2, 'x');
  MonitorFeed::Lines one = feed.admit(half);
  MonitorFeed::Lines two = feed.admit(half);
  const MonitorFeed::Lines copy = one;
  REQUIRE(one);
  REQUIRE(two);
  CHECK_FALSE(feed.admit("more"));
  CHECK(feed.dropped_bytes() == 4);
  one.reset();
  CHECK_FALSE(feed.admit("more"));  // its copy still is
  two.reset();
  CHECK(feed.admit("more"));
  CHECK(feed.dropped_bytes() == 8);
}

}  // namespace nearcached::daemon
