#include "config/schema.hpp"

#include <catch2/catch.hpp>
#include <set>

#include "config/print.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;

const std::set<std::string> kPaths{"threads",
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
                                   "l1.compression.algorithm",
                                   "l1.compression.min_bytes",
                                   "l1.compression.dictionary",
                                   "coherence.mode",
                                   "coherence.consistency",
                                   "coherence.max_staleness",
                                   "coherence.max_stale",
                                   "coherence.refill_max",
                                   "coherence.audit_one_in",
                                   "coherence.audit_per_second",
                                   "coherence.bus.type",
                                   "coherence.bus.channel",
                                   "write_behind.enabled",
                                   "write_behind.durability",
                                   "write_behind.priority",
                                   "write_behind.log_dir",
                                   "write_behind.segment_bytes",
                                   "write_behind.log_max_bytes",
                                   "write_behind.batch_records",
                                   "write_behind.batch_interval",
                                   "write_behind.in_flight",
                                   "write_behind.max_records",
                                   "write_behind.max_bytes",
                                   "write_behind.max_age",
                                   "write_behind.max_replay_age",
                                   "namespaces",
                                   "upstream.pinned_pool.min",
                                   "upstream.pinned_pool.max",
                                   "upstream.pinned_pool.acquire_timeout",
                                   "cluster_emulation",
                                   "upstream.sentinel.username",
                                   "upstream.sentinel.password",
                                   "upstream.sentinel.password_file",
                                   "security.deny_commands",
                                   "users",
                                   "tls.cert",
                                   "tls.key",
                                   "tls.ca",
                                   "tls.client_auth",
                                   "upstream.tls.ca",
                                   "upstream.tls.cert",
                                   "upstream.tls.key",
                                   "upstream.tls.verify",
                                   "upstream.tls.server_name",
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
                                   "slowlog.slower_than",
                                   "slowlog.max_len",
                                   "admin.listen",
                                   "admin.token_file",
                                   "metrics.labels",
                                   "log.level",
                                   "log.format"};

TEST_CASE("the keys are these and no others") {
  std::set<std::string> found;
  for (const Key& key : schema()) CHECK(found.insert(key.path).second);
  CHECK(found == kPaths);
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
      // A map or a list may be empty, but for listen.
      const bool own = key.print(Settings{}).kind == kind && key.path != "listen";
      CHECK(key.set(settings, Value::of(kind, 3)).text.empty() == own);
      if (!own) CHECK(print_config(settings) == print_config(Settings{}));
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
  CHECK(nearest_key("coherence.buss", Nearest::kKeysAndSections) == "coherence.bus");
  CHECK(nearest_key("coherence.bus.chanel", Nearest::kKeysAndSections) == "coherence.bus.channel");
  CHECK(find_key(nearest_key("", Nearest::kKeys)) != nullptr);
  CHECK(find_key(nearest_key(std::string(1'000'000, 'x'), Nearest::kKeys)) != nullptr);
}

TEST_CASE("the nearest word takes the least edits, the first of several") {
  const std::string_view words[] = {"prefix", "suffix", "l1_ttl"};
  CHECK(nearest_word("prefx", words) == "prefix");
  CHECK(nearest_word("sufix", words) == "suffix");
  CHECK(nearest_word("ttl", words) == "l1_ttl");
  CHECK(nearest_word("_refix", words) == "prefix");
  CHECK(nearest_word("", words) == "prefix");
  CHECK(nearest_word(std::string(1'000'000, 'l'), words) == "l1_ttl");
}

TEST_CASE("a problem of a part is reported with the part's place, and with what is allowed there") {
  Key key = *find_key("threads");
  key.set = [](Settings&, const Value&) -> Problem { return {"is odd", 7, "[3].x", "even ones"}; };
  Configuration configuration;
  CHECK(message_of<ConfigError>([&] {
          configuration.assign(key, Value::scalar("1"), {"n.yaml", 4});
        }) == "n.yaml:7: threads[3].x: is odd; allowed: even ones");
  CHECK(configuration.origins.empty());
}

TEST_CASE("sections and what is below them") {
  CHECK(is_section(""));
  CHECK(is_section("l1"));
  CHECK_FALSE(is_section("l"));
  CHECK_FALSE(is_section("threads"));
  CHECK_FALSE(is_section("l1.ttl"));
  CHECK_FALSE(is_section("l1."));
  CHECK(is_section("coherence.bus"));
  CHECK_FALSE(is_section("coherence.bus.type"));
  CHECK_FALSE(is_section("namespaces"));
  CHECK(names_below("log") == "level, format");
  CHECK(names_below("coherence.bus") == "type, channel");
  CHECK_THAT(names_below("coherence"), Contains("mode, consistency") && Contains(", bus") && !Contains("channel"));
  CHECK(names_below("") ==
        "threads, listen, cluster_emulation, tls, upstream, l1, coherence, write_behind, namespaces, security, users, "
        "limits, slowlog, "
        "admin, "
        "metrics, log");
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
