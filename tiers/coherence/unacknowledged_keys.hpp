// The keys that a session has written and not yet been answered for.
#pragma once

#include <array>
#include <cstdint>

namespace nearcached::tiers::coherence {

// While a key is in here the session's reads of it go behind the write, on the same connection, past L1 (coherence.md,
// Installing). Bounded: the kKeysMax+1st distinct key, and every write of several keys or of keys nobody knows, counts
// against all keys until it is acknowledged. Keys are known by their hash: two with one hash only go past L1 together.
// Confined to the session's thread.
class UnacknowledgedKeys {
 public:
  static constexpr std::size_t kKeysMax = 16;

  // True if the key was noted; false: the write counts against all keys, and must be taken back by remove_all().
  [[nodiscard]] bool add(std::uint64_t hash);
  void add_all() { ++all_; }
  void remove(std::uint64_t hash);
  void remove_all() { --all_; }

  [[nodiscard]] bool empty() const { return used_ == 0 && all_ == 0; }
  [[nodiscard]] bool contains(std::uint64_t hash) const;

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t writes = 0;
  };
  std::array<Slot, kKeysMax> slots_{};
  std::size_t used_ = 0;
  std::uint32_t all_ = 0;
};

}  // namespace nearcached::tiers::coherence
