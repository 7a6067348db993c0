// How long after a write's acknowledgement its predecessors were still read.
#pragma once

#include <cstdint>
#include <vector>

#include "loadtest/hdr_histogram.hpp"

namespace nearcached::loadtest {

// When each version of each key was written: element v - 1 is the acknowledgement of version v. Version 0 stands before the
// run, and versions count up without a gap.
using Acknowledgements = std::vector<std::vector<std::int64_t>>;

// What one observer read, boiled down as it comes: per key and version only the last read that returned it.
//
// Since versions of a key only grow, that is all that the delay of a write depends on, and it costs memory by the write and
// not by the read (a hundred times fewer). Bad at: telling how often something stale was read. Confined to one thread.
class Observations {
 public:
  struct LastRead {
    std::int64_t sent = 0;  // 0: this version was never read
    std::int64_t received = 0;
  };

  explicit Observations(std::size_t keys) : keys_(keys) {}

  // Reads of one key come in the order in which they were sent. Versions above kVersionsMax are counted as unusable.
  static constexpr std::uint64_t kVersionsMax = 10'000'000;
  void saw(std::size_t key, std::uint64_t version, std::int64_t sent, std::int64_t received);

  [[nodiscard]] const std::vector<LastRead>& of(std::size_t key) const { return keys_[key].last; }
  [[nodiscard]] std::size_t keys() const { return keys_.size(); }
  [[nodiscard]] std::uint64_t reads() const { return reads_; }
  // Reads that returned an older version than a read sent before them.
  [[nodiscard]] std::uint64_t back_in_time() const { return back_in_time_; }
  [[nodiscard]] std::uint64_t unusable() const { return unusable_; }

 private:
  struct Key {
    std::vector<LastRead> last;  // by version
    std::uint64_t newest = 0;
  };

  std::vector<Key> keys_;
  std::uint64_t reads_ = 0;
  std::uint64_t back_in_time_ = 0;
  std::uint64_t unusable_ = 0;
};

// One value per acknowledged write, in nanoseconds; 0 where nothing older was read of a request sent after it.
struct Delays {
  HdrHistogram by_sent;      // acknowledgement -> the sending of the last request that was answered with an older version
  HdrHistogram by_received;  // ... -> the arrival of that answer: what the instant of reading can't be later than
  std::uint64_t stale = 0;   // writes of which an older version was read by a request sent after the acknowledgement
};

// Writes acknowledged before `from` are left out: the first ones meet caches that are still cold.
[[nodiscard]] Delays delays(const Acknowledgements& acknowledged, const Observations& observed, std::int64_t from);

}  // namespace nearcached::loadtest
