// Readers, writers and one maintainer at once, for the sanitizers and for the promises that only races can break.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"
#include "tiers/l1/store.hpp"

using namespace nearcached::tiers::l1;
using namespace nearcached::tiers::l1::testing;

namespace {

constexpr std::uint32_t kKeys = 3000;
constexpr int kReads = 60'000;
constexpr int kWrites = 20'000;

// A reply that a torn or misplaced entry can't have: its key, its length and one letter throughout.
std::string reply_of(std::uint32_t key, std::uint32_t version) {
  return std::to_string(key) + ":" + std::string(version % 700, static_cast<char>('a' + version % 26));
}

bool consistent(const Entry& entry, std::uint32_t key) {
  const std::string_view reply = entry.reply({}).value_or("").bytes;
  const std::string prefix = std::to_string(key) + ":";
  if (entry.key() != std::to_string(key) || reply.substr(0, prefix.size()) != prefix) return false;
  const std::uint32_t version = entry.stamp().generation;
  return reply == reply_of(key, version);
}

void read(Store& store, std::uint32_t seed, std::atomic<int>& bad) {
  std::minstd_rand random(seed);
  for (int i = 0; i < kReads;) {
    const Store::ReadGuard guard(store);
    std::vector<std::pair<const Entry*, std::uint32_t>> batch;
    for (int k = 0; k < 16; ++k, ++i) {
      const auto key = static_cast<std::uint32_t>(random() % kKeys);
      const std::string text = std::to_string(key);
      store.prefetch(hash_key(text));
      const Entry* const entry = store.find(key_ref(text));
      if (entry == nullptr) continue;
      Store::touch(*entry);
      batch.emplace_back(entry, key);
    }
    // Looked at only now: most of them have been replaced or evicted meanwhile.
    for (const auto& [entry, key] : batch) bad += consistent(*entry, key) ? 0 : 1;
  }
}

void write(Store& store, std::uint32_t seed, std::atomic<int>& over_budget) {
  std::minstd_rand random(seed);
  for (int i = 0; i < kWrites; ++i) {
    const auto key = static_cast<std::uint32_t>(random() % kKeys);
    const auto version = static_cast<std::uint32_t>(random());
    const std::string text = std::to_string(key);
    if (version % 5 == 0) {
      store.erase(hash_key(text), text, Removal::kInvalidated);
    } else {
      store.install(key_ref(text), {}, reply_of(key, version), Stamp{.generation = version},
                    version % 7 == 0 ? kNow + 1 : kLater, kNow, [version] { return version % 11 != 0; });
    }
    if (store.stats().bytes > store.options().max_bytes) ++over_budget;
  }
}

}  // namespace

TEST_CASE("readers see whole entries of their own key and the budget holds while everything changes") {
  Store store(Options{.max_bytes = 600 << 10, .max_item_bytes = 4000, .soft_limit = 0.8, .shards = 8});
  std::atomic<int> bad{0};
  std::atomic<int> over_budget{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < 3; ++i) threads.emplace_back([&, i] { read(store, 100 + i, bad); });
  for (std::uint32_t i = 0; i < 2; ++i) threads.emplace_back([&, i] { write(store, 200 + i, over_budget); });
  std::thread maintainer([&] {
    while (!done) {
      store.maintain(kNow + 1, 200, [](const Entry& entry) { return entry.stamp().generation % 13 == 0; });
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  maintainer.join();
  CHECK(bad == 0);
  CHECK(over_budget == 0);
  const Stats stats = store.stats();
  CHECK(stats.installs > 1000);
  std::uint64_t removals = 0;
  for (const std::uint64_t count : stats.removals) removals += count;
  CHECK(stats.installs - removals == stats.items);
}

// The rule of coherence.md that the store has to carry: what makes the predicate false comes before erase(), and then
// nothing older is found. Each round advances the key's version, erases, and looks.
TEST_CASE("after the version has moved and the key was erased no reader finds the older version") {
  constexpr std::uint32_t kHot = 8;
  constexpr int kRounds = 20'000;
  Store store(Options{.max_bytes = 256 << 10, .max_item_bytes = 1000, .shards = 2});
  std::array<std::atomic<std::uint32_t>, kHot> version{};
  std::atomic<bool> done{false};
  std::atomic<int> stale{0};
  std::vector<std::thread> installers;
  for (std::uint32_t t = 0; t < 2; ++t) {
    installers.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      while (!done) {
        const auto key = static_cast<std::uint32_t>(random() % kHot);
        const std::uint32_t seen = version[key].load();
        const std::string text = std::to_string(key);
        store.install(key_ref(text), {}, reply_of(key, seen), Stamp{.generation = seen}, kLater, kNow,
                      [&, key, seen] { return version[key].load() == seen; });
      }
    });
  }
  std::minstd_rand random(99);
  for (int i = 0; i < kRounds; ++i) {
    const auto key = static_cast<std::uint32_t>(random() % kHot);
    const std::string text = std::to_string(key);
    const std::uint32_t now = ++version[key];
    store.erase(hash_key(text), text, Removal::kInvalidated);
    const Store::ReadGuard guard(store);
    const Entry* const entry = store.find(key_ref(text));
    if (entry != nullptr && entry->stamp().generation != now) ++stale;
  }
  done = true;
  for (std::thread& installer : installers) installer.join();
  CHECK(stale == 0);
}

namespace {

// A reply that can only be of this read of the key, made on that proof.
std::string reply_of_read(std::uint32_t key, std::string_view name, std::uint32_t generation) {
  return std::to_string(key) + "/" + std::string(name) + "/" + std::to_string(generation) + std::string(key % 50, '.');
}

std::string name_of(std::uint32_t number) { return number == 0 ? "" : "read" + std::to_string(number); }

}  // namespace

TEST_CASE("readers of all reads of a key see each whole and of the entry's proof while writers merge") {
  constexpr std::uint32_t kMergedKeys = 40;
  constexpr std::uint32_t kNames = 80;  // more than are kept
  Store store(Options{.max_bytes = 400 << 10, .max_item_bytes = 3000, .shards = 4});
  std::atomic<int> bad{0};
  std::atomic<int> over_budget{0};
  std::atomic<int> merged{0};
  std::atomic<int> writing{2};
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      // To the end of the writing and beyond.
      for (int left = 10'000; left > 0; left -= writing == 0 ? 1 : 0) {
        const auto key = static_cast<std::uint32_t>(random() % kMergedKeys);
        const std::string text = std::to_string(key);
        const Store::ReadGuard guard(store);
        const Entry* const entry = store.find(key_ref(text));
        if (entry == nullptr) continue;
        Store::touch(*entry);
        const std::uint32_t generation = entry->stamp().generation;
        const std::string name = name_of(static_cast<std::uint32_t>(random() % kNames));
        const auto reply = entry->reply(name);
        if (reply && *reply != reply_of_read(key, name, generation)) ++bad;
        if (random() % 8 != 0) continue;
        if (entry->replies().left() > kVariantsMax) ++bad;
        for (VariantCursor cursor = entry->replies(); cursor.left() != 0;) {
          const Variant one = cursor.next();
          if (one.reply != reply_of_read(key, one.name, generation)) ++bad;
        }
      }
    });
  }
  for (std::uint32_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 100);
      for (int i = 0; i < 20'000; ++i) {
        const auto key = static_cast<std::uint32_t>(random() % kMergedKeys);
        const std::string text = std::to_string(key);
        const auto generation = static_cast<std::uint32_t>(i / 500);  // of both writers nearly the same
        const std::string name = name_of(static_cast<std::uint32_t>(random() % kNames));
        if (random() % 200 == 0) store.erase(hash_key(text), Removal::kInvalidated);
        store.install(key_ref(text), name, reply_of_read(key, name, generation), Stamp{.generation = generation}, kLater,
                      kNow, [] { return true; });
        if (store.stats().bytes > store.options().max_bytes) ++over_budget;
        {
          const Store::ReadGuard guard(store);
          const Entry* const entry = store.find(key_ref(text));
          if (entry != nullptr && entry->replies().left() > 1) ++merged;
        }
        if (i % 1000 == 0) store.erase_if([](const Entry& entry) { return entry.key() == "7"; });
      }
      --writing;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(bad == 0);
  CHECK(over_budget == 0);
  CHECK(merged > 100);
}
