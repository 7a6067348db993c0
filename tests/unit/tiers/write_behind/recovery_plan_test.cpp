#include "tiers/write_behind/recovery_plan.hpp"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <tuple>
#include <vector>

namespace nearcached::tiers::write_behind {
namespace {

// A segment made of groups of ten bytes a record, one behind the other.
class Segment {
 public:
  explicit Segment(std::uint64_t number, const Marks& marks = {}) {
    segment_.number = number;
    segment_.scan.header = SegmentHeader{number, 1, marks, kFormatVersion};
    segment_.scan.size = 4096;
    segment_.scan.used = kSegmentHeaderBytes;
  }
  Segment& group(std::uint64_t first, std::uint32_t records, const Marks& marks) {
    add(first, records, records, marks);
    return *this;
  }
  Segment& torn_group(std::uint64_t first, std::uint32_t records, std::uint32_t sound, const Marks& marks) {
    add(first, records, sound, marks);
    const ScannedGroup& group = segment_.scan.groups.back();
    const std::uint64_t from = group.offset + kGroupHeaderBytes + sound * 10;
    segment_.scan.damage.push_back({from, group.end() - from});
    return *this;
  }
  Segment& damage(std::uint64_t bytes) {
    segment_.scan.damage.push_back({aligned(segment_.scan.used), bytes});
    segment_.scan.used = aligned(segment_.scan.used) + bytes;
    return *this;
  }
  operator ScannedSegment() const { return segment_; }  // NOLINT: for the lists below

 private:
  void add(std::uint64_t first, std::uint32_t records, std::uint32_t sound, const Marks& marks) {
    ScannedGroup group;
    group.offset = aligned(segment_.scan.used);
    group.header = {records * 10, records, 1, first, marks, 0};
    group.sound = sound;
    segment_.scan.groups.push_back(group);
    segment_.scan.used = group.end();
  }

  ScannedSegment segment_;
};

using Taken = std::vector<std::tuple<std::size_t, std::size_t, std::uint64_t, std::uint64_t>>;

Taken taken(const RecoveryPlan& plan) {
  Taken taken;
  for (const Piece& piece : plan.pieces) taken.emplace_back(piece.segment, piece.group, piece.first, piece.last);
  return taken;
}

TEST_CASE("nothing makes an empty plan", "[recovery_plan]") {
  const RecoveryPlan plan = plan_recovery({}, false);
  CHECK(plan.last == 0);
  CHECK(plan.pieces.empty());
  CHECK(plan.cuts.empty());
}

TEST_CASE("groups in a row are taken, above the checkpoint", "[recovery_plan]") {
  const RecoveryPlan plan = plan_recovery(
      {Segment(1).group(1, 3, {0, 0}).group(4, 3, {3, 0}), Segment(2, {6, 4}).group(7, 2, {6, 4}).group(9, 0, {8, 5})},
      false);
  CHECK(plan.marks == Marks{8, 5});
  CHECK(plan.last == 8);
  CHECK(taken(plan) == Taken{{0, 1, 6, 6}, {1, 0, 7, 8}});
  CHECK(plan.lost.empty());
  CHECK(plan.tail_bytes == 0);
}

TEST_CASE("above the mark, what is in a row is taken, and cut from the first that is missing", "[recovery_plan]") {
  const RecoveryPlan plan =
      plan_recovery({Segment(1).group(1, 3, {0, 0}).group(4, 3, {3, 0}).damage(96).group(8, 2, {3, 0})}, false);
  CHECK(plan.last == 6);
  CHECK(taken(plan) == Taken{{0, 0, 1, 3}, {0, 1, 4, 6}});
  CHECK(plan.lost.empty());
  REQUIRE(plan.cuts.size() == 1);
  CHECK(plan.cuts[0].to == 48 + 88 + 56 + 30);
  CHECK(plan.tail_bytes == 2 + 96 + 76);
  CHECK(plan.skipped.empty());
}

TEST_CASE("what is missing below the mark is lost, and it is said where", "[recovery_plan]") {
  const std::vector<ScannedSegment> segments = {Segment(1).group(1, 3, {0, 0}).damage(96).group(8, 2, {7, 0}),
                                                Segment(2).group(10, 1, {9, 0})};
  const RecoveryPlan plan = plan_recovery(segments, false);
  REQUIRE(plan.lost.size() == 1);
  CHECK(plan.lost[0].first == 4);
  CHECK(plan.lost[0].last == 7);
  CHECK(plan.lost[0].segment == 1);
  CHECK(plan.lost[0].offset == 48 + 88);
  CHECK(plan.lost[0].bytes == 96);
  CHECK(plan.last == 10);
}

TEST_CASE("damage that holds only what is applied, or stands elsewhere as well, loses nothing", "[recovery_plan]") {
  const RecoveryPlan applied = plan_recovery({Segment(1).damage(96).group(4, 2, {3, 3})}, false);
  CHECK(applied.lost.empty());
  CHECK(applied.skipped.size() == 1);
  const RecoveryPlan twice =
      plan_recovery({Segment(1).group(1, 3, {0, 0}).torn_group(4, 3, 1, {3, 0}), Segment(2).group(4, 3, {3, 0})}, false);
  CHECK(twice.lost.empty());
  CHECK(twice.cuts.size() == 1);  // the preallocation of the last
  CHECK(twice.tail_bytes == 0);
  CHECK(taken(twice) == Taken{{0, 0, 1, 3}, {1, 0, 4, 6}});
}

TEST_CASE("of a sequence that stands twice the later one is taken, whatever the overlap", "[recovery_plan]") {
  const RecoveryPlan plan = plan_recovery(
      {Segment(1).group(1, 3, {0, 0}).group(4, 3, {3, 0}).group(7, 3, {3, 0}), Segment(2).group(6, 2, {5, 0})}, false);
  CHECK(taken(plan) == Taken{{0, 0, 1, 3}, {0, 1, 4, 5}, {1, 0, 6, 7}, {0, 2, 8, 9}});
  CHECK(plan.last == 9);
}

TEST_CASE("the mark of a damaged group counts, and of a segment without groups", "[recovery_plan]") {
  CHECK(plan_recovery({Segment(1).group(1, 3, {0, 0}).torn_group(6, 2, 0, {5, 0})}, false).lost.size() == 1);
  CHECK(plan_recovery({Segment(1).group(1, 3, {0, 0}), Segment(2, {5, 0})}, false).lost.size() == 1);
}

TEST_CASE("a missing file is named", "[recovery_plan]") {
  const RecoveryPlan plan = plan_recovery({Segment(1).group(1, 3, {0, 0}), Segment(3).group(7, 3, {6, 0})}, false);
  REQUIRE(plan.lost.size() == 1);
  CHECK(plan.lost[0].segment == 2);
  CHECK(plan.lost[0].bytes == 0);
}

TEST_CASE("a file that ends early is named with its end", "[recovery_plan]") {
  const RecoveryPlan plan = plan_recovery({Segment(1).group(1, 3, {0, 0}), Segment(2).group(7, 3, {6, 0})}, false);
  REQUIRE(plan.lost.size() == 1);
  CHECK(plan.lost[0].segment == 1);
  CHECK(plan.lost[0].offset == 48 + 88);
}

TEST_CASE("salvage takes the front of a damaged group below the mark only", "[recovery_plan]") {
  const std::vector<ScannedSegment> segments = {
      Segment(1).group(1, 3, {0, 0}).torn_group(4, 3, 2, {3, 0}).group(7, 2, {6, 0}).torn_group(9, 3, 2, {6, 0})};
  const RecoveryPlan plan = plan_recovery(segments, true);
  CHECK(taken(plan) == Taken{{0, 0, 1, 3}, {0, 1, 4, 5}, {0, 2, 7, 8}});
  REQUIRE(plan.lost.size() == 1);
  CHECK(plan.lost[0].first == 6);
  CHECK(plan.lost[0].last == 6);
  CHECK(plan.lost[0].bytes == 10);
  REQUIRE(plan.skipped.size() == 1);
  CHECK(plan.skipped[0].bytes == 10);
  CHECK(plan.last == 8);
  CHECK(plan.tail_bytes > 56 + 30 - 1);
  CHECK(plan_recovery(segments, false).lost[0].first == 4);
}

TEST_CASE("segments behind the end go, with what they hold", "[recovery_plan]") {
  const RecoveryPlan plan =
      plan_recovery({Segment(1).group(1, 3, {0, 0}).torn_group(4, 3, 0, {3, 0}), Segment(2).torn_group(4, 3, 0, {3, 0}),
                     Segment(3).group(9, 2, {3, 0}), Segment(4)},
                    false);
  CHECK(plan.last == 3);
  REQUIRE(plan.cuts.size() == 4);
  CHECK(plan.cuts[0].to == 48 + 86);
  for (std::size_t i = 1; i < 4; ++i) CHECK(plan.cuts[i].to == 0);
  CHECK(plan.tail_bytes == 2 + 86 + 86 + 76);
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
