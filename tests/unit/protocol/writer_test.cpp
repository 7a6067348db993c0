#include "protocol/writer.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "protocol/reply_tree.hpp"
#include "protocol/request_parser.hpp"

using namespace nearcached::protocol;

namespace {

template <class Append>
std::string written(Append append) {
  std::string out;
  append(out);
  return out;
}

}  // namespace

TEST_CASE("headers hold the whole range of 64-bit numbers") {
  CHECK(written([](auto& out) { append_header(out, '*', 3); }) == "*3\r\n");
  CHECK(written([](auto& out) { append_header(out, '$', -1); }) == "$-1\r\n");
  CHECK(written([](auto& out) { append_integer(out, 0); }) == ":0\r\n");
  CHECK(written([](auto& out) { append_integer(out, INT64_MAX); }) == ":9223372036854775807\r\n");
  CHECK(written([](auto& out) { append_integer(out, INT64_MIN); }) == ":-9223372036854775808\r\n");
}

TEST_CASE("a bulk string carries any bytes") {
  const std::string payload("a\r\n\0$3\r\n", 8);
  const std::string out = written([&](auto& sink) { append_bulk(sink, payload); });
  CHECK(out == "$8\r\n" + payload + "\r\n");
  ReplyTree tree;
  REQUIRE(tree.parse(out));
  CHECK(tree.root().text == payload);
  CHECK(written([](auto& sink) { append_bulk(sink, ""); }) == "$0\r\n\r\n");
}

TEST_CASE("an error stays one line whatever its text") {
  CHECK(written([](auto& out) { append_error(out, "ERR plain"); }) == "-ERR plain\r\n");
  CHECK(written([](auto& out) { append_error(out, "ERR a\r\nb\nc\r"); }) == "-ERR a  b c \r\n");
  CHECK(written([](auto& out) { append_error(out, "\n"); }) == "- \r\n");
  CHECK(written([](auto& out) { append_error(out, ""); }) == "-\r\n");
}

TEST_CASE("null is written as the client's protocol version has it") {
  CHECK(written([](auto& out) { append_null(out, RespVersion::kResp2); }) == "$-1\r\n");
  CHECK(written([](auto& out) { append_null(out, RespVersion::kResp3); }) == "_\r\n");
}

TEST_CASE("a written command is read back as it was, and needs no re-encoding") {
  const std::vector<std::string> args = {"SET", "", std::string("\r\n\0", 3), std::string(100'000, 'x')};
  const std::string out = written([&](auto& sink) { append_command(sink, args); });
  RequestParser parser;
  REQUIRE(parser.parse(out, {}) == ParseStatus::kComplete);
  CHECK(parser.consumed() == out.size());
  CHECK_FALSE(parser.is_inline());
  REQUIRE(parser.args().size() == args.size());
  for (std::size_t i = 0; i < args.size(); ++i) CHECK(parser.args()[i] == args[i]);
  CHECK(written([](auto& sink) { append_command(sink, {"GET", "k"}); }) == "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
}

TEST_CASE("a simple string is framed by its sign and CR LF") {
  CHECK(written([](auto& out) { append_simple(out, "OK"); }) == "+OK\r\n");
  CHECK(written([](auto& out) { append_text(out, "raw"); }) == "raw");
}
