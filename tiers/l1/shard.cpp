#include "tiers/l1/shard.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "tiers/l1/assertion.hpp"
#include "tiers/l1/epoch.hpp"
#include "tiers/l1/memory.hpp"

namespace nearcached::tiers::l1 {
namespace {

constexpr std::uint32_t kBucketsMin = 8;
// An install evicts at most so many before it is refused: a large reply among tiny ones must not hold the mutex for long.
constexpr std::size_t kInlineEvictionsMax = 1024;
// Entries looked at for an expired one before the first live one is evicted.
constexpr std::uint32_t kExpiryLooks = 16;
constexpr std::size_t kReclaimPerWrite = 32;
constexpr std::size_t kReclaimPerTrim = 256;
// A walk that has been sent back so often, by a table that grows and shrinks all the time, ends in one go.
constexpr std::uint32_t kWalkRestartsMax = 8;

void bump(std::atomic<std::uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

void Shard::open(const ShardLimits& limits) {
  limits_ = limits;
  Table* const table = Table::create(kBucketsMin);
  require(table != nullptr, "memory for the first table");
  table_.store(table);
  charge(sizeof(Shard) + heap_bytes(table));
}

Shard::~Shard() {
  Table* const table = table_.load();
  if (table == nullptr) return;
  for (std::uint32_t slot = 0; slot < table->slots(); ++slot)
    if (const std::uint64_t word = table->load(slot); word != 0) std::free(Table::entry_of(word));
  Table::destroy(table);
  while (retired_head_ != nullptr) {
    Entry* const entry = retired_head_;
    retired_head_ = entry->retired_next();
    std::free(entry);
  }
  while (retired_tables_ != nullptr) {
    Table* const old = retired_tables_;
    retired_tables_ = old->retired_next;
    Table::destroy(old);
  }
}

const Entry* Shard::find(const KeyRef& key) const noexcept {
  const Table* const table = table_.load(std::memory_order_seq_cst);
  for (const std::uint32_t start : {table->first_slot(key.hash), table->second_slot(key.hash)}) {
    for (std::uint32_t ways = table->ways_of(start, key.hash); ways != 0; ways &= ways - 1) {
      const Entry* const entry = Table::entry_of(table->load(start + static_cast<std::uint32_t>(std::countr_zero(ways))));
      if (entry != nullptr && entry->is(key)) return entry;
    }
  }
  return nullptr;
}

void Shard::prefetch(std::uint64_t hash) const noexcept {
  const Table* const table = table_.load(std::memory_order_seq_cst);
  __builtin_prefetch(table->address(table->first_slot(hash)));
  __builtin_prefetch(table->address(table->second_slot(hash)));
}

const Entry* Shard::prefetch_entry(std::uint64_t hash) const noexcept {
  constexpr std::size_t kLineBytes = 64;
  const Table* const table = table_.load(std::memory_order_seq_cst);
  for (const std::uint32_t start : {table->first_slot(hash), table->second_slot(hash)}) {
    const std::uint32_t ways = table->ways_of(start, hash);
    if (ways == 0) continue;
    const Entry* const entry = Table::entry_of(table->load(start + static_cast<std::uint32_t>(std::countr_zero(ways))));
    const auto* const at = reinterpret_cast<const char*>(entry);
    for (std::size_t line = 0; line < 3; ++line) __builtin_prefetch(at + line * kLineBytes);
    return entry;
  }
  return nullptr;
}

InstallResult Shard::install(const KeyRef& key, const Variant& variant, const Stamp& stamp, std::int64_t expires_at_ms,
                             std::int64_t now_ms, const std::function<bool()>& still_current) {
  const std::lock_guard lock(mutex_);
  reclaim(kReclaimPerWrite);
  std::uint32_t slot = locate(key);
  const std::size_t items = slot == Table::kNoSlot ? 1 : 0;
  const auto refuse = [&] {
    drop_older(key);
    bump(refused_);
    return InstallResult::kRefused;
  };
  if (expires_at_ms <= now_ms) return refuse();
  // First the slot, which may cost memory or an eviction, then the room; from there nothing may move.
  if (slot == Table::kNoSlot) slot = obtain_slot(key.hash, now_ms);
  Plan plan = plan_for(slot, key.key.size(), variant, stamp, expires_at_ms, now_ms);
  if (!make_room(heap_bytes_bound(Entry::bytes_for(key, plan.payload)), items, now_ms)) return refuse();
  // The room may have been made of the very entry whose replies were to stay.
  if (plan.payload.merged()) plan = plan_for(slot, key.key.size(), variant, stamp, expires_at_ms, now_ms);
  Entry* const entry = Entry::create(key, plan.payload, stamp, plan.expires_at_ms);
  if (entry == nullptr) return refuse();
  if (held() + heap_bytes(entry) > limits_.bytes) {
    std::free(entry);
    return refuse();
  }
  // Nothing between the question and the publication: whoever makes it false and then takes the mutex to erase finds either
  // no entry or this one.
  if (!still_current()) {
    std::free(entry);
    return InstallResult::kNotCurrent;
  }
  publish(slot, key.hash, entry);
  resize_ghosts_if_due();
  return InstallResult::kInstalled;
}

Shard::Plan Shard::plan_for(std::uint32_t slot, std::size_t key_bytes, const Variant& variant, const Stamp& stamp,
                            std::int64_t expires_at_ms, std::int64_t now_ms) const noexcept {
  Plan plan{VariantPayload(variant), std::clamp<std::int64_t>(expires_at_ms, 1, Entry::kExpiryMax)};
  const Entry* const older = entry_at(slot);
  if (older == nullptr || older->stamp() != stamp || older->expires_at_ms() <= now_ms) return plan;
  plan.payload.keep(older->replies(), limits_.item_bytes - key_bytes);
  if (plan.payload.merged()) plan.expires_at_ms = std::min(plan.expires_at_ms, older->expires_at_ms());
  return plan;
}

void Shard::publish(std::uint32_t slot, std::uint64_t hash, Entry* entry) noexcept {
  Table& table = *table_.load(std::memory_order_relaxed);
  const std::size_t bytes = heap_bytes(entry);
  const std::size_t full = std::min(limits_.soft_bytes, inline_mark());
  const bool roomy = live_bytes() + bytes <= full - full / 20;
  charge(bytes);
  bump(installs_);
  const std::uint64_t older_word = table.load(slot);
  if (older_word == 0) {
    table.store(slot, Table::pack(hash, entry));
    items_.store(items() + 1, std::memory_order_relaxed);
    policy_.insert(slot, roomy);
    return;
  }
  Entry* const older = Table::entry_of(older_word);
  const std::uint32_t older_cost = cost(slot);
  entry->inherit(*older);
  table.store(slot, Table::pack(hash, entry));
  policy_.replaced(slot, older_cost);
  bump(removals_[static_cast<std::size_t>(Removal::kReplaced)]);
  retire(older);
}

void Shard::refuse_too_large(const KeyRef& key) {
  const std::lock_guard lock(mutex_);
  drop_older(key);
  bump(too_large_);
}

std::size_t Shard::erase(std::uint64_t hash, std::optional<std::string_view> key, std::optional<std::uint32_t> realm,
                         Removal reason) {
  const std::lock_guard lock(mutex_);
  const Table& table = *table_.load(std::memory_order_relaxed);
  std::size_t dropped = 0;
  for (const std::uint32_t start : {table.first_slot(hash), table.second_slot(hash)}) {
    for (std::uint32_t slot = start; slot < start + Table::kWays; ++slot) {
      const std::uint64_t word = table.load(slot);
      if (word == 0 || !Table::same_tag(word, hash)) continue;
      const Entry& entry = *Table::entry_of(word);
      if ((key && entry.key() != *key) || (realm && entry.realm() != *realm)) continue;
      drop(slot, reason);
      ++dropped;
    }
  }
  if (dropped != 0) reclaim(kReclaimPerWrite);
  return dropped;
}

Sweep Shard::sweep(std::int64_t now_ms, std::size_t entries_max, const std::function<bool(const Entry&)>& dead) {
  const std::lock_guard lock(mutex_);
  return look_through(sweep_cursor_, entries_max, [&](const Entry& entry) -> std::optional<Removal> {
    if (entry.expires_at_ms() <= now_ms) return Removal::kExpired;
    if (dead && dead(entry)) return Removal::kPurged;
    return std::nullopt;
  });
}

void Shard::begin_walk() {
  const std::lock_guard lock(mutex_);
  walk_cursor_ = 0;
  walk_restarts_ = 0;
  walking_ = true;
}

Sweep Shard::walk(std::size_t entries_max, const std::function<bool(const Entry&)>& doomed) {
  const std::lock_guard lock(mutex_);
  if (!walking_) return {.wrapped = true};
  if (walk_restarts_ >= kWalkRestartsMax) entries_max = table_.load(std::memory_order_relaxed)->slots() + 1;
  const Sweep result = look_through(walk_cursor_, entries_max, [&](const Entry& entry) {
    return doomed(entry) ? std::optional(Removal::kPurged) : std::nullopt;
  });
  walking_ = !result.wrapped;
  reclaim(kReclaimPerTrim);
  return result;
}

Sweep Shard::look_through(std::uint32_t& cursor, std::size_t entries_max, const Verdict& verdict) {
  const Table& table = *table_.load(std::memory_order_relaxed);
  Sweep result;
  // A sparse table has free slots for each entry; they are cheap, but not free.
  for (std::size_t looks = entries_max * Table::kWays; looks > 0 && result.looked < entries_max; --looks) {
    if (cursor >= table.slots()) {
      cursor = 0;
      result.wrapped = true;
      break;
    }
    const std::uint32_t slot = cursor++;
    const Entry* const entry = entry_at(slot);
    if (entry == nullptr) continue;
    ++result.looked;
    const std::optional<Removal> reason = verdict(*entry);
    if (!reason) continue;
    drop(slot, *reason);
    ++result.removed;
  }
  return result;
}

std::size_t Shard::trim(std::int64_t now_ms, std::size_t evictions_max) {
  const std::lock_guard lock(mutex_);
  std::size_t evicted = 0;
  while (evicted < evictions_max && live_bytes() > limits_.soft_bytes && evict_one(now_ms)) ++evicted;
  shrink_if_sparse();
  resize_ghosts_if_due();
  reclaim(kReclaimPerTrim);
  return evicted;
}

void Shard::add_to(Stats& stats) const noexcept {
  stats.bytes += held();
  stats.items += items();
  stats.installs += installs_.load(std::memory_order_relaxed);
  stats.refused += refused_.load(std::memory_order_relaxed);
  stats.too_large += too_large_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < removals_.size(); ++i) stats.removals[i] += removals_[i].load(std::memory_order_relaxed);
}

PolicyNode& Shard::node(std::uint32_t slot) { return entry_at(slot)->node_; }

std::uint32_t Shard::cost(std::uint32_t slot) {
  return static_cast<std::uint32_t>(std::min<std::size_t>(heap_bytes(entry_at(slot)), UINT32_MAX));
}

std::uint32_t Shard::fingerprint(std::uint32_t slot) {
  const Entry& entry = *entry_at(slot);
  return static_cast<std::uint32_t>((hash_key(entry.key()) ^ entry.realm() * 0x9E3779B97F4A7C15u) >> 32);
}

Entry* Shard::entry_at(std::uint32_t slot) const noexcept {
  return Table::entry_of(table_.load(std::memory_order_relaxed)->load(slot));
}

std::uint32_t Shard::locate(const KeyRef& key) const noexcept {
  const Table& table = *table_.load(std::memory_order_relaxed);
  for (const std::uint32_t start : {table.first_slot(key.hash), table.second_slot(key.hash)}) {
    for (std::uint32_t slot = start; slot < start + Table::kWays; ++slot) {
      const std::uint64_t word = table.load(slot);
      if (word != 0 && Table::same_tag(word, key.hash) && Table::entry_of(word)->is(key)) return slot;
    }
  }
  return Table::kNoSlot;
}

void Shard::drop(std::uint32_t slot, Removal reason) noexcept {
  policy_.erase(slot, reason != Removal::kPurged);
  unlink(slot, reason);
}

void Shard::unlink(std::uint32_t slot, Removal reason) noexcept {
  Entry* const entry = entry_at(slot);
  table_.load(std::memory_order_relaxed)->store(slot, 0);
  items_.store(items() - 1, std::memory_order_relaxed);
  bump(removals_[static_cast<std::size_t>(reason)]);
  retire(entry);
}

void Shard::drop_older(const KeyRef& key) noexcept {
  if (const std::uint32_t slot = locate(key); slot != Table::kNoSlot) drop(slot, Removal::kReplaced);
}

bool Shard::below_marks(std::size_t bytes, std::size_t items_added) const noexcept {
  return live_bytes() + bytes <= inline_mark() && (limits_.items == 0 || items() + items_added <= limits_.items);
}

bool Shard::fits(std::size_t bytes, std::size_t items_added) const noexcept {
  return below_marks(bytes, items_added) && held() + bytes <= limits_.bytes;
}

bool Shard::make_room(std::size_t bytes, std::size_t items_added, std::int64_t now_ms) noexcept {
  if (fits(bytes, items_added)) return true;
  if (!below_marks(bytes, items_added)) expire_some(now_ms);
  for (std::size_t n = 0; n < kInlineEvictionsMax && !below_marks(bytes, items_added); ++n)
    if (!evict_one(now_ms)) break;
  reclaim(kInlineEvictionsMax);
  return fits(bytes, items_added);
}

void Shard::expire_some(std::int64_t now_ms) noexcept {
  const Table& table = *table_.load(std::memory_order_relaxed);
  for (std::uint32_t looks = 0; looks < kExpiryLooks; ++looks) {
    if (expiry_cursor_ >= table.slots()) expiry_cursor_ = 0;
    const std::uint32_t slot = expiry_cursor_++;
    const Entry* const entry = entry_at(slot);
    if (entry != nullptr && entry->expires_at_ms() <= now_ms) drop(slot, Removal::kExpired);
  }
}

bool Shard::evict_one(std::int64_t now_ms) noexcept {
  const std::uint32_t slot = policy_.victim();
  if (slot == kNone) return false;
  unlink(slot, entry_at(slot)->expires_at_ms() <= now_ms ? Removal::kExpired : Removal::kEvicted);
  return true;
}

void Shard::resize_ghosts_if_due() noexcept {
  const std::size_t step = policy_.ghost_step_bytes();
  if (step == 0 || held() + step > inline_mark()) return;
  const std::size_t before = policy_.heap_bytes();
  policy_.resize_ghosts();
  charge(policy_.heap_bytes());
  discharge(before);
}

void Shard::charge(std::size_t bytes) noexcept { held_.store(held() + bytes, std::memory_order_relaxed); }

void Shard::discharge(std::size_t bytes) noexcept { held_.store(held() - bytes, std::memory_order_relaxed); }

void Shard::retire(Entry* entry) noexcept {
  retired_bytes_ += heap_bytes(entry);
  entry->node_.rank = static_cast<std::uint32_t>(Epoch::current());
  entry->set_retired_next(nullptr);
  if (retired_tail_ != nullptr) {
    retired_tail_->set_retired_next(entry);
  } else {
    retired_head_ = entry;
  }
  retired_tail_ = entry;
}

void Shard::retire(Table* table) noexcept {
  retired_bytes_ += heap_bytes(table);
  table->retired_epoch = Epoch::current();
  table->retired_next = retired_tables_;
  retired_tables_ = table;
}

void Shard::reclaim(std::size_t entries_max) noexcept {
  if (retired_head_ == nullptr && retired_tables_ == nullptr) return;
  // Two steps free what has just been retired, if nobody reads.
  if (Epoch::try_advance()) Epoch::try_advance();
  const auto now = static_cast<std::uint32_t>(Epoch::current());
  for (; entries_max > 0 && retired_head_ != nullptr; --entries_max) {
    Entry* const entry = retired_head_;
    if (static_cast<std::int32_t>(now - entry->node_.rank) < 2) break;
    retired_head_ = entry->retired_next();
    if (retired_head_ == nullptr) retired_tail_ = nullptr;
    const std::size_t bytes = heap_bytes(entry);
    std::free(entry);
    retired_bytes_ -= bytes;
    discharge(bytes);
  }
  reclaim_tables();
}

void Shard::reclaim_tables() noexcept {
  const std::uint64_t now = Epoch::current();
  for (Table** link = &retired_tables_; *link != nullptr;) {
    Table* const table = *link;
    if (now < table->retired_epoch + 2) {
      link = &table->retired_next;
      continue;
    }
    *link = table->retired_next;
    const std::size_t bytes = heap_bytes(table);
    Table::destroy(table);
    retired_bytes_ -= bytes;
    discharge(bytes);
  }
}

}  // namespace nearcached::tiers::l1
