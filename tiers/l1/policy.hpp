// Which item goes when room is needed: S3-FIFO's front before a size-aware main area.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tiers/l1/ghosts.hpp"
#include "tiers/l1/policy_node.hpp"

namespace nearcached::tiers::l1 {

// The owner of the items, as the policy sees it. Handles are the owner's; kNone is never one.
class PolicyItems {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  [[nodiscard]] virtual PolicyNode& node(std::uint32_t handle) = 0;
  // In any unit, 1 or more, and the same for as long as the item is in a queue.
  [[nodiscard]] virtual std::uint32_t cost(std::uint32_t handle) = 0;
  // Of the item's identity, well mixed in its upper bits.
  [[nodiscard]] virtual std::uint32_t fingerprint(std::uint32_t handle) = 0;

 protected:
  ~PolicyItems() = default;
};

//               one hit promotes          by size class and log2 frequency class
//   new -> [ probation, 8 % of cost ]  -> [ FIFO ][ FIFO ] ... [ FIFO ]  -> evicted: the tail with the lowest rank
//               | no hit                       ^                    | tail hit since: re-stamped, to its class's head
//               v                              |                    |
//            ghosts (fingerprints) -- seen again                    (rank = clock at stamping + frequency / cost,
//                                                                    clock = rank of the last one evicted)
//
// Probation and ghosts are S3-FIFO (Yang et al., SOSP 2023); the rank is GreedyDual-Size-Frequency (Cherkasova 1998). Queues
// per class and not one heap: all items of a queue gain about the same rank at stamping, so its tail is about its lowest,
// and a hit moves nothing. Four things are neither paper's: an item that arrives while there is room goes to the main area
// (a loop longer than the cache would otherwise never fill it); an item much denser (uses per cost) than the next main
// victim is promoted unhit; a ghost seen again starts with a frequency of 2; what leaves the main area is a ghost too if it
// was heavy. Figures: docs/decisions/0001-l1-store.md. What it is bad at: a working set that turns over faster than
// frequencies are outlived by the clock (small caches on bursty traces), and it never asks whether the victim is worth more
// than the newcomer, which only has its 8 % to live in. Cost: victim() looks at the occupied queues (at most 64 cached
// ranks) and re-stamps at most kStepsMax items. Threading: none of its own, the owner's mutex. Costs are abstract, so that a
// trace can be replayed through this very code.
class Policy {
 public:
  explicit Policy(PolicyItems& items);
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  // `roomy`: the owner is far from needing to evict.
  void insert(std::uint32_t handle, bool roomy) noexcept;
  // The owner drops the item. `remember`: if it has earned its place, its return is a return (an invalidated key is
  // refilled).
  void erase(std::uint32_t handle, bool remember) noexcept;
  // Another item took the handle, with the node's content copied; it may cost otherwise.
  void replaced(std::uint32_t handle, std::uint32_t old_cost) noexcept;
  // The item is now at `to`, node and all; `from` is no longer it.
  void moved(std::uint32_t from, std::uint32_t to) noexcept;
  // All items have moved: map[old] is the new handle, kNone where there was no item. Nodes already answer to the new ones.
  void remap(std::span<const std::uint32_t> map) noexcept;
  // Takes the next victim out of its queue; kNone if there is no item. It is forgotten, except as a ghost.
  std::uint32_t victim() noexcept;

  [[nodiscard]] bool remembers(std::uint32_t fingerprint) const noexcept { return ghosts_.knows(fingerprint); }
  [[nodiscard]] std::uint64_t cost() const noexcept { return probation_cost_ + main_cost_; }
  [[nodiscard]] std::size_t items() const noexcept { return items_; }

  // Ghosts follow the number of items, kGhostsPerItem each, in steps. What bytes the next step takes at most while it is
  // made, 0 if none is due; the owner that has room calls resize_ghosts().
  [[nodiscard]] std::size_t ghost_step_bytes() const noexcept;
  void resize_ghosts() noexcept;
  [[nodiscard]] std::size_t heap_bytes() const noexcept { return ghosts_.bytes(); }

 private:
  static constexpr int kSizeClasses = 16;
  static constexpr int kFrequencyClasses = 4;
  static constexpr std::uint8_t kProbation = 0;
  static constexpr int kQueues = 1 + kSizeClasses * kFrequencyClasses;

  struct Queue {
    std::uint32_t head = PolicyItems::kNone;  // youngest
    std::uint32_t tail = PolicyItems::kNone;
    std::uint32_t tail_rank = 0;
  };

  void push(std::uint32_t handle, std::uint8_t queue) noexcept;
  void unlink(std::uint32_t handle, std::uint32_t cost) noexcept;
  void enter_main(std::uint32_t handle) noexcept;
  [[nodiscard]] std::uint8_t lowest_queue() noexcept;
  [[nodiscard]] bool denser_than_main(std::uint32_t handle) noexcept;
  void refresh_tail_rank(Queue& queue) noexcept;
  [[nodiscard]] std::size_t ghosts_wanted() const noexcept;

  PolicyItems& owner_;
  Ghosts ghosts_;
  std::uint64_t probation_cost_ = 0;
  std::uint64_t main_cost_ = 0;
  std::size_t items_ = 0;
  std::uint32_t clock_ = 0;
  std::array<Queue, kQueues> queues_;
  std::array<std::uint64_t, (kQueues + 63) / 64> occupied_{};  // main queues that hold something
};

}  // namespace nearcached::tiers::l1
