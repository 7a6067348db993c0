#include "tiers/coherence/bus_unknowns.hpp"

#include <algorithm>
#include <iterator>

namespace nearcached::tiers::coherence {

bool BusUnknowns::add(std::string_view key, std::uint64_t hash, std::int64_t until_us) {
  const bool noted = keys_.size() < kKeysMax;
  if (noted) {
    keys_.push_back({hash, std::string(key), until_us});
  } else {
    everything_until_us_ = everything() ? std::max(everything_until_us_, until_us) : until_us;
  }
  find_next_due();
  return noted;
}

BusUnknowns::Due BusUnknowns::due(std::int64_t now_us) {
  Due due;
  if (now_us < next_due_us_) return due;
  const auto first = std::stable_partition(keys_.begin(), keys_.end(),
                                           [now_us](const BusUnknown& unknown) { return unknown.until_us > now_us; });
  due.keys.assign(std::make_move_iterator(first), std::make_move_iterator(keys_.end()));
  keys_.erase(first, keys_.end());
  if (everything() && everything_until_us_ <= now_us) {
    due.everything = true;
    everything_until_us_ = kNever;
  }
  find_next_due();
  return due;
}

bool BusUnknowns::contains(std::uint64_t hash) const {
  return everything() ||
         std::any_of(keys_.begin(), keys_.end(), [hash](const BusUnknown& unknown) { return unknown.hash == hash; });
}

void BusUnknowns::find_next_due() {
  next_due_us_ = everything_until_us_;
  for (const BusUnknown& unknown : keys_) next_due_us_ = std::min(next_due_us_, unknown.until_us);
}

}  // namespace nearcached::tiers::coherence
