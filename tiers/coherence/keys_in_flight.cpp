#include "tiers/coherence/keys_in_flight.hpp"

namespace nearcached::tiers::coherence {

bool KeysInFlight::add(std::uint64_t hash) {
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash == hash) {
      ++slots_[i].requests;
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

void KeysInFlight::remove(std::uint64_t hash) {
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash != hash) continue;
    if (--slots_[i].requests == 0) slots_[i] = slots_[--used_];
    return;
  }
}

bool KeysInFlight::contains(std::uint64_t hash) const {
  if (all_ != 0) return true;
  for (std::size_t i = 0; i < used_; ++i) {
    if (slots_[i].hash == hash) return true;
  }
  return false;
}

}  // namespace nearcached::tiers::coherence
