#include "tiers/insight/counters.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <thread>

namespace nearcached::tiers::insight {
namespace {

// Which bucket one observation went to.
std::size_t bucket_of(std::uint64_t us) {
  Histogram histogram;
  histogram.observe(us);
  std::size_t found = histogram.buckets.size();
  for (std::size_t i = 0; i < histogram.buckets.size(); ++i) {
    if (histogram.buckets[i].value() == 0) continue;
    REQUIRE(found == histogram.buckets.size());
    REQUIRE(histogram.buckets[i].value() == 1);
    found = i;
  }
  return found;
}

TEST_CASE("a bound belongs to its own bucket, one more microsecond to the next") {
  for (std::size_t i = 0; i < Histogram::kBoundsUs.size(); ++i) {
    CHECK(bucket_of(Histogram::kBoundsUs[i]) == i);
    CHECK(bucket_of(std::uint64_t{Histogram::kBoundsUs[i]} + 1) == i + 1);
  }
}

TEST_CASE("the extremes of an observation land in the first and the unbounded bucket") {
  CHECK(bucket_of(0) == 0);
  CHECK(bucket_of(~std::uint64_t{0}) == Histogram::kBoundsUs.size());
}

TEST_CASE("bucket bounds grow strictly, as cumulative buckets need") {
  CHECK(std::adjacent_find(Histogram::kBoundsUs.begin(), Histogram::kBoundsUs.end(), std::greater_equal<>()) ==
        Histogram::kBoundsUs.end());
}

TEST_CASE("a histogram sums what it observed") {
  Histogram histogram;
  for (const std::uint64_t us : {1, 60, 60, 2'000'000}) histogram.observe(us);
  CHECK(histogram.sum_us.value() == 2'000'121);
}

TEST_CASE("every enumerator has a name and no two share one") {
  const auto distinct = [](const auto& names) {
    return std::set<std::string_view>(names.begin(), names.end()).size() == names.size() &&
           std::none_of(names.begin(), names.end(), [](std::string_view name) { return name.empty(); });
  };
  CHECK(distinct(kCommandClassNames));
  CHECK(distinct(kMissReasonNames));
  CHECK(distinct(kInvalidationSourceNames));
  CHECK(static_cast<std::size_t>(CommandClass::kUnknown) + 1 == kCommandClassNames.size());
  CHECK(static_cast<std::size_t>(MissReason::kStrict) + 1 == kMissReasonNames.size());
  CHECK(static_cast<std::size_t>(InvalidationSource::kSlotMoved) + 1 == kInvalidationSourceNames.size());
}

TEST_CASE("a reader of a counter that is being written never sees it go back, and in the end sees all of it") {
  constexpr std::uint64_t kAdds = 200'000;
  Counter counter;
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < kAdds; ++i) counter.add();
  });
  std::uint64_t last = 0;
  bool went_back = false;
  while (last < kAdds) {
    const std::uint64_t now = counter.value();
    went_back = went_back || now < last;
    last = now;
  }
  writer.join();
  CHECK_FALSE(went_back);
  CHECK(counter.value() == kAdds);
}

}  // namespace
}  // namespace nearcached::tiers::insight
