// How a shard finds a slot for a new entry, and how its table grows and shrinks.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "tiers/l1/memory.hpp"
#include "tiers/l1/shard.hpp"

namespace nearcached::tiers::l1 {
namespace {

constexpr std::uint32_t kBucketsMin = 8;
constexpr std::uint32_t kBucketsMax = std::uint32_t{1} << 28;  // handles are 32 bits, the last one is kNone
// A table this empty whose two buckets are full anyway holds one key in many realms: growing would not help.
constexpr std::uint32_t kGrowFromPercent = 25;
constexpr int kGrowthAttemptsMax = 4;
// In a shard that is full of entries the table has to be this full before entries are evicted for a larger one: displacing
// one now and then is cheaper, displacing all the time would take the choice from the policy.
constexpr std::uint32_t kEvictForGrowthFromPercent = 85;
constexpr std::uint32_t kShrinkBelowPercent = 20;
constexpr std::uint32_t kShrunkPercent = 60;
// Entries fetched ahead while a table is copied: the copy reads every key.
constexpr std::uint32_t kPrefetchDistance = 16;

// A free slot of one bucket, or kNoSlot.
std::uint32_t free_in(const Table& table, std::uint32_t start) {
  for (std::uint32_t slot = start; slot < start + Table::kWays; ++slot)
    if (table.load(slot) == 0) return slot;
  return Table::kNoSlot;
}

// The new table, and while it is filled the map of where things went.
std::size_t rebuild_bytes(std::uint32_t old_slots, std::uint32_t buckets) {
  return Table::bytes_for(buckets) + heap_bytes_bound(std::size_t{old_slots} * sizeof(std::uint32_t));
}

}  // namespace

std::uint32_t Shard::obtain_slot(std::uint64_t hash, std::int64_t now_ms) noexcept {
  std::uint32_t slot = table_.load(std::memory_order_relaxed)->free_slot(hash);
  if (slot != Table::kNoSlot) return slot;
  slot = vacate_by_moving(hash);
  if (slot != Table::kNoSlot) return slot;
  grow(now_ms);  // also where it fails it may have evicted from these very buckets
  slot = table_.load(std::memory_order_relaxed)->free_slot(hash);
  return slot != Table::kNoSlot ? slot : vacate_by_displacing(hash);
}

std::uint32_t Shard::vacate_by_moving(std::uint64_t hash) noexcept {
  Table& table = *table_.load(std::memory_order_relaxed);
  for (const std::uint32_t start : {table.first_slot(hash), table.second_slot(hash)}) {
    for (std::uint32_t from = start; from < start + Table::kWays; ++from) {
      const std::uint64_t other_hash = hash_key(entry_at(from)->key());
      const std::uint32_t first = table.first_slot(other_hash);
      const std::uint32_t to = free_in(table, first == start ? table.second_slot(other_hash) : first);
      if (to == Table::kNoSlot || leads_back_over_walk(from, to)) continue;
      // In both for a moment: a reader may miss it if it looks at the new place first and at the old one last, never find
      // wrong.
      table.store(to, table.load(from));
      policy_.moved(from, to);
      table.store(from, 0);
      return from;
    }
  }
  return Table::kNoSlot;
}

std::uint32_t Shard::vacate_by_displacing(std::uint64_t hash) noexcept {
  const Table& table = *table_.load(std::memory_order_relaxed);
  std::uint32_t weakest = table.first_slot(hash);
  for (const std::uint32_t start : {table.first_slot(hash), table.second_slot(hash)})
    for (std::uint32_t slot = start; slot < start + Table::kWays; ++slot)
      if (node(slot).frequency < node(weakest).frequency) weakest = slot;
  drop(weakest, Removal::kEvicted);
  return weakest;
}

void Shard::grow(std::int64_t now_ms) noexcept {
  const Table& table = *table_.load(std::memory_order_relaxed);
  const std::size_t load_percent = items() * 100 / table.slots();
  if (load_percent < kGrowFromPercent) return;
  std::uint32_t buckets = table.buckets();
  // The copy places without moving and can run into a full pair of buckets, the more so the fuller it is.
  for (int attempt = 0; attempt < kGrowthAttemptsMax; ++attempt) {
    buckets += std::max(buckets / 4, kBucketsMin);
    if (buckets > kBucketsMax) return;
    if (load_percent >= kEvictForGrowthFromPercent) make_room(rebuild_bytes(table.slots(), buckets), 0, now_ms);
    if (rebuild(buckets)) return;
  }
}

void Shard::shrink_if_sparse() noexcept {
  const Table& table = *table_.load(std::memory_order_relaxed);
  if (table.buckets() <= kBucketsMin || items() * 100 >= std::size_t{table.slots()} * kShrinkBelowPercent) return;
  const std::size_t buckets = items() * 100 / kShrunkPercent / Table::kWays;
  (void)rebuild(std::max(static_cast<std::uint32_t>(buckets), kBucketsMin));
}

bool Shard::rebuild(std::uint32_t buckets) noexcept {
  Table& old = *table_.load(std::memory_order_relaxed);
  if (!fits(rebuild_bytes(old.slots(), buckets), 0)) return false;
  Table* const fresh = Table::create(buckets);
  auto* const map = static_cast<std::uint32_t*>(std::malloc(old.slots() * sizeof(std::uint32_t)));
  bool complete = fresh != nullptr && map != nullptr;
  for (std::uint32_t slot = 0; complete && slot < old.slots(); ++slot) {
    if (slot + kPrefetchDistance < old.slots()) __builtin_prefetch(entry_at(slot + kPrefetchDistance));
    map[slot] = kNone;
    const std::uint64_t word = old.load(slot);
    if (word == 0) continue;
    map[slot] = fresh->free_slot(hash_key(Table::entry_of(word)->key()));
    complete = map[slot] != Table::kNoSlot;
    if (complete) fresh->store(map[slot], word);
  }
  if (!complete) {
    if (fresh != nullptr) Table::destroy(fresh);
    std::free(map);
    return false;
  }
  charge(heap_bytes(fresh));
  table_.store(fresh, std::memory_order_seq_cst);
  policy_.remap({map, old.slots()});
  std::free(map);
  retire(&old);
  sweep_cursor_ = 0;
  expiry_cursor_ = 0;
  if (walking_) ++walk_restarts_;
  walk_cursor_ = 0;
  return true;
}

}  // namespace nearcached::tiers::l1
