// The walk of a purge: nothing that was there is missed, whatever the table does meanwhile.
#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"
#include "tiers/l1/shard.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

constexpr ShardLimits kRoomy{.bytes = 64 << 20, .soft_bytes = 64 << 20, .items = 0};

void put(Shard& shard, const std::string& key) {
  shard.install(key_ref(key), {{}, "v"}, Stamp{}, kLater, kNow, [] { return true; });
}

bool has(const Shard& shard, const std::string& key) { return shard.find(key_ref(key)) != nullptr; }

std::size_t items(const Shard& shard) {
  Stats stats;
  shard.add_to(stats);
  return stats.items;
}

bool is_old(const Entry& entry) { return entry.key().starts_with("old"); }

std::set<std::string> put_old(Shard& shard, int count) {
  std::set<std::string> present;
  for (int i = 0; i < count; ++i) put(shard, "old" + std::to_string(i));
  // With an unlucky seed of the hash two full buckets may have displaced one.
  for (int i = 0; i < count; ++i)
    if (has(shard, "old" + std::to_string(i))) present.insert("old" + std::to_string(i));
  return present;
}

}  // namespace

TEST_CASE("erase_if drops what is doomed, in every shard and realm, and nothing else") {
  Store store(Options{});
  for (int i = 0; i < 3000; ++i) testing::put(store, "old" + std::to_string(i), "v", static_cast<std::uint32_t>(i % 3));
  for (int i = 0; i < 3000; ++i) testing::put(store, "new" + std::to_string(i), "v");
  const std::size_t before = store.stats().items;
  std::size_t doomed = 0;
  std::size_t asked = 0;
  const std::size_t gone = store.erase_if([&](const Entry& entry) {
    ++asked;
    doomed += is_old(entry) ? 1 : 0;
    return is_old(entry);
  });
  CHECK(asked == before);
  CHECK(gone == doomed);
  CHECK(gone > 2990);
  CHECK(store.stats().items == before - gone);
  CHECK(store.stats().removals[static_cast<int>(Removal::kPurged)] == gone);
  CHECK(store.erase_if(is_old) == 0);
  CHECK(store.erase_if([](const Entry&) { return true; }) == before - gone);
  CHECK(store.stats().items == 0);
  CHECK(store.erase_if([](const Entry&) { return true; }) == 0);
}

TEST_CASE("a walk looks at no more than it was told and ends") {
  Shard shard;
  shard.open(kRoomy);
  put_old(shard, 500);
  const std::size_t present = items(shard);
  shard.begin_walk();
  std::size_t looked = 0;
  for (bool wrapped = false; !wrapped;) {
    const Sweep sweep = shard.walk(10, alive);
    REQUIRE(sweep.looked <= 10);
    looked += sweep.looked;
    wrapped = sweep.wrapped;
  }
  CHECK(looked == present);
  CHECK(shard.walk(10, alive).wrapped);
  CHECK(shard.walk(10, alive).looked == 0);
}

TEST_CASE("a table that grows during the walk hides nothing from it") {
  Shard shard;
  shard.open(kRoomy);
  put_old(shard, 1000);
  shard.begin_walk();
  int next = 0;
  for (bool wrapped = false; !wrapped;) {
    wrapped = shard.walk(16, is_old).wrapped;
    for (int i = 0; i < 10; ++i) put(shard, "new" + std::to_string(next++));
  }
  for (int i = 0; i < 1000; ++i) REQUIRE_FALSE(has(shard, "old" + std::to_string(i)));
  CHECK(items(shard) + 5 >= static_cast<std::size_t>(next));
}

TEST_CASE("a table that shrinks during the walk hides nothing from it") {
  Shard shard;
  shard.open(kRoomy);
  put_old(shard, 200);
  for (int i = 0; i < 20'000; ++i) put(shard, "new" + std::to_string(i));
  shard.begin_walk();
  for (int i = 0; i < 100; ++i) REQUIRE_FALSE(shard.walk(64, is_old).wrapped);
  for (int i = 0; i < 20'000; ++i) {
    const std::string key = "new" + std::to_string(i);
    shard.erase(hash_key(key), key, std::nullopt, Removal::kPurged);
  }
  for (int i = 0; i < 20; ++i) shard.trim(kNow, 0);
  while (!shard.walk(64, is_old).wrapped) {}
  for (int i = 0; i < 200; ++i) REQUIRE_FALSE(has(shard, "old" + std::to_string(i)));
}

TEST_CASE("an entry that is moved to its other bucket is not moved past the walk") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    Shard shard;
    shard.open(kRoomy);
    // Near the fill at which the table grows, moves are common; a round in which it does grow tests nothing new.
    const std::set<std::string> present = put_old(shard, 2000 + static_cast<int>(random() % 400));
    std::set<std::string> asked;
    shard.begin_walk();
    int next = 0;
    const auto note = [&](const Entry& entry) {
      asked.insert(std::string(entry.key()));
      return false;
    };
    for (bool wrapped = false; !wrapped;) {
      wrapped = shard.walk(8, note).wrapped;
      put(shard, "new" + std::to_string(round) + ":" + std::to_string(next++));
    }
    for (const std::string& key : present) {
      INFO(key);
      REQUIRE((asked.count(key) == 1 || !has(shard, key)));
    }
  }
}

TEST_CASE("a walk that is sent back again and again ends in one go") {
  Shard shard;
  shard.open(kRoomy);
  put(shard, "old");
  shard.begin_walk();
  CHECK_FALSE(shard.walk(0, is_old).wrapped);
  for (int i = 0; i < 10'000; ++i) put(shard, "new" + std::to_string(i));
  const Sweep sweep = shard.walk(1, is_old);
  CHECK(sweep.wrapped);
  CHECK(sweep.removed == 1);
  CHECK(sweep.looked == items(shard) + 1);
  // The next walk has its bound again.
  shard.begin_walk();
  CHECK(shard.walk(1, is_old).looked == 1);
}

TEST_CASE("purges while others install and read leave nothing of what was there") {
  Store store(Options{.max_bytes = 32 << 20, .soft_limit = 1.0, .shards = 4});
  std::atomic<bool> done{false};
  std::vector<std::thread> installers;
  for (int t = 0; t < 2; ++t) {
    installers.emplace_back([&, t] {
      for (int i = 0; !done; ++i) {
        const std::string key = "new" + std::to_string(t) + ":" + std::to_string(i % 20'000);
        if (i / 20'000 % 2 == 0) {
          put_variant(store, key, i % 2 == 0 ? "" : "strlen", "v");
        } else {
          store.erase(hash_key(key), Removal::kInvalidated);
        }
        if (i % 1000 == 0) (void)get(store, key);
      }
    });
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 2000; ++i) testing::put(store, "old" + std::to_string(i), "v");
    if (round % 2 == 0) {
      store.erase_if(is_old);
    } else {
      // Two purges at once, each of its own half.
      const auto even = [](const Entry& entry) { return is_old(entry) && entry.key().back() % 2 == 0; };
      std::thread other([&] { store.erase_if(even); });
      store.erase_if([&](const Entry& entry) { return is_old(entry) && !even(entry); });
      other.join();
    }
    int left = 0;
    for (int i = 0; i < 2000; ++i) left += get(store, "old" + std::to_string(i)).empty() ? 0 : 1;
    CHECK(left == 0);
  }
  done = true;
  for (std::thread& installer : installers) installer.join();
}
