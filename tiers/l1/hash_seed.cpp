// Alone in its file: a program that must run the same way twice links a constant seed instead.
#include <random>

#include "tiers/l1/store.hpp"

namespace nearcached::tiers::l1 {

std::uint64_t hash_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace nearcached::tiers::l1
