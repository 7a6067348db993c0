#include "tiers/l1/ghosts.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tiers/l1/memory.hpp"

namespace nearcached::tiers::l1 {
namespace {

std::uint32_t nonzero(std::uint32_t fingerprint) { return fingerprint == 0 ? 1 : fingerprint; }

std::size_t sets_for(std::size_t capacity, std::size_t ways) {
  return std::clamp<std::size_t>((capacity + ways - 1) / ways, 1, UINT32_MAX);
}

}  // namespace

Ghosts::~Ghosts() { std::free(sets_); }

std::uint32_t* Ghosts::set_of(std::uint32_t fingerprint) const noexcept {
  return sets_ + ((std::uint64_t{fingerprint} * set_count_) >> 32) * kWays;
}

void Ghosts::add(std::uint32_t fingerprint) noexcept {
  if (set_count_ == 0) return;
  fingerprint = nonzero(fingerprint);
  std::uint32_t* const set = set_of(fingerprint);
  std::uint32_t* const last = set + kWays - 1;
  std::uint32_t* const hole = std::find_if(set, last, [&](std::uint32_t g) { return g == 0 || g == fingerprint; });
  std::memmove(set + 1, set, static_cast<std::size_t>(hole - set) * sizeof *set);
  *set = fingerprint;
}

bool Ghosts::take(std::uint32_t fingerprint) noexcept {
  if (set_count_ == 0) return false;
  fingerprint = nonzero(fingerprint);
  std::uint32_t* const set = set_of(fingerprint);
  std::uint32_t* const end = set + kWays;
  std::uint32_t* const found = std::find(set, end, fingerprint);
  if (found == end) return false;
  std::memmove(found, found + 1, static_cast<std::size_t>(end - found - 1) * sizeof *set);
  end[-1] = 0;
  return true;
}

bool Ghosts::knows(std::uint32_t fingerprint) const noexcept {
  if (set_count_ == 0) return false;
  fingerprint = nonzero(fingerprint);
  const std::uint32_t* const set = set_of(fingerprint);
  return std::find(set, set + kWays, fingerprint) != set + kWays;
}

std::size_t Ghosts::capacity() const noexcept { return std::size_t{set_count_} * kWays; }

std::size_t Ghosts::bytes_for(std::size_t capacity) noexcept {
  return heap_bytes_bound(sets_for(capacity, kWays) * kWays * sizeof(std::uint32_t));
}

bool Ghosts::resize(std::size_t capacity) noexcept {
  const std::size_t count = sets_for(capacity, kWays);
  auto* const fresh = static_cast<std::uint32_t*>(std::calloc(count * kWays, sizeof(std::uint32_t)));
  if (fresh == nullptr) return false;
  std::uint32_t* const old = sets_;
  const std::size_t old_slots = this->capacity();
  sets_ = fresh;
  set_count_ = static_cast<std::uint32_t>(count);
  // Backwards: within a set the oldest goes first, so that the order of age is kept.
  for (std::size_t i = old_slots; i-- > 0;)
    if (old[i] != 0) add(old[i]);
  std::free(old);
  bytes_ = heap_bytes(fresh);
  return true;
}

}  // namespace nearcached::tiers::l1
