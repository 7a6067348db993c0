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
  explicit Bench(bool enabled = true) {
    NearCacheOptions options;
    options.store.max_bytes = 4u << 20;
    options.store.shards = 1;
    options.enabled = enabled;
    cache = std::make_unique<NearCache>(options);
    link = *cache->links().acquire();
    cache->links().verify_until(link, kNow + kStaleness);
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
    result.sent_us = kNow;
    result.expires_at_us = expires_at_us;
    result.basis = on;
    return cache->install(result, realm, now);
  }
  [[nodiscard]] std::string get(const std::string& key = kKey, std::uint32_t realm = kRealm) const {
    const l1::Store::ReadGuard guard(cache->store());
    const NearCache::Lookup found = cache->find({l1::hash_key(key), realm, key}, now);
    return found.entry == nullptr ? std::string() : std::string(found.entry->reply());
  }
  [[nodiscard]] MissReason miss(const std::string& key = kKey) const {
    const l1::Store::ReadGuard guard(cache->store());
    const NearCache::Lookup found = cache->find({l1::hash_key(key), kRealm, key}, now);
    REQUIRE(found.entry == nullptr);
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
};

const std::uint64_t kHash = l1::hash_key(kKey);

using Event = void (*)(Bench&);
struct Happening {
  const char* name;
  Event happen;
};
// Whatever makes an untold reply untrue, and an entry that is there already as well.
const Happening kHappenings[] = {
    {"a push", [](Bench& b) { b.cache->on_invalidated(kHash, b.counters); }},
    {"a write begun", [](Bench& b) { b.cache->begin_write(kHash, b.counters); }},
    {"a write begun and acknowledged",
     [](Bench& b) {
       b.cache->begin_write(kHash, b.counters);
       b.cache->end_write(kHash, b.counters);
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
    {"a flush", [](Bench& b) { b.cache->links().bump(b.link); }},
    {"the connection lost and proven again",
     [](Bench& b) {
       b.cache->links().lose(b.link);
       b.cache->links().verify_until(b.link, kNow + kStaleness);
     }},
    {"the row given to another connection",
     [](Bench& b) {
       b.cache->links().release(b.link);
       REQUIRE(b.cache->links().acquire() == b.link);
       b.cache->links().verify_until(b.link, kNow + kStaleness);
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
  b.cache->links().verify_until(b.link, b.now + 1);  // the connection was there all the time: a push would have come
  CHECK_FALSE(b.get().empty());
}

TEST_CASE("an entry lives as long as the upstream's TTL lets it, and never longer than l1.ttl", "[near_cache]") {
  Bench b;
  b.cache->links().verify_until(b.link, kNow + 1'000'000'000'000);
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
  b.cache->end_write(kHash, b.counters);
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
  REQUIRE(b.cache->store().install({kHash, kRealm, kKey}, "$3\r\nold\r\n", stamp, kNow / 1000 + 1000, kNow / 1000,
                                   [] { return true; }) == l1::InstallResult::kInstalled);
  b.cache->end_write(kHash, b.counters);
  CHECK(b.get().empty());
}

TEST_CASE("of two writes under way the first acknowledgement opens nothing", "[near_cache]") {
  Bench b;
  b.cache->begin_write(kHash, b.counters);
  b.cache->begin_write(kHash, b.counters);
  b.cache->end_write(kHash, b.counters);
  CHECK_FALSE(b.install(b.basis()));
  b.cache->end_write(kHash, b.counters);
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

TEST_CASE("after an installation an older read of the key can't replace it", "[near_cache]") {
  // Two fills with one basis, on two connections for instance: the key must not go back in time.
  Bench b;
  const coherence::FillBasis first = b.basis();
  const coherence::FillBasis second = b.basis();
  REQUIRE(b.install(first, "$3\r\nnew\r\n"));
  CHECK_FALSE(b.install(second, "$3\r\nold\r\n"));
  CHECK(b.get() == "$3\r\nnew\r\n");
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
    b.cache->on_invalidated(kHash, b.counters);
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
  b.cache->end_write(kHash, b.counters);
  b.cache->on_invalidated(kHash, b.counters);
  b.cache->on_read_past(kHash);
  CHECK(b.invalidations(InvalidationSource::kOwnWrite) == 0);
  CHECK(b.invalidations(InvalidationSource::kTracking) == 0);
}

TEST_CASE("maintenance frees what can never be served again, and keeps what may be", "[near_cache]") {
  Bench b;
  REQUIRE(b.install(b.basis()));
  b.cache->links().verify_until(b.link, 0);  // unverified for now
  b.cache->maintain(kNow);
  CHECK(b.cache->store().stats().items == 1);
  SECTION("its generation is gone") { b.cache->links().bump(b.link); }
  SECTION("its slot moved") { b.cache->epochs().bump(kSlot); }
  SECTION("it expired") { b.now += 300'000'000; }
  b.cache->maintain(b.now);
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
    b.cache->end_write(kHash, b.counters);
    if (!b.get().empty()) ++stale;
    round.store(-i);
  }
  filler.join();
  CHECK(stale == 0);
}

}  // namespace nearcached::tiers
