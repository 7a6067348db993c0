#include "tiers/upstream/greeting.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

using Words = std::initializer_list<std::string_view>;
using protocol::RespVersion;

std::vector<std::string> commands(std::initializer_list<Words> all) {
  std::vector<std::string> encoded;
  for (const Words& words : all) protocol::append_command(encoded.emplace_back(), words);
  return encoded;
}

}  // namespace

TEST_CASE("who is nobody, in RESP2 and database 0, says nothing", "[greeting]") {
  CHECK(greeting(Identity(1, {}, 0), RespVersion::kResp2).empty());
}

TEST_CASE("a password without a user is the default user's", "[greeting]") {
  CHECK(greeting(Identity(1, {"", "pw"}, 0), RespVersion::kResp2) == commands({{"AUTH", "pw"}}));
  CHECK(greeting(Identity(1, {"", "pw"}, 0), RespVersion::kResp3) == commands({{"HELLO", "3", "AUTH", "default", "pw"}}));
}

TEST_CASE("the database comes behind the password, one reply each", "[greeting]") {
  CHECK(greeting(Identity(1, {"alice", "p w\r\n"}, 7), RespVersion::kResp2) ==
        commands({{"AUTH", "alice", "p w\r\n"}, {"SELECT", "7"}}));
  CHECK(greeting(Identity(1, {"alice", ""}, 4294967295u), RespVersion::kResp3) ==
        commands({{"HELLO", "3", "AUTH", "alice", ""}, {"SELECT", "4294967295"}}));
  CHECK(greeting(Identity(1, {}, 1), RespVersion::kResp3) == commands({{"HELLO", "3"}, {"SELECT", "1"}}));
}

}  // namespace nearcached::tiers::upstream
