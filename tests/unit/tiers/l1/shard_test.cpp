#include "tiers/l1/shard.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "support.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

constexpr ShardLimits kSmall{.bytes = 256 << 10, .soft_bytes = 256 << 10, .items = 0};

InstallResult put(Shard& shard, const std::string& key, const std::string& reply, std::int64_t expires = kLater,
                  std::int64_t now = kNow) {
  return shard.install(key_ref(key), {{}, reply}, Stamp{}, expires, now, [] { return true; });
}

Stats stats_of(const Shard& shard) {
  Stats stats;
  shard.add_to(stats);
  return stats;
}

std::uint64_t removed(const Shard& shard, Removal reason) { return stats_of(shard).removals[static_cast<int>(reason)]; }

}  // namespace

TEST_CASE("expired entries make room before live ones are evicted") {
  Shard shard;
  shard.open(kSmall);
  int installed = 0;
  while (removed(shard, Removal::kEvicted) == 0)
    put(shard, "a" + std::to_string(installed++), std::string(1000, 'v'), kNow + 10);
  // All but the one that has gone are expired by now; a table of few slots is looked through quickly.
  for (int i = 0; i < installed / 2; ++i) put(shard, "b" + std::to_string(i), std::string(1000, 'v'), kLater, kNow + 10);
  CHECK(removed(shard, Removal::kEvicted) <= 3);
  CHECK(removed(shard, Removal::kExpired) > 0);
  for (int i = 0; i < installed / 2; ++i) CHECK(shard.find(key_ref("b" + std::to_string(i))) != nullptr);
}

TEST_CASE("an entry inherits its older self's place, so that a hot key rewritten stays hot") {
  Shard shard;
  shard.open(kSmall);
  for (int i = 0; i < 50; ++i) put(shard, "hot" + std::to_string(i), std::string(500, 'v'));
  int lost = 0;
  for (int i = 0; i < 2000; ++i) {
    for (int k = 0; k < 50; ++k)
      if (const Entry* const hot = shard.find(key_ref("hot" + std::to_string(k))); hot != nullptr) Store::touch(*hot);
    lost += shard.find(key_ref("hot" + std::to_string(i % 50))) == nullptr ? 1 : 0;
    put(shard, "hot" + std::to_string(i % 50), std::string(500, 'w'));
    put(shard, "scan" + std::to_string(i), std::string(500, 'v'));
  }
  // With an unlucky seed of the hash two full buckets displace one now and then.
  CHECK(lost <= 5);
  CHECK(removed(shard, Removal::kReplaced) == static_cast<std::uint64_t>(2000 - lost));
}

TEST_CASE("a key invalidated while in use comes back into the main area") {
  Shard shard;
  shard.open(kSmall);
  put(shard, "key", std::string(500, 'v'));
  Store::touch(*shard.find(key_ref("key")));
  for (int i = 0; i < 400; ++i) put(shard, "fill" + std::to_string(i), std::string(500, 'v'));
  REQUIRE(shard.find(key_ref("key")) != nullptr);
  shard.erase(hash_key("key"), "key", std::nullopt, Removal::kInvalidated);
  put(shard, "key", std::string(500, 'v'));
  for (int i = 0; i < 300; ++i) put(shard, "scan" + std::to_string(i), std::string(500, 'v'));
  CHECK(shard.find(key_ref("key")) != nullptr);
}

TEST_CASE("an install that finds no room leaves neither itself nor its older entry") {
  Shard shard;
  shard.open({.bytes = 64 << 10, .soft_bytes = 64 << 10, .items = 0});
  put(shard, "key", "old");
  CHECK(put(shard, "key", std::string(70 << 10, 'v')) == InstallResult::kRefused);
  CHECK(shard.find(key_ref("key")) == nullptr);
  CHECK(stats_of(shard).refused == 1);
  CHECK(stats_of(shard).items == 0);
}

TEST_CASE("a sweep ends after the entries it was given and says when it has been through") {
  Shard shard;
  shard.open(kSmall);
  for (int i = 0; i < 100; ++i) put(shard, "key" + std::to_string(i), "v");
  std::size_t looked = 0;
  int calls = 0;
  for (bool wrapped = false; !wrapped; ++calls) {
    const Sweep sweep = shard.sweep(kNow, 10, alive);
    REQUIRE(sweep.looked <= 10);
    looked += sweep.looked;
    wrapped = sweep.wrapped;
  }
  CHECK(looked == 100);
  CHECK(calls >= 10);
  CHECK(shard.sweep(kLater, 1000, nullptr).removed == 100);
}

TEST_CASE("trim evicts at most what it was told") {
  Shard shard;
  shard.open({.bytes = 256 << 10, .soft_bytes = 64 << 10, .items = 0});
  for (int i = 0; i < 300; ++i) put(shard, "key" + std::to_string(i), std::string(500, 'v'));
  const std::size_t before = stats_of(shard).items;  // 300, but that two full buckets may have displaced one
  CHECK(shard.trim(kNow, 7) == 7);
  CHECK(stats_of(shard).items == before - 7);
  CHECK(shard.trim(kNow, 0) == 0);
  CHECK(shard.trim(kNow, 1000) > 100);
  CHECK(stats_of(shard).bytes <= std::size_t{64} << 10);
}

TEST_CASE("held bytes return to what they were when all entries have gone") {
  Shard shard;
  shard.open(kSmall);
  shard.trim(kNow, 0);
  const std::size_t before = stats_of(shard).bytes;
  for (int i = 0; i < 1000; ++i) put(shard, "key" + std::to_string(i), std::string(50, 'v'));
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "key" + std::to_string(i);
    shard.erase(hash_key(key), key, std::nullopt, Removal::kPurged);
  }
  for (int i = 0; i < 100; ++i) shard.trim(kNow, 0);
  CHECK(stats_of(shard).items == 0);
  CHECK(stats_of(shard).bytes <= before + 128);  // blocks are rounded by where they lie
}
