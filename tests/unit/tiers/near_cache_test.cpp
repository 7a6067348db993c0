#include "tiers/near_cache.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>

namespace nearcached::tiers {
namespace {

using insight::InvalidationSource;
using insight::MissReason;

constexpr std::int64_t kNow = 1'000'000'000;
constexpr std::int64_t kStaleness = 1'000'000;
constexpr std::uint32_t kRealm = 1;
constexpr std::uint16_t kSlot = 77;
const std::string kKey = "key";

// A cache with one link that is verified from kNow for kStaleness.
struct Bench {
  explicit Bench(bool enabled = true, const Policy& policy = {}, std::vector<Policy> namespaces = {}) {
    NearCacheOptions options;
    options.policies = Policies(policy, std::move(namespaces));
    options.store.max_bytes = 4u << 20;
    options.store.shards = 1;
    options.enabled = enabled;
    cache = std::make_unique<NearCache>(options);
    link = *cache->links().acquire();
    cache->links().prove(link, kNow);
  }
  // What a fill stands on that is sent now.
  [[nodiscard]] coherence::FillBasis basis(const std::string& key = kKey) const {
    return {cache->fences().capture(l1::hash_key(key)), cache->links().generation(link), cache->epochs().of(kSlot), link,
            kSlot};
  }
  bool install(const coherence::FillBasis& on, const std::string& reply = "$1\r\nv\r\n", const std::string& key = kKey,
               std::uint32_t realm = kRealm) {
    coherence::FillResult result;
    result.key = key;
    result.hash = l1::hash_key(key);
    result.answered = true;
    result.cacheable = on.fence.open();
    result.reply = reply;
    result.variant = variant;
    result.sent_us = kNow;
    result.expires_at_us = expires_at_us;
    result.basis = on;
    return cache->install(result, realm, now);
  }
  [[nodiscard]] NearCache::Lookup look_up(const std::string& key = kKey, std::uint32_t realm = kRealm) const {
    return cache->find({l1::hash_key(key), realm, key}, variant, cache->policies().of(key), heard_us, now);
  }
  [[nodiscard]] std::string get(const std::string& key = kKey, std::uint32_t realm = kRealm) const {
    const l1::Store::ReadGuard guard(cache->store());
    const NearCache::Lookup found = look_up(key, realm);
    std::string plain;
    if (found.reply) REQUIRE(cache->unpack(*found.reply, plain));
    return plain;
  }
  [[nodiscard]] MissReason miss(const std::string& key = kKey) const {
    const l1::Store::ReadGuard guard(cache->store());
    const NearCache::Lookup found = look_up(key, kRealm);
    REQUIRE_FALSE(found.reply);
    return found.reason;
  }
  [[nodiscard]] std::uint64_t invalidations(InvalidationSource source) const {
    return counters.invalidations[static_cast<std::size_t>(source)].value();
  }

  insight::Counters counters;
  std::unique_ptr<NearCache> cache;
  std::uint16_t link = 0;
  std::int64_t now = kNow;
  std::int64_t expires_at_us = 0;
  std::int64_t heard_us = 0;
  std::string variant;
};

const std::uint64_t kHash = l1::hash_key(kKey);

using Event = void (*)(Bench&);
struct Happening {
  const char* name;
  Event happen;
};
// Whatever makes an untold reply untrue, and an entry that is there already as well.
const Happening kHappenings[] = {
    {"a push", [](Bench& b) { b.cache->on_invalidated(kHash, InvalidationSource::kTracking, b.now, b.counters); }},
    {"a write begun", [](Bench& b) { b.cache->begin_write(kHash, b.counters); }},
    {"a write begun and acknowledged",
     [](Bench& b) {
       b.cache->begin_write(kHash, b.counters);
       b.cache->end_write(kHash, kNow, b.counters);
     }},
    {"a write of unknown keys begun", [](Bench& b) { b.cache->begin_write_all(); }},
    {"a write of unknown keys done",
     [](Bench& b) {
       b.cache->begin_write_all();
       b.cache->end_write_all(b.counters);
     }},
    {"a read past L1", [](Bench& b) { b.cache->on_read_past(kHash); }},
    {"the slot moved", [](Bench& b) { b.cache->epochs().bump(kSlot); }},
    {"the slot moved away and back",
     [](Bench& b) {
       b.cache->epochs().bump(kSlot);
       b.cache->epochs().bump(kSlot);
     }},
    {"a flush", [](Bench& b) { b.cache->links().purge(b.link); }},
    {"the connection lost and proven again",
     [](Bench& b) {
       b.cache->links().lose(b.link);
       b.cache->links().prove(b.link, kNow);
     }},
    {"the row given to another connection",
     [](Bench& b) {
       b.cache->links().release(b.link);
       REQUIRE(b.cache->links().acquire() == b.link);
       b.cache->links().prove(b.link, kNow);
     }},
};

}  // namespace

TEST_CASE("what was filled is found, in its realm alone", "[near_cache]") {
  Bench b;
  CHECK(b.miss() == MissReason::kAbsent);
  REQUIRE(b.install(b.basis()));
  CHECK(b.get() == "$1\r\nv\r\n");
  CHECK(b.get(kKey, kRealm + 1).empty());
  CHECK(b.get("other").empty());
}

TEST_CASE("a fill is not installed once anything happened to what it stood on", "[near_cache]") {
  for (const Happening& event : kHappenings) {
    CAPTURE(event.name);
    Bench b;
    const coherence::FillBasis basis = b.basis();
    event.happen(b);
    CHECK_FALSE(b.install(basis));
    CHECK(b.get().empty());
    CHECK(b.cache->store().stats().items == 0);
  }
}

TEST_CASE("an entry is not served once anything happened to what it stands on", "[near_cache]") {
  for (const Happening& event : kHappenings) {
    CAPTURE(event.name);
    Bench b;
    REQUIRE(b.install(b.basis()));
    event.happen(b);
    CHECK(b.get().empty());
  }
}

TEST_CASE("what happens to another key's stripe, slot and link disturbs nobody", "[near_cache]") {
  Bench b;
  const std::uint16_t other_link = *b.cache->links().acquire();
  const coherence::FillBasis basis = b.basis();
  const std::uint64_t other = kHash ^ (std::uint64_t{1} << 24);  // the neighbouring stripe
  const auto disturb = [&] {
    b.cache->fences().bump(other);
    b.cache->fences().begin_write(other);
    b.cache->epochs().bump(kSlot + 1);
    b.cache->links().lose(other_link);
  };
  disturb();
  REQUIRE(b.install(basis));
  disturb();
  CHECK_FALSE(b.get().empty());
}

TEST_CASE("an entry is served until its verification runs out, and again when it is renewed", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis()));
  b.now = kNow + kStaleness - 1;
  CHECK_FALSE(b.get().empty());
  b.now = kNow + kStaleness;
  CHECK(b.miss() == MissReason::kUnverified);
  b.cache->links().prove(b.link, b.now);  // the connection was there all the time: a push would have come
  CHECK_FALSE(b.get().empty());
}

TEST_CASE("an entry lives as long as the upstream's TTL lets it, and never longer than l1.ttl", "[near_cache]") {
  Bench b;
  b.cache->links().prove(b.link, kNow + 1'000'000'000'000);
  const auto served_at = [&](std::int64_t after_us) {
    b.now = kNow + after_us;
    return !b.get().empty();
  };
  SECTION("a TTL of 5 s") {
    b.expires_at_us = kNow + 5'000'000;
    REQUIRE(b.install(b.basis()));
    CHECK(served_at(4'999'000));
    CHECK_FALSE(served_at(5'000'000));
    CHECK(b.miss() == MissReason::kExpired);
  }
  SECTION("no TTL") {
    REQUIRE(b.install(b.basis()));
    CHECK(served_at(299'999'000));
    CHECK_FALSE(served_at(300'000'000));
  }
  SECTION("a TTL of a day") {
    b.expires_at_us = kNow + 86'400'000'000;
    REQUIRE(b.install(b.basis()));
    CHECK_FALSE(served_at(300'000'000));
  }
  SECTION("a TTL that ran out while the reply travelled") {
    b.expires_at_us = kNow + 100'000;
    b.now = kNow + 100'000;
    CHECK_FALSE(b.install(b.basis()));
    CHECK(b.get().empty());
  }
  SECTION("a fraction of a millisecond is not rounded up") {
    b.expires_at_us = kNow + 5'000'999;
    REQUIRE(b.install(b.basis()));
    CHECK_FALSE(served_at(5'000'999));
  }
}

TEST_CASE("a reply that is not cacheable is not kept", "[near_cache]") {
  Bench b;
  coherence::FillResult result;
  result.key = kKey;
  result.hash = kHash;
  result.answered = true;
  result.reply = "_\r\n";
  result.sent_us = kNow;
  result.basis = b.basis();
  CHECK_FALSE(b.cache->install(result, kRealm, kNow));
  CHECK(b.get().empty());
}

TEST_CASE("a reader's own write is what it reads next, whatever fills are in the air", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis(), "$3\r\nold\r\n"));
  const coherence::FillBasis before = b.basis();
  b.cache->begin_write(kHash, b.counters);
  CHECK(b.get().empty());  // not the old value, from the dispatch on
  const coherence::FillBasis during = b.basis();
  CHECK_FALSE(b.install(before, "$3\r\nold\r\n"));
  CHECK_FALSE(b.install(during, "$3\r\nold\r\n"));
  CHECK(b.get().empty());
  b.cache->end_write(kHash, kNow, b.counters);
  CHECK_FALSE(b.install(before, "$3\r\nold\r\n"));
  CHECK_FALSE(b.install(during, "$3\r\nold\r\n"));
  CHECK(b.get().empty());
  REQUIRE(b.install(b.basis(), "$3\r\nnew\r\n"));
  CHECK(b.get() == "$3\r\nnew\r\n");
}

TEST_CASE("the end of a write drops what came in during it", "[near_cache]") {
  // Nothing can: but if another stripe's arithmetic ever let it, the client must not be answered before it is gone.
  Bench b;
  b.cache->begin_write(kHash, b.counters);
  const l1::Stamp stamp{b.cache->links().generation(b.link), b.cache->epochs().of(kSlot), b.link, kSlot};
  REQUIRE(b.cache->store().install({kHash, kRealm, kKey}, {}, "$3\r\nold\r\n", stamp, kNow / 1000 + 1000, kNow / 1000,
                                   [] { return true; }) == l1::InstallResult::kInstalled);
  b.cache->end_write(kHash, kNow, b.counters);
  CHECK(b.get().empty());
}

TEST_CASE("of two writes under way the first acknowledgement opens nothing", "[near_cache]") {
  Bench b;
  b.cache->begin_write(kHash, b.counters);
  b.cache->begin_write(kHash, b.counters);
  b.cache->end_write(kHash, kNow, b.counters);
  CHECK_FALSE(b.install(b.basis()));
  b.cache->end_write(kHash, kNow, b.counters);
  CHECK(b.install(b.basis()));
}

TEST_CASE("while keys are written that nobody knows, nothing is kept and nothing old is served", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis()));
  b.cache->begin_write_all();
  CHECK(b.get().empty());
  CHECK_FALSE(b.install(b.basis()));
  b.cache->end_write_all(b.counters);
  CHECK(b.get().empty());
  CHECK(b.invalidations(InvalidationSource::kFlush) == 1);
  CHECK(b.install(b.basis()));
}

TEST_CASE("different reads of one key are kept side by side, and go together", "[near_cache]") {
  // All fills of a key come over one connection in order, so that an installation need not stop the others that are on
  // their way.
  Bench b;
  const coherence::FillBasis first = b.basis();
  const coherence::FillBasis second = b.basis();
  b.variant = "hget f1";
  REQUIRE(b.install(first, "$1\r\na\r\n"));
  b.variant = "hget f2";
  CHECK(b.miss() == MissReason::kAbsent);
  REQUIRE(b.install(second, "$1\r\nb\r\n"));
  CHECK(b.get() == "$1\r\nb\r\n");
  b.variant = "hget f1";
  CHECK(b.get() == "$1\r\na\r\n");
  b.variant = "";
  CHECK(b.miss() == MissReason::kAbsent);
  b.cache->on_invalidated(kHash, InvalidationSource::kTracking, b.now, b.counters);
  for (const char* variant : {"hget f1", "hget f2"}) {
    b.variant = variant;
    CHECK(b.miss() == MissReason::kAbsent);
  }
}

TEST_CASE("a namespace has its own staleness and its own time to live", "[near_cache]") {
  Policy quick{"q:", Consistency::kBounded, 100'000, 0, 5'000'000};
  Bench b(true, {}, {quick});
  REQUIRE(b.install(b.basis("q:1"), "$1\r\na\r\n", "q:1"));
  REQUIRE(b.install(b.basis("p:1"), "$1\r\nb\r\n", "p:1"));
  b.now = kNow + 99'999;
  CHECK_FALSE(b.get("q:1").empty());
  b.now = kNow + 100'000;
  CHECK(b.miss("q:1") == MissReason::kUnverified);
  CHECK_FALSE(b.get("p:1").empty());
  b.now = kNow + 5'000'000;
  b.cache->links().prove(b.link, b.now);
  CHECK(b.miss("q:1") == MissReason::kExpired);
  CHECK_FALSE(b.get("p:1").empty());
}

TEST_CASE("what nobody watches lives no longer than max_staleness, proven or not", "[near_cache]") {
  Bench b;
  b.cache->links().prove(b.link, coherence::LinkTable::kForever);
  coherence::FillResult result;
  result.key = kKey;
  result.hash = kHash;
  result.answered = result.cacheable = result.unwatched = true;
  result.reply = "*0\r\n";
  result.sent_us = kNow;
  result.basis = b.basis();
  REQUIRE(b.cache->install(result, kRealm, kNow));
  b.now = kNow + kStaleness - 1;
  CHECK_FALSE(b.get().empty());
  b.now = kNow + kStaleness;
  CHECK(b.miss() == MissReason::kExpired);
}

TEST_CASE("stale_ok serves what is unverified while the node can't be reached, up to max_stale", "[near_cache]") {
  Policy stale;
  stale.consistency = Consistency::kStaleOk;
  stale.max_stale_us = 60'000'000;
  Bench b(true, stale);
  REQUIRE(b.install(b.basis()));
  const auto stale_hit = [&] {
    const l1::Store::ReadGuard guard(b.cache->store());
    const NearCache::Lookup found = b.look_up();
    return found.reply && found.stale;
  };
  CHECK_FALSE(b.get().empty());
  CHECK_FALSE(stale_hit());
  b.now = kNow + kStaleness;
  CHECK(stale_hit());
  b.cache->links().lose(b.link);
  CHECK(stale_hit());
  SECTION("not once max_stale has passed since the last proof") {
    b.now = kNow + 60'000'000 - 1;
    CHECK(stale_hit());
    b.now = kNow + 60'000'000;
    CHECK(b.miss() == MissReason::kUnverified);
  }
  SECTION("not once the node is back: then it is read again") {
    b.cache->links().prove(b.link, b.now);
    CHECK(b.miss() == MissReason::kUnverified);
  }
  SECTION("not what is known to be untrue") {
    b.cache->links().purge(b.link);
    CHECK(b.miss() == MissReason::kUnverified);
  }
  SECTION("not what an own write has replaced") {
    b.cache->begin_write(kHash, b.counters);
    CHECK(b.miss() == MissReason::kAbsent);
  }
  SECTION("not of a slot that moved") {
    b.cache->epochs().bump(kSlot);
    CHECK(b.miss() == MissReason::kUnverified);
  }
  SECTION("not by its neighbours, which are bounded") {
    Bench bounded;
    REQUIRE(bounded.install(bounded.basis()));
    bounded.now = kNow + kStaleness;
    CHECK(bounded.miss() == MissReason::kUnverified);
  }
}

TEST_CASE("causal: what the client heard before its hit must have been delivered too", "[near_cache]") {
  Policy causal;
  causal.consistency = Consistency::kCausal;
  Bench b(true, causal);
  REQUIRE(b.install(b.basis()));
  b.cache->links().deliver(b.link, kNow);
  b.heard_us = kNow - 1;
  CHECK_FALSE(b.get().empty());
  b.heard_us = kNow;  // in the same microsecond: not surely before
  CHECK(b.miss() == MissReason::kUnproven);
  b.cache->links().deliver(b.link, kNow + 1);
  CHECK_FALSE(b.get().empty());
  b.cache->links().prove(b.link, coherence::LinkTable::kForever);  // nobody delivers anything
  CHECK(b.miss() == MissReason::kUnverified);
}

TEST_CASE("a purge of a prefix takes its keys, and the fills that are under way", "[near_cache]") {
  Bench b;
  for (const char* key : {"user:1", "user:2", "order:1"}) REQUIRE(b.install(b.basis(key), "$1\r\na\r\n", key));
  const coherence::FillBasis in_the_air = b.basis("user:3");
  CHECK(b.cache->purge_prefix("user:") == 2);
  CHECK(b.get("user:1").empty());
  CHECK(b.get("user:2").empty());
  CHECK_FALSE(b.get("order:1").empty());
  CHECK_FALSE(b.install(in_the_air, "$1\r\na\r\n", "user:3"));
}

TEST_CASE("once a client was told a value past L1, no older one is served or installed", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis(), "$3\r\nold\r\n"));
  const coherence::FillBasis in_the_air = b.basis();
  b.cache->on_read_past(kHash);
  CHECK(b.get().empty());
  CHECK_FALSE(b.install(in_the_air, "$3\r\nold\r\n"));
  CHECK(b.get().empty());
}

TEST_CASE("a key is dropped in every realm", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis(), "$1\r\na\r\n", kKey, 1));
  REQUIRE(b.install(b.basis(), "$1\r\nb\r\n", kKey, 2));
  SECTION("by a push") {
    b.cache->on_invalidated(kHash, InvalidationSource::kTracking, b.now, b.counters);
    CHECK(b.invalidations(InvalidationSource::kTracking) == 2);
  }
  SECTION("by a write") {
    b.cache->begin_write(kHash, b.counters);
    CHECK(b.invalidations(InvalidationSource::kOwnWrite) == 2);
  }
  SECTION("by a read past") { b.cache->on_read_past(kHash); }
  CHECK(b.get(kKey, 1).empty());
  CHECK(b.get(kKey, 2).empty());
}

TEST_CASE("a cache that is off keeps nothing and still counts nothing wrong", "[near_cache]") {
  Bench b(false);
  CHECK_FALSE(b.cache->enabled());
  CHECK_FALSE(b.install(b.basis()));
  b.cache->begin_write(kHash, b.counters);
  b.cache->end_write(kHash, kNow, b.counters);
  b.cache->on_invalidated(kHash, InvalidationSource::kTracking, b.now, b.counters);
  b.cache->on_read_past(kHash);
  CHECK(b.invalidations(InvalidationSource::kOwnWrite) == 0);
  CHECK(b.invalidations(InvalidationSource::kTracking) == 0);
}

TEST_CASE("a slot that the polled topology gives to another node is a new slot, and back again another one",
          "[near_cache]") {
  const auto topology = [](std::uint64_t version, std::uint16_t owner) {
    auto made = std::make_shared<upstream::Topology>();
    made->version = version;
    made->cluster = true;
    made->primaries = {{"node", 1}, {"node", 2}};
    made->owner[kSlot] = owner;
    return made;
  };
  Bench b;
  CHECK(b.cache->apply_topology(topology(1, 0)) == 0);
  REQUIRE(b.install(b.basis()));
  const coherence::FillBasis other_slot = [&] {
    coherence::FillBasis basis = b.basis("other");
    basis.slot = kSlot + 1;
    return basis;
  }();
  REQUIRE(b.install(other_slot, "$1\r\nv\r\n", "other"));
  CHECK(b.cache->apply_topology(topology(2, 0)) == 0);
  CHECK_FALSE(b.get().empty());
  CHECK(b.cache->apply_topology(topology(3, 1)) == 1);
  CHECK(b.get().empty());
  CHECK(b.cache->apply_topology(topology(4, 0)) == 1);
  CHECK(b.get().empty());
  CHECK_FALSE(b.get("other").empty());
}

TEST_CASE("maintenance frees what can never be served again, and keeps what may be", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis()));
  b.cache->links().prove(b.link, 0);  // unverified for now
  b.cache->maintain(kNow);
  CHECK(b.cache->store().stats().items == 1);
  SECTION("its generation is gone") { b.cache->links().purge(b.link); }
  SECTION("its slot moved") { b.cache->epochs().bump(kSlot); }
  SECTION("it expired") { b.now += 300'000'000; }
  b.cache->maintain(b.now);
  CHECK(b.cache->store().stats().items == 0);
}

TEST_CASE("maintenance looks on where much is dead, within bounds", "[near_cache]") {
  Bench b;
  constexpr int kItems = 20'000;
  for (int i = 0; i < kItems; ++i) {
    const std::string key = std::to_string(i);
    REQUIRE(b.install(b.basis(key), "+\r\n", key));
  }
  b.cache->maintain(b.now);
  REQUIRE(b.cache->store().stats().items > kItems - 20);  // with some seeds of the hash a table displaces an entry
  SECTION("all was purged") { b.cache->links().purge(b.link); }
  SECTION("all expired") { b.now += 300'000'000; }
  b.cache->maintain(b.now);
  const std::size_t left = b.cache->store().stats().items;
  CHECK(left < kItems - 1000);
  CHECK(left > kItems / 2);
  for (int tick = 0; tick < 20; ++tick) b.cache->maintain(b.now);
  CHECK(b.cache->store().stats().items == 0);
}

TEST_CASE("however a write and an installation race, the old value is never there after the acknowledgement",
          "[near_cache]") {
  Bench b;
  std::atomic<int> round{0};
  std::atomic<int> installed{0};
  constexpr int kRounds = 3000;
  // The filler captures before the write begins and installs at any time around it.
  std::thread filler([&] {
    for (int i = 1; i <= kRounds; ++i) {
      const coherence::FillBasis basis = b.basis();
      round.store(i);
      if (b.install(basis, "$3\r\nold\r\n")) installed.fetch_add(1);
      while (round.load() == i) std::this_thread::yield();
    }
  });
  int stale = 0;
  for (int i = 1; i <= kRounds; ++i) {
    while (round.load() != i) std::this_thread::yield();
    b.cache->begin_write(kHash, b.counters);
    b.cache->end_write(kHash, kNow, b.counters);
    if (!b.get().empty()) ++stale;
    round.store(-i);
  }
  filler.join();
  CHECK(stale == 0);
}

TEST_CASE("a reply is packed where its namespace says so, and read as it was", "[near_cache]") {
  using l1::Compression;
  Policy lz4;
  lz4.compression.algorithm = Compression::kLz4;
  Policy zstd{"z:"};
  zstd.compression.algorithm = Compression::kZstd;
  Policy none{"plain:"};
  Bench b(true, lz4, {zstd, none});
  const std::string large = "$4000\r\n" + std::string(4000, 'a') + "\r\n";
  for (const std::string key : {"k", "z:k", "plain:k"}) {
    CAPTURE(key);
    REQUIRE(b.install(b.basis(key), large, key));
    CHECK(b.get(key) == large);
    const l1::Store::ReadGuard guard(b.cache->store());
    const NearCache::Lookup found = b.look_up(key);
    CHECK(found.reply->packed == (key != "plain:k"));
    if (found.reply->packed) {
      CHECK(found.reply->header().algorithm == (key == "k" ? Compression::kLz4 : Compression::kZstd));
    }
    std::string scratch;
    CHECK(b.cache->peek({l1::hash_key(key), kRealm, key}, "", scratch) == large);
    CHECK_FALSE(b.cache->peek({l1::hash_key(key), kRealm, key}, "strlen", scratch = ""));
    REQUIRE(b.install(b.basis(key), "$1\r\nv\r\n", key));
    CHECK(b.get(key) == "$1\r\nv\r\n");
    b.cache->on_invalidated(l1::hash_key(key), InvalidationSource::kTracking, b.now, b.counters);
    CHECK(b.get(key).empty());
  }
  CHECK(b.cache->compression().values == 2);
}

TEST_CASE("what is not kept is not packed either", "[near_cache]") {
  Policy policy;
  policy.compression.algorithm = l1::Compression::kZstd;
  Bench b(true, policy);
  const coherence::FillBasis before = b.basis();
  b.cache->on_invalidated(kHash, InvalidationSource::kTracking, b.now, b.counters);
  CHECK_FALSE(b.install(before, "$4000\r\n" + std::string(4000, 'a') + "\r\n"));
  // Too large as it is, small enough when packed: the limit is that of what was read.
  CHECK_FALSE(b.install(b.basis(), "$200000\r\n" + std::string(200'000, 'a') + "\r\n"));
  CHECK(b.cache->compression().values == 0);
}

TEST_CASE("dictionaries are held within max_bytes, and nothing is where nothing is to be packed", "[near_cache]") {
  Policy policy;
  policy.compression = {l1::Compression::kZstd, 1024, true};
  Bench b(true, policy);
  CHECK(b.cache->store().options().max_bytes == (4u << 20) - (4u << 20) / 8);
  b.cache->maintain(b.now);  // opens the taking of samples
  CHECK(b.cache->stats().bytes == b.cache->store().stats().bytes + l1::Compressor::kSamplesBytes);
  CHECK(Bench(false, policy).cache->store().options().max_bytes == 4u << 20);
  CHECK(Bench().cache->store().options().max_bytes == 4u << 20);
}

}  // namespace nearcached::tiers
