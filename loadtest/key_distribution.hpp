// Random keys: uniform, or Zipf drawn exactly.
#pragma once

#include <cstdint>
#include <limits>

namespace nearcached::loadtest {

// xoshiro256++ (Blackman, Vigna 2019): a draw costs a nanosecond, where std::mt19937_64 would show in the generator's own
// CPU. Seeded through splitmix64; the same seed gives the same keys on every machine.
class Random {
 public:
  using result_type = std::uint64_t;
  explicit Random(std::uint64_t seed);
  result_type operator()();
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  // Uniform in [0, 1).
  double real() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
  // Uniform in [0, bound); bound > 0. The bias of the multiply-shift is below 2^-32 for every bound used here.
  std::uint64_t below(std::uint64_t bound);

 private:
  std::uint64_t state_[4];
};

enum class KeyShape : std::uint8_t { kUniform, kZipf };

// Which key the next request is for: an index in [0, keys).
//
// Zipf is drawn exactly, for any theta > 0, by rejection-inversion (Hormann, Derflinger 1996: "Rejection-inversion to
// generate variates from monotone discrete distributions"): O(1) memory and set-up, about 1.1 tries per draw; the usual
// YCSB formula needs theta < 1 and a sum over all keys first. Index 0 is the hottest key, 1 the second: neighbours are not
// scattered, since keys are spread over slots and shards by their hash anyway.
class KeyDistribution {
 public:
  KeyDistribution(KeyShape shape, std::uint64_t keys, double theta);
  std::uint64_t next(Random& random) const;

 private:
  [[nodiscard]] double h(double x) const;
  [[nodiscard]] double h_integral(double x) const;
  [[nodiscard]] double h_integral_inverse(double x) const;

  KeyShape shape_;
  std::uint64_t keys_;
  double theta_;
  double integral_first_ = 0;
  double integral_last_ = 0;
  double shortcut_ = 0;
};

}  // namespace nearcached::loadtest
