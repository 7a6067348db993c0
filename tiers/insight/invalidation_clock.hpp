// How long after an own write was acknowledged its invalidation came in: the delay that other sidecars see as well.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

namespace nearcached::tiers::insight {

// A sample per own write of a key that was in L1, hence tracked: the node pushes for it what it pushes to everybody else.
// Direct-mapped by the key's hash, so that a write costs two stores; a newer write of another key in the same place takes
// it over, which loses a sample. A push that comes before the acknowledgement is a delay of 0. What is older than kMemoryUs
// was answered by no push of its own (the key was no longer tracked) and is passed over. Threading: any; a race of two
// writers costs a sample.
class InvalidationClock {
 public:
  static constexpr std::int64_t kMemoryUs = 1'000'000;

  void write_begins(std::uint64_t hash) noexcept {
    Place& place = place_of(hash);
    place.acknowledged_us.store(0, std::memory_order_relaxed);
    place.hash.store(hash, std::memory_order_release);
  }
  void write_ends(std::uint64_t hash, std::int64_t now_us) noexcept {
    Place& place = place_of(hash);
    if (place.hash.load(std::memory_order_acquire) == hash) place.acknowledged_us.store(now_us, std::memory_order_relaxed);
  }
  // The delay in microseconds, if this push answers a write that is remembered.
  [[nodiscard]] std::optional<std::int64_t> pushed(std::uint64_t hash, std::int64_t now_us) noexcept {
    Place& place = place_of(hash);
    std::uint64_t expected = hash;
    if (hash == 0 || !place.hash.compare_exchange_strong(expected, 0, std::memory_order_acq_rel)) return std::nullopt;
    const std::int64_t acknowledged_us = place.acknowledged_us.load(std::memory_order_relaxed);
    if (acknowledged_us == 0) return 0;
    const std::int64_t delay_us = now_us - acknowledged_us;
    return delay_us < kMemoryUs ? std::optional(delay_us) : std::nullopt;
  }

 private:
  struct Place {
    std::atomic<std::uint64_t> hash{0};
    std::atomic<std::int64_t> acknowledged_us{0};
  };
  static constexpr std::size_t kPlaces = 1024;
  [[nodiscard]] Place& place_of(std::uint64_t hash) noexcept { return places_[(hash >> 20) % kPlaces]; }

  std::array<Place, kPlaces> places_{};
};

}  // namespace nearcached::tiers::insight
