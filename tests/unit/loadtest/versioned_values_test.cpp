#include "loadtest/versioned_values.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace {

using namespace nearcached::loadtest;  // NOLINT(google-build-using-namespace)

std::vector<std::string> bulks(std::string_view frame) {
  std::vector<std::string> found;
  for_each_bulk(frame, [&found](std::string_view text) { found.emplace_back(text); });
  return found;
}

}  // namespace

TEST_CASE("keys and values say what they are") {
  CHECK(parse_key(key_name(0)) == 0u);
  CHECK(parse_key(key_name(4294967295u)) == 4294967295u);
  CHECK_FALSE(parse_key("delay:"));
  CHECK_FALSE(parse_key("delay:1x"));
  CHECK_FALSE(parse_key("other:1"));
  const VersionedValue value{17, 123'456'789'012};
  CHECK(parse_value(value_text(value, 0)) == value);
  CHECK(parse_value(value_text(value, 64)) == value);
  CHECK(value_text(value, 64).size() == 64);
  CHECK_FALSE(parse_value("17:"));
  CHECK_FALSE(parse_value("17:5"));  // cut short: 5 may be the start of 57
  CHECK_FALSE(parse_value(""));
}

TEST_CASE("a frame is complete with its last byte, at every split") {
  const std::vector<std::string> frames{
      "+OK\r\n",
      "-MOVED 1 127.0.0.1:7000\r\n",
      ":-2\r\n",
      "_\r\n",
      "$0\r\n\r\n",
      "$-1\r\n",
      "*-1\r\n",
      "*0\r\n",
      "$5\r\na\r\nbc\r\n",
      ">2\r\n$10\r\ninvalidate\r\n*2\r\n$7\r\ndelay:1\r\n$7\r\ndelay:2\r\n",
      "%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n*0\r\n",
  };
  for (const std::string& frame : frames) {
    INFO(frame);
    for (std::size_t cut = 0; cut < frame.size(); ++cut) {
      CHECK(first_frame(std::string_view(frame).substr(0, cut)).state == Frame::State::kIncomplete);
    }
    const Frame found = first_frame(frame + "+more\r\n");
    CHECK(found.state == Frame::State::kComplete);
    CHECK(found.size == frame.size());
  }
}

TEST_CASE("what is no RESP is not waited for") {
  for (const std::string_view text :
       {"\r\n", "hello\r\n", "$x\r\n", "$-2\r\n", "*9223372036854775807\r\n", "%100001\r\n", "$1a\r\n"}) {
    INFO(text);
    CHECK(first_frame(text).state == Frame::State::kMalformed);
  }
}

TEST_CASE("bulk strings are found at any depth, nulls are not") {
  CHECK(bulks(">2\r\n$10\r\ninvalidate\r\n*2\r\n$2\r\nk1\r\n$-1\r\n") == std::vector<std::string>{"invalidate", "k1"});
  CHECK(bulks("$3\r\n\r\n1\r\n") == std::vector<std::string>{"\r\n1"});
  CHECK(bulks("$-1\r\n").empty());
  CHECK(bulks("+OK\r\n").empty());
}

TEST_CASE("a command is an array of bulk strings") {
  CHECK(command({"GET", "k"}) == "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
  CHECK(command({"SET", "", "\r\n"}) == "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n");
}
