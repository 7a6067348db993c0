#include "daemon/own_settings.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "config/schema.hpp"

namespace nearcached::daemon {
namespace {

using Patterns = std::vector<std::string_view>;

std::string merged(std::string reply, const Patterns& patterns, const config::Settings& settings = {}) {
  return with_own_settings(std::move(reply), patterns, settings);
}

}  // namespace

TEST_CASE("a glob means what Redis means by it", "[settings]") {
  CHECK(glob_matches("*", ""));
  CHECK(glob_matches("a*c", "abbbc"));
  CHECK(glob_matches("*.l1.*", "nearcached.l1.max_bytes"));
  CHECK(glob_matches("*ab", "aab"));
  CHECK(glob_matches("A?C", "abc"));
  CHECK(glob_matches("[a-c]x", "Bx"));
  CHECK(glob_matches("[^a]x", "bx"));
  CHECK(glob_matches("[\\]]", "]"));
  CHECK(glob_matches("\\*", "*"));
  CHECK_FALSE(glob_matches("\\*", "a"));
  CHECK_FALSE(glob_matches("", "a"));
  CHECK_FALSE(glob_matches("a?", "a"));
  CHECK_FALSE(glob_matches("[^a]x", "ax"));
  CHECK_FALSE(glob_matches("[", "a"));
  CHECK_FALSE(glob_matches("a*c", "abbbd"));
}

TEST_CASE("a pattern of many stars ends", "[settings]") {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  CHECK_FALSE(glob_matches(pattern + "b", std::string(500, 'a')));
  CHECK(glob_matches(pattern, std::string(500, 'a')));
}

TEST_CASE("settings come behind what the upstream says, and are counted", "[settings]") {
  CHECK(merged("*0\r\n", {"nearcached.l1.enabled"}) == "*2\r\n$21\r\nnearcached.l1.enabled\r\n$4\r\ntrue\r\n");
  CHECK(merged("%1\r\n$1\r\na\r\n$1\r\nb\r\n", {"NEARCACHED.L1.ENABLED", "nearcached.l1.enabled"}) ==
        "%2\r\n$1\r\na\r\n$1\r\nb\r\n$21\r\nnearcached.l1.enabled\r\n$4\r\ntrue\r\n");
}

TEST_CASE("the pattern * gives every setting", "[settings]") {
  const auto keys = config::schema().size();
  CHECK(merged("*0\r\n", {"*"}).starts_with("*" + std::to_string(2 * keys) + "\r\n"));
  CHECK(merged("%0\r\n", {"nearcached.*"}).starts_with("%" + std::to_string(keys) + "\r\n"));
}

TEST_CASE("an error and a pattern that names no setting leave the upstream's reply as it is", "[settings]") {
  CHECK(merged("-NOPERM no\r\n", {"*"}) == "-NOPERM no\r\n");
  CHECK(merged("*2\r\n$1\r\na\r\n$1\r\nb\r\n", {"maxmemory"}) == "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
  CHECK(merged("*-1\r\n", {"*"}) == "*-1\r\n");
  CHECK(merged("", {"*"}).empty());
}

TEST_CASE("no secret is told", "[settings]") {
  config::Settings settings;
  settings.upstream.password = "hush-hush";
  const std::string reply = merged("*0\r\n", {"*"}, settings);
  CHECK(reply.find("hush-hush") == std::string::npos);
  CHECK(reply.find("<redacted>") != std::string::npos);
}

TEST_CASE("CONFIG SET names one of our settings wherever its name stands", "[settings]") {
  CHECK(own_setting_named(Patterns{"CONFIG", "SET", "maxmemory", "1", "Nearcached.x", "2"}) == "Nearcached.x");
  CHECK(own_setting_named(Patterns{"CONFIG", "SET", "maxmemory", "nearcached.x"}).empty());
  CHECK(own_setting_named(Patterns{"CONFIG", "SET", "nearcached", "1"}).empty());
}

}  // namespace nearcached::daemon
