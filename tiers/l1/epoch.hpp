// Epoch-based reclamation: how a lock-free reader keeps what it looks at from being freed.
#pragma once

#include <cstdint>

namespace nearcached::tiers::l1 {

// One domain per process, since a thread's read-side section is a property of the thread and not of a store.
//
//   reader:  enter -> slot = epoch     ... pointers are valid ...     leave -> slot = 0
//   writer:  unlink, stamp the garbage with epoch(), and free it once epoch() >= stamp + 2
//   advance: epoch + 1, allowed only while every active slot equals the epoch
//
// Why a slot on a cache line of its own and not a shared counter or hazard pointers: one store per batch of requests, and no
// line is written by two readers. What it is bad at: a reader that stays inside its section stops all reclamation, so a
// guard must never be held while blocking; garbage is counted against the budget, so the price is refusals, not memory.
// Invariant: an object unlinked at epoch e can be held only by readers whose slot is <= e, and while such a slot is active
// the epoch can't pass e + 1. Slots, epoch and the unlinking stores are sequentially consistent: a scan that misses a
// reader's slot precedes it, so that reader can't find what was unlinked before the scan.
// Threading: every function may be called by any thread; at most kThreadsMax threads may be inside the domain's life at once
// (an assertion that is always on), a thread's slot is given back when it ends.
class Epoch {
 public:
  static constexpr int kThreadsMax = 256;

  // Sections nest: only the outermost enter and leave touch the slot.
  static void enter() noexcept;
  static void leave() noexcept;

  [[nodiscard]] static std::uint64_t current() noexcept;
  // True if the epoch moved.
  static bool try_advance() noexcept;
};

}  // namespace nearcached::tiers::l1
