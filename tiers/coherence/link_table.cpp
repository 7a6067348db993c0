#include "tiers/coherence/link_table.hpp"

namespace nearcached::tiers::coherence {

std::optional<std::uint16_t> LinkTable::acquire() {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    const std::uint16_t link = free_.back();
    free_.pop_back();
    return link;
  }
  if (used_.load() == kLinksMax) return std::nullopt;
  return used_.fetch_add(1);
}

void LinkTable::release(std::uint16_t link) {
  lose(link);
  purge(link);
  const std::lock_guard lock(mutex_);
  free_.push_back(link);
}

std::int64_t LinkTable::last_proof_us(std::uint16_t link, std::uint32_t generation) const noexcept {
  const Row& row = rows_[link];
  const std::uint32_t current = row.generation.load(std::memory_order_acquire);
  if (generation == current) return row.proven_us.load(std::memory_order_acquire);
  const std::int64_t proof = row.last_proofs_us[generation % kGenerationsKept].load(std::memory_order_acquire);
  // Asked again behind the load: the place may have been given to a younger generation meanwhile.
  const bool kept = row.generation.load(std::memory_order_acquire) - generation < kGenerationsKept;
  return kept ? proof : 0;
}

void LinkTable::unverify(std::uint16_t link) noexcept {
  Row& row = rows_[link];
  const std::uint32_t ending = row.generation.load(std::memory_order_acquire);
  row.last_proofs_us[ending % kGenerationsKept].store(row.proven_us.load(std::memory_order_acquire),
                                                      std::memory_order_release);
  row.generation.fetch_add(1, std::memory_order_acq_rel);
}

void LinkTable::purge(std::uint16_t link) noexcept {
  Row& row = rows_[link];
  const std::uint32_t next = row.generation.fetch_add(1, std::memory_order_acq_rel) + 1;
  // Purges of several threads: the youngest stands.
  std::uint32_t below = row.purged_below.load(std::memory_order_acquire);
  while (below < next && !row.purged_below.compare_exchange_weak(below, next, std::memory_order_acq_rel)) {}
}

void LinkTable::purge_all() noexcept {
  for (std::uint16_t link = 0; link < used_.load(std::memory_order_acquire); ++link) purge(link);
}

void LinkTable::lose(std::uint16_t link) noexcept {
  unverify(link);
  rows_[link].proven_us.store(0, std::memory_order_release);
}

}  // namespace nearcached::tiers::coherence
