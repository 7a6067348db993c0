#include "loadtest/key_distribution.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

using nearcached::loadtest::KeyDistribution;
using nearcached::loadtest::KeyShape;
using nearcached::loadtest::Random;

namespace {

constexpr int kDraws = 400'000;

std::vector<double> shares(const KeyDistribution& distribution, std::uint64_t keys) {
  Random random(11);
  std::vector<double> counts(keys);
  for (int i = 0; i < kDraws; ++i) {
    counts.at(distribution.next(random)) += 1.0 / kDraws;  // at(): an index out of range fails the test
  }
  return counts;
}

// Five standard deviations of a share.
double tolerance(double share) { return 5 * std::sqrt(share * (1 - share) / kDraws); }

}  // namespace

TEST_CASE("uniform keys come equally often") {
  for (const double share : shares(KeyDistribution(KeyShape::kUniform, 50, 0.99), 50)) {
    CHECK(share == Approx(1.0 / 50).margin(tolerance(1.0 / 50)));
  }
}

TEST_CASE("zipf keys come as often as their rank says, on both sides of theta 1 and at it") {
  for (const double theta : {0.5, 0.99, 1.0, 1.3}) {
    constexpr std::uint64_t kKeys = 1000;
    double total = 0;
    for (std::uint64_t rank = 1; rank <= kKeys; ++rank) {
      total += std::pow(static_cast<double>(rank), -theta);
    }
    const std::vector<double> found = shares(KeyDistribution(KeyShape::kZipf, kKeys, theta), kKeys);
    for (const std::size_t index : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{9}, std::size_t{99}}) {
      const double expected = std::pow(static_cast<double>(index + 1), -theta) / total;
      INFO("theta " << theta << ", index " << index);
      CHECK(found[index] == Approx(expected).margin(tolerance(expected)));
    }
  }
}

TEST_CASE("a single key is always drawn") {
  Random random(1);
  for (const KeyShape shape : {KeyShape::kUniform, KeyShape::kZipf}) {
    const KeyDistribution distribution(shape, 1, 0.99);
    for (int i = 0; i < 1000; ++i) {
      REQUIRE(distribution.next(random) == 0);
    }
  }
}

TEST_CASE("a trillion keys need no set-up and stay in range") {
  constexpr std::uint64_t kKeys = 1'000'000'000'000;
  const KeyDistribution distribution(KeyShape::kZipf, kKeys, 0.99);
  Random random(3);
  std::uint64_t highest = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t key = distribution.next(random);
    REQUIRE(key < kKeys);
    highest = std::max(highest, key);
  }
  CHECK(highest > kKeys / 1000);
}

TEST_CASE("the same seed gives the same keys, another seed others") {
  Random first(5);
  Random second(5);
  Random other(6);
  int different = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t drawn = first();
    CHECK(drawn == second());
    different += drawn != other();
  }
  CHECK(different == 100);
}
