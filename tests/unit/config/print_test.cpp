#include "config/print.hpp"

#include <catch2/catch.hpp>

#include "config/loader.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;

Configuration loaded(const std::string& text) {
  Configuration configuration;
  load_text(configuration, text, "n.yaml");
  return configuration;
}

TEST_CASE("what is printed can be loaded again and then prints the same") {
  const Configuration configuration = loaded(R"(threads: 7
listen: [ "[::1]:7000", "unix:/run/a b.sock", 'unix:/quote"back\slash' ]
upstream: { url: "redis://h:1/2", username: "null", password_file: "/etc/it's: \"x\" #1", command_timeout: 1500ms, swapdb: never }
l1: { enabled: false, max_bytes: 2000001, max_items: 5, soft_limit: 0.75, ttl: 90m }
coherence: { mode: bus, consistency: causal, max_staleness: 30ms, max_stale: 168h, refill_max: 1, audit_one_in: 0, bus: { type: redis, channel: "a: b" } }
namespaces: [ { l1_ttl: 90m, prefix: "b:", consistency: stale_ok }, { prefix: "a" } ]
limits: { buffer_bytes: 16MB, idle_timeout: 1h, tcp_keepalive: 0s }
admin: { listen: off }
metrics: { labels: { service: "~", zone: "a, b: {c}", empty: "", umlaut: "ö" } }
log: { level: error, format: json }
)");
  const std::string printed = print_config(configuration.settings);
  const Configuration again = loaded(printed);
  CHECK(print_config(again.settings) == printed);
  CHECK(again.settings.listen == configuration.settings.listen);
  CHECK(again.settings.upstream.username == "null");
  CHECK(again.settings.upstream.password_file == "/etc/it's: \"x\" #1");
  CHECK(again.settings.l1.store.max_bytes == 2'000'001);
  CHECK(again.settings.coherence.mode == CoherenceMode::kBus);
  CHECK(again.settings.coherence.consistency == tiers::Consistency::kCausal);
  CHECK(again.settings.coherence.bus.type == BusType::kRedis);
  CHECK(again.settings.coherence.bus.channel == "a: b");
  CHECK(again.settings.coherence.audit_one_in == 0);
  REQUIRE(again.settings.namespaces.size() == 2);
  CHECK(again.settings.namespaces[0].prefix == "b:");
  CHECK(again.settings.namespaces[0].l1_ttl == std::chrono::minutes{90});
  CHECK(again.settings.metrics.labels == configuration.settings.metrics.labels);
  CHECK(again.origins.size() == schema().size());
}

TEST_CASE("defaults print as the words and units of the documentation") {
  const std::string printed = print_config(loaded("upstream: {url: 'redis://h'}").settings);
  for (const char* line : {"threads: auto\n", "listen: [ \"127.0.0.1:6380\" ]\n", "  url: \"redis://h:6379\"\n",
                           "  max_bytes: 50MB\n", "  max_item_bytes: 100KB\n", "  ttl: 300s\n", "  soft_limit: 0.8\n",
                           "  buffer_bytes: auto\n", "  listen: \"127.0.0.1:9180\"\n", "  labels: {}\n",
                           "  swapdb: unknown\n", "  level: info\n", "  idle_timeout: 0s\n", "  password: \"\"\n"}) {
    CHECK_THAT(printed, Contains(line));
  }
}

TEST_CASE("a section inside a section is indented below it, and opened once") {
  const std::string printed = print_config(Settings{});
  CHECK_THAT(printed,
             Contains("\n  audit_per_second: 100\n  bus:\n    type: none\n    channel: \"nearcached:invalidation\"\n"
                      "write_behind:\n  enabled: false\n  durability: immediate\n  priority: normal\n  log_dir: \"\"\n  "
                      "segment_bytes: 64MB\n"
                      "  log_max_bytes: 1GB\n  batch_records: 100\n  batch_interval: 1s\n  in_flight: 1000\n"
                      "  max_records: 1000000\n  max_bytes: 256MB\n  max_age: 60s\n  max_replay_age: 24h\n"
                      "namespaces: []\nsecurity:\n  deny_commands: ["));
  CHECK(section_lines("", "a.b.c") == "a:\n  b:\n");
  CHECK(section_lines("a.x", "a.b.c") == "  b:\n");
  CHECK(section_lines("a.b.x", "a.b.c") == "");
  CHECK(section_lines("ab.c", "a.c") == "a:\n");
  CHECK(section_lines("a.b.c", "a.d") == "");
  CHECK(section_lines("a.b", "c") == "");
  CHECK(indentation("a") == "");
  CHECK(indentation("a.b.c") == "    ");
  CHECK(own_name("a.b.c") == "c");
  CHECK(own_name("a") == "a");
}

TEST_CASE("each namespace is printed on a line of its own, without what it does not give") {
  const std::string printed =
      print_config(loaded("namespaces: [{prefix: 'b:', max_stale: 60m}, {consistency: strict, prefix: a}]").settings);
  CHECK_THAT(
      printed,
      Contains("\nnamespaces:\n  - { prefix: \"b:\", max_stale: 1h }\n  - { prefix: a, consistency: strict }\nsecurity:\n"));
}

TEST_CASE("secrets are never printed") {
  const std::string printed = print_config(loaded("upstream: { url: 'redis://u:s3cret@h', password: 0ther }").settings);
  CHECK_THAT(printed, !Contains("s3cret") && !Contains("0ther"));
  CHECK_THAT(printed, Contains("  url: \"redis://u:<redacted>@h:6379\"\n") && Contains("  password: \"<redacted>\"\n"));
  CHECK(print_config(loaded(printed).settings) == printed);
}

TEST_CASE("a value is quoted wherever YAML would read something else") {
  for (const char* text : {"",  "null", "~",  "a: b", "#x", "- x", "*x", "&x", "!x",       "a b",
                           "{", "[",    "\"", "\\",   "%",  "@",   "|",  ">",  "\x01\x7f", "a\nb"}) {
    CAPTURE(text);
    CHECK(yaml_text(Value::scalar(text)).front() == '"');
    Configuration configuration;
    const std::string_view view(text);
    if (view.find_first_of("\x01\n") != std::string_view::npos) continue;
    load_text(configuration, "upstream:\n  username: " + yaml_text(Value::scalar(text)) + "\n", "n");
    CHECK(configuration.settings.upstream.username == text);
  }
  CHECK(yaml_text(Value::scalar("50MB")) == "50MB");
}

}  // namespace
}  // namespace nearcached::config
