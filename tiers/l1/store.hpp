// The L1: key -> encoded replies of its reads, shared by all workers, bounded to the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "tiers/l1/policy_node.hpp"
#include "tiers/l1/same_bytes.hpp"
#include "tiers/l1/variants.hpp"

namespace nearcached::tiers::l1 {

struct Options {
  std::size_t max_bytes = 50u << 20;  // all the process holds for L1: entries, index, ghosts, slack, what waits to be freed
  std::size_t max_items = 0;          // 0: unlimited
  std::size_t max_item_bytes = 100 * 1024;  // key + plain replies with their variants' names; larger is refused
  double soft_limit = 0.8;                  // share of max_bytes above which eviction runs in the background (0.1..1)
  std::uint32_t shards = 16;                // power of two, 1..1024
  // An error message that names the option, empty if all is well.
  [[nodiscard]] std::string validate() const;
};

// Which proof an entry stands on. Opaque to the store; the read path compares it with the present (coherence/).
struct Stamp {
  std::uint32_t generation = 0;  // of the fill connection that read it
  std::uint32_t slot_epoch = 0;
  std::uint16_t link = 0;  // which fill connection
  std::uint16_t slot = 0;

  friend bool operator==(const Stamp&, const Stamp&) = default;
};
static_assert(sizeof(Stamp) == 12);

// A key as L1 knows it. `hash` is hash_key(key), computed once per request and used for shard, index and fence stripe.
// `realm` is the identity (and database) whose reads made the entry: the same key may be present once per realm.
struct KeyRef {
  std::uint64_t hash = 0;
  std::uint32_t realm = 0;
  std::string_view key;
};

// Of the process, for hash_key(): random (hash flooding), unless a program brings its own (hash_seed.cpp).
[[nodiscard]] std::uint64_t hash_seed();
[[nodiscard]] std::uint64_t hash_key(std::string_view key);

// The cached replies of one key, immutable, in one block of the heap. Reachable only under a ReadGuard of the thread.
//
//   [ stamp 12 | policy node 16 | payload length 4 | expiry 4 + 1 | key length 2 ]( realm 4 | key length 4 ) key  payload
//
// 38 bytes before the key; the part in parentheses only in *wide* entries, those of a realm that is not 0 or of a key of 64
// KiB and more: one application with one identity doesn't pay for it. Neither does a key that is only read by GET pay for
// variants, nor for packing: the payload of a *plain* entry is that reply. Of an *encoded* one it is that reply packed
// (stored_reply.hpp), or a table of names and replies, packed or not (variants.hpp); the upper bit of the payload length
// says which. The expiry is exact, 38 bits of milliseconds (8 years of uptime), saturating downwards, so that an entry never
// outlives its deadline. Immutable means: what readers look at; the policy's node is written under the shard's mutex, its
// counter by touch().
class Entry {
 public:
  // The reply kept for this read of the key: RESP, as sent to the client, unless it is packed. Nothing if that read is not
  // kept.
  [[nodiscard]] std::optional<StoredReply> reply(std::string_view variant) const noexcept {
    if (((node_.owner & kEncodedBit) | variant.size()) == 0) [[likely]]
      return StoredReply(std::string_view(bytes() + key_length(), payload_length_), false);
    return encoded_reply(variant);
  }
  // All of them.
  [[nodiscard]] VariantCursor replies() const noexcept {
    return has_variants() ? VariantCursor::of_table(payload()) : VariantCursor::of_reply({payload(), is_encoded()});
  }
  [[nodiscard]] std::string_view key() const noexcept { return {bytes(), key_length()}; }
  // Of this key and realm.
  [[nodiscard]] bool is(const KeyRef& key) const noexcept {
    return key_length() == key.key.size() && realm() == key.realm && same_bytes(bytes(), key.key.data(), key.key.size());
  }
  [[nodiscard]] const Stamp& stamp() const noexcept { return stamp_; }
  [[nodiscard]] std::uint32_t realm() const noexcept { return is_wide() ? wide_word(0) : 0; }
  // CLOCK_BOOTTIME milliseconds; never 0.
  [[nodiscard]] std::int64_t expires_at_ms() const noexcept {
    return static_cast<std::int64_t>((std::uint64_t{node_.owner} & kExpiryHighMask) << 32 | expiry_low_);
  }

 private:
  friend class Shard;
  friend class Store;

  // Of node_.owner; the rest of it holds the expiry's upper bits.
  static constexpr std::uint8_t kWideBit = 0x80;
  static constexpr std::uint8_t kEncodedBit = 0x40;
  static constexpr std::uint8_t kExpiryHighMask = 0x3F;
  // Of payload_length_, in encoded entries alone: an item is at most 1 GiB.
  static constexpr std::uint32_t kPackedBit = 1u << 31;
  static constexpr std::int64_t kExpiryMax = std::int64_t{kExpiryHighMask} << 32 | UINT32_MAX;
  static constexpr std::size_t kWideBytes = 8;

  Entry() = default;
  // Of the block to allocate.
  [[nodiscard]] static std::size_t bytes_for(const KeyRef& key, const VariantPayload& payload) noexcept;
  [[nodiscard]] static bool needs_wide(const KeyRef& key) noexcept;
  // Null without memory. Ends with free(). The expiry within 1 and kExpiryMax.
  [[nodiscard]] static Entry* create(const KeyRef& key, const VariantPayload& payload, const Stamp& stamp,
                                     std::int64_t expires_at_ms) noexcept;
  // Takes the older entry's place in the policy.
  void inherit(const Entry& older) noexcept;
  // An unlinked entry's links are free for the list of what waits for its readers.
  void set_retired_next(const Entry* next) noexcept;
  [[nodiscard]] Entry* retired_next() const noexcept;
  [[nodiscard]] bool is_wide() const noexcept { return (node_.owner & kWideBit) != 0; }
  [[nodiscard]] bool is_encoded() const noexcept { return (node_.owner & kEncodedBit) != 0; }
  // Encoded, but not as one packed reply.
  [[nodiscard]] bool has_variants() const noexcept { return is_encoded() && (payload_length_ & kPackedBit) == 0; }
  [[nodiscard]] std::optional<StoredReply> encoded_reply(std::string_view variant) const noexcept;
  [[nodiscard]] std::string_view payload() const noexcept { return {bytes() + key_length(), payload_length_ & ~kPackedBit}; }
  [[nodiscard]] std::uint32_t wide_word(int index) const noexcept {
    std::uint32_t word;
    std::memcpy(&word, tail_ + index * 4, sizeof word);
    return word;
  }
  [[nodiscard]] std::size_t key_length() const noexcept { return is_wide() ? wide_word(1) : key_length_; }
  [[nodiscard]] const char* bytes() const noexcept { return tail_ + (is_wide() ? kWideBytes : 0); }

  Stamp stamp_;
  PolicyNode node_;
  std::uint32_t payload_length_ = 0;
  std::uint32_t expiry_low_ = 0;
  std::uint16_t key_length_ = 0;
  char tail_[2] = {};  // goes on behind the object
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

class Shard;

// Shards of (open-addressing table of tagged pointers, policy, ghosts), each with a mutex for writers; readers take none.
//
// Why this and not a striped hash map: a hit costs two cache lines of table at most, the entry's own, and at its first hit
// since the policy looked one store to it; readers of one key never contend. The price is paid by writers: what readers may
// still see is freed two epochs later (epoch.hpp) and is charged against the budget until then, so that many large
// replacements inside one long guard are refused; and a table that grows is copied under its shard's mutex (readers go on in
// the old one). The budget is split evenly and held per shard: no shard ever holds more than its part, so the sum needs no
// lock to be right. `shards` is an upper bound: there are never so many that the largest item would be over a tenth of a
// shard. Threading: all members may be called from any thread, maintain() from one at a time. Constructor and destructor
// alone. Invariants: stats().bytes <= max_bytes and stats().items <= max_items at every instant; a key and realm is present
// at most once, with all replies of its reads (one use, one eviction, one invalidation).
class Store {
 public:
  // The options must be valid.
  explicit Store(const Options& options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Read-side critical section (epoch-based reclamation): what find() returns stays valid until the guard ends. Enter it
  // once per batch of requests, not per request; never hold it while blocking. A thread registers itself on first use.
  class ReadGuard {
   public:
    explicit ReadGuard(Store& store) noexcept;
    ~ReadGuard();
    ReadGuard(const ReadGuard&) = delete;
    ReadGuard& operator=(const ReadGuard&) = delete;
  };

  // No lock, no allocation, no clock. Does not look at expiry or stamp: the caller does. Counts as a use only by touch().
  [[nodiscard]] const Entry* find(const KeyRef& key) const noexcept;
  // The lesser of max_item_bytes and a tenth of a shard's budget.
  [[nodiscard]] std::size_t item_bytes_max() const noexcept { return item_bytes_max_; }
  // For finds to come, where several are under way: first the index's lines of all, then, once these are here, the
  // entries'. Returns the entry that find() would look at first, null if there is none: who finds that it is() the key need
  // not look for it. Under the guard.
  void prefetch(std::uint64_t hash) const noexcept;
  const Entry* prefetch_entry(std::uint64_t hash) const noexcept;
  // The one relaxed counter bump of a hit.
  static void touch(const Entry& entry) noexcept {
    if (entry.node_.uses.load(std::memory_order_relaxed) < kUsesMax)
      entry.node_.uses.store(kUsesMax, std::memory_order_relaxed);
  }

  // Keeps a reply, RESP or packed from it, as the answer to the key's read `variant` (empty: GET). If the key's entry stands
  // on an equal stamp and has not expired, its other replies stay, the oldest gone first where there are more than
  // kVariantsMax or too many bytes, and the entry then expires when the first of both does; otherwise the new reply is
  // alone. `still_current` is called once, under the shard's lock, just before the entry becomes visible: what makes it
  // false must do so *before* it calls erase(), then no stale entry can survive (coherence.md, Installing). Unless the
  // answer is kInstalled or kNotCurrent the realm's older entry is gone, with all its replies: the value that was refused is
  // the truth.
  InstallResult install(const KeyRef& key, std::string_view variant, const StoredReply& reply, const Stamp& stamp,
                        std::int64_t expires_at_ms, std::int64_t now_ms, const std::function<bool()>& still_current);

  // Drops the key in every realm, known by its hash alone: in about one of 4,000 calls another key's entry goes with it,
  // which is always safe, and nobody has to keep a copy of the key until its write is acknowledged. Returns how many entries
  // went.
  std::size_t erase(std::uint64_t hash, Removal reason);
  // Drops the key in every realm. Returns how many entries went.
  std::size_t erase(std::uint64_t hash, std::string_view key, Removal reason);
  // Drops one realm's entry.
  bool erase(const KeyRef& key, Removal reason);

  // Drops every entry for which `doomed` is true, counted as purged. Every entry that was there before the call and is not
  // erased meanwhile is asked about, wherever a growing table puts it; one that is installed during the walk may be missed,
  // so the caller first makes the installs of what it wants gone impossible. `doomed` runs under a shard's mutex (it must
  // not call the store), which is held for at most 64 entries at a time; the exception is a shard whose table was rebuilt
  // eight times during the walk, which is then finished in one go. Walks wait for each other. Returns how many entries went.
  std::size_t erase_if(const std::function<bool(const Entry&)>& doomed);

  // Background work, bounded: looks at up to `entries_max` entries, drops those expired or for which `dead` is true,
  // and evicts down to the soft limit, again up to `entries_max`. Frees what no reader can see any more. No shard's mutex is
  // held for more than 64 entries. Called by one thread now and then. Returns how many entries went.
  std::size_t maintain(std::int64_t now_ms, std::size_t entries_max, const std::function<bool(const Entry&)>& dead);

  [[nodiscard]] Stats stats() const;
  [[nodiscard]] const Options& options() const noexcept { return options_; }
  [[nodiscard]] std::size_t shard_count() const noexcept { return shard_count_; }

 private:
  [[nodiscard]] Shard& shard_of(std::uint64_t hash) const noexcept;

  // Constant after construction.
  Options options_;
  std::size_t shard_count_;
  std::size_t item_bytes_max_;  // the lesser of max_item_bytes and a tenth of the budget
  std::unique_ptr<Shard[]> shards_;

  std::size_t maintain_shard_ = 0;  // where maintain() goes on; its caller's
  std::mutex walk_mutex_;           // erase_if(): a shard knows one walk
};

}  // namespace nearcached::tiers::l1
