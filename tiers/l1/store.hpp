// The L1: key -> encoded reply, shared by all workers, bounded to the byte.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace nearcached::tiers::l1 {

struct Options {
  std::size_t max_bytes = 50u << 20;       // all the process holds for L1: entries, index, ghosts, slack, what waits to be freed
  std::size_t max_items = 0;               // 0: unlimited
  std::size_t max_item_bytes = 100 * 1024; // key + reply; larger ones are refused
  double soft_limit = 0.8;                 // share of max_bytes above which eviction runs in the background (0.1..1)
  std::uint32_t shards = 16;               // power of two, 1..1024
  // An error message that names the option, empty if all is well.
  [[nodiscard]] std::string validate() const;
};

// Which proof an entry stands on. Opaque to the store; the read path compares it with the present (coherence/).
struct Stamp {
  std::uint32_t generation = 0;  // of the fill connection that read it
  std::uint32_t slot_epoch = 0;
  std::uint16_t link = 0;        // which fill connection
  std::uint16_t slot = 0;
};

// A key as L1 knows it. `hash` is hash_key(key), computed once per request and used for shard, index and fence stripe.
// `realm` is the identity (and database) whose reads made the entry: the same key may be present once per realm.
struct KeyRef {
  std::uint64_t hash = 0;
  std::uint32_t realm = 0;
  std::string_view key;
};

// Seeded per process (hash flooding).
[[nodiscard]] std::uint64_t hash_key(std::string_view key);

// An immutable cached reply. Reachable only under a ReadGuard of the thread.
class Entry {
 public:
  [[nodiscard]] std::string_view reply() const;   // RESP bytes as they go to the client
  [[nodiscard]] std::string_view key() const;
  [[nodiscard]] const Stamp& stamp() const;
  [[nodiscard]] std::uint32_t realm() const;
  [[nodiscard]] std::int64_t expires_at_ms() const;  // CLOCK_BOOTTIME milliseconds; never 0
};

enum class InstallResult : std::uint8_t {
  kInstalled,
  kNotCurrent,  // the predicate, asked under the shard's lock, said no
  kTooLarge,    // over max_item_bytes or over a tenth of the budget
  kRefused,     // no room, or admission said no
};

enum class Removal : std::uint8_t { kEvicted, kExpired, kInvalidated, kPurged, kReplaced };
inline constexpr int kRemovals = 5;

struct Stats {
  std::size_t bytes = 0;  // held in all, compare with max_bytes
  std::size_t items = 0;
  std::uint64_t installs = 0;
  std::uint64_t refused = 0;
  std::uint64_t too_large = 0;
  std::uint64_t removals[kRemovals] = {};
};

class Store {
 public:
  explicit Store(const Options& options);
  ~Store();

  // Read-side critical section (epoch-based reclamation): what find() returns stays valid until the guard ends. Enter it
  // once per batch of requests, not per request; never hold it while blocking. A thread registers itself on first use.
  class ReadGuard {
   public:
    explicit ReadGuard(Store& store);
    ~ReadGuard();
    ReadGuard(const ReadGuard&) = delete;
    ReadGuard& operator=(const ReadGuard&) = delete;
  };

  // No lock, no allocation, no clock. Does not look at expiry or stamp: the caller does. Counts as a use only by touch().
  [[nodiscard]] const Entry* find(const KeyRef& key) const noexcept;
  void prefetch(std::uint64_t hash) const noexcept;
  // The one relaxed counter bump of a hit.
  static void touch(const Entry& entry) noexcept;

  // Replaces what is there. `still_current` is called once, under the shard's lock, just before the entry becomes visible:
  // what makes it false must do so *before* it calls erase(), then no stale entry can survive (coherence.md, Installing).
  InstallResult install(const KeyRef& key, std::string_view reply, const Stamp& stamp, std::int64_t expires_at_ms,
                        std::int64_t now_ms, const std::function<bool()>& still_current);

  // Drops the key in every realm. Returns how many entries went.
  std::size_t erase(std::uint64_t hash, std::string_view key, Removal reason);
  // Drops one realm's entry.
  bool erase(const KeyRef& key, Removal reason);

  // Background work, bounded: looks at up to `entries_max` entries, drops those expired or for which `dead` is true,
  // and evicts down to the soft limit. Called by one thread now and then. Returns how many entries went.
  std::size_t maintain(std::int64_t now_ms, std::size_t entries_max, const std::function<bool(const Entry&)>& dead);

  [[nodiscard]] Stats stats() const;
  [[nodiscard]] const Options& options() const;
};

}  // namespace nearcached::tiers::l1
