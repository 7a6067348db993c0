#include "tiers/near_cache.hpp"

#include <algorithm>

namespace nearcached::tiers {
namespace {

constexpr std::size_t kMaintainEntries = 2000;

}  // namespace

NearCache::NearCache(const NearCacheOptions& options) : options_(options), store_(options.store) {}

NearCache::Lookup NearCache::find(const l1::KeyRef& key, std::int64_t now_us) const noexcept {
  using insight::MissReason;
  const l1::Entry* entry = store_.find(key);
  if (entry == nullptr) return {nullptr, MissReason::kAbsent};
  const l1::Stamp& stamp = entry->stamp();
  if (!links_.proves(stamp.link, stamp.generation, now_us) || epochs_.of(stamp.slot) != stamp.slot_epoch) {
    return {nullptr, MissReason::kUnverified};
  }
  if (entry->expires_at_ms() <= now_us / 1000) return {nullptr, MissReason::kExpired};
  l1::Store::touch(*entry);
  return {entry, MissReason::kAbsent};
}

bool NearCache::holds(const coherence::FillBasis& basis, std::uint64_t hash) const noexcept {
  return fences_.current(hash, basis.fence) && links_.generation(basis.link) == basis.generation &&
         epochs_.of(basis.slot) == basis.slot_epoch;
}

bool NearCache::install(const coherence::FillResult& result, std::uint32_t realm, std::int64_t now_us) {
  if (!options_.enabled || !result.cacheable) return false;
  std::int64_t expires_us = result.sent_us + options_.ttl_us;
  if (result.expires_at_us != 0) expires_us = std::min(expires_us, result.expires_at_us);
  if (expires_us / 1000 <= now_us / 1000) return false;
  const coherence::FillBasis& basis = result.basis;
  const l1::Stamp stamp{basis.generation, basis.slot_epoch, basis.link, basis.slot};
  // An installation moves the fence as well: an older read of the key on another connection must not replace it.
  const auto still_current = [&] {
    if (!holds(basis, result.hash)) return false;
    fences_.bump(result.hash);
    return true;
  };
  return store_.install({result.hash, realm, result.key}, result.reply, stamp, expires_us / 1000, now_us / 1000,
                        still_current) == l1::InstallResult::kInstalled;
}

void NearCache::erase(std::uint64_t hash, insight::InvalidationSource source, Counters& counters) {
  if (!options_.enabled) return;
  const std::size_t erased = store_.erase(hash, l1::Removal::kInvalidated);
  if (erased != 0) counters.invalidations[static_cast<std::size_t>(source)].add(erased);
}

void NearCache::on_invalidated(std::uint64_t hash, Counters& counters) {
  fences_.bump(hash);
  erase(hash, insight::InvalidationSource::kTracking, counters);
}

void NearCache::begin_write(std::uint64_t hash, Counters& counters) {
  fences_.begin_write(hash);
  erase(hash, insight::InvalidationSource::kOwnWrite, counters);
}

void NearCache::end_write(std::uint64_t hash, Counters& counters) {
  fences_.end_write(hash);
  erase(hash, insight::InvalidationSource::kOwnWrite, counters);
}

void NearCache::begin_write_all() {
  fences_.begin_write_all();
  links_.bump_all();
}

void NearCache::end_write_all(Counters& counters) {
  fences_.end_write_all();
  links_.bump_all();
  counters.invalidations[static_cast<std::size_t>(insight::InvalidationSource::kFlush)].add();
}

void NearCache::on_read_past(std::uint64_t hash) {
  if (!options_.enabled) return;
  fences_.bump(hash);
  store_.erase(hash, l1::Removal::kInvalidated);
}

void NearCache::maintain(std::int64_t now_us) {
  store_.maintain(now_us / 1000, kMaintainEntries, [this](const l1::Entry& entry) {
    const l1::Stamp& stamp = entry.stamp();
    return links_.generation(stamp.link) != stamp.generation || epochs_.of(stamp.slot) != stamp.slot_epoch;
  });
}

}  // namespace nearcached::tiers
