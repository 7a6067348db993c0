#include "tiers/coherence/slot_epochs.hpp"

#include <catch2/catch.hpp>
#include <memory>

namespace nearcached::tiers::coherence {

TEST_CASE("a slot's epoch grows by its own bumps alone", "[slot_epochs]") {
  const auto epochs = std::make_unique<SlotEpochs>();
  const std::uint32_t first = epochs->of(0);
  const std::uint32_t last = epochs->of(16383);
  epochs->bump(0);
  CHECK(epochs->of(0) == first + 1);
  CHECK(epochs->of(1) == first);
  CHECK(epochs->of(16383) == last);
  epochs->bump(16383);
  epochs->bump(16383);
  CHECK(epochs->of(16383) == last + 2);
  CHECK(epochs->of(16382) == first);
}

}  // namespace nearcached::tiers::coherence
