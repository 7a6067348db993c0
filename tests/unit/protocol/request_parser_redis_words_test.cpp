// What Redis 7.0.15 answers to odd and malformed requests, recorded from a real server: the parser must see the same
// commands and use the same words.
#include <catch2/catch.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/request_parser.hpp"

using namespace nearcached::protocol;
using namespace std::string_literals;

namespace {

std::string error_of(const std::string& input, const RequestLimits& limits = {}) {
  RequestParser parser;
  std::string_view rest = input;
  while (true) {
    const ParseStatus status = parser.parse(rest, limits);
    if (status == ParseStatus::kError) return std::string(parser.error());
    if (status == ParseStatus::kNeedMore) return "(waits)";
    rest.remove_prefix(parser.consumed());
  }
}

// The first command that is not empty, its arguments joined by '|'.
std::string command_of(const std::string& input) {
  RequestParser parser;
  std::string_view rest = input;
  while (true) {
    const ParseStatus status = parser.parse(rest, {});
    if (status == ParseStatus::kError) return std::string(parser.error());
    if (status == ParseStatus::kNeedMore) return "(waits)";
    if (status == ParseStatus::kComplete) break;
    rest.remove_prefix(parser.consumed());
  }
  std::string joined;
  for (const std::string_view arg : parser.args()) {
    if (!joined.empty()) joined += '|';
    joined += arg;
  }
  return joined;
}

}  // namespace

TEST_CASE("a count that is no canonical number up to 2^31-1 is an invalid multibulk length") {
  for (const char* input :
       {"*abc\r\n", "*\r\n", "*01\r\n$4\r\nPING\r\n", "*+1\r\n", "*-0\r\n", "* 1\r\n", "*1 \r\n", "*2147483648\r\n",
        "*99999999999999999999\r\n", "*-99999999999999999999\r\n", "*1\n$4\nPING\n\r\n"}) {
    INFO(input);
    CHECK(error_of(input) == "Protocol error: invalid multibulk length");
  }
}

TEST_CASE("a count over the configured bound is an invalid multibulk length") {
  RequestLimits limits;
  CHECK(error_of("*1048576\r\n", limits) == "(waits)");
  CHECK(error_of("*1048577\r\n", limits) == "Protocol error: invalid multibulk length");
  limits.args_max = 2147483647;
  CHECK(error_of("*2147483647\r\n", limits) == "(waits)");
  CHECK(error_of("*2147483648\r\n", limits) == "Protocol error: invalid multibulk length");
  limits.args_max = 2;
  CHECK(error_of("*2\r\n", limits) == "(waits)");
  CHECK(error_of("*3\r\n$1\r\n", limits) == "Protocol error: invalid multibulk length");
}

TEST_CASE("a bulk length that is no canonical number from 0 to the bound is an invalid bulk length") {
  for (const char* input : {"*1\r\n$\r\n", "*1\r\n$-1\r\n", "*1\r\n$abc\r\n", "*1\r\n$03\r\nfoo\r\n", "*1\r\n$00\r\n\r\n",
                            "*1\r\n$+3\r\nfoo\r\n", "*1\r\n$3 \r\nfoo\r\n", "*1\r\n$536870913\r\n", "*1\r\n$99999999999\r\n",
                            "*1\r\n$18446744073709551619\r\n", "*2\r\n$4\r\nECHO\r\n$-2\r\n"}) {
    INFO(input);
    CHECK(error_of(input) == "Protocol error: invalid bulk length");
  }
  CHECK(error_of("*1\r\n$536870912\r\n") == "(waits)");
  RequestLimits limits;
  limits.bulk_bytes_max = 3;
  CHECK(error_of("*2\r\n$3\r\nfoo\r\n$4\r\n", limits) == "Protocol error: invalid bulk length");
  CHECK(error_of("*2\r\n$3\r\nfoo\r\n$4\r\nquux\r\n", limits) == "Protocol error: invalid bulk length");
}

TEST_CASE("an argument that is no bulk string is named by its first character, once its line is whole") {
  CHECK(error_of("*1\r\n:4\r\n") == "Protocol error: expected '$', got ':'");
  CHECK(error_of("*1\r\nPING\r\n") == "Protocol error: expected '$', got 'P'");
  CHECK(error_of("*2\r\n$4\r\nECHO\r\n\xff\r\n") == "Protocol error: expected '$', got '\xff'");
  CHECK(error_of("*1\r\n\r\r\n") == "Protocol error: expected '$', got ' '");
  CHECK(error_of("*1\r\n\n\r\n") == "Protocol error: expected '$', got ' '");
  CHECK(error_of("*1\r\nPING") == "(waits)");
}

TEST_CASE("a header line that does not end within 64 KB is too big") {
  CHECK(error_of("*" + std::string(65535, '1')) == "(waits)");
  CHECK(error_of("*" + std::string(65536, '1')) == "Protocol error: too big mbulk count string");
  CHECK(error_of("*1\r\n$" + std::string(65535, '1')) == "(waits)");
  CHECK(error_of("*1\r\n$" + std::string(65536, '1')) == "Protocol error: too big bulk count string");
  CHECK(error_of("*1\r\n" + std::string(65537, 'x')) == "Protocol error: too big bulk count string");
}

TEST_CASE("an inline command that does not end within 64 KB is too big") {
  CHECK(error_of(std::string(65536, 'a')) == "(waits)");
  CHECK(error_of(std::string(65537, 'a')) == "Protocol error: too big inline request");
  CHECK(command_of(std::string(65535, 'a') + "\r\n") == std::string(65535, 'a'));
}

TEST_CASE("quotes that do not close, or not before a blank, are unbalanced") {
  for (const char* input : {"PING \"a\r\n", "PING \"a\"b\r\n", "PING 'a\r\n", "PING 'a'b\r\n", "ECHO \"a\\\"\r\n",
                            "ECHO ''''\r\n", "\"\n", "'\n", "ECHO \"\\\r\n", "ECHO 'a\\'\r\n", "ECHO \"a\"\"b\"\r\n"}) {
    INFO(input);
    CHECK(error_of(input) == "Protocol error: unbalanced quotes in request");
  }
}

TEST_CASE("inline commands are split as sdssplitargs does") {
  CHECK(command_of("PING\r\n") == "PING");
  CHECK(command_of("PING\n") == "PING");
  CHECK(command_of("\r\nPING\r\n") == "PING");
  CHECK(command_of("\n\nPING\n") == "PING");
  CHECK(command_of("  \r\n\t PING \r\n") == "PING");
  CHECK(command_of("PING\rfoo\r\n") == "PING|foo");
  CHECK(command_of("SET  a\tb\r\n") == "SET|a|b");
  CHECK(command_of("ECHO \"\\x41\\n\\q\\xZZ\"\r\n") == "ECHO|A\nqxZZ");
  CHECK(command_of("ECHO \"\\r\\t\\b\\a\\\\\\\"\\xfF\\x00\"\r\n") == "ECHO|\r\t\b\a\\\"\xff\0"s);
  CHECK(command_of("ECHO \"\\x4\"\r\n") == "ECHO|x4");
  CHECK(command_of("ECHO 'a\\'b\\n'\r\n") == "ECHO|a'b\\n");
  CHECK(command_of("ECHO a\"b c\"\r\n") == "ECHO|ab c");
  CHECK(command_of("ECHO a'b c' d\r\n") == "ECHO|ab c|d");
  CHECK(command_of("ECHO a\\x41\r\n") == "ECHO|a\\x41");
  CHECK(command_of("ECHO a\vb\r\n") == "ECHO|a\vb");
  CHECK(command_of("\vECHO \fa\r\n") == "ECHO|a");
  CHECK(command_of("ECHO \"\" ''\r\n") == "ECHO||");
  CHECK(command_of("ECHO \xff\r\n") == "ECHO|\xff");
  CHECK(command_of("ECHO \"a\"\vb\r\n") == "ECHO|a|b");
}

TEST_CASE("a NUL hides the end of its line") {
  CHECK(command_of("PI\0NG\r\nPING\r\n"s) == "(waits)");
  CHECK(command_of("*1\0\r\n$4\r\nPING\r\n"s) == "(waits)");
  CHECK(command_of("*1\r\n\0\r\n"s) == "(waits)");
  CHECK(error_of("PI\0NG\r\n"s + std::string(65537, 'a')) == "Protocol error: too big inline request");
  CHECK(error_of("*1\r\n$1\0\r\n"s + std::string(65537, 'a')) == "Protocol error: too big bulk count string");
}

TEST_CASE("an array without elements is skipped") {
  CHECK(command_of("*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n") == "PING");
  CHECK(command_of("*-9223372036854775808\r\n*1\r\n$4\r\nPING\r\n") == "PING");
}

TEST_CASE("line ends other than CR LF are taken, and mark the command for re-encoding") {
  CHECK(command_of("*1\r\n$4\r\nPINGxx") == "PING");
  CHECK(command_of("*1\rX$4\rXPINGab") == "PING");
  for (const char* input :
       {"*1\r\n$4\r\nPINGxx", "*1\rX$4\r\nPING\r\n", "*1\r\n$4\rXPING\r\n", "*1\r\n$4\r\nPING\r\r", "PING\r\n"}) {
    RequestParser parser;
    INFO(input);
    REQUIRE(parser.parse(input, {}) == ParseStatus::kComplete);
    CHECK(parser.is_inline());
    REQUIRE(parser.parse("*1\r\n$4\r\nPING\r\n", {}) == ParseStatus::kComplete);
    CHECK_FALSE(parser.is_inline());
  }
}
