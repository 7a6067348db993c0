#include "tiers/coherence/link_table.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <set>

namespace nearcached::tiers::coherence {

TEST_CASE("a row proves nothing before it is proven", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  CHECK(links->proven_us(row) == 0);
  links->prove(row, 1000);
  CHECK(links->proven_us(row) == 1000);
  CHECK(links->last_proof_us(row, links->generation(row)) == 1000);
}

TEST_CASE("a loss ends the generation and the proof, but remembers when it was proven last", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint16_t other = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->prove(row, 1000);
  links->prove(other, 2000);
  links->lose(row);
  CHECK(links->generation(row) == generation + 1);
  CHECK(links->proven_us(row) == 0);
  CHECK(links->last_proof_us(row, generation) == 1000);
  CHECK_FALSE(links->purged(row, generation));
  CHECK(links->proven_us(other) == 2000);
}

TEST_CASE("the proofs of the last generations are remembered, older ones are forgotten", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t first = links->generation(row);
  for (std::uint32_t i = 0; i < LinkTable::kGenerationsKept + 3; ++i) {
    links->prove(row, 1000 + i);
    links->lose(row);
  }
  const std::uint32_t current = links->generation(row);
  for (std::uint32_t generation = first; generation < current; ++generation) {
    CAPTURE(generation);
    const bool kept = current - generation < LinkTable::kGenerationsKept;
    CHECK(links->last_proof_us(row, generation) == (kept ? 1000 + generation - first : 0));
  }
}

TEST_CASE("a purge kills what was read for good, and leaves the proof to what is read next", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->prove(row, 1000);
  links->purge(row);
  CHECK(links->purged(row, generation));
  CHECK_FALSE(links->purged(row, links->generation(row)));
  CHECK(links->proven_us(row) == 1000);
  links->lose(row);
  CHECK_FALSE(links->purged(row, generation + 1));
}

TEST_CASE("what is unverified is neither dead nor proven, and what is read next stands on the same proof", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->prove(row, 1000);
  links->unverify(row);
  CHECK(links->generation(row) == generation + 1);
  CHECK_FALSE(links->purged(row, generation));
  CHECK(links->last_proof_us(row, generation) == 1000);
  CHECK(links->proven_us(row) == 1000);
  links->prove(row, 2000);
  CHECK(links->last_proof_us(row, generation) == 1000);  // that of its own time, for good
  CHECK(links->last_proof_us(row, generation + 1) == 2000);
}

TEST_CASE("an older purge does not end where a younger loss began", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  links->prove(row, 1000);
  links->purge(row);
  const std::uint32_t read_after = links->generation(row);
  links->lose(row);
  links->prove(row, 5000);
  CHECK_FALSE(links->purged(row, read_after));
  CHECK(links->last_proof_us(row, read_after) == 1000);
  links->purge(row);
  CHECK(links->purged(row, read_after));
}

TEST_CASE("what was delivered is a proof of nothing else, and outlives a loss", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint16_t other = *links->acquire();
  CHECK(links->delivered_us(row) == 0);
  links->deliver(row, 700);
  CHECK(links->delivered_us(row) == 700);
  CHECK(links->delivered_us(other) == 0);
  CHECK(links->proven_us(row) == 0);
  links->lose(row);
  CHECK(links->delivered_us(row) == 700);
}

TEST_CASE("a purge of all reaches every row that was ever handed out", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t first = *links->acquire();
  const std::uint16_t second = *links->acquire();
  const std::uint32_t a = links->generation(first);
  const std::uint32_t b = links->generation(second);
  links->purge_all();
  CHECK(links->purged(first, a));
  CHECK(links->purged(second, b));
}

TEST_CASE("an entry of a row's earlier owner never revives under the next one", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->prove(row, 1'000'000);
  links->release(row);
  CHECK(links->purged(row, generation));
  REQUIRE(*links->acquire() == row);
  CHECK(links->proven_us(row) == 0);
  links->prove(row, 1'000'000);
  CHECK(links->purged(row, generation));
  CHECK(links->generation(row) > generation);
}

TEST_CASE("rows are bounded, distinct, and come back when released", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  std::set<std::uint16_t> rows;
  for (int i = 0; i < LinkTable::kLinksMax; ++i) {
    const auto row = links->acquire();
    REQUIRE(row);
    rows.insert(*row);
  }
  CHECK(rows.size() == LinkTable::kLinksMax);
  CHECK(*rows.rbegin() < LinkTable::kLinksMax);
  CHECK_FALSE(links->acquire());
  links->release(17);
  CHECK(links->acquire() == std::uint16_t{17});
  CHECK_FALSE(links->acquire());
}

}  // namespace nearcached::tiers::coherence
