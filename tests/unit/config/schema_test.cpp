#include "config/schema.hpp"

#include <catch2/catch.hpp>
#include <set>

#include "config/print.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;

TEST_CASE("the keys are these and no others") {
  const std::set<std::string> expected{"threads",
                                       "listen",
                                       "upstream.url",
                                       "upstream.username",
                                       "upstream.password",
                                       "upstream.password_file",
                                       "upstream.connect_timeout",
                                       "upstream.command_timeout",
                                       "upstream.pending_max",
                                       "upstream.swapdb",
                                       "l1.enabled",
                                       "l1.max_bytes",
                                       "l1.max_items",
                                       "l1.max_item_bytes",
                                       "l1.ttl",
                                       "l1.soft_limit",
                                       "coherence.mode",
                                       "coherence.max_staleness",
                                       "limits.clients",
                                       "limits.args",
                                       "limits.bulk_bytes",
                                       "limits.inline_bytes",
                                       "limits.output_bytes",
                                       "limits.output_pause_bytes",
                                       "limits.pipeline",
                                       "limits.buffer_bytes",
                                       "limits.identities",
                                       "limits.idle_timeout",
                                       "limits.tcp_keepalive",
                                       "limits.shutdown_timeout",
                                       "admin.listen",
                                       "metrics.labels",
                                       "log.level",
                                       "log.format"};
  std::set<std::string> found;
  for (const Key& key : schema()) CHECK(found.insert(key.path).second);
  CHECK(found == expected);
}

TEST_CASE("every key is described, and its default is allowed") {
  for (const Key& key : schema()) {
    CAPTURE(key.path);
    CHECK_FALSE(key.type.empty());
    CHECK_FALSE(key.allowed.empty());
    CHECK(key.description.ends_with('.'));
    const Value printed = key.print(Settings{});
    Settings settings;
    if (key.path != "upstream.url") CHECK(key.set(settings, printed).text == "");
    CHECK(yaml_text(key.print(settings)) == yaml_text(printed));
  }
}

TEST_CASE("every key refuses every kind of value but its own, and then changes nothing") {
  for (const Key& key : schema()) {
    for (const Value::Kind kind : {Value::Kind::kNull, Value::Kind::kList, Value::Kind::kMap}) {
      CAPTURE(key.path);
      Settings settings;
      const bool own = key.print(Settings{}).kind == kind && kind == Value::Kind::kMap;
      CHECK(key.set(settings, Value::of(kind, 3)).text.empty() == own);
      CHECK(print_config(settings) == print_config(Settings{}));
    }
  }
}

TEST_CASE("the keys of a section stand together") {
  std::set<std::string> closed;
  std::string current;
  for (const Key& key : schema()) {
    const std::string section = key.path.substr(0, key.path.find('.'));
    if (section == current) continue;
    CHECK(closed.insert(section).second);
    current = section;
  }
}

TEST_CASE("the nearest key is found by path and by last word") {
  CHECK(nearest_key("l1.max_byte", Nearest::kKeys) == "l1.max_bytes");
  CHECK(nearest_key("max_staleness", Nearest::kKeys) == "coherence.max_staleness");
  CHECK(nearest_key("upstream.ttl", Nearest::kKeys) == "l1.ttl");
  CHECK(nearest_key("limit", Nearest::kKeysAndSections) == "limits");
  CHECK(find_key(nearest_key("", Nearest::kKeys)) != nullptr);
  CHECK(find_key(nearest_key(std::string(1'000'000, 'x'), Nearest::kKeys)) != nullptr);
}

TEST_CASE("sections and what is below them") {
  CHECK(is_section(""));
  CHECK(is_section("l1"));
  CHECK_FALSE(is_section("l"));
  CHECK_FALSE(is_section("threads"));
  CHECK_FALSE(is_section("l1.ttl"));
  CHECK_FALSE(is_section("l1."));
  CHECK(names_below("log") == "level, format");
  CHECK(names_below("") == "threads, listen, upstream, l1, coherence, limits, admin, metrics, log");
}

TEST_CASE("the last assignment wins and is the one that is remembered") {
  Configuration configuration;
  const Key& key = *find_key("threads");
  configuration.assign(key, Value::scalar("3"), {"n.yaml", 4});
  configuration.assign(key, Value::scalar("5"), {"--set", 0});
  CHECK(configuration.settings.threads == 5);
  CHECK(configuration.origins.at("threads").text() == "--set");
  CHECK_THAT(message_of<ConfigError>([&] {
               configuration.assign(key, Value::scalar("x"), {"--set", 0});
             }),
             Contains("--set: threads"));
  CHECK(configuration.settings.threads == 5);
}

}  // namespace
}  // namespace nearcached::config
