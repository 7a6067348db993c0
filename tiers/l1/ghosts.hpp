// The ghost list: fingerprints of what was evicted lately.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nearcached::tiers::l1 {

// A set-associative table in which every set is a FIFO of its own: add shifts a set by one and drops its oldest, take closes
// the gap. Chosen over one global FIFO with an index because it costs exactly 4 bytes per ghost, one cache line per
// operation, and forgetting needs no bookkeeping. What it is bad at: the age at which a ghost is forgotten varies from set
// to set, and two keys with one 32-bit fingerprint are the same ghost (about n / 2^32 of all questions), which costs a
// probation that was skipped and nothing else.
// Threading: confined to the shard's mutex. Invariant: in a set the first zero ends the ghosts; fingerprint 0 is kept as 1.
class Ghosts {
 public:
  Ghosts() = default;
  ~Ghosts();
  Ghosts(const Ghosts&) = delete;
  Ghosts& operator=(const Ghosts&) = delete;

  void add(std::uint32_t fingerprint) noexcept;
  // Forgets it if it is known.
  bool take(std::uint32_t fingerprint) noexcept;
  [[nodiscard]] bool knows(std::uint32_t fingerprint) const noexcept;

  // How many fingerprints fit.
  [[nodiscard]] std::size_t capacity() const noexcept;
  // What the heap holds for it, by the allocator's own account.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  // An upper bound of bytes() after reserve(capacity).
  [[nodiscard]] static std::size_t bytes_for(std::size_t capacity) noexcept;
  // Changes the capacity and keeps as many ghosts as fit. Holds old and new memory meanwhile. False: no memory.
  bool resize(std::size_t capacity) noexcept;

 private:
  static constexpr std::uint32_t kWays = 16;  // one cache line

  [[nodiscard]] std::uint32_t* set_of(std::uint32_t fingerprint) const noexcept;

  std::uint32_t* sets_ = nullptr;
  std::uint32_t set_count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace nearcached::tiers::l1
