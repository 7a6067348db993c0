// One shard of the store.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>

#include "tiers/l1/policy.hpp"
#include "tiers/l1/store.hpp"
#include "tiers/l1/table.hpp"

namespace nearcached::tiers::l1 {

struct ShardLimits {
  std::size_t bytes = 0;              // never exceeded
  std::size_t soft_bytes = 0;         // trim() evicts down to it
  std::size_t items = 0;              // 0: unlimited
  std::size_t item_bytes = SIZE_MAX;  // key and plain replies of one entry, beyond which older replies are dropped
};

// What one bounded look at a shard came to.
struct Sweep {
  std::size_t looked = 0;
  std::size_t removed = 0;
  bool wrapped = false;  // the end of the shard was reached
};

// An index, a policy, their budget, and the mutex that every writer of these keys takes.
//
// Two marks below the budget keep an install from ever waiting for readers: eviction starts inline at 15/16 of it, so that
// what was evicted (charged until no reader can see it) has room to lie in; trim() keeps the shard below the soft limit so
// that inline eviction is rare. What it is bad at: growing the table copies it under the mutex (writers of this shard wait;
// readers don't), and in a full shard the new table's memory is first evicted for.
// Threading: members marked "mutex" are touched with mutex_ held; find() and prefetch() take nothing and need a read guard.
// Invariants: held_ <= limits_.bytes; an entry is in exactly one slot, one policy queue and, when unlinked, the retired
// list.
class alignas(64) Shard final : private PolicyItems {
 public:
  Shard() : policy_(*this) {}
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Once, before anything else.
  void open(const ShardLimits& limits);

  [[nodiscard]] const Entry* find(const KeyRef& key) const noexcept;
  void prefetch(std::uint64_t hash) const noexcept;
  const Entry* prefetch_entry(std::uint64_t hash) const noexcept;

  InstallResult install(const KeyRef& key, const Variant& variant, const Stamp& stamp, std::int64_t expires_at_ms,
                        std::int64_t now_ms, const std::function<bool()>& still_current);
  // For a reply that may not be installed at all: the older entry goes all the same.
  void refuse_too_large(const KeyRef& key);
  // In every realm, or in one.
  std::size_t erase(std::uint64_t hash, std::optional<std::string_view> key, std::optional<std::uint32_t> realm,
                    Removal reason);

  // Looks at up to `entries_max` entries from where the last call ended.
  Sweep sweep(std::int64_t now_ms, std::size_t entries_max, const std::function<bool(const Entry&)>& dead);
  // A walk of erase_if(), one at a time: every entry that is there at its begin, and stays, is asked about. A table that is
  // rebuilt has the walk start again, and no entry is moved from ahead of it to behind it. `wrapped`: it has ended.
  void begin_walk();
  Sweep walk(std::size_t entries_max, const std::function<bool(const Entry&)>& doomed);
  // Evicts up to `evictions_max` entries while above the soft limit, frees and shrinks. Returns how many went.
  std::size_t trim(std::int64_t now_ms, std::size_t evictions_max);

  void add_to(Stats& stats) const noexcept;

 private:
  PolicyNode& node(std::uint32_t slot) override;
  std::uint32_t cost(std::uint32_t slot) override;
  std::uint32_t fingerprint(std::uint32_t slot) override;

  // What is to be installed, and until when.
  struct Plan {
    VariantPayload payload;
    std::int64_t expires_at_ms;
  };
  // Why an entry goes, nothing if it stays.
  using Verdict = std::function<std::optional<Removal>(const Entry&)>;

  // All of these: mutex.
  [[nodiscard]] Plan plan_for(std::uint32_t slot, std::size_t key_bytes, const Variant& variant, const Stamp& stamp,
                              std::int64_t expires_at_ms, std::int64_t now_ms) const noexcept;
  Sweep look_through(std::uint32_t& cursor, std::size_t entries_max, const Verdict& verdict);
  [[nodiscard]] bool leads_back_over_walk(std::uint32_t from, std::uint32_t to) const noexcept {
    return to < walk_cursor_ && walk_cursor_ <= from;
  }
  [[nodiscard]] Entry* entry_at(std::uint32_t slot) const noexcept;
  [[nodiscard]] std::uint32_t locate(const KeyRef& key) const noexcept;
  std::uint32_t obtain_slot(std::uint64_t hash, std::int64_t now_ms) noexcept;
  std::uint32_t vacate_by_moving(std::uint64_t hash) noexcept;
  std::uint32_t vacate_by_displacing(std::uint64_t hash) noexcept;
  void grow(std::int64_t now_ms) noexcept;
  bool rebuild(std::uint32_t buckets) noexcept;
  void shrink_if_sparse() noexcept;
  void publish(std::uint32_t slot, std::uint64_t hash, Entry* entry) noexcept;
  void drop(std::uint32_t slot, Removal reason) noexcept;
  void unlink(std::uint32_t slot, Removal reason) noexcept;
  void drop_older(const KeyRef& key) noexcept;
  bool make_room(std::size_t bytes, std::size_t items, std::int64_t now_ms) noexcept;
  [[nodiscard]] bool fits(std::size_t bytes, std::size_t items) const noexcept;
  [[nodiscard]] bool below_marks(std::size_t bytes, std::size_t items) const noexcept;
  void expire_some(std::int64_t now_ms) noexcept;
  bool evict_one(std::int64_t now_ms) noexcept;
  void resize_ghosts_if_due() noexcept;
  void retire(Entry* entry) noexcept;
  void retire(Table* table) noexcept;
  void reclaim(std::size_t entries_max) noexcept;
  void reclaim_tables() noexcept;
  void charge(std::size_t bytes) noexcept;
  void discharge(std::size_t bytes) noexcept;
  [[nodiscard]] std::size_t held() const noexcept { return held_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t live_bytes() const noexcept { return held() - retired_bytes_; }
  [[nodiscard]] std::size_t items() const noexcept { return items_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t inline_mark() const noexcept { return limits_.bytes - limits_.bytes / 16; }

  // Read by everyone, stored with mutex_ held.
  std::atomic<Table*> table_{nullptr};

  alignas(64) mutable std::mutex mutex_;
  ShardLimits limits_;  // constant after open()

  // mutex
  Policy policy_;
  Entry* retired_head_ = nullptr;  // oldest; linked through the nodes' prev and next, stamped in their rank
  Entry* retired_tail_ = nullptr;
  Table* retired_tables_ = nullptr;
  std::size_t retired_bytes_ = 0;
  std::uint32_t expiry_cursor_ = 0;
  std::uint32_t sweep_cursor_ = 0;
  std::uint32_t walk_cursor_ = 0;  // slots below it have been walked; 0 when nobody walks
  std::uint32_t walk_restarts_ = 0;
  bool walking_ = false;

  // Stored with mutex_ held, read by stats() at any time.
  std::atomic<std::size_t> held_{0};
  std::atomic<std::size_t> items_{0};
  std::atomic<std::uint64_t> installs_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> too_large_{0};
  std::array<std::atomic<std::uint64_t>, kRemovals> removals_{};
};

}  // namespace nearcached::tiers::l1
