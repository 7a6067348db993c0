// L1 and the rules that make it safe, as one object: the only place where store, fences and proofs meet.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "tiers/coherence/fence_table.hpp"
#include "tiers/coherence/fill_link.hpp"
#include "tiers/coherence/link_table.hpp"
#include "tiers/coherence/slot_epochs.hpp"
#include "tiers/insight/counters.hpp"
#include "tiers/l1/store.hpp"

namespace nearcached::tiers {

struct NearCacheOptions {
  l1::Options store;
  bool enabled = true;
  std::int64_t ttl_us = 300'000'000;  // an entry lives at most this long
};

// A hit is served only while everything it stands on holds: its connection's generation and verification, its slot's epoch,
// its TTL. Writes are fenced from dispatch to acknowledgement. In every path that makes an entry untrue the fence moves
// first and the entry is erased second; install() checks the fence under the lock that erase takes, so one of the two always
// sees the other. Keys are erased by their hash, in all realms: dropping one too many is always safe, and nobody has to
// keep a copy of a key until its write is acknowledged.
//
// Threading: all functions from any thread; find() under a l1::Store::ReadGuard.
class NearCache {
 public:
  using Counters = insight::Counters;

  explicit NearCache(const NearCacheOptions& options);

  struct Lookup {
    const l1::Entry* entry = nullptr;  // a hit, valid until the thread's ReadGuard ends
    insight::MissReason reason = insight::MissReason::kAbsent;
  };
  // The hit path: no lock, no allocation, no clock.
  [[nodiscard]] Lookup find(const l1::KeyRef& key, std::int64_t now_us) const noexcept;

  // Keeps what a fill read, if all it stood on still holds. True if it was kept.
  bool install(const coherence::FillResult& result, std::uint32_t realm, std::int64_t now_us);

  // L1 never keeps so large a reply.
  [[nodiscard]] bool too_large(const coherence::FillResult& result) const {
    return result.key.size() + result.reply.size() > options_.store.max_item_bytes;
  }

  // The upstream said that the key changed.
  void on_invalidated(std::uint64_t hash, Counters& counters);

  // An own write, from its dispatch to its acknowledgement, its failure included. Erases at both ends: the second time
  // before the client is answered.
  void begin_write(std::uint64_t hash, Counters& counters);
  void end_write(std::uint64_t hash, Counters& counters);
  // A write of keys that nobody knows, or of all.
  void begin_write_all();
  void end_write_all(Counters& counters);
  // A client is about to be told something of the key that did not come through L1: it may be newer than the entry, and
  // the key must not go back in time for him.
  void on_read_past(std::uint64_t hash);

  // The topology that workers are about to be told. A read that was routed by an older one is not made for L1: the node it
  // names may not know yet that it lost the slot.
  void set_topology_version(std::uint64_t version) { topology_version_.store(version); }
  [[nodiscard]] std::uint64_t topology_version() const { return topology_version_.load(); }

  // Background work of L1, bounded. One caller.
  void maintain(std::int64_t now_us);

  [[nodiscard]] bool enabled() const { return options_.enabled; }
  [[nodiscard]] l1::Store& store() { return store_; }
  [[nodiscard]] coherence::FenceTable& fences() { return fences_; }
  [[nodiscard]] coherence::SlotEpochs& epochs() { return epochs_; }
  [[nodiscard]] coherence::LinkTable& links() { return links_; }

 private:
  [[nodiscard]] bool holds(const coherence::FillBasis& basis, std::uint64_t hash) const noexcept;
  void erase(std::uint64_t hash, insight::InvalidationSource source, Counters& counters);

  const NearCacheOptions options_;
  coherence::FenceTable fences_;
  coherence::SlotEpochs epochs_;
  coherence::LinkTable links_;
  l1::Store store_;
  std::atomic<std::uint64_t> topology_version_{0};
};

}  // namespace nearcached::tiers
