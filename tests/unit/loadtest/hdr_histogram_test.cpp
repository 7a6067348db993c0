#include "loadtest/hdr_histogram.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "loadtest/key_distribution.hpp"

using nearcached::loadtest::HdrHistogram;
using nearcached::loadtest::Random;

namespace {

std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, double percent) {
  const auto rank = static_cast<std::size_t>(std::ceil(static_cast<double>(sorted.size()) * percent / 100.0));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

}  // namespace

TEST_CASE("an empty histogram says zero") {
  const HdrHistogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.percentile(99) == 0);
  CHECK(histogram.max() == 0);
  CHECK(histogram.mean() == 0);
}

TEST_CASE("small values are kept exactly") {
  HdrHistogram histogram;
  for (std::uint64_t value = 0; value < 2048; ++value) {
    histogram.record(value);
  }
  CHECK(histogram.percentile(0) == 0);
  CHECK(histogram.percentile(50) == 1023);
  CHECK(histogram.percentile(100) == 2047);
}

TEST_CASE("every value is reported within a thousandth, and never below what was recorded") {
  for (std::uint64_t value = 1; value < HdrHistogram::kValueMax / 3; value = value * 3 + 1) {
    for (const std::uint64_t near : {value - 1, value, value + 1}) {
      HdrHistogram histogram;
      histogram.record(near);
      histogram.record(HdrHistogram::kValueMax);  // else the maximum would hide the bucket's end
      const std::uint64_t reported = histogram.percentile(50);
      CHECK(reported >= near);
      CHECK(static_cast<double>(reported - near) <= static_cast<double>(near) / 1000.0);
    }
  }
}

TEST_CASE("percentiles agree with sorting, for latencies over six orders of magnitude") {
  Random random(7);
  HdrHistogram histogram;
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 50'000; ++i) {
    values.push_back(static_cast<std::uint64_t>(std::exp(random.real() * 14.0) * 100.0));
    histogram.record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.1, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const auto exact = static_cast<double>(exact_percentile(values, percent));
    CHECK(static_cast<double>(histogram.percentile(percent)) == Approx(exact).epsilon(0.001));
  }
  CHECK(histogram.max() == values.back());
}

TEST_CASE("a value beyond the range counts, and the maximum stays true") {
  HdrHistogram histogram;
  histogram.record(HdrHistogram::kValueMax * 4);
  CHECK(histogram.count() == 1);
  CHECK(histogram.max() == HdrHistogram::kValueMax * 4);
  CHECK(histogram.percentile(100) == HdrHistogram::kValueMax);
}

TEST_CASE("merging equals recording in one place") {
  HdrHistogram first;
  HdrHistogram second;
  HdrHistogram together;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    (i % 3 == 0 ? first : second).record(i * i);
    together.record(i * i);
  }
  first.merge(second);
  CHECK(first.count() == together.count());
  CHECK(first.max() == together.max());
  CHECK(first.mean() == Approx(together.mean()));
  for (const double percent : {10.0, 50.0, 99.0}) {
    CHECK(first.percentile(percent) == together.percentile(percent));
  }
}
