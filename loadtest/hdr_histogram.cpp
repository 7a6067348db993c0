#include "loadtest/hdr_histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace nearcached::loadtest {

namespace {

constexpr unsigned kPreciseBits = 11;  // 2048 > 2 * 1000: three significant digits
constexpr std::uint64_t kPrecise = std::uint64_t{1} << kPreciseBits;
constexpr std::uint64_t kHalf = kPrecise / 2;

std::size_t bucket_of(std::uint64_t value) {
  if (value < kPrecise) {
    return value;
  }
  const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kPreciseBits;
  return kPrecise + (shift - 1) * kHalf + ((value >> shift) - kHalf);
}

std::uint64_t last_value_of(std::size_t bucket) {
  if (bucket < kPrecise) {
    return bucket;
  }
  const std::uint64_t shift = (bucket - kPrecise) / kHalf + 1;
  const std::uint64_t leading = (bucket - kPrecise) % kHalf + kHalf;
  return ((leading + 1) << shift) - 1;
}

}  // namespace

HdrHistogram::HdrHistogram() : buckets_(bucket_of(kValueMax) + 1) {}

void HdrHistogram::record(std::uint64_t value) {
  ++buckets_[bucket_of(std::min(value, kValueMax))];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void HdrHistogram::merge(const HdrHistogram& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    buckets_[i] += other.buckets_[i];
  }
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

std::uint64_t HdrHistogram::percentile(double percent) const {
  if (count_ == 0) {
    return 0;
  }
  const double wanted = std::ceil(static_cast<double>(count_) * std::clamp(percent, 0.0, 100.0) / 100.0);
  const std::uint64_t rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) {
      return std::min(last_value_of(i), max_);
    }
  }
  return max_;
}

double HdrHistogram::mean() const { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

}  // namespace nearcached::loadtest
