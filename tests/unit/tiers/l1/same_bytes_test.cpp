#include "tiers/l1/same_bytes.hpp"

#include <catch2/catch.hpp>
#include <vector>

using nearcached::tiers::l1::same_bytes;

TEST_CASE("bytes are the same if every one of them is, at any length") {
  for (std::size_t n = 0; n <= 130; ++n) {
    // Exactly so many, so that the address sanitizer finds a byte read too far.
    const std::vector<char> a(n, 'k');
    std::vector<char> b = a;
    REQUIRE(same_bytes(a.data(), b.data(), n));
    for (std::size_t at = 0; at < n; ++at) {
      b[at] = 'K';
      REQUIRE_FALSE(same_bytes(a.data(), b.data(), n));
      b[at] = 'k';
    }
  }
}
