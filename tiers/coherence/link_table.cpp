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
  const std::lock_guard lock(mutex_);
  free_.push_back(link);
}

void LinkTable::bump_all() noexcept {
  for (std::uint16_t link = 0; link < used_.load(std::memory_order_acquire); ++link) bump(link);
}

}  // namespace nearcached::tiers::coherence
