#include "config/command_line.hpp"

#include <catch2/catch.hpp>

#include "config/print.hpp"
#include "tests/unit/config/environment_list.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using Catch::Equals;
using Catch::StartsWith;
using std::chrono::milliseconds;
using tiers::upstream::Endpoint;
using Strings = std::vector<std::string>;

CommandLine parsed(Strings arguments, const Strings& environment = {}) {
  arguments.insert(arguments.begin(), "nearcached");
  const StringList argv(std::move(arguments));
  return parse_command_line(argv.count(), argv.data(), StringList(environment).data());
}

std::string error_of(const Strings& arguments, const Strings& environment = {}) {
  return message_of<ConfigError>([&] { parsed(arguments, environment); });
}

TEST_CASE("an upstream is all that must be given") {
  const CommandLine result = parsed({"--upstream", "redis://h"});
  CHECK(result.action == Action::kRun);
  CHECK(result.config_file.empty());
  CHECK(result.settings.upstream.url.redacted() == "redis://h:6379");
  CHECK(result.settings.listen == std::vector<Endpoint>{{"127.0.0.1", 6380}});
  CHECK(result.origins.size() == 1);
}

TEST_CASE("a missing upstream says the three ways to give it") {
  for (const Strings& arguments : {Strings{}, Strings{"--check-config"}, Strings{"--print-config"}}) {
    CHECK_THAT(error_of(arguments),
               StartsWith("upstream.url: is not given; allowed: upstream.url in the file, NEARCACHED_UPSTREAM__URL or "
                          "--upstream, as redis://"));
  }
}

TEST_CASE("flags win over the environment, that over the file, that over defaults") {
  const TempDir directory;
  const std::string file = directory.write(
      "n.yaml",
      "threads: 1\nupstream: {url: 'redis://file', pending_max: 10}\nl1: {ttl: 1s, max_items: 1}\nlog: {level: warn}\n");
  const Strings environment{"NEARCACHED_UPSTREAM__URL=redis://env", "NEARCACHED_L1__TTL=2s", "NEARCACHED_L1__MAX_ITEMS=2"};
  const CommandLine result = parsed({"--set", "l1.ttl=3s", "--config", file, "--upstream=redis://flag"}, environment);
  CHECK(result.config_file == file);
  CHECK(result.settings.upstream.url.redacted() == "redis://flag:6379");
  CHECK(result.settings.l1.ttl == milliseconds{3000});
  CHECK(result.settings.l1.store.max_items == 2);
  CHECK(result.settings.upstream.pending_max == 10);
  CHECK(result.settings.threads == 1);
  CHECK(result.settings.log.level == LogLevel::kWarn);
  CHECK(result.settings.log.format == LogFormat::kText);
  CHECK(result.origins.at("upstream.url").text() == "--upstream");
  CHECK(result.origins.at("l1.max_items").text() == "NEARCACHED_L1__MAX_ITEMS");
  CHECK(result.origins.at("threads").text() == file + ":1");
}

TEST_CASE("an error in the file counts although a flag overrides the value") {
  const TempDir directory;
  const std::string file = directory.write("n.yaml", "l1: {ttl: 5}\n");
  CHECK_THAT(error_of({"--config", file, "--set", "l1.ttl=1s", "--upstream", "redis://h"}),
             StartsWith(file + ":1: l1.ttl: "));
}

TEST_CASE("any --listen replaces the list of file and environment") {
  const TempDir directory;
  const std::string file = directory.write("n.yaml", "listen: [ 'a:1', 'b:2' ]\nupstream: {url: 'redis://h'}\n");
  CHECK(parsed({"--config=" + file}).settings.listen.size() == 2);
  const CommandLine result = parsed({"--listen", "c:3", "--config=" + file, "--listen=unix:/d"}, {"NEARCACHED_LISTEN=e:5"});
  CHECK(result.settings.listen == std::vector<Endpoint>{{"c", 3}, {"/d", 0}});
  CHECK_THAT(error_of({"--listen", "c:3", "--listen", "c:3"}),
             StartsWith("--listen: listen: \"c:3\" is listed twice; allowed: "));
}

TEST_CASE("--flag value and --flag=value are the same") {
  for (const Strings& arguments : {Strings{"--upstream", "redis://h", "--admin", "[::1]:1", "--set", "log.level=debug"},
                                   Strings{"--upstream=redis://h", "--admin=[::1]:1", "--set=log.level=debug"}}) {
    const CommandLine result = parsed(arguments);
    CHECK(result.settings.admin.listen == Endpoint{"::1", 1});
    CHECK(result.settings.log.level == LogLevel::kDebug);
  }
  CHECK_FALSE(parsed({"--upstream=redis://h", "--admin", "off"}).settings.admin.enabled);
}

TEST_CASE("--set takes every key, and the last one wins") {
  const CommandLine result = parsed({"--upstream=redis://h", "--set", "listen=a:1,b:2", "--set=metrics.labels=x=1,y=2",
                                     "--set=upstream.password=a=b", "--set", "threads=1", "--set", "threads=auto"});
  CHECK(result.settings.listen.size() == 2);
  CHECK(result.settings.metrics.labels.size() == 2);
  CHECK(result.settings.upstream.password == "a=b");
  CHECK(result.settings.threads == 0);
  CHECK(parsed({"--upstream=redis://a", "--set=upstream.url=redis://b"}).settings.upstream.url.endpoints[0].host == "b");
}

TEST_CASE("namespaces of a flag replace those of the file") {
  const TempDir directory;
  const std::string file =
      directory.write("n.yaml", "upstream: {url: 'redis://h'}\nnamespaces: [ {prefix: a}, {prefix: b} ]\n");
  CHECK(parsed({"--config", file}).settings.namespaces.size() == 2);
  const CommandLine result = parsed({"--config", file, "--set", "namespaces=[{prefix: \"c=,\", max_stale: 1h}]"});
  REQUIRE(result.settings.namespaces.size() == 1);
  CHECK(result.settings.namespaces[0].prefix == "c=,");
  CHECK(result.settings.namespaces[0].max_stale == milliseconds{3'600'000});
  CHECK(result.origins.at("namespaces").text() == "--set");
  CHECK(parsed({"--config", file, "--set=namespaces="}).settings.namespaces.empty());
  CHECK_THAT(error_of({"--set", "namespaces=[{prefix: a, ttl: 1s}]"}),
             StartsWith("--set: namespaces[0]: unknown key \"ttl\"; the nearest known key is l1_ttl; allowed: prefix, "));
  CHECK_THAT(error_of({"--set", "coherence.bus=redis"}),
             StartsWith("--set: coherence.bus: is a section; allowed: one of its keys, type, channel"));
}

TEST_CASE("actions") {
  const auto action = [](Strings arguments) { return parsed(std::move(arguments)).action; };
  CHECK(action({"--check-config", "--upstream=redis://h"}) == Action::kCheck);
  CHECK(action({"--upstream=redis://h", "--print-config"}) == Action::kPrint);
  CHECK(action({"--upstream=redis://h", "--print-config", "--check-config"}) == Action::kPrint);
  CHECK(action({"--check-config", "--print-config", "--upstream=redis://h"}) == Action::kPrint);
  CHECK(action({"--version"}) == Action::kVersion);
  CHECK(action({"--help", "--nonsense"}) == Action::kHelp);
  CHECK(action({"--config", "/does/not/exist", "--version"}) == Action::kVersion);
}

TEST_CASE("--wal-skip-damaged holds for one start, and is no key of a file") {
  CHECK_FALSE(parsed({"--upstream=redis://h"}).settings.write_behind.skip_damaged);
  const CommandLine result = parsed({"--wal-skip-damaged", "--upstream=redis://h"});
  CHECK(result.action == Action::kRun);
  CHECK(result.settings.write_behind.skip_damaged);
  CHECK(result.origins.size() == 1);
  CHECK(print_config(result.settings) == print_config(parsed({"--upstream=redis://h"}).settings));
  CHECK_THAT(error_of({"--wal-skip-damaged=1"}), Equals("--wal-skip-damaged: takes no value; allowed: --wal-skip-damaged"));
  CHECK_THAT(error_of({"--wal-skip-damaged", "true"}), StartsWith("\"true\": is not a flag"));
  CHECK_THAT(error_of({"--set", "write_behind.skip_damaged=true"}), StartsWith("--set: unknown key"));
}

TEST_CASE("errors name the flag") {
  CHECK_THAT(error_of({"--frobnicate"}), StartsWith("--frobnicate: unknown flag; allowed: --config, --listen"));
  CHECK_THAT(error_of({"--frobnicate=1"}), StartsWith("--frobnicate: unknown flag"));
  CHECK_THAT(error_of({"-h"}), StartsWith("-h: unknown flag"));
  CHECK_THAT(error_of({"--"}), StartsWith("--: unknown flag"));
  CHECK_THAT(error_of({"n.yaml"}), Equals("\"n.yaml\": is not a flag; a configuration file is given with --config FILE"));
  CHECK_THAT(error_of({""}), Contains("is not a flag"));
  CHECK_THAT(error_of({"--config"}), Equals("--config: has no value; allowed: --config FILE"));
  CHECK_THAT(error_of({"--upstream", "--check-config"}), Equals("--upstream: has no value; allowed: --upstream URL"));
  CHECK_THAT(error_of({"--config", "a", "--config=b"}), Equals("--config: is given twice; allowed: once"));
  CHECK_THAT(error_of({"--help=yes"}), Equals("--help: takes no value; allowed: --help"));
  CHECK_THAT(error_of({"--listen", "nonsense"}), StartsWith("--listen: listen: \"nonsense\" is not an address; allowed: "));
  CHECK_THAT(error_of({"--listen="}), StartsWith("--listen: listen: \"\" is not an address"));
  CHECK_THAT(error_of({"--admin", "unix:/a"}), StartsWith("--admin: admin.listen: \"unix:/a\" is not an address"));
  CHECK_THAT(error_of({"--config", "/does/not/exist"}), Equals("/does/not/exist: can't be read: No such file or directory"));
  CHECK_THAT(error_of({"--config="}), Contains("can't be read"));
}

TEST_CASE("errors of --set name the key but no secret") {
  CHECK_THAT(error_of({"--set", "l1.max_bytes=lots"}), StartsWith("--set: l1.max_bytes: \"lots\" is not a size; allowed: "));
  CHECK_THAT(error_of({"--set", "l1.max_byte=1MB"}),
             Equals("--set: unknown key \"l1.max_byte\"; the nearest known key is l1.max_bytes"));
  CHECK_THAT(error_of({"--set", "=1"}), StartsWith("--set: unknown key \"\""));
  CHECK_THAT(error_of({"--set", "l1=1"}), StartsWith("--set: l1: is a section; allowed: one of its keys, enabled, "));
  CHECK_THAT(error_of({"--set", "upstream.password s3cret"}), StartsWith("--set: has no '='") && !Contains("s3cret"));
}

TEST_CASE("upstream URLs that are refused name the flag and keep the password") {
  CHECK_THAT(
      error_of({"--upstream", "redis+sentinel://u:s3cret@h"}),
      StartsWith("--upstream: upstream.url: \"redis+sentinel://<redacted>@h\": the name of the master has to follow"));
}

TEST_CASE("no arguments at all, not even a name, is no crash") {
  CHECK(message_of<ConfigError>([] {
          static_cast<void>(parse_command_line(0, nullptr, nullptr));
        }).starts_with("upstream.url"));
}

TEST_CASE("the help names every flag") {
  for (const char* flag : {"--config FILE", "--listen", "--upstream URL", "--admin HOST:PORT", "--set dotted.key=value",
                           "--wal-skip-damaged", "--check-config", "--print-config", "--version", "--help"}) {
    CHECK_THAT(help_text(), Contains(flag));
  }
}

}  // namespace
}  // namespace nearcached::config
