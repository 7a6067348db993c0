#include "config/users.hpp"

#include <catch2/catch.hpp>

#include "config/loader.hpp"
#include "config/print.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;

constexpr const char* kHash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

Configuration loaded(const std::string& text) {
  Configuration configuration;
  load_text(configuration, text, "n.yaml");
  return configuration;
}

std::string error_of(const std::string& user) {
  return message_of<ConfigError>([&] { loaded("users:\n- { " + user + " }\n"); });
}

std::string with_hash(const std::string& rest) { return "name: u, password_hashes: " + std::string(kHash) + rest; }

}  // namespace

TEST_CASE("a user has what it gives; one text stands for a list of one") {
  const auto users = loaded("users:\n- { " + with_hash(", commands: ['+@all', -get], keys: 'app:*', read_only: true") +
                            " }\n- { name: default, nopass: true }\n")
                         .settings.users;
  REQUIRE(users.size() == 2);
  CHECK(users[0].name == "u");
  CHECK(users[0].password_hashes == std::vector<std::string>{kHash});
  CHECK(users[0].commands == std::vector<std::string>{"+@all", "-get"});
  CHECK(users[0].keys == std::vector<std::string>{"app:*"});
  CHECK(users[0].channels.empty());
  CHECK(users[0].read_only);
  CHECK_FALSE(users[0].nopass);
  CHECK(users[1].nopass);
  CHECK(loaded("users: []").settings.users.empty());
}

TEST_CASE("a user needs a name of its own and one way in") {
  CHECK_THAT(error_of("nopass: true"), Contains("users[0]") && Contains("has no name"));
  CHECK_THAT(error_of("name: 'a b', nopass: true"), Contains("has no name"));
  CHECK_THAT(error_of("name: u"), Contains("a password and nopass, or neither"));
  CHECK_THAT(error_of(with_hash(", nopass: true")), Contains("a password and nopass, or neither"));
  CHECK_THAT(error_of("name: u, nopass: true } \n- { name: u, nopass: true"), Contains("users[1]") && Contains("twice"));
}

TEST_CASE("what a user can't have is named") {
  CHECK_THAT(error_of(with_hash(", command: '+@all'")), Contains("unknown key \"command\"") && Contains("commands"));
  CHECK_THAT(error_of(with_hash(", read_only: maybe")), Contains("users[0].read_only") && Contains("true or false"));
  CHECK_THAT(error_of(with_hash(", keys: { a: b }")), Contains("users[0].keys") && Contains("not a list"));
  CHECK_THAT(message_of<ConfigError>([] { loaded("users: nobody"); }), Contains("is not a list of maps"));
}

TEST_CASE("hashes and passwords are not printed, and what is printed can be read") {
  const std::string text = "upstream: { url: redis://h }\nusers:\n- { " +
                           with_hash(", commands: ['+@all'], upstream_username: i, upstream_password: s3cret") + " }\n";
  const std::string printed = print_config(loaded(text).settings);
  CHECK_THAT(printed, !Contains("s3cret") && !Contains(kHash) && Contains("name: u") && Contains("<redacted>"));
  CHECK(loaded(printed).settings.users[0].commands == std::vector<std::string>{"+@all"});
}

}  // namespace nearcached::config
