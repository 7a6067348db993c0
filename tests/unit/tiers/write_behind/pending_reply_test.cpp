#include "tiers/write_behind/pending_reply.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::write_behind {
namespace {

using protocol::RespVersion;

constexpr std::int64_t kNow = 1'700'000'000'000;

std::string reply(const std::vector<std::string_view>& args, const Write& write, RespVersion version = RespVersion::kResp3) {
  std::string out = "before ";
  if (!append_pending_reply(out, args[0], args, write, kNow, version)) {
    CHECK(out == "before ");
    return "(not known here)";
  }
  return out.substr(7);
}

Write set(std::string value, std::int64_t expires_at_ms = 0) { return {Write::Kind::kSet, std::move(value), expires_at_ms}; }

TEST_CASE("reads of a pending value are told what Redis would tell of it", "[pending_reply]") {
  const Write value = set("Hello World");
  CHECK(reply({"get", "k"}, value) == "$11\r\nHello World\r\n");
  CHECK(reply({"strlen", "k"}, value) == ":11\r\n");
  CHECK(reply({"exists", "k"}, value) == ":1\r\n");
  CHECK(reply({"type", "k"}, value) == "+string\r\n");
  for (const char* ttl : {"ttl", "pttl", "expiretime", "pexpiretime"}) CHECK(reply({ttl, "k"}, value) == ":-1\r\n");
}

TEST_CASE("what is deleted or expired is not there", "[pending_reply]") {
  for (const Write& gone : {Write{Write::Kind::kDelete, "", 0}, set("v", kNow - 1)}) {
    CHECK(reply({"get", "k"}, gone) == "_\r\n");
    CHECK(reply({"get", "k"}, gone, RespVersion::kResp2) == "$-1\r\n");
    CHECK(reply({"strlen", "k"}, gone) == ":0\r\n");
    CHECK(reply({"exists", "k"}, gone) == ":0\r\n");
    CHECK(reply({"type", "k"}, gone) == "+none\r\n");
    CHECK(reply({"getrange", "k", "0", "-1"}, gone) == "$0\r\n\r\n");
    for (const char* ttl : {"ttl", "pttl", "expiretime", "pexpiretime"}) CHECK(reply({ttl, "k"}, gone) == ":-2\r\n");
  }
}

TEST_CASE("times to live are rounded as Redis does", "[pending_reply]") {
  CHECK(reply({"get", "k"}, set("v", kNow)) == "$1\r\nv\r\n");
  CHECK(reply({"ttl", "k"}, set("v", kNow)) == ":0\r\n");
  CHECK(reply({"ttl", "k"}, set("v", kNow + 499)) == ":0\r\n");
  CHECK(reply({"ttl", "k"}, set("v", kNow + 500)) == ":1\r\n");
  CHECK(reply({"ttl", "k"}, set("v", kNow + 10'000)) == ":10\r\n");
  CHECK(reply({"pttl", "k"}, set("v", kNow + 499)) == ":499\r\n");
  CHECK(reply({"expiretime", "k"}, set("v", kNow + 1'499)) == ":1700000001\r\n");
  CHECK(reply({"expiretime", "k"}, set("v", kNow + 1'500)) == ":1700000002\r\n");
  CHECK(reply({"pexpiretime", "k"}, set("v", kNow + 1'500)) == ":1700000001500\r\n");
  CHECK(reply({"pexpiretime", "k"}, set("v", 9223372036854775807)) == ":9223372036854775807\r\n");
  CHECK(reply({"expiretime", "k"}, set("v", 9223372036854775807)) == ":9223372036854776\r\n");
}

TEST_CASE("ranges are Redis's, from either end", "[pending_reply]") {
  const Write value = set("This is a string");
  const auto range = [&](std::string_view from, std::string_view to) { return reply({"getrange", "k", from, to}, value); };
  CHECK(range("0", "3") == "$4\r\nThis\r\n");
  CHECK(range("-3", "-1") == "$3\r\ning\r\n");
  CHECK(range("0", "-1") == "$16\r\nThis is a string\r\n");
  CHECK(range("10", "100") == "$6\r\nstring\r\n");
  CHECK(range("5", "3") == "$0\r\n\r\n");
  CHECK(range("-1", "-5") == "$0\r\n\r\n");
  CHECK(range("16", "20") == "$0\r\n\r\n");
  CHECK(range("-100", "-100") == "$1\r\nT\r\n");
  CHECK(range("-9223372036854775808", "9223372036854775807") == "$16\r\nThis is a string\r\n");
  CHECK(reply({"substr", "k", "0", "1"}, value) == "$2\r\nTh\r\n");
}

TEST_CASE("what is not known here, or is wrong, is left to the upstream", "[pending_reply]") {
  const Write value = set("1");
  CHECK(reply({"getrange", "k", "a", "1"}, value) == "(not known here)");
  CHECK(reply({"getrange", "k", "1"}, value) == "(not known here)");
  CHECK(reply({"getrange", "k", "0", "01"}, value) == "(not known here)");
  for (const char* other : {"incr", "hgetall", "object", "getdel", "dump"})
    CHECK(reply({other, "k"}, value) == "(not known here)");
  CHECK(reply({"exists", "k", "l"}, value) == "(not known here)");
  CHECK(reply({"get"}, value) == "(not known here)");
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
