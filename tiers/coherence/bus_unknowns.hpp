// Keys of writes whose outcome nobody knows, in bus mode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::tiers::coherence {

struct BusUnknown {
  std::uint64_t hash = 0;
  std::string key;
  std::int64_t until_us = 0;
};

// A write that timed out, or whose connection broke, may still be executed, later than anything that was published about it.
// With tracking the upstream would push; on the bus its key is published at once, may not be kept in this process's L1 until
// the time after which the write can't land any more (command_timeout times a factor), and is published again then.
//
// The cheap way to keep it out of L1 everywhere in the process is not to end the write's fence (FenceTable) until due()
// gives the key back: each add() is given back exactly once. contains() is for those who have no fence. More than kKeysMax:
// the further ones count as all keys. Confined to one thread. contains() is a scan: cheap while there are none, which is
// nearly always.
class BusUnknowns {
 public:
  static constexpr std::size_t kKeysMax = 1024;

  // False: not noted by name; all keys are unknown until the deadline (the caller's fence is that of all keys).
  [[nodiscard]] bool add(std::string_view key, std::uint64_t hash, std::int64_t until_us);

  struct Due {
    std::vector<BusUnknown> keys;
    bool everything = false;  // all that were not noted by name
  };
  // What is to be published again now.
  [[nodiscard]] Due due(std::int64_t now_us);
  // When due() will have something; the greatest number if never.
  [[nodiscard]] std::int64_t next_due_us() const { return next_due_us_; }

  [[nodiscard]] bool contains(std::uint64_t hash) const;
  [[nodiscard]] bool everything() const { return everything_until_us_ != kNever; }
  [[nodiscard]] std::size_t size() const { return keys_.size(); }

 private:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  void find_next_due();

  std::vector<BusUnknown> keys_;
  std::int64_t everything_until_us_ = kNever;
  std::int64_t next_due_us_ = kNever;
};

}  // namespace nearcached::tiers::coherence
