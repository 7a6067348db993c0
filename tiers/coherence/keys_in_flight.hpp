// The keys of a session's unanswered requests on one way to the upstream.
#pragma once

#include <array>
#include <cstdint>

namespace nearcached::tiers::coherence {

// A session reads and writes one key over two ways: fills go to the node on the fill connection, everything else on a data
// connection, and what is sent later may arrive earlier. It keeps one of these for each way. A key that is in flight on the
// data way is not read from L1 or by a fill: its reads follow on the same connection (coherence.md, Installing). A key that
// is in flight as a fill is not forwarded until the fill is answered: else an earlier GET would see a later SET.
//
// Bounded: the kKeysMax+1st distinct key, and every request of several keys or of keys nobody knows, counts against all keys
// until it is answered. Keys are known by their hash: two with one hash only wait for each other.
// Confined to the session's thread.
class KeysInFlight {
 public:
  static constexpr std::size_t kKeysMax = 64;

  // True if the key was noted; false: the request counts against all keys, and must be taken back by remove_all().
  [[nodiscard]] bool add(std::uint64_t hash);
  void add_all() { ++all_; }
  void remove(std::uint64_t hash);
  void remove_all() { --all_; }

  [[nodiscard]] bool empty() const { return used_ == 0 && all_ == 0; }
  [[nodiscard]] bool contains(std::uint64_t hash) const;

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t requests = 0;
  };
  std::array<Slot, kKeysMax> slots_{};
  std::size_t used_ = 0;
  std::uint32_t all_ = 0;
};

}  // namespace nearcached::tiers::coherence
