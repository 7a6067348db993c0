#include "config/address.hpp"

#include <catch2/catch.hpp>

namespace nearcached::config {
namespace {

using tiers::upstream::Endpoint;

TEST_CASE("addresses are read as people write them") {
  CHECK(parse_listen("127.0.0.1:6380") == Endpoint{"127.0.0.1", 6380});
  CHECK(parse_listen("localhost:1") == Endpoint{"localhost", 1});
  CHECK(parse_listen("[::1]:65535") == Endpoint{"::1", 65535});
  CHECK(parse_listen("[fe80::1%eth0]:6380") == Endpoint{"fe80::1%eth0", 6380});
  CHECK(parse_listen("unix:/run/nearcached.sock") == Endpoint{"/run/nearcached.sock", 0});
  CHECK(parse_listen("unix:///run/nearcached.sock") == Endpoint{"/run/nearcached.sock", 0});
}

TEST_CASE("what is not an address is refused") {
  for (const char* text : {"",
                           ":",
                           ":6380",
                           "6380",
                           "localhost",
                           "localhost:",
                           "localhost:0",
                           "localhost:65536",
                           "localhost:-1",
                           "localhost:6380x",
                           "::1:6380",
                           "[::1]",
                           "[::1]6380",
                           "[::1",
                           "[]:6380",
                           "[::g]:1",
                           "[127.0.0.1]:1",
                           "a b:1",
                           "a/b:1",
                           "user@host:1",
                           "a:1:2",
                           "unix:",
                           "unix://",
                           "unix:a\nb",
                           "*:6380"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_listen(text));
  }
}

TEST_CASE("a socket's path must fit into sockaddr_un") {
  CHECK(parse_listen("unix:/" + std::string(kUnixPathMax - 1, 'a')));
  CHECK_FALSE(parse_listen("unix:/" + std::string(kUnixPathMax, 'a')));
}

TEST_CASE("a missing port is taken from the default, where there is one") {
  CHECK(parse_host_port("redis", 6379) == Endpoint{"redis", 6379});
  CHECK(parse_host_port("[::1]", 6379) == Endpoint{"::1", 6379});
  CHECK_FALSE(parse_host_port("redis", 0));
  CHECK_FALSE(parse_host_port("redis:", 6379));
}

TEST_CASE("an address reads back from its text") {
  for (const char* text : {"127.0.0.1:6380", "[::1]:6380", "unix:/run/a.sock", "unix:a.sock"}) {
    const auto endpoint = parse_listen(text);
    REQUIRE(endpoint);
    CHECK(address_text(*endpoint) == text);
  }
}

}  // namespace
}  // namespace nearcached::config
