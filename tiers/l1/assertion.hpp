// Assertions of the L1 that stay on in every build: memory that readers share without a lock forgives no wrong step.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace nearcached::tiers::l1 {

inline void require(bool holds, const char* what) noexcept {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "nearcached: assertion failed: %s\n", what);
  std::abort();
}

}  // namespace nearcached::tiers::l1
