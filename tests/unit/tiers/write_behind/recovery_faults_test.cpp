// A disk that fails at any operation, then a power cut or a kill at that point: what was acknowledged is there.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/tiers/write_behind/support.hpp"
#include "tiers/write_behind/recovery.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;

constexpr std::uint64_t kEnough = 120;  // records: three segments
constexpr std::uint32_t kGroup = 4;

struct Outcome {
  std::uint64_t acknowledged = 0;
  std::uint64_t applied = 0;  // upstream: checkpoints that were asked for
};

// Recovers and writes on until kEnough is reached, or the disk has failed `failures_max` commits. A checkpoint comes with
// every ninth group, of half of what is acknowledged.
class Process {
 public:
  Process(MemoryDisk& disk, Outcome& outcome) : disk_(disk), outcome_(outcome) {}

  // False: it could not even begin.
  bool run(std::uint64_t last, int failures_max) {
    Recovered recovered = recover_all(disk_);
    if (recovered.report.status == RecoveryStatus::kDisk) return false;
    check(recovered);
    LogWriter writer(disk_, recovered.report.start, {LogWriter::kSegmentBytesMin});
    Group group = std::move(recovered.report.start.pending);
    for (int groups = 0; failures_max > 0 && outcome_.acknowledged < last; ++groups) {
      while (group.records < kGroup) append(group, view_of(made_up(group.next())));
      if (groups % 9 == 8) {
        outcome_.applied = outcome_.acknowledged / 2;
        writer.checkpoint(outcome_.applied);
      }
      if (!writer.commit(group, kNowMs)) {
        --failures_max;
        continue;
      }
      outcome_.acknowledged = std::max(outcome_.acknowledged, group.next() - 1);
      REQUIRE(writer.durable() == group.next() - 1);
      group.clear();
    }
    REQUIRE(disk_.misuse == 0);
    return true;
  }

  // In a row, each as it was written, from no later than what was not applied to no earlier than what was acknowledged.
  void check(const Recovered& recovered) const {
    CAPTURE(recovered.report.error);
    REQUIRE(recovered.report.ok());
    REQUIRE(recovered.report.last >= outcome_.acknowledged);
    REQUIRE(recovered.report.marks.checkpoint <= outcome_.applied);
    REQUIRE(recovered.report.marks.durable <= recovered.report.last);
    std::uint64_t next = recovered.report.marks.checkpoint + 1;
    bool good = true;
    for (const Kept& record : recovered.records) good = good && record == made_up(next++);
    REQUIRE(good);
    REQUIRE(next == recovered.report.last + 1);
  }

 private:
  MemoryDisk& disk_;
  Outcome& outcome_;
};

void fail_at(MemoryDisk& disk, Fault fault, std::uint64_t operation, std::uint64_t count) {
  disk.fault = fault;
  disk.fault_at = operation;
  disk.fault_count = count;
}

TEST_CASE("what was acknowledged survives a fault at any operation and a power cut behind it", "[recovery_faults]") {
  const Fault fault = GENERATE(Fault::kShortWrite, Fault::kNoSpace, Fault::kIo);
  const std::uint64_t count = GENERATE(1u, 2u, 3u, 9u);
  std::uint64_t operations = 1;
  for (std::uint64_t operation = 0; operation < operations; ++operation) {
    MemoryDisk disk;
    fail_at(disk, fault, operation, count);
    Outcome outcome;
    Process(disk, outcome).run(kEnough, 3);
    operations = std::max(operations, disk.operations);
    for (std::uint32_t seed = 0; seed < 12; ++seed) {
      CAPTURE(operation, seed);
      MemoryDisk left = disk.after_crash(seed, seed == 0);
      Outcome then = outcome;
      REQUIRE(Process(left, then).run(outcome.acknowledged + 20, 1));
      MemoryDisk again = left.after_crash(seed);
      Process(again, then).check(recover_all(again));
    }
  }
  CHECK(operations > 60);
}

TEST_CASE("a power cut at any operation, and another in the recovery behind it, lose nothing", "[recovery_faults]") {
  std::mt19937 random(3);
  std::uint64_t operations = 1;
  for (std::uint64_t operation = 0; operation < operations; ++operation) {
    MemoryDisk disk;
    fail_at(disk, Fault::kIo, operation, ~std::uint64_t{0});
    Outcome outcome;
    Process(disk, outcome).run(kEnough, 1);
    if (operation == 0) operations = 75;
    for (std::uint64_t second = 0; second < 8; ++second) {
      CAPTURE(operation, second);
      MemoryDisk left = disk.after_crash(static_cast<std::uint32_t>(random()));
      fail_at(left, Fault::kIo, second, ~std::uint64_t{0});
      Outcome then = outcome;
      Process(left, then).run(kEnough, 1);
      MemoryDisk again = left.after_crash(static_cast<std::uint32_t>(random()));
      REQUIRE(Process(again, then).run(then.acknowledged + 8, 1));
    }
  }
}

TEST_CASE("many crashes in a row, with faults at random, lose nothing and bring nothing old back", "[recovery_faults]") {
  for (std::uint32_t seed = 0; seed < 250; ++seed) {
    std::mt19937 random(seed);
    auto disk = std::make_unique<MemoryDisk>();
    Outcome outcome;
    for (int life = 0; life < 12; ++life) {
      CAPTURE(seed, life);
      const Fault fault = std::array{Fault::kNone, Fault::kShortWrite, Fault::kNoSpace, Fault::kIo}[random() % 4];
      fail_at(*disk, fault, random() % 60, 1 + random() % 5);
      Process(*disk, outcome).run(outcome.acknowledged + random() % 60, 2);
      disk = std::make_unique<MemoryDisk>(disk->after_crash(static_cast<std::uint32_t>(random()), random() % 3 == 0));
    }
    disk->fault = Fault::kNone;
    REQUIRE(Process(*disk, outcome).run(outcome.acknowledged + 4, 1));
    CHECK(outcome.acknowledged > 20);
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
