#include "tiers/near_cache.hpp"

#include <algorithm>
#include <thread>

#include "tiers/coherence/rules.hpp"

namespace nearcached::tiers {

using coherence::enforced;
using coherence::LinkTable;
using coherence::Rule;
using insight::MissReason;

namespace {

// Where nothing is to be done a look at so many entries per tick costs next to nothing. After a FLUSHALL, or when a million
// keys expire together, much of what is looked at goes: then it looks on, so that what is dead does not keep the living out
// for long, but lets others have the processor in between, some 0.2 ms each time.
constexpr std::size_t kMaintainEntries = 256;
constexpr std::size_t kMuchGoes = kMaintainEntries / 4;
constexpr int kMaintainRoundsMax = 10;

std::size_t dictionary_bytes(const NearCacheOptions& options) {
  return options.enabled ? l1::Compressor::bytes_wanted(options.policies.compression(), options.store.max_bytes) : 0;
}

// Dictionaries are held within max_bytes.
l1::Options store_options(const NearCacheOptions& options) {
  l1::Options store = options.store;
  store.max_bytes -= dictionary_bytes(options);
  return store;
}

}  // namespace

NearCache::NearCache(const NearCacheOptions& options)
    : options_(options),
      compressor_({options.policies.compression(), dictionary_bytes(options)}),
      store_(store_options(options)) {}

NearCache::Lookup NearCache::find(const l1::KeyRef& key, std::string_view variant, const Policy& policy,
                                  std::int64_t heard_us, std::int64_t now_us, const l1::Entry* hint) const noexcept {
  const l1::Entry* const entry = hint != nullptr && hint->is(key) ? hint : store_.find(key);
  if (entry == nullptr) return {};
  const auto reply = entry->reply(variant);
  if (!reply) return {};
  Lookup found = judge(*entry, *reply, policy, heard_us, now_us);
  // What was delivered since may have erased it.
  if (found.reply && policy.consistency == Consistency::kCausal && store_.find(key) != entry) return {{}, found.reason};
  if (found.reply) l1::Store::touch(*entry);
  return found;
}

NearCache::Lookup NearCache::judge(const l1::Entry& entry, const l1::StoredReply& reply, const Policy& policy,
                                   std::int64_t heard_us, std::int64_t now_us) const noexcept {
  const l1::Stamp& stamp = entry.stamp();
  // Proofs first: who sees one sees every loss, purge and move that came before it.
  const std::int64_t proven_us = links_.proven_us(stamp.link);
  const std::int64_t delivered_us = links_.delivered_us(stamp.link);
  if (epochs_.of(stamp.slot) != stamp.slot_epoch && enforced(Rule::kEpochAtHit)) return {{}, MissReason::kUnverified};
  if (entry.expires_at_ms() <= now_us / 1000) return {{}, MissReason::kExpired};
  const bool same_generation = links_.generation(stamp.link) == stamp.generation || !enforced(Rule::kGenerationAtHit);
  const bool verified = now_us - policy.max_staleness_us < proven_us || !enforced(Rule::kVerifiedAtHit);
  if (!same_generation || !verified) {
    if (!may_serve_stale(stamp, policy, now_us)) return {{}, MissReason::kUnverified};
    return {reply, MissReason::kAbsent, true, entry.expires_at_ms()};
  }
  if (policy.consistency == Consistency::kCausal && enforced(Rule::kCausalWaits)) {
    // Where nobody tells of changes there is nothing to wait for.
    if (proven_us == LinkTable::kForever) return {{}, MissReason::kUnverified};
    if (delivered_us <= heard_us) return {{}, MissReason::kUnproven};
  }
  return {reply, MissReason::kAbsent, false, entry.expires_at_ms()};
}

bool NearCache::may_serve_stale(const l1::Stamp& stamp, const Policy& policy, std::int64_t now_us) const noexcept {
  if (policy.consistency != Consistency::kStaleOk || links_.purged(stamp.link, stamp.generation)) return false;
  const bool reachable = now_us - policy.max_staleness_us < links_.proven_us(stamp.link);
  if (reachable && enforced(Rule::kStaleOnlyUnreachable)) return false;
  const std::int64_t proof_us = links_.last_proof_us(stamp.link, stamp.generation);
  return (proof_us != 0 && now_us - proof_us < policy.max_stale_us) || !enforced(Rule::kStaleBounded);
}

bool NearCache::holds(const coherence::FillBasis& basis, std::uint64_t hash) const noexcept {
  return (fences_.current(hash, basis.fence) || !enforced(Rule::kFenceAtInstall)) &&
         (links_.generation(basis.link) == basis.generation || !enforced(Rule::kGenerationAtInstall)) &&
         (epochs_.of(basis.slot) == basis.slot_epoch || !enforced(Rule::kEpochAtInstall));
}

std::optional<std::string_view> NearCache::peek(const l1::KeyRef& key, std::string_view variant,
                                                std::string& scratch) const {
  const l1::Entry* entry = store_.find(key);
  const auto stored = entry == nullptr ? std::nullopt : entry->reply(variant);
  if (!stored) return std::nullopt;
  if (!stored->packed) return stored->bytes;
  if (!compressor_.unpack(*stored, scratch)) return std::nullopt;
  return scratch;
}

bool NearCache::install(const coherence::FillResult& result, std::uint32_t realm, std::int64_t now_us) {
  if (!options_.enabled || !result.cacheable) return false;
  const Policy& policy = options_.policies.of(result.key);
  // Also where changes are heard of: those made past all sidecars are not, on a bus.
  std::int64_t expires_us = enforced(Rule::kBusTtl) ? result.sent_us + policy.l1_ttl_us : LinkTable::kForever;
  if (result.unwatched) expires_us = std::min(expires_us, result.sent_us + policy.max_staleness_us);
  if (result.expires_at_us != 0) expires_us = std::min(expires_us, result.expires_at_us);
  if (expires_us / 1000 <= now_us / 1000) return false;
  // All fills of the key come over one connection, so that nobody installs between the two.
  if (result.untold) store_.erase(l1::KeyRef{result.hash, realm, result.key}, l1::Removal::kReplaced);
  const coherence::FillBasis& basis = result.basis;
  const l1::Stamp stamp{basis.generation, basis.slot_epoch, basis.link, basis.slot};
  // Here and not in the store, whose mutex others wait for; and not for what won't be kept.
  l1::StoredReply stored = result.reply;
  if (policy.compression.algorithm != l1::Compression::kNone && !too_large(result) && holds(basis, result.hash)) {
    stored = compressor_.pack(policy.number, result.reply);
  }
  return store_.install({result.hash, realm, result.key}, result.variant, stored, stamp, expires_us / 1000, now_us / 1000,
                        [&] { return !dirty(result.key) && holds(basis, result.hash); }) == l1::InstallResult::kInstalled;
}

std::size_t NearCache::erase(std::uint64_t hash, insight::InvalidationSource source, Counters& counters) {
  if (!options_.enabled) return 0;
  const std::size_t erased = store_.erase(hash, l1::Removal::kInvalidated);
  if (erased != 0) counters.invalidations[static_cast<std::size_t>(source)].add(erased);
  return erased;
}

void NearCache::on_invalidated(std::uint64_t hash, insight::InvalidationSource source, std::int64_t now_us,
                               Counters& counters) {
  if (enforced(Rule::kPushFencesAbsent)) fences_.bump(hash);
  erase(hash, source, counters);
  if (const auto delay_us = invalidation_clock_.pushed(hash, now_us)) {
    counters.invalidation_delay.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, *delay_us)));
  }
}

void NearCache::begin_write(std::uint64_t hash, Counters& counters) {
  if (enforced(Rule::kFenceFromDispatch)) fences_.begin_write(hash);
  if (enforced(Rule::kFenceFromDispatch) && !enforced(Rule::kFenceUntilAnswered)) fences_.end_write(hash);
  const std::size_t erased = erase(hash, insight::InvalidationSource::kOwnWrite, counters);
  if (erased != 0) invalidation_clock_.write_begins(hash);
}

void NearCache::end_write(std::uint64_t hash, std::int64_t now_us, Counters& counters) {
  if (enforced(Rule::kFenceFromDispatch) && enforced(Rule::kFenceUntilAnswered)) fences_.end_write(hash);
  if (enforced(Rule::kEraseBeforeAnswer)) erase(hash, insight::InvalidationSource::kOwnWrite, counters);
  invalidation_clock_.write_ends(hash, now_us);
}

void NearCache::begin_write_all() {
  if (enforced(Rule::kPurgeKillsFlights)) fences_.begin_write_all();
  links_.purge_all();
}

void NearCache::end_write_all(Counters& counters) {
  if (enforced(Rule::kPurgeKillsFlights)) fences_.end_write_all();
  links_.purge_all();
  counters.invalidations[static_cast<std::size_t>(insight::InvalidationSource::kFlush)].add();
}

void NearCache::on_read_past(std::uint64_t hash) {
  if (!options_.enabled || !enforced(Rule::kReadPastErases)) return;
  fences_.bump(hash);
  store_.erase(hash, l1::Removal::kInvalidated);
}

std::size_t NearCache::purge_prefix(std::string_view prefix) {
  if (!options_.enabled) return 0;
  // First the fences: what is installed behind the walk's back was read after this.
  if (enforced(Rule::kPurgeKillsFlights)) fences_.bump_all();
  return store_.erase_if([prefix](const l1::Entry& entry) { return entry.key().starts_with(prefix); });
}

void NearCache::purge_everything() {
  if (enforced(Rule::kPurgeKillsFlights)) fences_.bump_all();
  links_.purge_all();
}

std::size_t NearCache::apply_topology(const upstream::TopologyPtr& topology) {
  topology_version_.store(topology->version);
  std::size_t moved = 0;
  if (topology_) {
    for (std::uint16_t slot = 0; slot < protocol::kSlotCount; ++slot) {
      const upstream::Endpoint* before = topology_->node_of(slot);
      const upstream::Endpoint* now = topology->node_of(slot);
      if ((before == nullptr) == (now == nullptr) && (before == nullptr || *before == *now)) continue;
      if (enforced(Rule::kEpochByTopology)) epochs_.bump(slot);
      ++moved;
    }
  }
  topology_ = topology;
  return moved;
}

void NearCache::maintain(std::int64_t now_us) {
  const auto dead = [this](const l1::Entry& entry) {
    const l1::Stamp& stamp = entry.stamp();
    return links_.purged(stamp.link, stamp.generation) || epochs_.of(stamp.slot) != stamp.slot_epoch;
  };
  for (int round = 0; round < kMaintainRoundsMax; ++round) {
    if (store_.maintain(now_us / 1000, kMaintainEntries, dead) < kMuchGoes) break;
    std::this_thread::yield();
  }
  compressor_.maintain();
}

l1::Stats NearCache::stats() const {
  l1::Stats stats = store_.stats();
  stats.bytes += compressor_.stats().bytes;
  return stats;
}

}  // namespace nearcached::tiers
