// Packed replies in the store: the compressor's tests say what they hold, these where they lie.
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "tests/unit/tiers/l1/json_values.hpp"
#include "tests/unit/tiers/l1/support.hpp"
#include "tiers/l1/compressor.hpp"
#include "tiers/l1/store.hpp"

namespace nearcached::tiers::l1 {
namespace {

using testing::bulk;
using testing::json_value;
using testing::key_ref;
using testing::kLater;
using testing::kNow;

struct Bench {
  explicit Bench(CompressionPolicy policy = {Compression::kLz4, 64, false}, std::size_t max_bytes = 4u << 20,
                 std::size_t max_item_bytes = 100 * 1024)
      : compressor({{policy}, 0}), store(Options{.max_bytes = max_bytes, .max_item_bytes = max_item_bytes, .shards = 1}) {}

  InstallResult put(const std::string& key, const std::string& variant, const std::string& reply) {
    return store.install(key_ref(key), variant, compressor.pack(0, reply), Stamp{}, kLater, kNow, [] { return true; });
  }
  // Nothing if it is not kept.
  std::optional<std::string> get(const std::string& key, const std::string& variant = {}) {
    const Store::ReadGuard guard(store);
    const Entry* const entry = store.find(key_ref(key));
    const auto stored = entry == nullptr ? std::nullopt : entry->reply(variant);
    std::string plain;
    if (!stored) return std::nullopt;
    REQUIRE(compressor.unpack(*stored, plain));
    return plain;
  }

  Compressor compressor;
  Store store;
};

TEST_CASE("a packed reply is found by GET alone, and takes less", "[store]") {
  Bench b;
  const std::string reply = bulk(json_value(1, 4000));
  REQUIRE(b.put("key", "", reply) == InstallResult::kInstalled);
  CHECK(b.get("key") == reply);
  CHECK_FALSE(b.get("key", "strlen"));
  const Store::ReadGuard guard(b.store);
  const Entry* const entry = b.store.find(key_ref("key"));
  CHECK(entry->reply({})->packed);
  CHECK(entry->reply({})->bytes.size() < reply.size() * 3 / 4);
  CHECK(entry->replies().left() == 1);
  CHECK(entry->expires_at_ms() == kLater);
}

TEST_CASE("reads of one key are packed or plain side by side, and a merge keeps them all", "[store]") {
  Bench b;
  std::map<std::string, std::string> kept;
  for (std::uint32_t i = 0; i < 40; ++i) {
    const std::string variant = i == 0 ? "" : "lrange " + std::to_string(i);
    const std::string reply = i % 3 == 1 ? ":" + std::to_string(i) + "\r\n" : bulk(json_value(i, 100 * (i + 1)));
    kept[variant] = reply;
    REQUIRE(b.put("key", variant, reply) == InstallResult::kInstalled);
    for (const auto& [name, expected] : kept) REQUIRE(b.get("key", name) == expected);
  }
  // The same read again takes the older one's place, packed for plain and plain for packed.
  for (const auto& [variant, reply] :
       std::map<std::string, std::string>{{"", ":1\r\n"}, {"lrange 1", bulk(json_value(9, 3000))}}) {
    REQUIRE(b.put("key", variant, reply) == InstallResult::kInstalled);
    kept[variant] = reply;
    for (const auto& [name, expected] : kept) REQUIRE(b.get("key", name) == expected);
  }
  CHECK(b.store.stats().items == 1);
}

TEST_CASE("the limit of one item is that of the plain replies", "[store]") {
  Bench b({Compression::kLz4, 64, false}, 8u << 20, 10'000);
  CHECK(b.put("key", "", "*" + std::string(9'996, 'a')) == InstallResult::kInstalled);
  CHECK(b.put("key", "", "*" + std::string(9'997, 'a')) == InstallResult::kTooLarge);
  CHECK_FALSE(b.get("key"));
  // Two that are too large together, small as they are when they are packed: the older goes.
  REQUIRE(b.put("two", "a", "*" + std::string(5'000, 'a')) == InstallResult::kInstalled);
  REQUIRE(b.put("two", "b", "*" + std::string(5'000, 'a')) == InstallResult::kInstalled);
  CHECK_FALSE(b.get("two", "a"));
  CHECK(b.get("two", "b"));
}

TEST_CASE("wide entries hold packed replies too", "[store]") {
  Bench b;
  const std::string reply = bulk(json_value(1, 4000));
  const StoredReply stored = b.compressor.pack(0, reply);
  REQUIRE(b.store.install(key_ref("key", 7), "", stored, Stamp{}, kLater, kNow, [] { return true; }) ==
          InstallResult::kInstalled);
  const Store::ReadGuard guard(b.store);
  std::string plain;
  REQUIRE(b.compressor.unpack(*b.store.find(key_ref("key", 7))->reply({}), plain));
  CHECK(plain == reply);
  CHECK(b.store.find(key_ref("key", 0)) == nullptr);
}

TEST_CASE("more entries fit into the same bytes, and the budget counts what is really held", "[store]") {
  const auto items = [](CompressionPolicy policy) {
    Bench b(policy, 2u << 20);
    for (std::uint32_t i = 0; i < 6000; ++i) b.put("key:" + std::to_string(i), "", bulk(json_value(i, 1000)));
    CHECK(b.store.stats().bytes <= 2u << 20);
    return b.store.stats().items;
  };
  const std::size_t plain = items({});
  CHECK(items({Compression::kLz4, 1000, false}) > plain * 5 / 4);
  CHECK(items({Compression::kZstd, 1000, false}) > plain * 3 / 2);
}

TEST_CASE("of what is packed, replaced, merged and erased at random nothing is ever lost or mixed up", "[store]") {
  for (const Compression algorithm : {Compression::kLz4, Compression::kZstd}) {
    Bench b({algorithm, 64, false}, 1u << 20, 20'000);
    std::minstd_rand random(11);
    std::map<std::pair<std::string, std::string>, std::string> truth;
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      const std::string key = "key:" + std::to_string(random() % 200);
      const std::string variant = random() % 2 == 0 ? "" : "hget " + std::to_string(random() % 5);
      if (random() % 50 == 0) {
        b.store.erase(hash_key(key), Removal::kInvalidated);
        REQUIRE_FALSE(b.get(key, variant));
        continue;
      }
      const std::string reply = bulk(json_value(i, random() % 3000));
      if (b.put(key, variant, reply) == InstallResult::kInstalled) truth[{key, variant}] = reply;
      const std::string read_key = "key:" + std::to_string(random() % 200);
      const std::string read_variant = random() % 2 == 0 ? "" : "hget " + std::to_string(random() % 5);
      const auto found = b.get(read_key, read_variant);
      if (found) REQUIRE(*found == (truth[{read_key, read_variant}]));
    }
  }
}

}  // namespace
}  // namespace nearcached::tiers::l1
