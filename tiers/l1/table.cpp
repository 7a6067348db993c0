#include "tiers/l1/table.hpp"

#include <cstdlib>
#include <new>

#include "tiers/l1/assertion.hpp"
#include "tiers/l1/memory.hpp"

namespace nearcached::tiers::l1 {

Table* Table::create(std::uint32_t buckets) noexcept {
  static_assert(sizeof(Table) <= kHeaderBytes);
  void* const block = std::aligned_alloc(kHeaderBytes, kHeaderBytes + std::size_t{buckets} * kWays * sizeof(std::uint64_t));
  if (block == nullptr) return nullptr;
  auto* const table = new (block) Table(buckets);
  for (std::uint32_t i = 0; i < table->slots(); ++i) new (table->words() + i) std::atomic<std::uint64_t>(0);
  return table;
}

void Table::destroy(Table* table) noexcept { std::free(table); }

std::size_t Table::bytes_for(std::uint32_t buckets) noexcept {
  return heap_bytes_bound(2 * kHeaderBytes + std::size_t{buckets} * kWays * sizeof(std::uint64_t));
}

std::uint32_t Table::free_slot(std::uint64_t hash) const noexcept {
  const std::uint32_t starts[2] = {first_slot(hash), second_slot(hash)};
  std::uint32_t best = kNoSlot;
  std::uint32_t most_free = 0;
  for (const std::uint32_t start : starts) {
    std::uint32_t free = 0;
    std::uint32_t slot = kNoSlot;
    for (std::uint32_t way = 0; way < kWays; ++way) {
      if (load(start + way) != 0) continue;
      ++free;
      slot = start + way;
    }
    if (free > most_free) {
      most_free = free;
      best = slot;
    }
  }
  return best;
}

std::uint64_t Table::pack(std::uint64_t hash, const Entry* entry) noexcept {
  const auto address = std::uint64_t{reinterpret_cast<std::uintptr_t>(entry)};
  require(address <= kAddressMask, "heap addresses have at most 48 bits");
  return (hash >> 16 & 0xFFFF) << 48 | address;
}

}  // namespace nearcached::tiers::l1
