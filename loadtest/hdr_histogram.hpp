// A latency histogram of three significant digits in bounded memory.
#pragma once

#include <cstdint>
#include <vector>

namespace nearcached::loadtest {

// Latencies in nanoseconds, kept with three significant digits in bounded memory.
//
// Values below 2048 have a bucket each; above, every power of two is cut into 1024 buckets of equal width, so that a bucket
// is never wider than 1/1024 of its values (the layout of Gil Tene's HdrHistogram). Up to kValueMax (73 minutes) that makes
// 34,816 counters, 272 KB, whatever is recorded; larger values count as kValueMax, while max() still tells the truth.
//
// Bad at: resolving tails finer than 0.1 %, and small footprints. One thread; merge() joins several.
class HdrHistogram {
 public:
  static constexpr std::uint64_t kValueMax = (std::uint64_t{1} << 42) - 1;

  HdrHistogram();

  void record(std::uint64_t value);
  void merge(const HdrHistogram& other);

  // The smallest recorded value that at least `percent` (0..100) of all values do not exceed, rounded up to the end of its
  // bucket but never above max(). 0 when empty.
  [[nodiscard]] std::uint64_t percentile(double percent) const;
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  [[nodiscard]] double mean() const;

 private:
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace nearcached::loadtest
