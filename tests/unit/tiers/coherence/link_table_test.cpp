#include "tiers/coherence/link_table.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <set>

namespace nearcached::tiers::coherence {

TEST_CASE("a row proves nothing before it is verified, and nothing once that has run out", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  CHECK_FALSE(links->proves(row, generation, 1));
  links->verify_until(row, 1000);
  CHECK(links->proves(row, generation, 999));
  CHECK_FALSE(links->proves(row, generation, 1000));
  CHECK_FALSE(links->proves(row, generation + 1, 999));
}

TEST_CASE("a bump kills what was read, a loss the proof as well", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint16_t other = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->verify_until(row, 1000);
  links->verify_until(other, 1000);
  links->bump(row);
  CHECK_FALSE(links->proves(row, generation, 1));
  CHECK(links->proves(row, links->generation(row), 1));
  links->lose(row);
  CHECK_FALSE(links->proves(row, links->generation(row), 1));
  CHECK(links->proves(other, links->generation(other), 1));
}

TEST_CASE("a bump of all reaches every row that was ever handed out", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t first = *links->acquire();
  const std::uint16_t second = *links->acquire();
  const std::uint32_t a = links->generation(first);
  const std::uint32_t b = links->generation(second);
  links->bump_all();
  CHECK(links->generation(first) != a);
  CHECK(links->generation(second) != b);
}

TEST_CASE("an entry of a row's earlier owner never revives under the next one", "[link_table]") {
  const auto links = std::make_unique<LinkTable>();
  const std::uint16_t row = *links->acquire();
  const std::uint32_t generation = links->generation(row);
  links->verify_until(row, 1'000'000);
  links->release(row);
  CHECK_FALSE(links->proves(row, generation, 1));
  REQUIRE(*links->acquire() == row);
  CHECK_FALSE(links->proves(row, links->generation(row), 1));
  links->verify_until(row, 1'000'000);
  CHECK_FALSE(links->proves(row, generation, 1));
  CHECK(links->proves(row, links->generation(row), 1));
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
