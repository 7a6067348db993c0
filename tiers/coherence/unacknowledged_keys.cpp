#include "tiers/coherence/unacknowledged_keys.hpp"

namespace nearcached::tiers::coherence {

bool UnacknowledgedKeys::add(std::uint64_t hash) {
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash == hash) {
      ++slots_[i].writes;
      return true;
    }
  }
  if (used_ == kKeysMax) {
    ++all_;
    return false;
  }
  slots_[used_++] = {hash, 1};
  return true;
}

void UnacknowledgedKeys::remove(std::uint64_t hash) {
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash != hash) continue;
    if (--slots_[i].writes == 0) slots_[i] = slots_[--used_];
    return;
  }
}

bool UnacknowledgedKeys::contains(std::uint64_t hash) const {
  if (all_ != 0) return true;
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash == hash) return true;
  }
  return false;
}

}  // namespace nearcached::tiers::coherence
