// The one source of chance: everything that a schedule does derives from its seed.
#pragma once

#include <cstdint>

namespace nearcached::sim {

// splitmix64. Every part that draws has a generator of its own, so that an action which is left out while a failing schedule
// is shrunk changes as little as possible of what the other parts do.
class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed) : state_(seed) {}
  Rng(std::uint64_t seed, std::uint64_t stream) : state_(seed) { state_ = next() ^ (stream * 0xD1342543DE82EF95u); }

  constexpr std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0..n-1; n > 0.
  constexpr std::uint64_t below(std::uint64_t n) { return next() % n; }
  constexpr std::int64_t range(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low + 1)));
  }
  constexpr bool percent(unsigned p) { return below(100) < p; }

 private:
  std::uint64_t state_;
};

}  // namespace nearcached::sim
