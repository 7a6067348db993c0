// What the replacement policy keeps per item, inside the item.
#pragma once

#include <atomic>
#include <cstdint>

namespace nearcached::tiers::l1 {

// 16 bytes. Links are handles (32 bits) and not pointers (64): the owner can turn a handle into a node, and an item that
// goes is taken out of its queue at once, which singly-linked queues with lazy removal can't do without keeping the dead.
// Threading: `uses` is bumped by readers without a lock; all else belongs to the policy and so to the owner's mutex.
struct PolicyNode {
  std::uint32_t prev = 0;
  std::uint32_t next = 0;
  std::uint32_t rank = 0;
  std::uint8_t queue = 0;
  std::uint8_t frequency = 0;
  mutable std::atomic<std::uint8_t> uses{0};  // since the policy last looked, saturating
  std::uint8_t owner = 0;                     // the owner's own: the node would be padded here anyway
};

// One bit's worth: "again since the policy last looked, or not" chose better victims on the traces than a count, and a hot
// item stops writing to its cache line after the first hit.
inline constexpr std::uint8_t kUsesMax = 1;

}  // namespace nearcached::tiers::l1
