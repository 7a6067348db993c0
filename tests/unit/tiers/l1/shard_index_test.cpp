// The table of a shard as it fills, moves, grows, shrinks and overflows (shard_index.cpp).
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>

#include "support.hpp"
#include "tiers/l1/shard.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

constexpr ShardLimits kRoomy{.bytes = 64 << 20, .soft_bytes = 64 << 20, .items = 0};

InstallResult put(Shard& shard, const std::string& key, std::uint32_t realm = 0) {
  return shard.install(key_ref(key, realm), {{}, "reply of " + key}, Stamp{}, kLater, kNow, [] { return true; });
}

std::size_t bytes_of(const Shard& shard) {
  Stats stats;
  shard.add_to(stats);
  return stats.bytes;
}

// The seed of the hash is another one in each process; with a bad one two full buckets displace an entry now and then.
constexpr int kUnlucky = 5;

int evictions_of(const Shard& shard) {
  Stats stats;
  shard.add_to(stats);
  return static_cast<int>(stats.removals[static_cast<int>(Removal::kEvicted)]);
}

}  // namespace

TEST_CASE("every entry is found after every growth of the table") {
  Shard shard;
  shard.open(kRoomy);
  for (int i = 0; i < 20'000; ++i) {
    REQUIRE(put(shard, "key" + std::to_string(i)) == InstallResult::kInstalled);
    if (i % 997 != 0) continue;
    int found = 0;
    for (int k = 0; k <= i; ++k) found += shard.find(key_ref("key" + std::to_string(k))) != nullptr ? 1 : 0;
    REQUIRE(found + evictions_of(shard) == i + 1);
    REQUIRE(evictions_of(shard) <= kUnlucky);
  }
  Stats stats;
  shard.add_to(stats);
  CHECK(stats.items + static_cast<std::size_t>(evictions_of(shard)) == 20'000);
}

TEST_CASE("random installs and removals agree with a plain set") {
  Shard shard;
  shard.open(kRoomy);
  std::mt19937 random(7);
  std::set<std::string> model;
  int displaced_and_gone = 0;
  for (int i = 0; i < 200'000; ++i) {
    // The number of keys in play swells and shrinks, so that the table does too.
    const std::uint32_t range = i / 40'000 % 2 == 0 ? 8000 : 50;
    const std::string key = "key" + std::to_string(random() % range);
    if (random() % 3 == 0 || range == 50) {
      const std::size_t erased = shard.erase(hash_key(key), key, std::nullopt, Removal::kInvalidated);
      const std::size_t expected = model.erase(key);
      REQUIRE(erased <= expected);
      displaced_and_gone += static_cast<int>(expected - erased);
    } else {
      put(shard, key);
      model.insert(key);
    }
    if (i % 1000 == 0) shard.trim(kNow, 0);
    if (i % 20'000 != 0) continue;
    for (std::uint32_t k = 0; k < 8000; ++k) {
      const std::string probe = "key" + std::to_string(k);
      if (shard.find(key_ref(probe)) != nullptr) {
        REQUIRE(model.count(probe) == 1);
      } else {
        displaced_and_gone += static_cast<int>(model.erase(probe));
      }
    }
  }
  CHECK(displaced_and_gone <= evictions_of(shard));
  CHECK(evictions_of(shard) <= kUnlucky);
}

TEST_CASE("a key in more realms than two buckets hold displaces its weakest and grows nothing") {
  Shard shard;
  shard.open(kRoomy);
  put(shard, "key");
  const std::size_t before = bytes_of(shard);
  for (std::uint32_t realm = 1; realm < 1000; ++realm) REQUIRE(put(shard, "key", realm) == InstallResult::kInstalled);
  CHECK(shard.find(key_ref("key", 999)) != nullptr);
  CHECK(bytes_of(shard) - before < 4000);
  const std::size_t erased = shard.erase(hash_key("key"), "key", std::nullopt, Removal::kInvalidated);
  CHECK(erased >= 8);
  CHECK(erased <= 16);
  for (std::uint32_t realm = 0; realm < 1000; ++realm) REQUIRE(shard.find(key_ref("key", realm)) == nullptr);
}

TEST_CASE("a table that has become sparse gives its memory back and loses nothing") {
  Shard shard;
  shard.open(kRoomy);
  for (int i = 0; i < 50'000; ++i) put(shard, "key" + std::to_string(i));
  for (int i = 100; i < 50'000; ++i) {
    const std::string key = "key" + std::to_string(i);
    shard.erase(hash_key(key), key, std::nullopt, Removal::kPurged);
  }
  for (int i = 0; i < 500; ++i) shard.trim(kNow, 0);
  CHECK(bytes_of(shard) < 20'000);
  int found = 0;
  for (int i = 0; i < 100; ++i) found += shard.find(key_ref("key" + std::to_string(i))) != nullptr ? 1 : 0;
  CHECK(found + evictions_of(shard) >= 100);
  CHECK(evictions_of(shard) <= kUnlucky);
}
