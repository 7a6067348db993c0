// Who may install what: fences around own writes, and the version of every key.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace nearcached::tiers::coherence {

// For every key a version and a count of own writes under way, kept in stripes: keys that share a stripe share their fate,
// which costs a fill its installation now and then and never correctness.
//
//     word of a stripe:   version (36 bits) | writes under way (28 bits)
//
// A fill captures the word when it is sent. It may install only if no write was under way then and the word is the same at
// installation: whatever happens to the key in between - a push, an own write's start or end, a read that went past L1 -
// changes the word, *also when no entry exists*. A write counts from its dispatch to its acknowledgement, so that a fill
// which read the old value while the write was on its way can't install it (coherence.md, Installing). A second word stands
// for all keys at once (FLUSHALL, scripts whose keys nobody knows).
//
// Order of use: change the word first, then erase the entry. Installation checks the word under the lock that erase takes.
//
// Bounds: 2^28 - 1 writes under way per stripe (limits.clients x limits.pipeline may not be more: config/validate); a
// version comes round after 2^36 changes of one stripe during one fill. Threading: all functions from any thread.
class FenceTable {
 public:
  static constexpr std::size_t kStripes = 1u << 16;
  static constexpr std::uint64_t kWritesMax = (1u << 28) - 1;

  struct Stamp {
    std::uint64_t key = 0;
    std::uint64_t all = 0;
    // No write was under way when it was captured.
    [[nodiscard]] bool open() const { return (key & kWritesMax) == 0 && (all & kWritesMax) == 0; }
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  FenceTable() : stripes_(new std::atomic<std::uint64_t>[kStripes]()) {}

  [[nodiscard]] Stamp capture(std::uint64_t hash) const noexcept {
    return {stripe(hash).load(std::memory_order_seq_cst), all_.load(std::memory_order_seq_cst)};
  }
  [[nodiscard]] bool current(std::uint64_t hash, const Stamp& stamp) const noexcept { return capture(hash) == stamp; }

  void begin_write(std::uint64_t hash) noexcept { stripe(hash).fetch_add(kVersion + 1); }
  void end_write(std::uint64_t hash) noexcept { stripe(hash).fetch_add(kVersion - 1); }
  // Something happened to the key, or somebody was told a value of it that did not come from its current fill.
  void bump(std::uint64_t hash) noexcept { stripe(hash).fetch_add(kVersion); }

  void begin_write_all() noexcept { all_.fetch_add(kVersion + 1); }
  void end_write_all() noexcept { all_.fetch_add(kVersion - 1); }
  void bump_all() noexcept { all_.fetch_add(kVersion); }

 private:
  static constexpr std::uint64_t kVersion = kWritesMax + 1;

  [[nodiscard]] std::atomic<std::uint64_t>& stripe(std::uint64_t hash) const noexcept {
    return stripes_[(hash >> 24) & (kStripes - 1)];  // bits that neither the shard nor the index slot uses first
  }

  std::unique_ptr<std::atomic<std::uint64_t>[]> stripes_;
  alignas(64) std::atomic<std::uint64_t> all_{0};
};

}  // namespace nearcached::tiers::coherence
