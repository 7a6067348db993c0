// What a log's segments, as they were scanned, still say: which records come from where, what is missing, what is cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tiers/write_behind/format.hpp"
#include "tiers/write_behind/segment_scan.hpp"

namespace nearcached::tiers::write_behind {

struct ScannedSegment {
  std::uint64_t number = 0;
  SegmentScan scan;
};

// Sequences first..last are taken from this group.
struct Piece {
  std::size_t segment = 0;  // index into what was scanned, as in all that follows
  std::size_t group = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

// Sequences first..last were durable, are not applied, and are nowhere to be found.
struct Loss {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t segment = 0;  // its number
  std::uint64_t offset = 0;   // where in it they should have been
  std::uint64_t bytes = 0;    // of damage there; 0: the file ends early, or is missing
};

struct Cut {
  std::size_t segment = 0;
  std::uint64_t to = 0;     // size to keep; 0: the file goes
  std::uint64_t bytes = 0;  // what it held behind that, without the zeros of the preallocation
};

struct SkippedBytes {
  std::uint64_t segment = 0;  // its number
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Sequences are dense, and every header says up to where the log was durable when it was written. Let D be the highest such
// mark. Then each sequence in (checkpoint, D] must be there, or something that was acknowledged is lost; of what lies above
// D nobody knows whether it was acknowledged, and what stands there in a row is taken, up to the first that is missing. From
// that on it is a torn tail: groups that were never synced, of which any part may have reached the disk.
//
//      applied            must be there              taken, in a row       tail: cut
//   ---------------|-----------------------------|-----------------------|- - - - - - - -
//             checkpoint                         D                      last
//
// A sequence that is there more than once (a group was written again after a failed sync) is taken from the latest segment
// that has it whole: should a cut ever have come undone, then that one is the true one.
// Pure: it touches no disk.
struct RecoveryPlan {
  Marks marks;
  std::uint64_t last = 0;             // everything in (marks.checkpoint, last] is in `pieces`, apart from `lost`
  std::vector<Piece> pieces;          // ascending, disjoint; groups with nothing but applied records are not in it
  std::vector<Loss> lost;             // ascending
  std::vector<SkippedBytes> skipped;  // damage that is not the tail's
  std::vector<Cut> cuts;
  std::uint64_t tail_bytes = 0;  // the sum of the cuts
};

// `salvage`: take what is sound at the front of damaged groups, as far as it is below D.
[[nodiscard]] RecoveryPlan plan_recovery(const std::vector<ScannedSegment>& segments, bool salvage);

}  // namespace nearcached::tiers::write_behind
