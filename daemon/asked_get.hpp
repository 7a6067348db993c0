// One of a run of plain GETs, on its way through L1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "protocol/plain_get.hpp"
#include "tiers/l1/store.hpp"

namespace nearcached::daemon {

struct AskedGet {
  protocol::PlainGet get;
  std::uint64_t hash = 0;
  const tiers::l1::Entry* entry = nullptr;  // where L1 looks first, under the guard of its lookup
};

// Lookups under way at once: enough to wait for memory once and not for each, few enough for the nearest cache to hold.
inline constexpr std::size_t kGetsAtOnce = 16;
using AskedGets = std::array<AskedGet, kGetsAtOnce>;

}  // namespace nearcached::daemon
