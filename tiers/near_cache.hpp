// L1 and the rules that make it safe, as one object: the only place where store, fences and proofs meet.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tiers/coherence/fence_table.hpp"
#include "tiers/coherence/fill_link.hpp"
#include "tiers/coherence/link_table.hpp"
#include "tiers/coherence/slot_epochs.hpp"
#include "tiers/insight/counters.hpp"
#include "tiers/insight/invalidation_clock.hpp"
#include "tiers/l1/compressor.hpp"
#include "tiers/l1/store.hpp"
#include "tiers/policies.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers {

struct NearCacheOptions {
  l1::Options store;
  bool enabled = true;
  Policies policies{Policy{}};
  const write_behind::WriteQueue* queue = nullptr;  // of writes that are not upstream yet; outlives the cache
};

// A hit is served only while everything it stands on holds: its connection's generation and proof, its slot's epoch, its
// deadline. What is unverified stays, to be read again on demand, and is served meanwhile only where the policy is stale_ok.
//
// Writes are fenced from dispatch to acknowledgement. In every path that makes an entry untrue the fence moves first and the
// entry is erased second; install() checks the fence under the lock that erase takes, so one of the two always sees the
// other. Keys are erased by their hash, in all realms: dropping one too many is always safe, and nobody has to keep a copy
// of a key until its write is acknowledged.
//
// A key whose newest value is not upstream yet is never in here: what is put into the queue counts as dirty first, then its
// fence moves and its entry is erased; install() asks the queue under the lock that erase takes.
//
// An installation does not move the fence: all fills of a key and realm come over one connection, in the order in which the
// node read them, so an older one can't come after a newer one (docs/consistency.md).
//
// Threading: all functions from any thread; find() under a l1::Store::ReadGuard.
class NearCache {
 public:
  using Counters = insight::Counters;

  explicit NearCache(const NearCacheOptions& options);

  struct Lookup {
    std::optional<l1::StoredReply> reply;  // a hit, valid until the thread's ReadGuard ends; packed, it is to be unpacked
    insight::MissReason reason = insight::MissReason::kAbsent;
    bool stale = false;  // a hit that is unverified, by its policy
    std::int64_t expires_at_ms = 0;
  };
  // The hit path: no lock, no allocation, no clock. `heard_us`: when this client was last told something that did not come
  // from L1; the causal level asks for a proof from after that. Never called with a kStrict policy.
  // `hint`: what prefetch_entry() returned under the same guard.
  [[nodiscard]] Lookup find(const l1::KeyRef& key, std::string_view variant, const Policy& policy, std::int64_t heard_us,
                            std::int64_t now_us, const l1::Entry* hint = nullptr) const noexcept;

  // Of a hit, under the same guard: writes stored.plain_size() bytes, or appends them. False: it can't be read, which is a
  // miss.
  [[nodiscard]] bool unpack(const l1::StoredReply& stored, char* out) const noexcept {
    return compressor_.unpack(stored, out);
  }
  [[nodiscard]] bool unpack(const l1::StoredReply& stored, std::string& out) const {
    return compressor_.unpack(stored, out);
  }
  // What L1 holds of a read, whether it may be served or not; nothing if it holds nothing that can be read. Under a guard.
  // In `scratch`, which is empty, if it had to be unpacked.
  [[nodiscard]] std::optional<std::string_view> peek(const l1::KeyRef& key, std::string_view variant,
                                                     std::string& scratch) const;

  // Keeps what a fill read, packed where its policy says so, if all it stood on still holds. True if it was kept.
  bool install(const coherence::FillResult& result, std::uint32_t realm, std::int64_t now_us);

  // L1 never keeps so large a reply.
  [[nodiscard]] bool too_large(const coherence::FillResult& result) const {
    return result.key.size() + result.variant.size() + result.reply.size() > store_.item_bytes_max();
  }

  // The upstream, or a peer, said that the key changed.
  void on_invalidated(std::uint64_t hash, insight::InvalidationSource source, std::int64_t now_us, Counters& counters);

  // An own write, from its dispatch to its acknowledgement, its failure included. Erases at both ends: the second time
  // before the client is answered.
  void begin_write(std::uint64_t hash, Counters& counters);
  void end_write(std::uint64_t hash, std::int64_t now_us, Counters& counters);
  // Of the key, or of one of its stripe, or of keys that nobody knows.
  [[nodiscard]] bool write_under_way(std::uint64_t hash) const { return !fences_.capture(hash).open(); }
  // A write of keys that nobody knows, or of all.
  void begin_write_all();
  void end_write_all(Counters& counters);
  // A client is about to be told something of the key that did not come through L1: it may be newer than the entry, and
  // the key must not go back in time for him.
  void on_read_past(std::uint64_t hash);

  // Drops every key that begins with it, in all realms; fills under way are not installed. Walks the whole store, a few
  // milliseconds per 100,000 entries, holding a shard's lock for a moment at a time: not for a worker's thread. Returns how
  // many entries went.
  std::size_t purge_prefix(std::string_view prefix);

  void purge_everything();

  // The topology that workers are about to be told. A slot that changed its owner gets a new epoch first. A read that was
  // routed by an older topology is not made for L1: the node it names may not know yet that it lost the slot. Returns how
  // many slots moved. One caller.
  std::size_t apply_topology(const upstream::TopologyPtr& topology);
  [[nodiscard]] std::uint64_t topology_version() const { return topology_version_.load(); }

  // How often a connection that reads for L1 has begun to serve: whoever passes L1 by because one did not may look again.
  void note_serving() { servings_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t servings() const { return servings_.load(std::memory_order_relaxed); }

  // Background work of L1, bounded. One caller.
  void maintain(std::int64_t now_us);

  // What is held for dictionaries included.
  [[nodiscard]] l1::Stats stats() const;
  [[nodiscard]] l1::CompressionStats compression() const { return compressor_.stats(); }
  [[nodiscard]] bool enabled() const { return options_.enabled; }
  [[nodiscard]] const Policies& policies() const { return options_.policies; }
  [[nodiscard]] l1::Store& store() { return store_; }
  [[nodiscard]] coherence::FenceTable& fences() { return fences_; }
  [[nodiscard]] coherence::SlotEpochs& epochs() { return epochs_; }
  [[nodiscard]] coherence::LinkTable& links() { return links_; }

 private:
  [[nodiscard]] Lookup judge(const l1::Entry& entry, const l1::StoredReply& reply, const Policy& policy,
                             std::int64_t heard_us, std::int64_t now_us) const noexcept;
  [[nodiscard]] bool may_serve_stale(const l1::Stamp& stamp, const Policy& policy, std::int64_t now_us) const noexcept;
  [[nodiscard]] bool holds(const coherence::FillBasis& basis, std::uint64_t hash) const noexcept;
  [[nodiscard]] bool dirty(std::string_view key) const noexcept {
    return options_.queue != nullptr && options_.queue->may_be_dirty(key);
  }
  std::size_t erase(std::uint64_t hash, insight::InvalidationSource source, Counters& counters);

  const NearCacheOptions options_;
  coherence::FenceTable fences_;
  coherence::SlotEpochs epochs_;
  coherence::LinkTable links_;
  l1::Compressor compressor_;
  l1::Store store_;  // goes first: its entries name the compressor's dictionaries
  insight::InvalidationClock invalidation_clock_;
  upstream::TopologyPtr topology_;  // of apply_topology's caller
  std::atomic<std::uint64_t> topology_version_{0};
  std::atomic<std::uint64_t> servings_{0};
};

}  // namespace nearcached::tiers
