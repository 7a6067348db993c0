#include "daemon/scan_cursor.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

namespace nearcached::daemon {
namespace {

using tiers::upstream::Topology;

Topology topology(std::vector<tiers::upstream::Endpoint> primaries) {
  Topology t;
  t.cluster = true;
  t.primaries = std::move(primaries);
  return t;
}

const Topology kThree = topology({{"10.0.0.3", 1}, {"10.0.0.1", 1}, {"10.0.0.2", 1}});

ScanCursor parsed(std::string_view text, const Topology& of) {
  std::string_view error;
  const auto cursor = ScanCursor::parse(text, of, error);
  CAPTURE(text, error);
  REQUIRE(cursor);
  return *cursor;
}

std::string error_of(std::string_view text, const Topology& of) {
  std::string_view error;
  CHECK_FALSE(ScanCursor::parse(text, of, error));
  return std::string(error);
}

}  // namespace

TEST_CASE("a scan asks every node once, from its beginning to its end", "[scan_cursor]") {
  std::vector<std::size_t> asked;
  std::string cursor = "0";
  do {
    const ScanCursor at = parsed(cursor, kThree);
    if (at.node_cursor == 0) asked.push_back(at.primary);
    // Each node answers 17, then 4398046511103, then 0.
    const std::string answer = at.node_cursor == 0 ? "17" : at.node_cursor == 17 ? "4398046511103" : "0";
    cursor = ScanCursor::make(at.primary, answer, kThree);
    if (answer != "0") CHECK(parsed(cursor, kThree).primary == at.primary);
    if (answer != "0") CHECK(std::to_string(parsed(cursor, kThree).node_cursor) == answer);
  } while (cursor != "0");
  CHECK(asked == std::vector<std::size_t>{1, 2, 0});
}

TEST_CASE("the order in which the nodes are known does not matter", "[scan_cursor]") {
  const Topology other = topology({{"10.0.0.1", 1}, {"10.0.0.2", 1}, {"10.0.0.3", 1}});
  const std::string cursor = ScanCursor::make(0, "99", kThree);  // 10.0.0.3
  CHECK(parsed(cursor, other).primary == 2);
  CHECK(parsed(cursor, other).node_cursor == 99);
}

TEST_CASE("a cursor of other nodes is refused, with what to do", "[scan_cursor]") {
  const std::string cursor = ScanCursor::make(1, "99", kThree);
  for (const Topology& other :
       {topology({{"10.0.0.3", 1}, {"10.0.0.1", 1}}), topology({{"10.0.0.3", 1}, {"10.0.0.1", 1}, {"10.0.0.4", 1}}),
        topology({{"10.0.0.3", 1}, {"10.0.0.1", 1}, {"10.0.0.2", 2}})}) {
    CHECK(error_of(cursor, other).find("SCAN again from 0") != std::string::npos);
  }
}

TEST_CASE("what is no number is an invalid cursor, in Redis's words", "[scan_cursor]") {
  for (const char* text : {"", "a", "-1", "1a", " 1", "99999999999999999999"})
    CHECK(error_of(text, kThree) == "ERR invalid cursor");
  CHECK(error_of("1", kThree).find("SCAN again") != std::string::npos);
}

TEST_CASE("a node's cursor that has no room is not cut", "[scan_cursor]") {
  CHECK(ScanCursor::make(0, "4398046511104", kThree).empty());
  CHECK(ScanCursor::make(0, "x", kThree).empty());
}

}  // namespace nearcached::daemon
