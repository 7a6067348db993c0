// The index of a shard: where the entry of a hash is.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
#include <emmintrin.h>
#endif

namespace nearcached::tiers::l1 {

class Entry;

// Buckets of 8 words, a cache line each; an entry lives in one of the two buckets that its hash names, never elsewhere.
//
//   word: [ 16 bits of the hash | 48 bits of address ], 0 is free          handle of a slot: bucket * 8 + way
//
// Why not linear probing: with a fixed neighbourhood a removal is one store of 0, without tombstones or shifting, so handles
// stay put for as long as the entry lives (the policy's links are handles), a reader looks at two cache lines at most, and
// the tables can be more than 80 % full. What it is bad at: an insert may find both buckets full; the shard then moves one
// entry to its other bucket, grows, or displaces (shard.cpp). The number of buckets is any number, not a power of two, so
// that growth can be by a quarter. Hash bits used: 32..63 and a mix of all for the buckets, 16..31 for the tag, 0..9 for the
// shard. Threading: readers load words at any time; writers hold the shard's mutex. Words are sequentially consistent, which
// epoch.hpp builds on.
class Table {
 public:
  static constexpr std::uint32_t kWays = 8;
  static constexpr std::uint32_t kNoSlot = UINT32_MAX;

  // Null without memory.
  static Table* create(std::uint32_t buckets) noexcept;
  static void destroy(Table* table) noexcept;
  // Upper bound of heap_bytes(create(buckets)).
  static std::size_t bytes_for(std::uint32_t buckets) noexcept;

  [[nodiscard]] std::uint32_t buckets() const noexcept { return buckets_; }
  [[nodiscard]] std::uint32_t slots() const noexcept { return buckets_ * kWays; }

  [[nodiscard]] std::uint32_t first_slot(std::uint64_t hash) const noexcept { return scale(hash) * kWays; }
  // Never in the same bucket, unless there is only one.
  [[nodiscard]] std::uint32_t second_slot(std::uint64_t hash) const noexcept {
    const std::uint64_t mixed = hash * 0x9E3779B97F4A7C15u;
    const auto step = static_cast<std::uint32_t>(((mixed >> 32) * (buckets_ - 1)) >> 32) + 1;
    const std::uint32_t bucket = scale(hash) + step;
    return (bucket < buckets_ ? bucket : bucket - buckets_) * kWays;
  }

  [[nodiscard]] std::uint64_t load(std::uint32_t slot) const noexcept {
    return words()[slot].load(std::memory_order_seq_cst);
  }
  void store(std::uint32_t slot, std::uint64_t word) noexcept { words()[slot].store(word, std::memory_order_seq_cst); }
  [[nodiscard]] const void* address(std::uint32_t slot) const noexcept { return words() + slot; }

  // The ways of the bucket that `start` begins whose tag is the hash's, one bit each. A hint: it may be outdated when it
  // is here, and free words may be among them; a word is only believed when load() has it. Without a branch per way, which
  // would be guessed wrong as often as not.
  [[nodiscard]] std::uint32_t ways_of(std::uint32_t start, std::uint64_t hash) const noexcept;
  // A free slot in the emptier bucket of the hash, or kNoSlot.
  [[nodiscard]] std::uint32_t free_slot(std::uint64_t hash) const noexcept;

  static std::uint64_t pack(std::uint64_t hash, const Entry* entry) noexcept;
  static Entry* entry_of(std::uint64_t word) noexcept {
    return reinterpret_cast<Entry*>(static_cast<std::uintptr_t>(word & kAddressMask));
  }
  static bool same_tag(std::uint64_t word, std::uint64_t hash) noexcept { return word >> 48 == ((hash >> 16) & 0xFFFF); }

  // A retired table waits for its readers in a list; the shard's.
  Table* retired_next = nullptr;
  std::uint64_t retired_epoch = 0;

 private:
  static constexpr std::uint64_t kAddressMask = (std::uint64_t{1} << 48) - 1;
  static constexpr std::size_t kHeaderBytes = 64;

  explicit Table(std::uint32_t buckets) noexcept : buckets_(buckets) {}
  [[nodiscard]] std::uint32_t scale(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(((hash >> 32) * buckets_) >> 32);
  }
  [[nodiscard]] std::atomic<std::uint64_t>* words() const noexcept {
    const auto base = reinterpret_cast<std::uintptr_t>(this) + kHeaderBytes;
    return reinterpret_cast<std::atomic<std::uint64_t>*>(base);
  }

  std::uint32_t buckets_;
};

inline std::uint32_t Table::ways_of(std::uint32_t start, std::uint64_t hash) const noexcept {
  const std::uint64_t tag = hash >> 16 & 0xFFFF;
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
  // The words' upper halves, four to a register.
  const auto* const line = reinterpret_cast<const float*>(words() + start);
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  const auto four = [&](const float* at) {
    const __m128 halves = _mm_shuffle_ps(_mm_load_ps(at), _mm_load_ps(at + 4), _MM_SHUFFLE(3, 1, 3, 1));
    const __m128i equal = _mm_cmpeq_epi32(_mm_srli_epi32(_mm_castps_si128(halves), 16), wanted);
    return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(equal)));
  };
  return four(line) | four(line + 8) << 4;
#else
  std::uint32_t ways = 0;
  for (std::uint32_t way = 0; way < kWays; ++way) ways |= static_cast<std::uint32_t>(load(start + way) >> 48 == tag) << way;
  return ways;
#endif
}

}  // namespace nearcached::tiers::l1
