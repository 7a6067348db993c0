#include "loadtest/key_distribution.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nearcached::loadtest {

namespace {

// log1p(x)/x and expm1(x)/x, by their series where the quotient would lose its digits (theta near 1).
double log1p_over(double x) { return std::abs(x) > 1e-8 ? std::log1p(x) / x : 1.0 - x * (0.5 - x / 3.0); }
double expm1_over(double x) { return std::abs(x) > 1e-8 ? std::expm1(x) / x : 1.0 + x * 0.5 * (1.0 + x / 3.0); }

}  // namespace

Random::Random(std::uint64_t seed) {
  for (std::uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15;
    std::uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    word = mixed ^ (mixed >> 31);
  }
}

Random::result_type Random::operator()() {
  const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

std::uint64_t Random::below(std::uint64_t bound) { return static_cast<std::uint64_t>(real() * static_cast<double>(bound)); }

KeyDistribution::KeyDistribution(KeyShape shape, std::uint64_t keys, double theta)
    : shape_(shape), keys_(keys), theta_(theta) {
  if (shape_ == KeyShape::kZipf) {
    integral_first_ = h_integral(1.5) - 1.0;
    integral_last_ = h_integral(static_cast<double>(keys_) + 0.5);
    shortcut_ = 2.0 - h_integral_inverse(h_integral(2.5) - h(2.0));
  }
}

double KeyDistribution::h(double x) const { return std::exp(-theta_ * std::log(x)); }

double KeyDistribution::h_integral(double x) const {
  const double log_x = std::log(x);
  return expm1_over((1.0 - theta_) * log_x) * log_x;
}

double KeyDistribution::h_integral_inverse(double x) const {
  const double t = std::max(x * (1.0 - theta_), -1.0);
  return std::exp(log1p_over(t) * x);
}

std::uint64_t KeyDistribution::next(Random& random) const {
  if (shape_ == KeyShape::kUniform) {
    return random.below(keys_);
  }
  for (;;) {  // accepts with a probability above 0.8 whatever theta and keys
    const double u = integral_last_ + random.real() * (integral_first_ - integral_last_);
    const double x = h_integral_inverse(u);
    const double k = std::clamp(std::floor(x + 0.5), 1.0, static_cast<double>(keys_));
    if (k - x <= shortcut_ || u >= h_integral(k + 0.5) - h(k)) {
      return static_cast<std::uint64_t>(k) - 1;
    }
  }
}

}  // namespace nearcached::loadtest
