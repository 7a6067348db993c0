#include "config/policies.hpp"

#include <catch2/catch.hpp>

#include "config/loader.hpp"

namespace nearcached::config {
namespace {

using tiers::Consistency;
using tiers::Policies;
using tiers::Policy;

Policies policies_of(const std::string& text) {
  Configuration configuration;
  load_text(configuration, text, "n.yaml");
  return make_policies(configuration.settings);
}

void check(const Policy& policy, Consistency consistency, std::int64_t max_staleness_us, std::int64_t max_stale_us,
           std::int64_t l1_ttl_us) {
  CHECK(policy.consistency == consistency);
  CHECK(policy.max_staleness_us == max_staleness_us);
  CHECK(policy.max_stale_us == max_stale_us);
  CHECK(policy.l1_ttl_us == l1_ttl_us);
}

TEST_CASE("defaults are bounded, a second, and five minutes in L1") {
  const Policies policies = policies_of("");
  check(policies.of("a"), Consistency::kBounded, 1'000'000, 60'000'000, 300'000'000);
  CHECK(policies.otherwise().prefix.empty());
  CHECK(policies.namespaces().empty());
}

TEST_CASE("keys without a namespace have what coherence and l1 say") {
  const Policies policies = policies_of(
      "coherence: { consistency: stale_ok, max_staleness: 30ms, max_stale: 168h }\nl1: { ttl: 168h }\nnamespaces: [{prefix: "
      "x}]");
  check(policies.of("a"), Consistency::kStaleOk, 30'000, 604'800'000'000, 604'800'000'000);
}

TEST_CASE("a namespace takes from coherence and l1 exactly what it does not give, not from a shorter prefix") {
  const Policies policies = policies_of(R"(
coherence: { consistency: causal, max_staleness: 2s, max_stale: 30s }
l1: { ttl: 10s }
namespaces:
  - { prefix: "a:b:", max_stale: 1h }
  - { prefix: "a:", consistency: strict, max_staleness: 100ms, max_stale: 5s, l1_ttl: 1ms }
  - { prefix: "c:", consistency: bounded }
  - { prefix: "d:", max_staleness: 60s }
  - { prefix: "e:", l1_ttl: 20s }
)");
  check(policies.of("x"), Consistency::kCausal, 2'000'000, 30'000'000, 10'000'000);
  check(policies.of("a:x"), Consistency::kStrict, 100'000, 5'000'000, 1'000);
  check(policies.of("a:b:x"), Consistency::kCausal, 2'000'000, 3'600'000'000, 10'000'000);
  check(policies.of("c:x"), Consistency::kBounded, 2'000'000, 30'000'000, 10'000'000);
  check(policies.of("d:x"), Consistency::kCausal, 60'000'000, 30'000'000, 10'000'000);
  check(policies.of("e:x"), Consistency::kCausal, 2'000'000, 30'000'000, 20'000'000);
  CHECK(policies.max_staleness_min_us() == 100'000);
}

TEST_CASE("nothing is compressed unless it is asked for, and a namespace differs in what it gives") {
  using tiers::l1::Compression;
  const auto check_compression = [](const Policy& policy, Compression algorithm, std::size_t min_bytes, bool dictionary) {
    CHECK(policy.compression.algorithm == algorithm);
    CHECK(policy.compression.min_bytes == min_bytes);
    CHECK(policy.compression.dictionary == dictionary);
  };
  check_compression(policies_of("").of("a"), Compression::kNone, 1024, false);
  const Policies policies = policies_of(R"(
l1: { compression: { algorithm: lz4, min_bytes: 2KB, dictionary: true } }
namespaces:
  - { prefix: "plain:", compression: none }
  - { prefix: "z:", compression: zstd }
  - { prefix: "large:", compression_min_bytes: 1MB, compression_dictionary: false }
)");
  check_compression(policies.of("a"), Compression::kLz4, 2048, true);
  check_compression(policies.of("plain:a"), Compression::kNone, 2048, true);
  check_compression(policies.of("z:a"), Compression::kZstd, 2048, true);
  check_compression(policies.of("large:a"), Compression::kLz4, 1 << 20, false);
  // By their numbers, in which order they stand.
  const auto all = policies.compression();
  REQUIRE(all.size() == 4);
  for (const char* key : {"a", "plain:a", "z:a", "large:a"}) {
    CHECK(all[policies.of(key).number].algorithm == policies.of(key).compression.algorithm);
    CHECK(all[policies.of(key).number].min_bytes == policies.of(key).compression.min_bytes);
  }
}

TEST_CASE(
    "writes are answered by the upstream unless something else is asked for, and a namespace differs in what it gives") {
  using tiers::Durability;
  using tiers::write_behind::Priority;
  const auto check_writes = [](const Policy& policy, Durability durability, Priority priority) {
    CHECK(policy.durability == durability);
    CHECK(policy.priority == priority);
  };
  check_writes(policies_of("").of("a"), Durability::kImmediate, Priority::kNormal);
  const Policies policies = policies_of(R"(
write_behind: { enabled: true, log_dir: /l, durability: eventual, priority: low }
namespaces:
  - { prefix: "s:", durability: deferred }
  - { prefix: "s:now:", durability: immediate, write_priority: high }
  - { prefix: "n:", write_priority: normal }
)");
  check_writes(policies.of("a"), Durability::kEventual, Priority::kLow);
  check_writes(policies.of("s:a"), Durability::kDeferred, Priority::kLow);
  check_writes(policies.of("s:now:a"), Durability::kImmediate, Priority::kHigh);
  check_writes(policies.of("n:a"), Durability::kEventual, Priority::kNormal);
}

TEST_CASE("defaults that come later, or from elsewhere, are those that hold") {
  Configuration configuration;
  load_text(configuration, "namespaces: [{prefix: a}]\ncoherence: { max_staleness: 3s }\n", "n.yaml");
  configuration.assign(*find_key("coherence.max_staleness"), Value::scalar("4s"), {"--set", 0});
  CHECK(make_policies(configuration.settings).of("a").max_staleness_us == 4'000'000);
}

}  // namespace
}  // namespace nearcached::config
