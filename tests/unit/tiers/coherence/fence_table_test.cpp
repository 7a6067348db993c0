#include "tiers/coherence/fence_table.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <thread>
#include <vector>

namespace nearcached::tiers::coherence {
namespace {

constexpr std::uint64_t kKey = std::uint64_t{7} << 24;
constexpr std::uint64_t kOther = std::uint64_t{8} << 24;  // another stripe

}  // namespace

TEST_CASE("a stamp is current until anything happens to its key", "[fence_table]") {
  using Event = void (*)(FenceTable&);
  const std::pair<const char*, Event> events[] = {
      {"bump", [](FenceTable& f) { f.bump(kKey); }},
      {"begin", [](FenceTable& f) { f.begin_write(kKey); }},
      {"begin, end", [](FenceTable& f) { f.begin_write(kKey), f.end_write(kKey); }},
      {"bump all", [](FenceTable& f) { f.bump_all(); }},
      {"begin all", [](FenceTable& f) { f.begin_write_all(); }},
      {"begin all, end all", [](FenceTable& f) { f.begin_write_all(), f.end_write_all(); }},
  };
  for (const auto& [name, happen] : events) {
    CAPTURE(name);
    FenceTable fences;
    const auto stamp = fences.capture(kKey);
    CHECK(stamp.open());
    CHECK(fences.current(kKey, stamp));
    happen(fences);
    CHECK_FALSE(fences.current(kKey, stamp));
  }
}

TEST_CASE("other keys' events leave a stamp alone", "[fence_table]") {
  FenceTable fences;
  const auto stamp = fences.capture(kKey);
  fences.bump(kOther);
  fences.begin_write(kOther);
  CHECK(fences.current(kKey, stamp));
  CHECK(fences.capture(kKey).open());
}

TEST_CASE("a stamp is open only when the last of several writes has ended", "[fence_table]") {
  FenceTable fences;
  fences.begin_write(kKey);
  fences.begin_write(kKey);
  CHECK_FALSE(fences.capture(kKey).open());
  fences.end_write(kKey);
  CHECK_FALSE(fences.capture(kKey).open());
  fences.end_write(kKey);
  CHECK(fences.capture(kKey).open());

  fences.begin_write_all();
  CHECK_FALSE(fences.capture(kKey).open());
  CHECK_FALSE(fences.capture(kOther).open());
  fences.end_write_all();
  CHECK(fences.capture(kKey).open());
}

TEST_CASE("a stamp taken between the two ends of a write never becomes current again", "[fence_table]") {
  FenceTable fences;
  fences.begin_write(kKey);
  const auto during = fences.capture(kKey);
  fences.end_write(kKey);
  CHECK_FALSE(fences.current(kKey, during));
  fences.begin_write(kKey);
  CHECK_FALSE(fences.current(kKey, during));  // the count is the same as then, the version is not
}

TEST_CASE("as many writes as the count can hold don't run into the version", "[fence_table]") {
  FenceTable fences;
  const auto stamp = fences.capture(kKey);
  for (int i = 0; i < 1000; ++i) fences.begin_write(kKey);
  for (int i = 0; i < 1000; ++i) fences.end_write(kKey);
  CHECK(fences.capture(kKey).open());
  CHECK_FALSE(fences.current(kKey, stamp));
  CHECK(fences.capture(kKey).key == FenceTable::Stamp{2000 * (FenceTable::kWritesMax + 1), 0}.key);
}

TEST_CASE("no write of several threads is lost", "[fence_table]") {
  FenceTable fences;
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        fences.begin_write(kKey);
        fences.bump(kKey);
        fences.end_write(kKey);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(fences.capture(kKey).open());
  CHECK(fences.capture(kKey).key == std::uint64_t{4 * 20'000 * 3} * (FenceTable::kWritesMax + 1));
}

}  // namespace nearcached::tiers::coherence
