#include "tiers/l1/store.hpp"

#include <malloc.h>

#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

// Counted by walking all entries and asking the allocator, not by the store's own sums.
struct Recount {
  std::size_t entry_bytes = 0;
  std::size_t items = 0;
};

Recount recount(Store& store) {
  Recount sum;
  // The first call ends the round that is under way, so that the second starts at the beginning.
  store.maintain(0, 100'000'000, alive);
  store.maintain(0, 100'000'000, [&](const Entry& entry) {
    sum.entry_bytes += malloc_usable_size(const_cast<Entry*>(&entry)) + 8;
    ++sum.items;
    return false;
  });
  return sum;
}

}  // namespace

TEST_CASE("options out of range are named") {
  CHECK(Options{}.validate().empty());
  CHECK(Options{.max_bytes = 1000}.validate().find("max_bytes") == 0);
  CHECK(Options{.max_item_bytes = 0}.validate().find("max_item_bytes") == 0);
  CHECK(Options{.soft_limit = 0.05}.validate().find("soft_limit") == 0);
  CHECK(Options{.soft_limit = 1.01}.validate().find("soft_limit") == 0);
  CHECK(Options{.shards = 3}.validate().find("shards") == 0);
  CHECK(Options{.shards = 0}.validate().find("shards") == 0);
  CHECK(Options{.shards = 2048}.validate().find("shards") == 0);
}

TEST_CASE("an entry gives back what was installed") {
  Store store(Options{});
  const Stamp stamp{.generation = 7, .slot_epoch = 9, .link = 3, .slot = 16383};
  REQUIRE(store.install(key_ref("key"), {}, "$5\r\nvalue\r\n", stamp, 123'456'789'012, kNow, [] { return true; }) ==
          InstallResult::kInstalled);
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref("key"));
  REQUIRE(entry != nullptr);
  CHECK(entry->key() == "key");
  CHECK(entry->reply({}) == "$5\r\nvalue\r\n");
  CHECK(entry->realm() == 0);
  CHECK(entry->expires_at_ms() == 123'456'789'012);
  CHECK(entry->stamp().generation == 7);
  CHECK(entry->stamp().slot_epoch == 9);
  CHECK(entry->stamp().link == 3);
  CHECK(entry->stamp().slot == 16383);
  CHECK(store.find(key_ref("other")) == nullptr);
}

TEST_CASE("lengths and realms at the edges of the narrow header survive") {
  Store store(Options{.max_item_bytes = 1 << 20, .shards = 1});
  for (const std::size_t length : {0u, 1u, 65534u, 65535u, 65536u, 70000u}) {
    for (const std::uint32_t realm : {0u, 1u, 0xFFFFFFFFu}) {
      const std::string key(length, 'k');
      const std::string reply = "reply of " + std::to_string(length) + " in " + std::to_string(realm);
      REQUIRE(put(store, key, reply, realm) == InstallResult::kInstalled);
      CHECK(get(store, key, realm) == reply);
    }
  }
  CHECK(put(store, "empty", "") == InstallResult::kInstalled);
}

TEST_CASE("an expiry beyond what an entry can hold ends early, never late") {
  Store store(Options{});
  REQUIRE(put(store, "key", "reply", 0, INT64_MAX) == InstallResult::kInstalled);
  const Store::ReadGuard guard(store);
  CHECK(store.find(key_ref("key"))->expires_at_ms() == (std::int64_t{1} << 38) - 1);
}

TEST_CASE("realms hold one key apart, and erasing the key drops it in all of them") {
  Store store(Options{});
  put(store, "key", "zero", 0);
  put(store, "key", "one", 1);
  put(store, "key", "two", 2);
  CHECK(get(store, "key", 0) == "zero");
  CHECK(get(store, "key", 1) == "one");
  CHECK(store.stats().items == 3);
  CHECK(store.erase(key_ref("key", 1), Removal::kInvalidated));
  CHECK_FALSE(store.erase(key_ref("key", 1), Removal::kInvalidated));
  CHECK(get(store, "key", 1).empty());
  CHECK(get(store, "key", 2) == "two");
  CHECK(store.erase(hash_key("key"), "key", Removal::kInvalidated) == 2);
  CHECK(get(store, "key", 0).empty());
  CHECK(get(store, "key", 2).empty());
  CHECK(store.stats().items == 0);
  CHECK(store.stats().removals[static_cast<int>(Removal::kInvalidated)] == 3);
}

TEST_CASE("a hash alone drops its key in all realms") {
  Store store(Options{});
  put(store, "key", "zero", 0);
  put(store, "key", "one", 1);
  put(store, "other", "other");
  CHECK(store.erase(hash_key("key"), Removal::kInvalidated) == 2);
  CHECK(get(store, "key", 0).empty());
  CHECK(get(store, "key", 1).empty());
  CHECK(get(store, "other") == "other");
}

TEST_CASE("a newer reply replaces the older one in place") {
  Store store(Options{});
  put(store, "key", "old");
  CHECK(put(store, "key", "new and longer than before") == InstallResult::kInstalled);
  CHECK(get(store, "key") == "new and longer than before");
  const Stats stats = store.stats();
  CHECK(stats.items == 1);
  CHECK(stats.installs == 2);
  CHECK(stats.removals[static_cast<int>(Removal::kReplaced)] == 1);
}

TEST_CASE("what a guard has found stays whole while the guard lasts") {
  Store store(Options{});
  put(store, "key", "the first value");
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref("key"));
  REQUIRE(entry != nullptr);
  put(store, "key", "the second value");
  store.erase(hash_key("key"), "key", Removal::kInvalidated);
  for (int i = 0; i < 100; ++i) put(store, "other" + std::to_string(i), "the first valuE");
  store.maintain(kNow, 1000, alive);
  CHECK(entry->reply({}) == "the first value");
  CHECK(entry->key() == "key");
}

TEST_CASE("a predicate that says no installs nothing and leaves what is there") {
  Store store(Options{});
  int asked = 0;
  const auto no = [&] {
    ++asked;
    return false;
  };
  CHECK(store.install(key_ref("key"), {}, "reply", Stamp{}, kLater, kNow, no) == InstallResult::kNotCurrent);
  CHECK(asked == 1);
  CHECK(get(store, "key").empty());
  put(store, "key", "newer");
  CHECK(store.install(key_ref("key"), {}, "older", Stamp{}, kLater, kNow, no) == InstallResult::kNotCurrent);
  CHECK(get(store, "key") == "newer");
  CHECK(store.stats().items == 1);
}

TEST_CASE("too large is over the item limit or over a tenth of the budget, and leaves no older entry behind") {
  Store by_limit(Options{.max_item_bytes = 1000});
  CHECK(put(by_limit, "key", std::string(997, 'v')) == InstallResult::kInstalled);
  CHECK(put(by_limit, "key", std::string(998, 'v')) == InstallResult::kTooLarge);
  CHECK(get(by_limit, "key").empty());
  CHECK(by_limit.stats().items == 0);
  CHECK(by_limit.stats().too_large == 1);

  Store by_budget(Options{.max_bytes = 1 << 20, .max_item_bytes = 1 << 20});
  CHECK(put(by_budget, "key", std::string((1 << 20) / 10 - 3, 'v')) == InstallResult::kInstalled);
  CHECK(put(by_budget, "key", std::string((1 << 20) / 10 - 2, 'v')) == InstallResult::kTooLarge);
  CHECK(get(by_budget, "key").empty());
}

TEST_CASE("a reply that has expired is refused, and the older entry goes with it") {
  Store store(Options{});
  put(store, "key", "old");
  CHECK(put(store, "key", "new", 0, kNow, kNow) == InstallResult::kRefused);
  CHECK(get(store, "key").empty());
  CHECK(store.stats().refused == 1);
}

TEST_CASE("the budget holds at every step under random sizes, and a recount agrees") {
  for (const std::size_t max_bytes : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{8} << 20}) {
    Store store(Options{.max_bytes = max_bytes, .soft_limit = 1.0});
    std::mt19937 random(42);
    for (int i = 0; i < 60'000; ++i) {
      const std::string key = "key:" + std::to_string(random() % 20'000);
      const std::size_t length = random() % 100 == 0 ? random() % (max_bytes / 10) : random() % 300;
      if (random() % 8 == 0) {
        store.erase(hash_key(key), key, Removal::kInvalidated);
      } else {
        put(store, key, std::string(length, 'v'));
      }
      if (random() % 1000 == 0) store.maintain(kNow, 500, alive);
      REQUIRE(store.stats().bytes <= max_bytes);
    }
    const Recount sum = recount(store);
    const Stats stats = store.stats();
    CHECK(sum.items == stats.items);
    CHECK(sum.entry_bytes < stats.bytes);
    // Index and ghosts, at their sparsest, and the shards themselves.
    CHECK(stats.bytes - sum.entry_bytes < stats.items * 64 + store.shard_count() * 6000);
    CHECK(stats.bytes > max_bytes / 2);
  }
}

TEST_CASE("what waits for a reader counts against the budget, and installs are refused rather than overrun it") {
  Store store(Options{.max_bytes = 1 << 20, .shards = 1});
  int refused = 0;
  {
    const Store::ReadGuard guard(store);
    for (int i = 0; i < 2000; ++i) {
      refused += put(store, "key", std::string(4000, 'v')) == InstallResult::kRefused ? 1 : 0;
      REQUIRE(store.stats().bytes <= std::size_t{1} << 20);
    }
    CHECK(refused > 0);
    CHECK(get(store, "key").empty());
  }
  CHECK(put(store, "key", "room again") == InstallResult::kInstalled);
  store.maintain(kNow, 10'000, alive);
  CHECK(store.stats().bytes < 20'000);
}

TEST_CASE("max_items holds at every step, whatever the number of shards") {
  for (const std::size_t max_items : {1u, 10u, 1000u, 1001u}) {
    Store store(Options{.max_items = max_items});
    for (int i = 0; i < 5000; ++i) {
      REQUIRE(put(store, "key" + std::to_string(i), "v") == InstallResult::kInstalled);
      REQUIRE(store.stats().items <= max_items);
    }
    CHECK(store.stats().items * 10 >= max_items * 9);
  }
}

TEST_CASE("maintain evicts down to the soft limit") {
  const Options options{.max_bytes = 4 << 20, .soft_limit = 0.5};
  Store store(options);
  for (int i = 0; i < 60'000; ++i) put(store, "key" + std::to_string(i), std::string(100, 'v'));
  REQUIRE(store.stats().bytes > options.max_bytes * 3 / 4);
  CHECK(store.maintain(kNow, 100, alive) == 100);
  while (store.maintain(kNow, 1000, alive) != 0) {}
  CHECK(store.stats().bytes <= options.max_bytes / 2);
  CHECK(store.stats().bytes > options.max_bytes * 4 / 10);
}

TEST_CASE("maintain looks at no more than it was told, and at everything in the end") {
  Store store(Options{});
  std::set<std::string> keys;
  for (int i = 0; i < 3000; ++i) {
    keys.insert("key" + std::to_string(i));
    put(store, "key" + std::to_string(i), "v");
  }
  // With an unlucky seed of the hash two full buckets may have displaced one.
  std::erase_if(keys, [&](const std::string& key) { return get(store, key).empty(); });
  REQUIRE(keys.size() >= 2995);
  std::set<std::string> seen;
  for (int call = 0; call < 40; ++call) {
    std::size_t looked = 0;
    store.maintain(kNow, 100, [&](const Entry& entry) {
      ++looked;
      seen.insert(std::string(entry.key()));
      return false;
    });
    REQUIRE(looked <= 100);
  }
  CHECK(seen == keys);
}

TEST_CASE("maintain drops what has expired and what is dead, and tells them apart") {
  Store store(Options{});
  for (int i = 0; i < 300; ++i) put(store, "key" + std::to_string(i), "v", 0, i < 100 ? kNow + 10 : kLater);
  const auto dead = [](const Entry& entry) { return entry.key().back() == '7'; };
  CHECK(store.maintain(kNow + 9, 10'000, alive) == 0);
  CHECK(store.maintain(kNow + 10, 10'000, dead) == 120);
  CHECK(store.stats().removals[static_cast<int>(Removal::kExpired)] == 100);
  CHECK(store.stats().removals[static_cast<int>(Removal::kPurged)] == 20);
  CHECK(store.stats().items == 180);
  CHECK(get(store, "key150") == "v");
  CHECK(get(store, "key157").empty());
}

TEST_CASE("keys in use survive a scan through the store") {
  Store store(Options{.max_bytes = 4 << 20, .soft_limit = 1.0});
  const std::string reply(200, 'v');
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 5000; ++i)
      if (get(store, "hot" + std::to_string(i)).empty()) put(store, "hot" + std::to_string(i), reply);
  }
  for (int i = 0; i < 100'000; ++i) put(store, "scan" + std::to_string(i), reply);
  int left = 0;
  for (int i = 0; i < 5000; ++i) left += get(store, "hot" + std::to_string(i)).empty() ? 0 : 1;
  CHECK(left >= 4700);
}

TEST_CASE("a store full of large items makes room for a larger index when small ones follow") {
  Store store(Options{.max_bytes = 4 << 20, .soft_limit = 1.0});
  for (int i = 0; i < 1000; ++i) put(store, "large" + std::to_string(i), std::string(8000, 'v'));
  for (int i = 0; i < 60'000; ++i) put(store, "small" + std::to_string(i), "v");
  CHECK(store.stats().items > 25'000);
  CHECK(store.stats().refused == 0);
}

TEST_CASE("a full store goes on admitting newcomers") {
  Store store(Options{.max_bytes = 1 << 20, .soft_limit = 1.0});
  for (int i = 0; i < 50'000; ++i) {
    const std::string key = "key" + std::to_string(i);
    REQUIRE(put(store, key, std::string(100, 'v')) == InstallResult::kInstalled);
    REQUIRE_FALSE(get(store, key).empty());
  }
  CHECK(store.stats().refused == 0);
}

TEST_CASE("an item costs at most 75 bytes beyond key and reply, ghosts and index included") {
  Store store(Options{.max_bytes = 256 << 20, .soft_limit = 1.0});
  const std::size_t empty = store.stats().bytes;
  std::size_t payload = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string key = "key:" + std::to_string(1'000'000 + i);
    const std::string reply(50 + static_cast<std::size_t>(i) % 64, 'v');
    REQUIRE(put(store, key, reply) == InstallResult::kInstalled);
    payload += key.size() + reply.size();
  }
  store.maintain(kNow, 0, alive);
  const Stats stats = store.stats();
  const double overhead = static_cast<double>(stats.bytes - empty - payload) / static_cast<double>(stats.items);
  INFO("bytes per item beyond key and reply: " << overhead);
  CHECK(overhead < 75.0);
  CHECK(overhead > 38.0);
}

TEST_CASE("hashes of one process agree and spread over the shards") {
  CHECK(hash_key("key") == hash_key("key"));
  CHECK(hash_key("key") != hash_key("kez"));
  std::vector<int> counts(16);
  for (int i = 0; i < 16'000; ++i) ++counts[hash_key("key" + std::to_string(i)) & 15];
  for (const int count : counts) CHECK((count > 800 && count < 1200));
}

TEST_CASE("what prefetch_entry returns is where find looks first, and is asked whether it is the key") {
  Store store(Options{});
  for (int i = 0; i < 1000; ++i) put(store, "key:" + std::to_string(i), "+v\r\n");
  const Store::ReadGuard guard(store);
  int same = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "key:" + std::to_string(i);
    const Entry* const entry = store.prefetch_entry(hash_key(key));
    REQUIRE(entry != nullptr);
    if (entry->is(key_ref(key))) ++same;
    CHECK(entry->is(key_ref(key)) == (entry == store.find(key_ref(key))));
    CHECK_FALSE(entry->is(key_ref(key, 1)));
    CHECK_FALSE(entry->is(key_ref(key + "x")));
  }
  CHECK(same > 990);
  Store empty(Options{});
  const Store::ReadGuard other(empty);
  CHECK(empty.prefetch_entry(hash_key("key")) == nullptr);
}
