#include "tiers/l1/table.hpp"

#include <catch2/catch.hpp>
#include <memory>

using nearcached::tiers::l1::Entry;
using nearcached::tiers::l1::Table;

namespace {

struct Destroy {
  void operator()(Table* table) const { Table::destroy(table); }
};
using Owned = std::unique_ptr<Table, Destroy>;

std::uint64_t mixed(std::uint64_t i) { return (i + 1) * 0x9E3779B97F4A7C15u ^ (i * 0xD6E8FEB86659FD93u >> 7); }

}  // namespace

TEST_CASE("a word gives back its address and only the bits of its tag") {
  alignas(16) const char block[16] = {};
  const auto* const entry = reinterpret_cast<const Entry*>(block);
  const std::uint64_t word = Table::pack(0x00000000ABCD0000u, entry);
  CHECK(Table::entry_of(word) == entry);
  CHECK(Table::same_tag(word, 0xFFFFFFFFABCDFFFFu));
  CHECK_FALSE(Table::same_tag(word, 0x00000000ABCC0000u));
}

TEST_CASE("both buckets of every hash lie inside a table of any size") {
  for (const std::uint32_t buckets : {1u, 3u, 8u, 1000u}) {
    const Owned table(Table::create(buckets));
    for (std::uint64_t i = 0; i < 1000; ++i) {
      for (const std::uint64_t hash : {mixed(i), ~mixed(i), std::uint64_t{0}, ~std::uint64_t{0}}) {
        REQUIRE(table->first_slot(hash) + Table::kWays <= table->slots());
        REQUIRE(table->second_slot(hash) + Table::kWays <= table->slots());
        REQUIRE(table->first_slot(hash) % Table::kWays == 0);
        REQUIRE(table->second_slot(hash) % Table::kWays == 0);
        REQUIRE((buckets == 1 || table->first_slot(hash) != table->second_slot(hash)));
      }
    }
  }
}

TEST_CASE("a free slot is taken from the emptier bucket, and from none if both are full") {
  const Owned table(Table::create(64));
  const std::uint64_t hash = mixed(1);
  const std::uint32_t first = table->first_slot(hash);
  const std::uint32_t second = table->second_slot(hash);
  table->store(first, 1);
  CHECK(table->free_slot(hash) / Table::kWays == second / Table::kWays);
  table->store(second, 1);
  table->store(second + 1, 1);
  CHECK(table->free_slot(hash) / Table::kWays == first / Table::kWays);
  for (std::uint32_t way = 0; way < Table::kWays; ++way) {
    table->store(first + way, 1);
    table->store(second + way, 1);
  }
  CHECK(table->free_slot(hash) == Table::kNoSlot);
  table->store(second + 5, 0);
  CHECK(table->free_slot(hash) == second + 5);
}

TEST_CASE("two choices fill four fifths of a table before a pair of buckets is full") {
  const Owned table(Table::create(1024));
  std::uint32_t placed = 0;
  for (std::uint64_t i = 0;; ++i, ++placed) {
    const std::uint32_t slot = table->free_slot(mixed(i));
    if (slot == Table::kNoSlot) break;
    table->store(slot, 1);
  }
  CHECK(placed * 10 > table->slots() * 7);
}

TEST_CASE("the ways of a bucket are those with the hash's tag, wherever they lie") {
  const Owned table(Table::create(8));
  const std::uint64_t hash = mixed(7);
  const std::uint64_t tag = hash >> 16 & 0xFFFF;
  for (std::uint32_t wanted = 0; wanted < 256; ++wanted) {
    for (std::uint32_t way = 0; way < Table::kWays; ++way) {
      const std::uint64_t others = tag ^ (std::uint64_t{1} << (way * 2)) ^ (wanted & 1) << 15;
      const std::uint64_t upper = (wanted >> way & 1) != 0 ? tag : others == tag ? tag ^ 1 : others;
      table->store(16 + way, upper << 48 | 0x7FFF'FFFF'FFF0);
    }
    REQUIRE(table->ways_of(16, hash) == wanted);
  }
}
