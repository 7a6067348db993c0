#include "config/namespaces.hpp"

#include <catch2/catch.hpp>

#include "config/loader.hpp"
#include "config/print.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using Catch::Equals;
using Catch::StartsWith;
using tiers::Consistency;

std::vector<Namespace> loaded(const std::string& text) {
  Configuration configuration;
  load_text(configuration, text, "n.yaml");
  return configuration.settings.namespaces;
}

std::string error_of(const std::string& text) {
  return message_of<ConfigError>([&] { loaded(text); });
}

// Of the second entry, which stands in line 3.
std::string error_of_entry(const std::string& entry) {
  return error_of("namespaces:\n- { prefix: first }\n- { " + entry + " }\n");
}

std::string error_of_field(const std::string& field) { return error_of_entry("prefix: a, " + field); }

TEST_CASE("a namespace has what it gives, and nothing where it gives nothing") {
  const auto namespaces = loaded(R"(
namespaces:
  - prefix: "user:"
    consistency: stale_ok
    max_staleness: 250ms
    max_stale: 1h
    l1_ttl: 5m
    compression: zstd
    compression_min_bytes: 2KB
    compression_dictionary: true
    durability: deferred
    write_priority: low
  - { prefix: "lock:", consistency: strict }
  - { "prefix": "x" }
)");
  REQUIRE(namespaces.size() == 3);
  CHECK(namespaces[0].prefix == "user:");
  CHECK(namespaces[0].consistency == Consistency::kStaleOk);
  CHECK(namespaces[0].max_staleness == milliseconds{250});
  CHECK(namespaces[0].max_stale == milliseconds{3'600'000});
  CHECK(namespaces[0].l1_ttl == milliseconds{300'000});
  CHECK(namespaces[0].compression == tiers::l1::Compression::kZstd);
  CHECK(namespaces[0].compression_min_bytes == 2048);
  CHECK(namespaces[0].compression_dictionary == true);
  CHECK(namespaces[0].durability == tiers::Durability::kDeferred);
  CHECK(namespaces[0].write_priority == tiers::write_behind::Priority::kLow);
  CHECK(namespaces[1].prefix == "lock:");
  CHECK(namespaces[1].consistency == Consistency::kStrict);
  CHECK_FALSE(namespaces[1].max_staleness);
  CHECK_FALSE(namespaces[1].max_stale);
  CHECK_FALSE(namespaces[1].l1_ttl);
  CHECK_FALSE(namespaces[1].compression);
  CHECK_FALSE(namespaces[1].compression_min_bytes);
  CHECK_FALSE(namespaces[1].compression_dictionary);
  CHECK_FALSE(namespaces[1].durability);
  CHECK_FALSE(namespaces[1].write_priority);
  CHECK_FALSE(namespaces[2].consistency);
}

TEST_CASE("each level has its word") {
  const std::pair<const char*, Consistency> levels[] = {{"strict", Consistency::kStrict},
                                                        {"causal", Consistency::kCausal},
                                                        {"bounded", Consistency::kBounded},
                                                        {"stale_ok", Consistency::kStaleOk}};
  for (const auto& [word, level] : levels) {
    const auto namespaces = loaded(std::string("namespaces: [ { prefix: a, consistency: ") + word + " } ]");
    REQUIRE(namespaces.size() == 1);
    CHECK(namespaces[0].consistency == level);
  }
}

TEST_CASE("no namespaces is an empty list") {
  CHECK(loaded("namespaces: []").empty());
  CHECK_THAT(error_of("namespaces:\nthreads: 1\n"),
             StartsWith("n.yaml:1: namespaces: has no value; allowed: up to 1024 maps"));
  CHECK_THAT(error_of("namespaces: {}"), StartsWith("n.yaml:1: namespaces: a map is not a list of maps; allowed: "));
  CHECK_THAT(error_of("\nnamespaces: user"), StartsWith("n.yaml:2: namespaces: \"user\" is not a list of maps"));
}

TEST_CASE("an entry is a map with a prefix") {
  const std::string names =
      "; allowed: prefix, consistency, max_staleness, max_stale, l1_ttl, compression, "
      "compression_min_bytes, compression_dictionary, durability, write_priority";
  CHECK_THAT(error_of("namespaces:\n- prefix: a\n- user\n"),
             Equals("n.yaml:3: namespaces[1]: \"user\" is not a map" + names));
  CHECK_THAT(error_of("namespaces:\n- [prefix]\n"), Equals("n.yaml:2: namespaces[0]: a list is not a map" + names));
  CHECK_THAT(error_of("namespaces: [ ~ ]\n"), Equals("n.yaml:1: namespaces[0]: nothing is not a map" + names));
  CHECK_THAT(error_of_entry("consistency: strict"), Equals("n.yaml:3: namespaces[1]: has no prefix" + names));
  CHECK_THAT(error_of_entry(""), Equals("n.yaml:3: namespaces[1]: has no prefix" + names));
}

TEST_CASE("a wrong value is reported with its own line, its place and what is allowed there") {
  CHECK_THAT(
      error_of("namespaces:\n- prefix: a\n- prefix: b\n  consistency: strict\n  l1_ttl: 5\n"),
      Equals("n.yaml:5: namespaces[1].l1_ttl: \"5\" has no unit; allowed: a number with its unit (ms, s, m or h), from "
             "1ms to 168h"));
  CHECK_THAT(error_of_field("consistency: eventual"),
             Equals("n.yaml:3: namespaces[1].consistency: \"eventual\" is not strict, causal, bounded or stale_ok; allowed: "
                    "strict, causal, bounded or stale_ok"));
  CHECK_THAT(
      error_of_field("max_staleness: 29ms"),
      Equals("n.yaml:3: namespaces[1].max_staleness: \"29ms\" is out of range; allowed: a number with its unit (ms, s, m "
             "or h), from 30ms to 60s"));
  CHECK_THAT(error_of("namespaces:\n- prefix: a\n  max_stale:\n  l1_ttl: 1s\n"),
             StartsWith("n.yaml:3: namespaces[0].max_stale: has no value; allowed: a number with its unit"));
  CHECK_THAT(error_of_field("l1_ttl: [1s]"), StartsWith("n.yaml:3: namespaces[1].l1_ttl: a list is not a duration"));
  CHECK_THAT(error_of_field("consistency: {}"), StartsWith("n.yaml:3: namespaces[1].consistency: a map is not strict, "));
}

TEST_CASE("in a namespace both ends of each range are allowed, one step beyond is not") {
  struct Case {
    const char* name;
    std::vector<const char*> allowed;
    std::vector<const char*> refused;
  };
  const std::vector<Case> cases{
      {"max_staleness", {"30ms", "1m", "60s"}, {"29ms", "0s", "60001ms", "1h", "-1s", "1", "auto"}},
      {"max_stale", {"1ms", "168h"}, {"0s", "169h", "7d", "off"}},
      {"l1_ttl", {"1ms", "168h"}, {"0ms", "169h", "inf"}},
      {"compression", {"none", "lz4", "zstd"}, {"", "gzip", "ZSTD", "true", "0"}},
      {"compression_min_bytes", {"64", "1MB", "1048576"}, {"63", "0", "1048577", "2MB", "auto", "-1"}},
      {"compression_dictionary", {"true", "false"}, {"", "on", "1"}},
      {"durability", {"immediate", "deferred", "eventual"}, {"", "Deferred", "none", "1"}},
      {"write_priority", {"high", "normal", "low"}, {"", "urgent", "HIGH", "0"}},
      {"consistency", {"strict", "stale_ok"}, {"", "Strict", "stale", "0"}},
  };
  for (const Case& row : cases) {
    for (const char* text : row.allowed) {
      CAPTURE(row.name, text);
      CHECK(error_of_field(std::string(row.name) + ": " + text) == "");
    }
    for (const char* text : row.refused) {
      CAPTURE(row.name, text);
      CHECK_THAT(error_of_field(std::string(row.name) + ": '" + text + "'"),
                 StartsWith("n.yaml:3: namespaces[1]." + std::string(row.name) + ": "));
    }
  }
}

TEST_CASE("a prefix has 1 to 1024 bytes") {
  CHECK(error_of_entry("prefix: '" + std::string(1024, 'p') + "'").empty());
  CHECK_THAT(error_of_entry("prefix: '" + std::string(1025, 'p') + "'"),
             StartsWith("n.yaml:3: namespaces[1].prefix: \"ppp") && Contains("longer than 1KB; allowed: 1 to 1024 bytes"));
  CHECK_THAT(error_of_entry("prefix: ''"), StartsWith("n.yaml:3: namespaces[1].prefix: \"\" is every key"));
  CHECK_THAT(error_of_entry("prefix: ~"), StartsWith("n.yaml:3: namespaces[1].prefix: has no value"));
  CHECK_THAT(error_of_entry("prefix: [a]"), StartsWith("n.yaml:3: namespaces[1].prefix: a list is not text"));
}

TEST_CASE("a prefix is there once; one inside another is another") {
  CHECK_THAT(
      error_of("namespaces:\n- prefix: a\n- prefix: b\n- consistency: strict\n  prefix: a\n"),
      Equals("n.yaml:5: namespaces[2].prefix: \"a\" is given twice, before in namespaces[0]; allowed: 1 to 1024 bytes, "
             "each prefix once"));
  CHECK(loaded("namespaces: [ {prefix: a}, {prefix: aa}, {prefix: A} ]").size() == 3);
}

TEST_CASE("a name given twice in one entry is an error with both lines") {
  CHECK_THAT(error_of("namespaces:\n- prefix: a\n  l1_ttl: 1s\n  l1_ttl: 2s\n"),
             StartsWith("n.yaml:4: namespaces.l1_ttl: given twice, before in line 3; allowed: once"));
}

TEST_CASE("what a namespace does not have is unknown, and the nearest name is said") {
  CHECK_THAT(error_of("namespaces:\n- prefix: a\n  l1_tl: 5s\n"),
             Equals("n.yaml:3: namespaces[0]: unknown key \"l1_tl\"; the nearest known key is l1_ttl; allowed: prefix, "
                    "consistency, max_staleness, max_stale, l1_ttl, compression, "
                    "compression_min_bytes, compression_dictionary, durability, write_priority"));
  CHECK_THAT(error_of_entry("prefx: a"), Contains("unknown key \"prefx\"; the nearest known key is prefix"));
  CHECK_THAT(error_of_field("consistancy: strict"), Contains("nearest known key is consistency"));
  CHECK_THAT(error_of_field("max_stalness: 1s"), Contains("nearest known key is max_stal"));
  for (const char* name : {"default_ttl", "jitter", "compress", "ttl", "tags", "bus", "Prefix", "''"}) {
    CAPTURE(name);
    CHECK_THAT(error_of_field(std::string(name) + ": 10s"), StartsWith("n.yaml:3: namespaces[1]: unknown key \""));
  }
  CHECK_THAT(error_of_field(std::string(1000, 'x') + ": 1"), Contains("nearest known key"));
}

TEST_CASE("the list is bounded by what the policies take") {
  const auto many = [](std::size_t count) {
    std::string text = "namespaces:\n";
    for (std::size_t i = 0; i < count; ++i) text += "- prefix: p" + std::to_string(i) + "\n";
    return text;
  };
  CHECK(loaded(many(1024)).size() == 1024);
  CHECK_THAT(error_of(many(1025)),
             StartsWith("n.yaml:2: namespaces: the list is longer than 1024; allowed: up to 1024 maps"));
}

TEST_CASE("after an error the namespaces are as they were") {
  Configuration configuration;
  load_text(configuration, "namespaces: [ {prefix: a} ]", "n.yaml");
  CHECK_FALSE(message_of<ConfigError>([&] {
                load_text(configuration, "namespaces: [ {prefix: b}, {prefix: c, l1_ttl: 0s} ]", "n.yaml");
              }).empty());
  REQUIRE(configuration.settings.namespaces.size() == 1);
  CHECK(configuration.settings.namespaces[0].prefix == "a");
}

TEST_CASE("what is printed reads back the same, whatever bytes a prefix has") {
  std::string all;
  for (int byte = 0; byte < 0x80; ++byte) all += static_cast<char>(byte);
  const std::vector<std::string> prefixes{all, "null", "~", "a: b",         "- x",      "\"", "'",
                                          "{", "[a]",  "#", "j\xC3\xB6rg:", "\xff\x80", " "};
  Settings settings;
  for (const std::string& prefix : prefixes) {
    Namespace own;
    own.prefix = prefix;
    settings.namespaces.push_back(own);
  }
  settings.namespaces[0].consistency = Consistency::kCausal;
  settings.namespaces[1].max_staleness = milliseconds{1500};
  settings.namespaces[2].max_stale = milliseconds{604'800'000};
  settings.namespaces[3].l1_ttl = milliseconds{1};
  settings.namespaces[4].durability = tiers::Durability::kEventual;
  settings.namespaces[5].write_priority = tiers::write_behind::Priority::kHigh;
  settings.upstream.url.endpoints = {{"h", 1}};
  const std::string printed = print_config(settings);
  Configuration again;
  load_text(again, printed, "n.yaml");
  REQUIRE(again.settings.namespaces.size() == prefixes.size());
  for (std::size_t i = 0; i < prefixes.size(); ++i) CHECK(again.settings.namespaces[i].prefix == prefixes[i]);
  CHECK(again.settings.namespaces[0].consistency == Consistency::kCausal);
  CHECK(again.settings.namespaces[1].max_staleness == milliseconds{1500});
  CHECK(again.settings.namespaces[2].max_stale == milliseconds{604'800'000});
  CHECK(again.settings.namespaces[3].l1_ttl == milliseconds{1});
  CHECK(again.settings.namespaces[4].durability == tiers::Durability::kEventual);
  CHECK(again.settings.namespaces[5].write_priority == tiers::write_behind::Priority::kHigh);
  CHECK(print_config(again.settings) == printed);
}

TEST_CASE("each name is described, and says where its default is") {
  REQUIRE(namespace_fields().size() == 10);
  for (const NamespaceField& field : namespace_fields()) {
    CAPTURE(field.name);
    CHECK_FALSE(field.allowed.empty());
    CHECK(field.description.ends_with('.'));
    CHECK(field.print(Namespace{}) == "");
    if (field.name != "prefix") CHECK(find_key(field.otherwise) != nullptr);
  }
}

}  // namespace
}  // namespace nearcached::config
