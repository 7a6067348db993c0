// What the heap really holds for a block, since the budget counts that and not what was asked for.
#pragma once

#include <malloc.h>

#include <cstddef>

namespace nearcached::tiers::l1 {

// The word in front of every block of glibc's allocator. Allocators without one are charged 8 bytes too many.
inline constexpr std::size_t kHeapHeaderBytes = sizeof(std::size_t);

// 0 for null.
inline std::size_t heap_bytes(void* block) noexcept {
  return block == nullptr ? 0 : malloc_usable_size(block) + kHeapHeaderBytes;
}

// An upper bound of heap_bytes() for a block still to be allocated: rounding to 16 and a least size of 32 for small ones,
// whole pages (and for aligned blocks a little more) for those that the allocator maps; size classes of jemalloc and
// mimalloc add up to a quarter, which the caller must check again with heap_bytes() once it has the block.
inline std::size_t heap_bytes_bound(std::size_t wanted) noexcept {
  constexpr std::size_t kMappedFrom = 64 * 1024;
  constexpr std::size_t kSmallSlack = 32 + kHeapHeaderBytes;
  constexpr std::size_t kMappedSlack = 2 * 4096 + kHeapHeaderBytes;
  return wanted + (wanted < kMappedFrom ? kSmallSlack : kMappedSlack);
}

}  // namespace nearcached::tiers::l1
