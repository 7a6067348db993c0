#include "config/loader.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using Catch::Equals;
using Catch::StartsWith;
using std::chrono::milliseconds;
using tiers::upstream::Endpoint;

Configuration loaded(std::string_view text) {
  Configuration configuration;
  load_text(configuration, text, "nearcached.yaml");
  return configuration;
}

std::string error_of(std::string_view text) {
  return message_of<ConfigError>([&] { loaded(text); });
}

TEST_CASE("a file sets what it names and leaves the rest at its default") {
  const Configuration configuration = loaded(R"(threads: 3
listen: [ "127.0.0.1:7000", "unix:/run/n.sock" ]
upstream:
  url: redis+cluster://a:1,b:2
  command_timeout: 250ms
  swapdb: never
l1: { enabled: false, max_bytes: auto, soft_limit: 0.5 }
admin: { listen: off }
metrics:
  labels: { service: api, zone: "a b" }
log: { level: warn, format: json }
)");
  const Settings& settings = configuration.settings;
  CHECK(settings.threads == 3);
  CHECK(settings.listen == std::vector<Endpoint>{{"127.0.0.1", 7000}, {"/run/n.sock", 0}});
  CHECK(settings.upstream.url.endpoints.size() == 2);
  CHECK(settings.upstream.command_timeout == milliseconds{250});
  CHECK(settings.upstream.connect_timeout == milliseconds{1000});
  CHECK(settings.upstream.swapdb_never);
  CHECK_FALSE(settings.l1.enabled);
  CHECK(settings.l1.store.max_bytes == 0);
  CHECK(settings.l1.store.soft_limit == 0.5);
  CHECK_FALSE(settings.admin.enabled);
  CHECK(settings.metrics.labels == std::map<std::string, std::string>{{"service", "api"}, {"zone", "a b"}});
  CHECK(settings.log.level == LogLevel::kWarn);
  CHECK(settings.log.format == LogFormat::kJson);
  CHECK(configuration.origins.at("upstream.swapdb").text() == "nearcached.yaml:6");
  CHECK(configuration.origins.count("upstream.connect_timeout") == 0);
}

TEST_CASE("an empty file, one of comments, and sections without keys set nothing") {
  for (const char* text : {"", "\n\n", "# nothing\n", "---\n", "---\n...\n", "{}", "l1:\n", "l1:\n  # ttl: 5s\nlog:\n",
                           "l1: {}", "\xEF\xBB\xBF# with a byte order mark\n"}) {
    CAPTURE(text);
    CHECK(loaded(text).origins.empty());
  }
}

TEST_CASE("a file from an editor of another system reads the same") {
  CHECK(loaded("l1:\r\n  ttl: 5s\r\n").settings.l1.ttl == milliseconds{5000});
  CHECK(loaded("\xEF\xBB\xBFthreads: 2\n").settings.threads == 2);
}

TEST_CASE("a wrong value is reported with file, line, key, what was found and what is allowed") {
  CHECK_THAT(
      error_of("threads: 2\n\nl1:\n  enabled: true\n  max_bytes: lots\n"),
      Equals("nearcached.yaml:5: l1.max_bytes: \"lots\" is not a size; allowed: a number of bytes with optional KB, MB, "
             "GB, or auto, from 1MB to 1024GB"));
  CHECK_THAT(error_of("threads: 65"),
             Equals("nearcached.yaml:1: threads: \"65\" is out of range; allowed: a whole number or auto, from 1 to 64"));
  CHECK_THAT(
      error_of("\nl1:\n  ttl: 300\n"),
      Equals("nearcached.yaml:3: l1.ttl: \"300\" has no unit; allowed: a number with its unit (ms, s, m or h), from 1ms "
             "to 168h"));
  CHECK_THAT(error_of("l1: { enabled: yes }"),
             Equals("nearcached.yaml:1: l1.enabled: \"yes\" is not true or false; allowed: true or false"));
  CHECK_THAT(
      error_of("log:\n  level: verbose\n"),
      Equals("nearcached.yaml:2: log.level: \"verbose\" is not debug, info, warn or error; allowed: debug, info, warn or "
             "error"));
  CHECK_THAT(error_of("l1:\n  soft_limit: 1.5\n"),
             Equals("nearcached.yaml:2: l1.soft_limit: \"1.5\" is out of range; allowed: a number from 0.1 to 1"));
  CHECK_THAT(error_of("coherence:\n  max_staleness: 29ms"),
             Contains("from 30ms to 60s") && StartsWith("nearcached.yaml:2: "));
}

TEST_CASE("the line is that of the wrong part, not of the key above it") {
  CHECK_THAT(error_of("listen:\n  - 127.0.0.1:6380\n  - nonsense\n"),
             StartsWith("nearcached.yaml:3: listen: \"nonsense\" is not an address; allowed: "));
  CHECK_THAT(error_of("listen:\n  - a:1\n  - b:1\n  - a:1\n"),
             StartsWith("nearcached.yaml:4: listen: \"a:1\" is listed twice"));
  CHECK_THAT(error_of("metrics:\n  labels:\n    ok: 1\n    le: 2\n"),
             StartsWith("nearcached.yaml:4: metrics.labels: \"le\" can't be the name of a label"));
  CHECK_THAT(error_of("threads:\n\n  lots\n"), StartsWith("nearcached.yaml:3: threads: \"lots\""));
}

TEST_CASE("a section inside a section") {
  const Configuration configuration = loaded("coherence:\n  mode: bus\n  bus:\n    type: redis\n    channel: \"a b\"\n");
  CHECK(configuration.settings.coherence.mode == CoherenceMode::kBus);
  CHECK(configuration.settings.coherence.bus.type == BusType::kRedis);
  CHECK(configuration.settings.coherence.bus.channel == "a b");
  CHECK(configuration.origins.at("coherence.bus.channel").text() == "nearcached.yaml:5");
  CHECK(loaded("coherence: {bus: {}}").origins.empty());
  CHECK_THAT(error_of("coherence:\n  bus: redis\n"),
             Equals("nearcached.yaml:2: coherence.bus: \"redis\" is not a map of keys; allowed: type, channel"));
  CHECK_THAT(
      error_of("coherence:\n  bus:\n    chanel: x\n"),
      Equals("nearcached.yaml:3: unknown key \"coherence.bus.chanel\"; the nearest known key is coherence.bus.channel"));
  CHECK_THAT(error_of("coherence:\n  bus:\n    channel: 'a{b'\n"),
             StartsWith("nearcached.yaml:3: coherence.bus.channel: \"a{b\" can't be the name of a channel; allowed: "));
  CHECK_THAT(error_of("coherence:\n  bus.type: redis\n"),
             StartsWith("nearcached.yaml:2: coherence.bus.type: is written with a dot"));
}

TEST_CASE("a key without a value is reported at its own line") {
  CHECK_THAT(error_of("l1:\n  ttl:\n\n\nlog:\n  level: info\n"),
             StartsWith("nearcached.yaml:2: l1.ttl: has no value; allowed: "));
  CHECK_THAT(error_of("threads: ~\n"), StartsWith("nearcached.yaml:1: threads: has no value"));
  CHECK_THAT(error_of("listen:\n"), StartsWith("nearcached.yaml:1: listen: has no value"));
  CHECK_THAT(error_of("listen: []\n"), StartsWith("nearcached.yaml:1: listen: the list is empty"));
}

TEST_CASE("an unknown key names the nearest known one") {
  CHECK_THAT(error_of("l1:\n  max_byte: 1MB\n"),
             Equals("nearcached.yaml:2: unknown key \"l1.max_byte\"; the nearest known key is l1.max_bytes"));
  CHECK_THAT(error_of("ttl: 5s\n"), Equals("nearcached.yaml:1: unknown key \"ttl\"; the nearest known key is l1.ttl"));
  CHECK_THAT(error_of("upsteam:\n  url: redis://h\n"),
             Equals("nearcached.yaml:1: unknown key \"upsteam\"; the nearest known key is upstream"));
  CHECK_THAT(error_of("listen:\n- a:1\n\nwrite_behnid: {enabled: true}\n"),
             StartsWith("nearcached.yaml:4: unknown key \"write_behnid\""));
}

TEST_CASE("keys of what is not built are unknown") {
  for (const char* text : {"write_behind: {mode: x}", "resilience: {}", "hot_keys: {}", "l1: {compression: {level: 1}}",
                           "tls: {ciphers: x}", "l1: {shards: 4}", "coherence: {bus: {servers: x}}", "negative: {}",
                           "metrics: {per_key_top: 1}", "upstream: {pinned_pool: {auto: 1}}"}) {
    CAPTURE(text);
    CHECK_THAT(error_of(text), Contains("unknown key"));
  }
  for (const char* type : {"nats", "kafka"})
    CHECK_THAT(error_of(std::string("coherence: {bus: {type: ") + type + "}}"), Contains("is not none or redis"));
}

TEST_CASE("a key given twice is an error with both lines") {
  CHECK_THAT(error_of("threads: 1\n\nthreads: 2\n"),
             Equals("nearcached.yaml:3: threads: given twice, before in line 1; allowed: once"));
  CHECK_THAT(error_of("l1:\n  ttl: 1s\nlog: {}\nl1:\n  enabled: true\n"),
             Equals("nearcached.yaml:4: l1: given twice, before in line 1; allowed: once"));
  CHECK_THAT(error_of("l1:\n  ttl: 1s\n  ttl: 2s\n"), StartsWith("nearcached.yaml:3: l1.ttl: given twice"));
}

TEST_CASE("a section is a map, a key is not") {
  CHECK_THAT(error_of("\nl1: 5\n"), Equals("nearcached.yaml:2: l1: \"5\" is not a map of keys; allowed: enabled, max_bytes, "
                                           "max_items, max_item_bytes, ttl, soft_limit, compression"));
  CHECK_THAT(error_of("l1: [ttl]"), StartsWith("nearcached.yaml:1: l1: a list is not a map of keys"));
  CHECK_THAT(error_of("threads: {auto: 1}"), StartsWith("nearcached.yaml:1: threads: a map is not a whole number"));
  CHECK_THAT(error_of("upstream: { url: [a, b] }"), Contains("a list is not a URL"));
  CHECK_THAT(error_of("metrics: { labels: x }"), Contains("\"x\" is not a map of labels"));
  CHECK_THAT(
      error_of("- threads\n"),
      StartsWith(
          "nearcached.yaml:1: a list is not a map of keys; allowed: threads, listen, cluster_emulation, tls, upstream"));
  CHECK_THAT(error_of("just text"), StartsWith("nearcached.yaml:1: \"just text\" is not a map of keys"));
  CHECK_THAT(error_of("l1.ttl: 5s\n"), StartsWith("nearcached.yaml:1: l1.ttl: is written with a dot"));
  CHECK_THAT(error_of("{[a]: 1}"), Contains("a key is a list"));
  CHECK_THAT(error_of("? {a: 1}\n: 2\n"), Contains("a key is a map"));
  CHECK_THAT(error_of("~: 1\n"), Contains("a key is nothing"));
}

TEST_CASE("what is not YAML is reported with its line") {
  CHECK_THAT(error_of("threads: 1\nlisten: [a\nl1: {\n"), StartsWith("nearcached.yaml:") && Contains("not valid YAML"));
  CHECK_THAT(error_of("l1:\n  ttl: 1s\n enabled: true\n"), StartsWith("nearcached.yaml:3: not valid YAML"));
  CHECK_THAT(error_of("upstream:\n  username: \"unclosed\n"), Contains("not valid YAML"));
  CHECK_THAT(error_of("upstream:\n  username: 'unclosed\n\n"), Contains("not valid YAML"));
  CHECK_THAT(error_of("threads: 1\n---\nthreads: 2\n"), StartsWith("nearcached.yaml:2: a second document"));
}

TEST_CASE("aliases are refused before they can multiply") {
  CHECK_THAT(error_of("a: &a [x,x]\nb: &b [*a,*a]\n"), StartsWith("nearcached.yaml:2: an alias (*name) is used here"));
  CHECK_THAT(error_of("l1: &x {ttl: 1s}\nlog:\n  <<: *x\n"), StartsWith("nearcached.yaml:3: an alias"));
}

TEST_CASE("nesting, maps and files are bounded") {
  CHECK_THAT(error_of("l1: " + std::string(17, '[') + std::string(17, ']')), Contains("nested too deeply"));
  CHECK_THAT(error_of("listen: " + std::string(10, '[') + std::string(10, ']')), Contains("a list is not an address"));
  for (const char c : {'[', '{', '-', '?', ':', '*', '!', '"', '\'', '|', '>', '%', '@'}) {
    CAPTURE(c);
    CHECK_FALSE(error_of("l1: " + std::string(200'000, c)).empty());
  }
  std::string many = "metrics:\n  labels:\n";
  for (int i = 0; i < 1001; ++i) many += "    a" + std::to_string(i) + ": 1\n";
  CHECK_THAT(error_of(many), StartsWith("nearcached.yaml:1003: a map has too many keys"));
  CHECK_THAT(error_of(std::string(kFileBytesMax + 1, '#')), Contains("larger than 1MB"));
  CHECK(error_of(std::string(kFileBytesMax, '#')).empty());
}

TEST_CASE("no bytes at all make it crash") {
  for (int byte = 0; byte < 256; ++byte) {
    for (const std::string& frame : {std::string("threads: 1"), std::string("l1: {ttl: 1s"), std::string("\"")}) {
      std::string text = frame + static_cast<char>(byte) + "\n";
      Configuration configuration;
      try {
        load_text(configuration, text, "n");
      } catch (const ConfigError& error) {
        CHECK(std::string(error.what()).starts_with("n"));
      }
    }
  }
}

TEST_CASE("a truncated file is an error or a prefix, never anything else") {
  const std::string text = "threads: 4\nupstream:\n  url: \"redis://h\"\nlisten: [ \"a:1\" ]\n";
  for (std::size_t size = 0; size <= text.size(); ++size) {
    Configuration configuration;
    try {
      load_text(configuration, text.substr(0, size), "n");
    } catch (const ConfigError&) {
      continue;
    }
    CHECK((configuration.settings.threads == 0 || configuration.settings.threads == 4));
  }
}

TEST_CASE("secrets are not repeated in errors") {
  CHECK_THAT(error_of("upstream: { url: \"redis://u:s3cret@h:0\" }"), Contains("<redacted>@h:0") && !Contains("s3cret"));
  CHECK_THAT(error_of("upstream: { password: \"" + std::string(5000, 's') + "\" }"), Contains("longer") && !Contains("sss"));
}

TEST_CASE("a value in one piece of text is split at commas, or YAML, as its key wants it") {
  const Origin origin{"--set", 0};
  const Value list = value_from_text(*find_key("listen"), "[::1]:1,a:2", origin);
  REQUIRE(list.items.size() == 2);
  CHECK(list.items[0].text == "[::1]:1");
  CHECK(value_from_text(*find_key("upstream.password"), "[a,b", origin).text == "[a,b");
  const Key& namespaces = *find_key("namespaces");
  const Value maps = value_from_text(namespaces, "\n\n[{prefix: 'a,b=c', consistency: strict}]", origin);
  REQUIRE(maps.items.size() == 1);
  CHECK(maps.items[0].line == 0);
  REQUIRE(maps.items[0].entries.size() == 2);
  CHECK(maps.items[0].entries[0].name == "prefix");
  CHECK(maps.items[0].entries[0].line == 0);
  CHECK(maps.items[0].entries[0].value.text == "a,b=c");
  CHECK(value_from_text(namespaces, "", origin).kind == Value::Kind::kList);
  CHECK(value_from_text(namespaces, " ", origin).kind == Value::Kind::kNull);
  const auto error = [&](const std::string& text) {
    return message_of<ConfigError>([&] { static_cast<void>(value_from_text(namespaces, text, origin)); });
  };
  CHECK_THAT(error("[{prefix: a"), StartsWith("--set: namespaces: a key is a list, or a bracket is not closed"));
  CHECK_THAT(error("- prefix: \"a"), StartsWith("--set: namespaces: not valid YAML: "));
  CHECK_THAT(error("[{prefix: a, prefix: b}]"), Equals("--set: namespaces: prefix: given twice; allowed: once"));
  CHECK_THAT(error(std::string(17, '[') + std::string(17, ']')), StartsWith("--set: namespaces: nested too deeply"));
  CHECK_THAT(error("[&a x, *a]"), StartsWith("--set: namespaces: an alias"));
  CHECK_THAT(error("[]\n---\n[]"), StartsWith("--set: namespaces: a second document"));
}

TEST_CASE("a file that can't be read says so") {
  const TempDir directory;
  Configuration configuration;
  const auto error = [&](const std::string& path) {
    return message_of<ConfigError>([&] { load_file(configuration, path); });
  };
  CHECK_THAT(error(directory.path("missing.yaml")),
             Equals(directory.path("missing.yaml") + ": can't be read: No such file or directory"));
  CHECK_THAT(error(directory.path("")), Contains("it is a directory"));
  CHECK_THAT(error("/dev/zero"), Contains("larger than 1MB"));
  const std::string file = directory.write("n.yaml", "threads: 7\nl1: x\n");
  CHECK_THAT(error(file), StartsWith(file + ":2: l1: "));
}

}  // namespace
}  // namespace nearcached::config
