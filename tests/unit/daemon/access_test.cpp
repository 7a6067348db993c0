#include "daemon/access.hpp"

#include <catch2/catch.hpp>
#include <fstream>

#include "config/config_error.hpp"

namespace nearcached::daemon {
namespace {

using Catch::Contains;

// Of "secret".
constexpr const char* kSecretHash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

config::User named(std::string name) {
  config::User user;
  user.name = std::move(name);
  user.password_hashes = {kSecretHash};
  user.commands = {"+@all"};
  user.keys = {"*"};
  user.channels = {"*"};
  return user;
}

config::Settings settings_of(std::vector<config::User> users) {
  config::Settings settings;
  settings.users = std::move(users);
  return settings;
}

std::string refusal(const Access& access, const LocalUser* user, const std::vector<std::string_view>& args) {
  const protocol::Command* command = protocol::find_command(args[0]);
  REQUIRE(command != nullptr);
  if (args.size() > 1) {
    if (const auto* sub = protocol::find_subcommand(*command, args[1])) command = sub;
  }
  std::vector<std::uint32_t> positions;
  return access.refusal(user, *command, args, positions);
}

std::string error_of(const config::Settings& settings) {
  try {
    const Access access(settings);
  } catch (const config::ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a user is let in with its password alone") {
  const Access access(settings_of({named("one"), named("two")}));
  REQUIRE(access.authenticate("one", "secret") != nullptr);
  CHECK(access.authenticate("one", "secret")->name == "one");
  CHECK(access.authenticate("two", "secret")->name == "two");
  CHECK(access.authenticate("one", "Secret") == nullptr);
  CHECK(access.authenticate("one", "") == nullptr);
  CHECK(access.authenticate("nobody", "secret") == nullptr);
  CHECK(access.authenticate("", "secret") == nullptr);
  CHECK(access.initial() == nullptr);
}

TEST_CASE("only a default user without a password is somebody before AUTH") {
  config::User open = named("default");
  CHECK(Access(settings_of({open})).initial() == nullptr);
  open.password_hashes.clear();
  open.nopass = true;
  const Access access(settings_of({open}));
  REQUIRE(access.initial() != nullptr);
  CHECK(access.initial()->name == "default");
  CHECK(access.authenticate("default", "anything") == access.initial());
}

TEST_CASE("who has not said who it is may say that and nothing else") {
  const Access access(settings_of({named("one")}));
  for (const char* word : {"AUTH", "HELLO", "QUIT", "RESET"}) CHECK(refusal(access, nullptr, {word}).empty());
  for (const char* word : {"GET", "PING", "SELECT", "MULTI", "SUBSCRIBE"}) {
    CHECK(refusal(access, nullptr, {word, "k"}) == "NOAUTH Authentication required.");
  }
}

TEST_CASE("rules are read from left to right and the last that fits decides") {
  config::User user = named("u");
  user.commands = {"+@all", "-@dangerous", "+keys", "-config", "+config|get", "-client|kill"};
  const Access access(settings_of({user}));
  const LocalUser* u = access.authenticate("u", "secret");
  for (const std::vector<std::string_view>& allowed :
       {std::vector<std::string_view>{"GET", "k"}, {"KEYS", "*"}, {"CONFIG", "GET", "x"}, {"CLIENT", "ID"}}) {
    CHECK(refusal(access, u, allowed).empty());
  }
  CHECK(refusal(access, u, {"FLUSHALL"}) == "NOPERM this user has no permissions to run the 'flushall' command");
  CHECK(refusal(access, u, {"CONFIG", "SET", "a", "b"}) ==
        "NOPERM this user has no permissions to run the 'config|set' command");
  CHECK(refusal(access, u, {"CLIENT", "KILL", "x"}) ==
        "NOPERM this user has no permissions to run the 'client|kill' command");
}

TEST_CASE("what is not allowed is denied, unknown commands too") {
  config::User user = named("u");
  user.commands = {"+get", "+@hash"};
  const Access access(settings_of({user}));
  const LocalUser* u = access.authenticate("u", "secret");
  CHECK(refusal(access, u, {"GET", "k"}).empty());
  CHECK(refusal(access, u, {"HGETALL", "k"}).empty());
  CHECK_FALSE(refusal(access, u, {"SET", "k", "v"}).empty());
  const protocol::DynamicCommand module("json.get", -2, {"readonly"}, 1, 1, 1);
  std::vector<std::uint32_t> positions;
  CHECK_FALSE(access.refusal(u, module.command(), {"JSON.GET", "k"}, positions).empty());
  user.commands = {"+@all"};
  const Access all(settings_of({user}));
  CHECK(all.refusal(all.authenticate("u", "secret"), module.command(), {"JSON.GET", "k"}, positions).empty());
}

TEST_CASE("keys are of the user's patterns, letter case and all, wherever the command has them") {
  config::User user = named("u");
  user.keys = {"app:*", "~old:*", "%R~shared:*"};
  const Access access(settings_of({user}));
  const LocalUser* u = access.authenticate("u", "secret");
  CHECK(refusal(access, u, {"GET", "app:1"}).empty());
  CHECK(refusal(access, u, {"SET", "old:1", "v"}).empty());
  CHECK(refusal(access, u, {"GET", "shared:1"}).empty());
  CHECK(refusal(access, u, {"MGET", "app:1", "shared:1"}).empty());
  const std::string no = "NOPERM this user has no permissions to access one of the keys used as arguments";
  CHECK(refusal(access, u, {"GET", "APP:1"}) == no);
  CHECK(refusal(access, u, {"GET", "xapp:1"}) == no);
  CHECK(refusal(access, u, {"SET", "shared:1", "v"}) == no);
  CHECK(refusal(access, u, {"MGET", "app:1", "other"}) == no);
  CHECK(refusal(access, u, {"EVAL", "return 1", "1", "other"}) == no);
  CHECK(refusal(access, u, {"XREAD", "STREAMS", "app:1", "other", "0", "0"}) == no);
  CHECK(refusal(access, u, {"ZUNIONSTORE", "app:d", "2", "app:1", "other"}) == no);
}

TEST_CASE("a read-only user writes nothing, scripts that may write included") {
  config::User user = named("u");
  user.read_only = true;
  const Access access(settings_of({user}));
  const LocalUser* u = access.authenticate("u", "secret");
  CHECK(refusal(access, u, {"GET", "k"}).empty());
  CHECK(refusal(access, u, {"EVAL_RO", "return 1", "0"}).empty());
  for (const std::vector<std::string_view>& write : {std::vector<std::string_view>{"SET", "k", "v"},
                                                     {"FLUSHALL"},
                                                     {"EVAL", "return 1", "0"},
                                                     {"BLPOP", "k", "0"},
                                                     {"GETEX", "k"},
                                                     {"RESTORE", "k", "0", "x"}}) {
    CAPTURE(write[0]);
    CHECK_FALSE(refusal(access, u, write).empty());
  }
}

TEST_CASE("channels are of the user's patterns, and patterns must be one of them") {
  config::User user = named("u");
  user.channels = {"news.*", "c"};
  const Access access(settings_of({user}));
  const LocalUser* u = access.authenticate("u", "secret");
  for (const char* verb : {"SUBSCRIBE", "SSUBSCRIBE"}) {
    CHECK(refusal(access, u, {verb, "news.1", "c"}).empty());
    CHECK_FALSE(refusal(access, u, {verb, "c", "d"}).empty());
  }
  CHECK(refusal(access, u, {"PUBLISH", "news.1", "x"}).empty());
  CHECK_THAT(refusal(access, u, {"PUBLISH", "old", "x"}), Contains("one of the channels"));
  CHECK(refusal(access, u, {"PSUBSCRIBE", "news.*"}).empty());
  CHECK_FALSE(refusal(access, u, {"PSUBSCRIBE", "news.1"}).empty());
  CHECK_FALSE(refusal(access, u, {"PSUBSCRIBE", "*"}).empty());
  CHECK(refusal(access, u, {"UNSUBSCRIBE", "old"}).empty());
}

TEST_CASE("the deny list is what it says, down to nothing") {
  config::Settings settings;
  const auto denied = [&](const char* name, const char* sub) {
    const protocol::Command* command = protocol::find_command(name);
    if (sub != nullptr) command = protocol::find_subcommand(*command, sub);
    return Access(settings).denied(*command);
  };
  CHECK(denied("shutdown", nullptr));
  CHECK(denied("cluster", "reset"));
  CHECK_FALSE(denied("cluster", "info"));
  CHECK_FALSE(denied("get", nullptr));
  settings.security.deny_commands = {"GET", "config"};
  CHECK(denied("get", nullptr));
  CHECK(denied("config", "set"));
  CHECK_FALSE(denied("shutdown", nullptr));
  settings.security.deny_commands.clear();
  CHECK_FALSE(denied("shutdown", nullptr));
  settings.security.deny_commands = {"nonsense"};
  CHECK_THAT(error_of(settings), Contains("\"nonsense\""));
}

TEST_CASE("what is no rule, no hash, no pattern is an error that names the user and keeps the hash") {
  config::User user = named("u");
  for (const char* rule : {"get", "+", "+@nonsense", "+nonsense", "-get|x", "~*"}) {
    user.commands = {rule};
    CHECK_THAT(error_of(settings_of({user})), Contains("users: u: commands: \"" + std::string(rule) + "\""));
  }
  user = named("u");
  user.password_hashes = {std::string(kSecretHash).substr(1)};
  CHECK_THAT(error_of(settings_of({user})), Contains("64 hexadecimal digits") && !Contains("bb80d5"));
  user.password_hashes = {std::string(63, 'a') + "g"};
  CHECK_THAT(error_of(settings_of({user})), Contains("64 hexadecimal digits"));
  user = named("u");
  user.keys = {"%W~x"};
  CHECK_THAT(error_of(settings_of({user})), Contains("%W~x"));
  user = named("u");
  user.password_files = {"/no/such/file"};
  CHECK_THAT(error_of(settings_of({user})), Contains("/no/such/file"));
}

TEST_CASE("secrets are the same byte for byte", "[access]") {
  CHECK(same_secret("s3cret", "s3cret"));
  for (const char* other : {"", "s3cre", "s3cret ", "S3cret", "x3cret"}) CHECK_FALSE(same_secret(other, "s3cret"));
}

}  // namespace nearcached::daemon
