// Several reads of one key in one entry: what merges with what, for how long, and within which bounds.
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "support.hpp"
#include "tiers/l1/shard.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

constexpr Stamp kStamp{.generation = 7, .slot_epoch = 9, .link = 3, .slot = 16383};

std::int64_t expiry_of(Store& store, std::string_view key) {
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref(key));
  return entry == nullptr ? 0 : entry->expires_at_ms();
}

std::size_t kept(Store& store, std::string_view key) {
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref(key));
  return entry == nullptr ? 0 : entry->replies().left();
}

}  // namespace

TEST_CASE("a plain entry is 38 bytes, the key and the reply, in this order") {
  Store store(Options{});
  put(store, "key", "reply");
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref("key"));
  REQUIRE(entry != nullptr);
  CHECK(entry->key().data() - reinterpret_cast<const char*>(entry) == 38);
  CHECK(entry->reply({})->bytes.data() == entry->key().data() + 3);
  CHECK_FALSE(entry->reply("strlen"));
  CHECK(entry->replies().left() == 1);
}

TEST_CASE("reads of one key share an entry, and each finds its own reply only") {
  Store store(Options{});
  CHECK(put_variant(store, "key", "strlen", ":5\r\n", kStamp) == InstallResult::kInstalled);
  CHECK_FALSE(get_variant(store, "key", ""));
  CHECK(put_variant(store, "key", "", "$5\r\nvalue\r\n", kStamp) == InstallResult::kInstalled);
  CHECK(put_variant(store, "key", "getrange 1:0 1:1", "$2\r\nva\r\n", kStamp) == InstallResult::kInstalled);
  CHECK(get_variant(store, "key", "") == "$5\r\nvalue\r\n");
  CHECK(get_variant(store, "key", "strlen") == ":5\r\n");
  CHECK(get_variant(store, "key", "getrange 1:0 1:1") == "$2\r\nva\r\n");
  CHECK_FALSE(get_variant(store, "key", "getrange 1:0 1:2"));
  CHECK_FALSE(get_variant(store, "key", "exists"));
  CHECK(store.stats().items == 1);
  CHECK(store.stats().installs == 3);
  const Store::ReadGuard guard(store);
  CHECK(store.find(key_ref("key"))->stamp() == kStamp);
  CHECK(store.find(key_ref("key"))->expires_at_ms() == kLater);
}

TEST_CASE("one erasure drops all reads of the key") {
  for (int way = 0; way < 3; ++way) {
    Store store(Options{});
    put_variant(store, "key", "", "v");
    put_variant(store, "key", "strlen", ":1\r\n");
    if (way == 0) CHECK(store.erase(hash_key("key"), Removal::kInvalidated) == 1);
    if (way == 1) CHECK(store.erase(hash_key("key"), "key", Removal::kInvalidated) == 1);
    if (way == 2) CHECK(store.erase(key_ref("key"), Removal::kInvalidated));
    CHECK(kept(store, "key") == 0);
    // And it leaves nothing to merge with.
    put_variant(store, "key", "strlen", ":2\r\n");
    CHECK(kept(store, "key") == 1);
  }
}

TEST_CASE("the same read again replaces its own reply alone") {
  Store store(Options{});
  put_variant(store, "key", "", "old");
  put_variant(store, "key", "strlen", ":3\r\n");
  put_variant(store, "key", "", "newer");
  CHECK(get_variant(store, "key", "") == "newer");
  CHECK(get_variant(store, "key", "strlen") == ":3\r\n");
  CHECK(kept(store, "key") == 2);
}

TEST_CASE("a reply that stands on anything else is alone") {
  std::vector<Stamp> others(4, kStamp);
  ++others[0].generation;
  ++others[1].slot_epoch;
  ++others[2].link;
  ++others[3].slot;
  for (const Stamp& other : others) {
    Store store(Options{});
    put_variant(store, "key", "", "v", kStamp);
    put_variant(store, "key", "strlen", ":1\r\n", kStamp);
    put_variant(store, "key", "exists", ":1\r\n", other);
    CHECK(kept(store, "key") == 1);
    CHECK(get_variant(store, "key", "exists") == ":1\r\n");
    // Not even the older stamp brings the older replies back.
    put_variant(store, "key", "type", "+string\r\n", kStamp);
    CHECK(kept(store, "key") == 1);
  }
}

TEST_CASE("realms do not merge") {
  Store store(Options{});
  const auto yes = [] { return true; };
  REQUIRE(store.install(key_ref("key", 1), "strlen", ":1\r\n", kStamp, kLater, kNow, yes) == InstallResult::kInstalled);
  REQUIRE(store.install(key_ref("key", 2), "", "v", kStamp, kLater, kNow, yes) == InstallResult::kInstalled);
  REQUIRE(store.install(key_ref("key", 2), "exists", ":1\r\n", kStamp, kLater, kNow, yes) == InstallResult::kInstalled);
  const Store::ReadGuard guard(store);
  CHECK(store.find(key_ref("key", 1))->replies().left() == 1);
  CHECK(store.find(key_ref("key", 2))->replies().left() == 2);
  CHECK_FALSE(store.find(key_ref("key", 2))->reply("strlen"));
  CHECK(store.find(key_ref("key", 2))->realm() == 2);
}

TEST_CASE("an entry with an older reply expires when the first of them does") {
  Store store(Options{});
  put_variant(store, "early first", "", "v", kStamp, kNow + 100);
  put_variant(store, "early first", "strlen", ":1\r\n", kStamp, kNow + 900);
  CHECK(expiry_of(store, "early first") == kNow + 100);
  put_variant(store, "late first", "", "v", kStamp, kNow + 900);
  put_variant(store, "late first", "strlen", ":1\r\n", kStamp, kNow + 100);
  CHECK(expiry_of(store, "late first") == kNow + 100);
  // Nothing of the older is left that would bind it.
  put_variant(store, "replaced", "strlen", ":1\r\n", kStamp, kNow + 100);
  put_variant(store, "replaced", "strlen", ":1\r\n", kStamp, kNow + 900);
  CHECK(expiry_of(store, "replaced") == kNow + 900);
}

TEST_CASE("what has expired is not taken along, to the millisecond") {
  Store store(Options{});
  put_variant(store, "key", "", "v", kStamp, kNow + 100);
  put_variant(store, "key", "strlen", ":1\r\n", kStamp, kLater, kNow + 99);
  CHECK(kept(store, "key") == 2);
  put_variant(store, "key", "exists", ":1\r\n", kStamp, kLater, kNow + 100);
  CHECK(kept(store, "key") == 1);
  CHECK(expiry_of(store, "key") == kLater);
}

TEST_CASE("the largest expiry survives beside the variants' bit, in a wide entry too") {
  Store store(Options{});
  for (const std::uint32_t realm : {0u, 1u}) {
    for (const char* variant : {"", "strlen"}) {
      store.erase(hash_key("key"), Removal::kInvalidated);
      store.install(key_ref("key", realm), variant, "v", kStamp, INT64_MAX, kNow, [] { return true; });
      const Store::ReadGuard guard(store);
      const Entry* const entry = store.find(key_ref("key", realm));
      REQUIRE(entry != nullptr);
      CHECK(entry->expires_at_ms() == (std::int64_t{1} << 38) - 1);
      CHECK(entry->reply(variant) == "v");
      CHECK_FALSE(entry->reply(*variant == 0 ? "strlen" : ""));
    }
  }
}

TEST_CASE("a predicate that says no leaves the older replies as they were") {
  Store store(Options{});
  put_variant(store, "key", "", "v");
  put_variant(store, "key", "strlen", ":1\r\n");
  CHECK(store.install(key_ref("key"), "strlen", ":9\r\n", Stamp{}, kNow + 1, kNow, [] { return false; }) ==
        InstallResult::kNotCurrent);
  CHECK(get_variant(store, "key", "") == "v");
  CHECK(get_variant(store, "key", "strlen") == ":1\r\n");
  CHECK(expiry_of(store, "key") == kLater);
}

TEST_CASE("a reply that may not be kept takes all others of its key with it") {
  Store store(Options{.max_item_bytes = 1000});
  put_variant(store, "key", "", "v");
  put_variant(store, "key", "strlen", ":1\r\n");
  CHECK(put_variant(store, "key", "lrange", std::string(1000 - 3 - 6 + 1, 'v')) == InstallResult::kTooLarge);
  CHECK(kept(store, "key") == 0);
  put_variant(store, "key", "", "v");
  put_variant(store, "key", "strlen", ":1\r\n");
  CHECK(put_variant(store, "key", "exists", ":1\r\n", {}, kNow, kNow) == InstallResult::kRefused);
  CHECK(kept(store, "key") == 0);
}

TEST_CASE("the oldest replies go so that key, names and replies stay within an item's bytes") {
  Store store(Options{.max_item_bytes = 1000});
  put_variant(store, "key", "a", std::string(99, 'a'));
  put_variant(store, "key", "b", std::string(99, 'b'));
  put_variant(store, "key", "c", std::string(1000 - 3 - 200 - 1, 'c'));
  CHECK(kept(store, "key") == 3);
  put_variant(store, "key", "c", std::string(1000 - 3 - 200, 'c'));
  CHECK(kept(store, "key") == 2);
  CHECK_FALSE(get_variant(store, "key", "a"));
  CHECK(get_variant(store, "key", "b"));
  CHECK(put_variant(store, "key", "d", std::string(1000 - 3 - 1, 'd')) == InstallResult::kInstalled);
  CHECK(kept(store, "key") == 1);
  CHECK(get_variant(store, "key", "d") == std::string(996, 'd'));
}

TEST_CASE("of more than 64 reads the oldest go, by installation and not by use") {
  Store store(Options{});
  for (std::size_t i = 0; i < kVariantsMax; ++i) put_variant(store, "key", "v" + std::to_string(i), std::to_string(i));
  CHECK(get_variant(store, "key", "v0") == "0");
  put_variant(store, "key", "v1", "again");
  CHECK(kept(store, "key") == kVariantsMax);
  put_variant(store, "key", "", "GET");
  CHECK_FALSE(get_variant(store, "key", "v0"));
  CHECK(get_variant(store, "key", "v1") == "again");
  put_variant(store, "key", "another", "reply");
  CHECK_FALSE(get_variant(store, "key", "v2"));
  CHECK(get_variant(store, "key", "v3") == "3");
  CHECK(get_variant(store, "key", "") == "GET");
  CHECK(kept(store, "key") == kVariantsMax);
}

TEST_CASE("keys, names and replies of any length survive side by side") {
  Store store(Options{.max_item_bytes = 1 << 20, .shards = 1});
  for (const std::size_t length : {0u, 1u, 65535u, 65536u, 70000u}) {
    const std::string key(length, 'k');
    const std::string name(length, 'n');
    const std::string binary("\0\r\n", 3);
    REQUIRE(put_variant(store, key, "", "") == InstallResult::kInstalled);
    REQUIRE(put_variant(store, key, name + "x", std::string(length, 'r')) == InstallResult::kInstalled);
    REQUIRE(put_variant(store, key, name + binary, binary) == InstallResult::kInstalled);
    REQUIRE(put_variant(store, key, binary + "x", "") == InstallResult::kInstalled);
    CHECK(get_variant(store, key, "") == "");
    CHECK(get_variant(store, key, name + "x") == std::string(length, 'r'));
    CHECK(get_variant(store, key, name + binary) == binary);
    CHECK(get_variant(store, key, binary + "x") == "");
    CHECK_FALSE(get_variant(store, key, name + "y"));
  }
}

TEST_CASE("a reader goes on in the entry that it found while others merge") {
  Store store(Options{});
  put_variant(store, "key", "", "v");
  put_variant(store, "key", "strlen", ":1\r\n");
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref("key"));
  for (int i = 0; i < 100; ++i) put_variant(store, "key", "strlen", ":" + std::to_string(i) + "\r\n");
  put_variant(store, "key", "exists", ":1\r\n");
  store.erase(hash_key("key"), Removal::kInvalidated);
  store.maintain(kNow, 1000, alive);
  CHECK(entry->reply("") == "v");
  CHECK(entry->reply("strlen") == ":1\r\n");
  CHECK_FALSE(entry->reply("exists"));
}

TEST_CASE("where room is made of the very entry to merge with, the new reply is installed alone") {
  Shard shard;
  shard.open({.bytes = 64 << 10, .soft_bytes = 64 << 10, .items = 0});
  const auto yes = [] { return true; };
  REQUIRE(shard.install(key_ref("key"), {"lrange", std::string(30 << 10, 'v')}, kStamp, kLater, kNow, yes) ==
          InstallResult::kInstalled);
  REQUIRE(shard.install(key_ref("key"), {"llen", ":1\r\n"}, kStamp, kLater - 1, kNow, yes) == InstallResult::kInstalled);
  const Entry* const entry = shard.find(key_ref("key"));
  REQUIRE(entry != nullptr);
  CHECK(entry->replies().left() == 1);
  CHECK(entry->reply("llen") == ":1\r\n");
  Stats stats;
  shard.add_to(stats);
  CHECK(stats.items == 1);
  CHECK(stats.removals[static_cast<int>(Removal::kEvicted)] == 1);
}

TEST_CASE("a use of any read is a use of the entry, and it goes as a whole") {
  Store store(Options{.max_bytes = 1 << 20, .soft_limit = 1.0, .shards = 1});
  int lost = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string name = "v" + std::to_string(i % 3);
    const std::size_t there = kept(store, "hot");
    REQUIRE((there == 0 || there == 3));
    if (there == 0) {
      ++lost;
      for (int v = 0; v < 3; ++v) put_variant(store, "hot", "v" + std::to_string(v), std::string(100, 'v'));
    }
    {
      const Store::ReadGuard guard(store);
      const Entry* const entry = store.find(key_ref("hot"));
      REQUIRE(entry->reply(name));
      Store::touch(*entry);
    }
    put_variant(store, "scan" + std::to_string(i), "strlen", std::string(100, 'v'));
  }
  // Once at the start, and where a growing index takes the room of many entries at one stroke.
  CHECK(lost <= 5);
}

TEST_CASE("merges of random size keep the budget at every step and agree with a model of what may be there") {
  constexpr std::size_t kMaxBytes = 1 << 20;
  Store store(Options{.max_bytes = kMaxBytes, .max_item_bytes = 20'000, .soft_limit = 1.0, .shards = 1});
  std::mt19937 random(5);
  std::map<std::string, std::map<std::string, std::string>> model;
  for (int i = 0; i < 40'000; ++i) {
    const std::string key = "key" + std::to_string(random() % 200);
    const std::string variant = random() % 4 == 0 ? "" : "variant" + std::to_string(random() % 100);
    if (random() % 50 == 0) {
      store.erase(hash_key(key), Removal::kInvalidated);
      model.erase(key);
      REQUIRE(kept(store, key) == 0);
    } else {
      const std::string reply = std::to_string(i) + std::string(random() % (random() % 20 == 0 ? 8000 : 300), 'v');
      REQUIRE(put_variant(store, key, variant, reply) == InstallResult::kInstalled);
      model[key][variant] = reply;
      REQUIRE(get_variant(store, key, variant) == reply);
    }
    REQUIRE(store.stats().bytes <= kMaxBytes);
    if (i % 100 != 0) continue;
    std::size_t content = 0;
    const Store::ReadGuard guard(store);
    const Entry* const entry = store.find(key_ref(key));
    if (entry == nullptr) continue;
    REQUIRE(entry->replies().left() <= kVariantsMax);
    for (VariantCursor cursor = entry->replies(); cursor.left() != 0;) {
      const Variant one = cursor.next();
      content += one.stored_bytes();
      REQUIRE(model.at(key).at(std::string(one.name)) == one.reply);
      REQUIRE(entry->reply(one.name) == one.reply);
    }
    REQUIRE(key.size() + content <= 20'000);
  }
  CHECK(store.stats().removals[static_cast<int>(Removal::kEvicted)] > 100);
}
