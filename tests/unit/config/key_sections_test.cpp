#include "config/key_sections.hpp"

#include <catch2/catch.hpp>

namespace nearcached::config {
namespace {

std::string problem_of(std::string_view path, std::string text) {
  Settings settings;
  const Key* key = find_key(path);
  REQUIRE(key != nullptr);
  return key->set(settings, Value::scalar(std::move(text))).text;
}

TEST_CASE("both ends of each range are allowed, one step beyond is not") {
  struct Case {
    const char* path;
    std::vector<const char*> allowed;
    std::vector<const char*> refused;
  };
  const std::vector<Case> cases{
      {"threads", {"auto", "1", "64"}, {"0", "65", "-1", "Auto", "1.5"}},
      {"upstream.connect_timeout", {"1ms", "1m", "60s"}, {"0ms", "61s", "60001ms", "1"}},
      {"upstream.command_timeout", {"1ms", "10m"}, {"0s", "601s", "auto"}},
      {"upstream.pending_max", {"1", "10000000"}, {"0", "10000001", "auto"}},
      {"l1.max_bytes", {"auto", "1MB", "1024GB"}, {"0", "1023KB", "1025GB", "off"}},
      {"l1.max_items", {"0", "1000000000"}, {"1000000001", "unlimited"}},
      {"l1.ttl", {"1ms", "168h"}, {"0s", "169h", "7d"}},
      {"l1.soft_limit", {"0.1", "1", "1.0"}, {"0.09", "1.01", "0", "80%"}},
      {"l1.compression.algorithm", {"none", "lz4", "zstd"}, {"", "gzip", "LZ4", "off"}},
      {"l1.compression.min_bytes", {"64", "1KB", "1MB"}, {"0", "63", "1025KB", "2MB", "auto"}},
      {"l1.compression.dictionary", {"true", "false"}, {"", "on", "1"}},
      {"write_behind.enabled", {"true", "false"}, {"", "yes"}},
      {"write_behind.durability", {"immediate", "deferred", "eventual"}, {"", "none", "Deferred"}},
      {"write_behind.priority", {"high", "normal", "low"}, {"", "urgent"}},
      {"write_behind.log_dir", {"/var/lib/nearcached"}, {}},
      {"write_behind.segment_bytes", {"4KB", "64MB", "1GB"}, {"0", "4095", "2GB", "auto"}},
      {"write_behind.log_max_bytes", {"8KB", "1024GB"}, {"0", "8191", "1025GB"}},
      {"write_behind.batch_records", {"1", "10000"}, {"0", "10001"}},
      {"write_behind.batch_interval", {"0s", "1s", "1m"}, {"-1s", "61s"}},
      {"write_behind.in_flight", {"1", "100000"}, {"0", "100001"}},
      {"write_behind.max_records", {"1", "100000000"}, {"0", "100000001"}},
      {"write_behind.max_bytes", {"64KB", "1024GB"}, {"0", "65535", "1025GB"}},
      {"write_behind.max_age", {"1s", "168h"}, {"999ms", "169h"}},
      {"write_behind.max_replay_age", {"0s", "1ms", "8760h"}, {"-1s", "8761h"}},
      {"coherence.mode", {"auto", "tracking", "bus", "ttl"}, {"", "none", "TTL", "redis"}},
      {"coherence.consistency", {"strict", "causal", "bounded", "stale_ok"}, {"", "stale", "Bounded", "eventual"}},
      {"coherence.max_staleness", {"30ms", "1m"}, {"29ms", "61s"}},
      {"coherence.max_stale", {"1ms", "168h"}, {"0s", "169h", "off"}},
      {"coherence.refill_max", {"1", "100000"}, {"0", "100001", "auto"}},
      {"coherence.audit_one_in", {"0", "1", "1000000000"}, {"1000000001", "off", "-1"}},
      {"coherence.audit_per_second", {"1", "100000"}, {"0", "100001"}},
      {"coherence.bus.type", {"none", "redis"}, {"", "nats", "kafka", "off"}},
      {"coherence.bus.channel", {"a", "a:b c", "[x]"}, {"", "{a}", "a{", "}", "a\nb", "\x7f"}},
      {"limits.buffer_bytes", {"auto", "16MB"}, {"0", "15MB"}},
      {"limits.idle_timeout", {"0s", "0ms", "1s", "168h"}, {"0", "999ms", "169h", "off"}},
      {"limits.tcp_keepalive", {"0s", "1s", "24h"}, {"1ms", "25h"}},
      {"limits.shutdown_timeout", {"0s", "1ms", "10m"}, {"601s", "10"}},
      {"log.level", {"debug", "info", "warn", "error"}, {"", "warning", "INFO", "info "}},
      {"l1.enabled", {"true", "false"}, {"yes", "on", "1", "True", ""}},
      {"upstream.swapdb", {"unknown", "never"}, {"true", "always"}},
      {"admin.listen", {"off", "a:1", "[::]:1"}, {"", "on", "unix:/a", "a", "9180", ":9180"}},
  };
  for (const Case& row : cases) {
    CAPTURE(row.path);
    for (const char* text : row.allowed) CHECK(problem_of(row.path, text) == "");
    for (const char* text : row.refused) CHECK(problem_of(row.path, text) != "");
  }
}

TEST_CASE("zero is only allowed where it means something, and the message says what") {
  CHECK(find_key("limits.idle_timeout")->allowed ==
        "a number with its unit (ms, s, m or h), from 1s to 168h, or 0s (0s: never)");
  CHECK(find_key("l1.max_items")->allowed == "a whole number from 0 to 1000000000 (0: unlimited)");
  CHECK(find_key("limits.clients")->allowed == "a whole number from 1 to 1000000");
  CHECK(find_key("l1.max_item_bytes")->allowed == "a number of bytes with optional KB, MB or GB, from 64 to 512MB");
}

TEST_CASE("a channel has at most 128 bytes, and one that is refused changes nothing") {
  CHECK(problem_of("coherence.bus.channel", std::string(128, 'c')) == "");
  Settings settings;
  for (const std::string& text : {std::string(129, 'c'), std::string("{c}"), std::string()}) {
    CHECK(find_key("coherence.bus.channel")->set(settings, Value::scalar(text)).text != "");
    CHECK(settings.coherence.bus.channel == "nearcached:invalidation");
  }
}

TEST_CASE("what the mode of nobody telling means for staleness is said where l1.ttl is") {
  CHECK_THAT(find_key("l1.ttl")->description, Catch::Contains("In ttl and bus mode it is the bound"));
}

TEST_CASE("labels are what Prometheus takes") {
  const Key& key = *find_key("metrics.labels");
  const auto problem = [&](const std::string& name, const std::string& text) {
    Settings settings;
    Value map = Value::of(Value::Kind::kMap);
    map.entries.push_back({name, 5, Value::scalar(text)});
    return key.set(settings, map).text;
  };
  for (const char* name : {"a", "_a", "A9", "service_name"}) CHECK(problem(name, "x") == "");
  for (const char* name : {"", "9a", "a-b", "a.b", "__name__", "le", "quantile", "a b", "\xC3\xB6"})
    CHECK(problem(name, "x") != "");
  CHECK(problem("a", std::string(256, 'x')) == "");
  CHECK(problem("a", std::string(257, 'x')) != "");
  CHECK(problem("a", "x\ny") != "");
  Settings settings;
  Value many = Value::of(Value::Kind::kMap);
  for (int i = 0; i < 33; ++i) many.entries.push_back({"a" + std::to_string(i), i, Value::scalar("x")});
  CHECK(key.set(settings, many).text == "there are more than 32 labels");
}

TEST_CASE("a list of addresses is bounded, and a single one stands for a list") {
  CHECK(problem_of("listen", "127.0.0.1:1") == "");
  Settings settings;
  Value many = Value::of(Value::Kind::kList);
  for (int i = 1; i <= 17; ++i) many.items.push_back(Value::scalar("a:" + std::to_string(i)));
  CHECK(find_key("listen")->set(settings, many).text == "the list is longer than 16");
  many.items.pop_back();
  CHECK(find_key("listen")->set(settings, many).text == "");
  CHECK(settings.listen.size() == 16);
}

}  // namespace
}  // namespace nearcached::config
