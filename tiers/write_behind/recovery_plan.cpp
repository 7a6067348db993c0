#include "tiers/write_behind/recovery_plan.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

namespace nearcached::tiers::write_behind {
namespace {

// Sequences that are taken, as ranges that don't touch: first -> last.
class Ranges {
 public:
  // Calls taken(first, last) for each part that was not in it, descending.
  template <typename Taken>
  void add(std::uint64_t first, std::uint64_t last, Taken taken) {
    std::uint64_t merged_first = first;
    std::uint64_t merged_last = last;
    std::uint64_t open = last;  // what is left of the range ends here
    auto range = ranges_.upper_bound(last + 1);
    while (range != ranges_.begin() && std::prev(range)->second + 1 >= first) {
      --range;
      const auto [from, to] = *range;
      if (open > to && open >= first) taken(std::max(first, to + 1), open);
      open = std::min(open, from - 1);
      merged_first = std::min(merged_first, from);
      merged_last = std::max(merged_last, to);
      range = ranges_.erase(range);
    }
    if (open >= first) taken(first, open);
    ranges_[merged_first] = merged_last;
  }

  // The last sequence of the row that begins behind `from`; `from` if there is none.
  [[nodiscard]] std::uint64_t row_behind(std::uint64_t from) const {
    const auto range = ranges_.upper_bound(from + 1);
    return range == ranges_.begin() ? from : std::max(from, std::prev(range)->second);
  }

  // Calls missing(first, last) for what is not in it of (from, to].
  template <typename Missing>
  void for_each_gap(std::uint64_t from, std::uint64_t to, Missing missing) const {
    while (from < to) {
      from = row_behind(from);
      if (from >= to) return;
      const auto next = ranges_.upper_bound(from + 1);
      const std::uint64_t last = next == ranges_.end() ? to : std::min(to, next->first - 1);
      missing(from + 1, last);
      from = last;
    }
  }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
};

class Planner {
 public:
  Planner(const std::vector<ScannedSegment>& segments, bool salvage) : segments_(segments), salvage_(salvage) {}

  RecoveryPlan run() {
    find_marks();
    take_groups();
    plan_.last = ranges_.row_behind(plan_.marks.durable);
    drop_pieces_behind(plan_.last);
    ranges_.for_each_gap(plan_.marks.checkpoint, plan_.marks.durable,
                         [this](std::uint64_t first, std::uint64_t last) { note_loss(first, last); });
    const std::size_t end = end_segment();
    for (std::size_t s = 0; s < segments_.size(); ++s) plan_cut(s, s >= end);
    note_skipped();
    return std::move(plan_);
  }

 private:
  void raise(const Marks& marks) {
    plan_.marks.durable = std::max(plan_.marks.durable, marks.durable);
    plan_.marks.checkpoint = std::max(plan_.marks.checkpoint, marks.checkpoint);
  }

  void find_marks() {
    for (const ScannedSegment& segment : segments_) {
      if (segment.scan.header) raise(segment.scan.header->marks);
      for (const ScannedGroup& group : segment.scan.groups) raise(group.header.marks);
    }
  }

  // The last sequence that may be taken of it; first - 1 if none.
  [[nodiscard]] std::uint64_t last_usable(const ScannedGroup& group) const {
    if (group.whole()) return group.header.last();
    const std::uint64_t none = group.header.first - 1;
    return salvage_ ? std::max(none, std::min(none + group.sound, plan_.marks.durable)) : none;
  }

  // From the latest to the earliest, each takes what no later one has.
  void take_groups() {
    for (std::size_t s = segments_.size(); s-- > 0;) {
      const auto& groups = segments_[s].scan.groups;
      for (std::size_t g = groups.size(); g-- > 0;) {
        const std::uint64_t first = std::max(groups[g].header.first, plan_.marks.checkpoint + 1);
        const std::uint64_t last = last_usable(groups[g]);
        if (last < first) continue;
        ranges_.add(first, last, [&](std::uint64_t from, std::uint64_t to) { plan_.pieces.push_back({s, g, from, to}); });
      }
    }
    std::sort(plan_.pieces.begin(), plan_.pieces.end(),
              [](const Piece& left, const Piece& right) { return left.first < right.first; });
  }

  void drop_pieces_behind(std::uint64_t last) {
    while (!plan_.pieces.empty() && plan_.pieces.back().first > last) plan_.pieces.pop_back();
  }

  // Where the missing records should be: behind the last group (in the order of the files) that ends before them, at the
  // first damage up to the group that begins behind them. If nothing there is damaged, a segment is missing, or ends early.
  void note_loss(std::uint64_t first, std::uint64_t last) {
    Loss loss{first, last, segments_.front().number, 0, 0};
    std::size_t from_segment = 0;
    std::size_t to_segment = segments_.size() - 1;
    for (std::size_t s = 0; s <= to_segment; ++s) {
      for (const ScannedGroup& group : segments_[s].scan.groups) {
        if (group.header.last() < first) {
          from_segment = s;
          loss.segment = segments_[s].number;
          loss.offset = aligned(std::min(group.end(), segments_[s].scan.size));
        } else if (group.header.first > last) {
          to_segment = s;
          break;
        }
      }
    }
    if (!locate_damage(loss, from_segment, to_segment)) locate_missing_segment(loss, from_segment, to_segment);
    plan_.lost.push_back(loss);
  }

  bool locate_damage(Loss& loss, std::size_t from_segment, std::size_t to_segment) const {
    const std::uint64_t from_offset = loss.offset;
    for (std::size_t s = from_segment; s <= to_segment; ++s) {
      for (const DamagedBytes& damage : segments_[s].scan.damage) {
        if (s == from_segment && damage.offset < from_offset) continue;
        loss.segment = segments_[s].number;
        loss.offset = damage.offset;
        loss.bytes = damage.bytes;
        return true;
      }
    }
    return false;
  }

  void locate_missing_segment(Loss& loss, std::size_t from_segment, std::size_t to_segment) const {
    for (std::size_t s = from_segment + 1; s <= to_segment; ++s) {
      const ScannedSegment& segment = segments_[s];
      const bool gap = segment.number != segments_[s - 1].number + 1;
      if (!gap && !segment.scan.groups.empty()) continue;
      loss.segment = gap ? segments_[s - 1].number + 1 : segment.number;
      loss.offset = gap ? 0 : segment.scan.size;
      return;
    }
  }

  // What a cut must not take. Of damaged groups too: what they held is lost, and said to be, or stands elsewhere as well.
  [[nodiscard]] bool keeps(const ScannedGroup& group) const { return group.header.last() <= plan_.last; }

  // The segment in which the log ends.
  [[nodiscard]] std::size_t end_segment() const {
    for (std::size_t s = segments_.size(); s-- > 0;) {
      const auto& groups = segments_[s].scan.groups;
      if (std::any_of(groups.begin(), groups.end(), [this](const ScannedGroup& group) { return keeps(group); })) return s;
    }
    return 0;
  }

  // Everything of a segment that is behind its last group to be kept goes, if that is the log's end or if there are groups
  // behind it; at the end its preallocation too. Damage behind the last group of an earlier segment stays: a write that
  // failed there, mostly.
  void plan_cut(std::size_t index, bool is_end) {
    const SegmentScan& scan = segments_[index].scan;
    const auto first_cut =
        std::find_if_not(scan.groups.begin(), scan.groups.end(), [this](const ScannedGroup& group) { return keeps(group); });
    if (first_cut == scan.groups.end() && !is_end) return;
    const bool empty = first_cut == scan.groups.begin();
    const std::uint64_t head = scan.header ? kSegmentHeaderBytes : 0;
    const std::uint64_t end = empty ? head : std::min(std::prev(first_cut)->end(), scan.size);
    if (!empty && scan.size <= aligned(end)) return;
    plan_.cuts.push_back({index, empty ? 0 : end, scan.used > end ? scan.used - end : 0});
    plan_.tail_bytes += plan_.cuts.back().bytes;
  }

  void note_skipped() {
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      const auto cut = std::find_if(plan_.cuts.begin(), plan_.cuts.end(), [s](const Cut& c) { return c.segment == s; });
      for (const DamagedBytes& damage : segments_[s].scan.damage) {
        if (cut != plan_.cuts.end() && damage.offset >= cut->to) continue;
        plan_.skipped.push_back({segments_[s].number, damage.offset, damage.bytes});
      }
    }
  }

  const std::vector<ScannedSegment>& segments_;
  const bool salvage_;
  Ranges ranges_;
  RecoveryPlan plan_;
};

}  // namespace

RecoveryPlan plan_recovery(const std::vector<ScannedSegment>& segments, bool salvage) {
  return Planner(segments, salvage).run();
}

}  // namespace nearcached::tiers::write_behind
