#include "daemon/command_latency.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon {
namespace {

using protocol::RespVersion;
using Names = std::vector<std::string>;
using Views = std::vector<std::string_view>;

LatencyTable sample_table() {
  LatencyTable table;
  table["get"].add(3);
  table["get"].add(4);
  table["get"].add(40);
  table["config|get"].add(1);
  table["config|set"].add(1);
  return table;
}

}  // namespace

TEST_CASE("a duration counts in the first bucket that is not below it", "[latency]") {
  LatencyRow row;
  for (const std::int64_t us : {0, 1, 2, 33, 34}) row.add(us);
  row.add(std::int64_t{1} << 60);
  CHECK(row.calls == 6);
  CHECK(row.buckets[0] == 2);
  CHECK(row.buckets[1] == 1);
  CHECK(row.buckets[5] == 1);
  CHECK(row.buckets[6] == 1);
  CHECK(row.buckets[LatencyRow::kBuckets - 1] == 1);
}

TEST_CASE("workers' histograms add up by name", "[latency]") {
  static constexpr std::string_view kGet = "get";
  static constexpr std::string_view kSet = "set";
  CommandLatency one;
  CommandLatency two;
  one.add(kGet, 5);
  two.add(kGet, 5);
  two.add(kSet, 9);
  LatencyTable table;
  one.add_to(table);
  two.add_to(table);
  CHECK(table.size() == 2);
  CHECK(table["get"].calls == 2);
  CHECK(table["get"].buckets[3] == 2);
  CHECK(table["set"].calls == 1);
}

TEST_CASE("a histogram's reply is cumulative and has only buckets that were hit", "[latency]") {
  const LatencyTable table = sample_table();
  CHECK(histogram_reply(table, Names{"GET"}, RespVersion::kResp3) ==
        "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n%2\r\n:4\r\n:2\r\n:66\r\n:3\r\n");
  CHECK(histogram_reply(table, Names{"get"}, RespVersion::kResp2) ==
        "*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n*4\r\n:4\r\n:2\r\n:66\r\n:3\r\n");
}

TEST_CASE("a histogram is of a command, of a container's subcommands, or of all", "[latency]") {
  const LatencyTable table = sample_table();
  const auto rows = [&](const Names& names) {
    const std::string reply = histogram_reply(table, names, RespVersion::kResp3);
    return reply.substr(0, reply.find('\r'));
  };
  CHECK(rows({}) == "%3");
  CHECK(rows({"config"}) == "%2");
  CHECK(rows({"config|get"}) == "%1");
  CHECK(rows({"get", "get"}) == "%2");
  CHECK(rows({"con", "onfig|get", "", "no"}) == "%0");
}

TEST_CASE("names repeated without end don't make a reply without end", "[latency]") {
  const Names names(100'000, "get");
  CHECK(histogram_reply(sample_table(), names, RespVersion::kResp3).size() < (2u << 20));
}

TEST_CASE("an event keeps the longest of each second and of all times", "[latency]") {
  LatencyEvents events;
  events.add("slow", 100, 20);
  events.add("slow", 100, 30);
  events.add("slow", 100, 10);
  events.add("slow", 101, 15);
  CHECK(events.latest_reply() == "*1\r\n*4\r\n$4\r\nslow\r\n:101\r\n:15\r\n:30\r\n");
  CHECK(events.history_reply("slow") == "*2\r\n*2\r\n:100\r\n:30\r\n*2\r\n:101\r\n:15\r\n");
  CHECK(events.history_reply("none") == "*0\r\n");
}

TEST_CASE("an event keeps 160 seconds and the longest of before", "[latency]") {
  LatencyEvents events;
  events.add("slow", 1, 500);
  for (int second = 2; second < 200; ++second) events.add("slow", second, 20);
  CHECK(events.history_reply("slow").starts_with("*160\r\n*2\r\n:40\r\n"));
  CHECK(events.latest_reply() == "*1\r\n*4\r\n$4\r\nslow\r\n:199\r\n:20\r\n:500\r\n");
}

TEST_CASE("events are forgotten by name or altogether", "[latency]") {
  LatencyEvents events;
  CHECK(events.reset({}) == 0);
  events.add("a", 1, 20);
  events.add("b", 1, 20);
  CHECK(events.reset(Views{"a", "x", "a"}) == 1);
  CHECK(events.history_reply("a") == "*0\r\n");
  CHECK(events.reset({}) == 1);
  CHECK(events.latest_reply() == "*0\r\n");
}

TEST_CASE("graph and doctor tell of events and of their lack", "[latency]") {
  LatencyEvents events;
  CHECK_FALSE(events.graph("slow", 5));
  CHECK(events.doctor().starts_with("No command"));
  events.add("slow", 3, 0);
  events.add("slow", 4, 40);
  const auto graph = events.graph("slow", 5);
  REQUIRE(graph);
  CHECK(graph->starts_with("slow - high 40 ms, low 0 ms (all time high 40 ms)\n 0 ms, 2 s ago\n##"));
  CHECK(events.doctor().find("slow: in 2 of the latest seconds") != std::string::npos);
}

}  // namespace nearcached::daemon
