#include "daemon/secret_args.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace nearcached::daemon {
namespace {

// The arguments, '-' in the place of secrets.
std::string shown(std::string_view name, const std::vector<std::string_view>& args) {
  std::string text;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (i != 0) text += ' ';
    const bool secret = is_secret(name, args, i);
    CHECK((!secret || may_have_secrets(name)));
    text += secret ? "-" : std::string(args[i]);
  }
  return text;
}

}  // namespace

TEST_CASE("AUTH and HELLO hide user and password and nothing else", "[secrets]") {
  CHECK(shown("auth", {"AUTH", "p"}) == "AUTH -");
  CHECK(shown("auth", {"auth", "u", "p"}) == "auth - -");
  CHECK(shown("hello", {"HELLO", "3", "SETNAME", "x", "auth", "u", "p"}) == "HELLO 3 SETNAME x auth - -");
  CHECK(shown("hello", {"HELLO", "3", "AUTH", "u", "p", "SETNAME", "x"}) == "HELLO 3 AUTH - - SETNAME x");
  CHECK(shown("hello", {"HELLO"}) == "HELLO");
  CHECK(shown("hello", {"HELLO", "3", "AUTH"}) == "HELLO 3 AUTH");
}

TEST_CASE("a password that spells AUTH hides what follows, too, rather than showing it", "[secrets]") {
  CHECK(shown("hello", {"HELLO", "3", "AUTH", "auth", "p"}) == "HELLO 3 AUTH - -");
  CHECK(shown("hello", {"HELLO", "3", "AUTH", "u", "auth"}) == "HELLO 3 AUTH - -");
}

TEST_CASE("MIGRATE hides the other server's credentials", "[secrets]") {
  CHECK(shown("migrate", {"MIGRATE", "h", "1", "k", "0", "9", "COPY", "AUTH", "p", "KEYS", "a"}) ==
        "MIGRATE h 1 k 0 9 COPY AUTH - KEYS a");
  CHECK(shown("migrate", {"MIGRATE", "h", "1", "k", "0", "9", "auth2", "u", "p", "REPLACE"}) ==
        "MIGRATE h 1 k 0 9 auth2 - - REPLACE");
}

TEST_CASE("CONFIG SET hides values of settings whose names look secret, wherever they stand", "[secrets]") {
  CHECK(shown("config|set", {"CONFIG", "SET", "maxmemory", "1", "RequirePass", "p", "masterauth", "q", "hz", "9"}) ==
        "CONFIG SET maxmemory 1 RequirePass - masterauth - hz 9");
  CHECK(shown("config|set", {"CONFIG", "SET", "tls-key-file-pass"}) == "CONFIG SET tls-key-file-pass");
}

TEST_CASE("ACL SETUSER hides all that is said of whom", "[secrets]") {
  CHECK(shown("acl|setuser", {"ACL", "SETUSER", "u", "on", ">p"}) == "ACL SETUSER - - -");
}

TEST_CASE("a node's own command hides what it would hide elsewhere", "[secrets]") {
  CHECK(shown("near.upstream", {"NEAR.UPSTREAM", "h:1", "Auth", "u", "p"}) == "NEAR.UPSTREAM h:1 Auth - -");
  CHECK(shown("near.upstream", {"NEAR.UPSTREAM", "h:1", "CONFIG", "SET", "hz", "9", "requirepass", "p"}) ==
        "NEAR.UPSTREAM h:1 CONFIG SET hz 9 requirepass -");
  CHECK(shown("near.upstream", {"NEAR.UPSTREAM", "h:1", "acl", "SetUser", "u"}) == "NEAR.UPSTREAM h:1 acl SetUser -");
  CHECK(shown("near.upstream", {"NEAR.UPSTREAM", "h:1", "GET", "auth"}) == "NEAR.UPSTREAM h:1 GET auth");
  CHECK(shown("near.upstream", {"NEAR.UPSTREAM"}) == "NEAR.UPSTREAM");
}

TEST_CASE("what has no secrets is shown, whatever its arguments are called", "[secrets]") {
  CHECK(shown("set", {"SET", "auth", "password"}) == "SET auth password");
  CHECK_FALSE(may_have_secrets("set"));
  CHECK_FALSE(may_have_secrets(""));
}

}  // namespace nearcached::daemon
