// How often each slot changed hands.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::coherence {

// An entry remembers the epoch of its slot; when the slot changes owner, also away and back, the epoch is bumped and every
// entry of the slot is dead at once. Needed because keys that leave with a slot are not always signalled (delKeysInSlot
// before Redis 7.2), and because a hot key sends no traffic and never sees MOVED. Bumping too often is harmless, so
// everybody who sees a change bumps: the polled topology, and each fill connection by its node's own view. Threading: any.
class SlotEpochs {
 public:
  [[nodiscard]] std::uint32_t of(std::uint16_t slot) const noexcept { return epochs_[slot].load(std::memory_order_acquire); }
  void bump(std::uint16_t slot) noexcept { epochs_[slot].fetch_add(1, std::memory_order_acq_rel); }

 private:
  std::array<std::atomic<std::uint32_t>, protocol::kSlotCount> epochs_{};
};

}  // namespace nearcached::tiers::coherence
