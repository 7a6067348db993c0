#include "tiers/write_behind/recovery.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <unordered_map>
#include <utility>

#include "tiers/write_behind/little_endian.hpp"

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::uint64_t kSegmentNumberMax = std::uint64_t{1} << 62;  // a log never gets there

std::uint64_t random_id() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

std::string in_segment(std::uint64_t number, std::uint64_t offset) {
  return "segment " + segment_name(number) + " at offset " + std::to_string(offset);
}

std::string range_of(std::uint64_t first, std::uint64_t last) {
  return first == last ? "record " + std::to_string(first)
                       : "records " + std::to_string(first) + " to " + std::to_string(last);
}

// Which keys were written past the log, and when last. Sequences of records that are not replayed do no harm.
class Superseded {
 public:
  void note(const ParsedRecord& parsed) {
    const Record& record = parsed.record;
    if (record.kind == RecordKind::kSuperseded) raise(keys_[key_of(record)], parsed.sequence);
    if (record.kind != RecordKind::kSupersededAll) return;
    raise(record.database == kAllDatabases ? all_ : databases_[record.database], parsed.sequence);
  }
  [[nodiscard]] bool covers(const ParsedRecord& parsed) const {
    if (parsed.sequence < all_) return true;
    if (!databases_.empty()) {
      const auto database = databases_.find(parsed.record.database);
      if (database != databases_.end() && parsed.sequence < database->second) return true;
    }
    if (keys_.empty()) return false;
    const auto key = keys_.find(key_of(parsed.record));
    return key != keys_.end() && parsed.sequence < key->second;
  }

 private:
  static std::string key_of(const Record& record) {
    std::string key(4, '\0');
    store_number(key.data(), record.database);
    return key.append(record.key);
  }
  static void raise(std::uint64_t& to, std::uint64_t sequence) { to = std::max(to, sequence); }

  std::unordered_map<std::string, std::uint64_t> keys_;
  std::unordered_map<std::uint32_t, std::uint64_t> databases_;
  std::uint64_t all_ = 0;
};

bool is_superseding(RecordKind kind) { return kind == RecordKind::kSuperseded || kind == RecordKind::kSupersededAll; }

class Recovery {
 public:
  Recovery(Disk& disk, const RecoveryOptions& options, const std::function<void(const RecoveredRecord&)>& replay)
      : disk_(disk), options_(options), replay_(replay) {}

  RecoveryReport run() {
    static_cast<void>(list() && scan() && plan() && cut() && hand_over());
    return std::move(report_);
  }

 private:
  bool fail(RecoveryStatus status, std::string error) {
    report_.status = status;
    report_.error = std::move(error);
    return false;
  }
  bool fail_disk(const std::string& what, const std::error_code& error) {
    return fail(RecoveryStatus::kDisk, what + ": " + error.message());
  }

  bool list() {
    std::vector<std::string> names;
    if (const std::error_code error = disk_.list(names)) return fail_disk("the log's directory", error);
    for (const std::string& name : names) {
      const std::optional<std::uint64_t> number = segment_number(name);
      if (number && *number != 0 && *number < kSegmentNumberMax) {
        segments_.push_back({*number, {}});
      } else {
        ++report_.ignored_files;
      }
    }
    std::sort(segments_.begin(), segments_.end(),
              [](const ScannedSegment& left, const ScannedSegment& right) { return left.number < right.number; });
    report_.segments = segments_.size();
    return true;
  }

  bool read(std::uint64_t number) {
    if (number == loaded_) return true;
    loaded_ = 0;
    if (const std::error_code error = disk_.read(segment_name(number), bytes_))
      return fail_disk(segment_name(number), error);
    loaded_ = number;
    return true;
  }

  bool scan() {
    for (ScannedSegment& segment : segments_) {
      if (!read(segment.number)) return false;
      const std::optional<SegmentHeader> header = decode_segment_header(bytes_);
      if (header && !accept(segment.number, *header)) return false;
      segment.scan = scan_segment(bytes_, log_id_);
      if (!log_id_ && !segment.scan.groups.empty()) log_id_ = segment.scan.groups.front().header.log_id;
    }
    return true;
  }

  // The first sound header says which log it is. Where another disagrees, no one can say which of the two is wanted.
  bool accept(std::uint64_t number, const SegmentHeader& header) {
    const std::string name = segment_name(number);
    if (header.version > kFormatVersion) {
      return fail(RecoveryStatus::kNewerVersion, name + " has format version " + std::to_string(header.version) +
                                                     ", of a newer nearcached; this one reads up to " +
                                                     std::to_string(kFormatVersion));
    }
    if (header.number != number) {
      return fail(RecoveryStatus::kForeignLog,
                  name + " was written as " + segment_name(header.number) + ": give it its name back, or move it away");
    }
    if (log_id_ && *log_id_ != header.log_id) {
      return fail(RecoveryStatus::kForeignLog, name + " belongs to another log than the segments before it: move the " +
                                                   "segments of one of the two to a directory of their own");
    }
    log_id_ = header.log_id;
    return true;
  }

  bool plan() {
    plan_ = plan_recovery(segments_, options_.skip_damaged);
    report_.marks = plan_.marks;
    report_.last = plan_.last;
    report_.tail_bytes = plan_.tail_bytes;
    report_.lost = plan_.lost;
    report_.skipped = plan_.skipped;
    for (const SkippedBytes& skipped : plan_.skipped) report_.skipped_bytes += skipped.bytes;
    if (plan_.lost.empty() || options_.skip_damaged) return true;
    const Loss& loss = plan_.lost.front();
    std::string error = in_segment(loss.segment, loss.offset) + ": ";
    error +=
        loss.bytes > 0 ? std::to_string(loss.bytes) + " bytes are damaged" : std::string("it ends early, or is missing");
    error += "; " + range_of(loss.first, loss.last) + " can't be read, acknowledged and perhaps not yet applied upstream";
    if (plan_.lost.size() > 1) error += " (and " + std::to_string(plan_.lost.size() - 1) + " more such places)";
    return fail(RecoveryStatus::kDamaged, error + "; --wal-skip-damaged goes on without what is damaged");
  }

  // From the end backwards: if this is interrupted, the next start sees a tail that is shorter, and cuts the rest.
  bool cut() {
    if (plan_.cuts.empty()) return true;
    if (!keep_marks()) return false;
    for (std::size_t i = plan_.cuts.size(); i-- > 0;) {
      const Cut& cut = plan_.cuts[i];
      const std::string name = segment_name(segments_[cut.segment].number);
      const std::error_code error = cut.to == 0 ? disk_.remove(name) : disk_.truncate(name, cut.to);
      if (error) return fail_disk("the torn end of " + name + " can't be cut", error);
    }
    const std::error_code error = disk_.sync_directory();
    return error ? fail_disk("the log's directory", error) : true;
  }

  [[nodiscard]] const Cut* cut_of(std::size_t segment) const {
    const auto cut =
        std::find_if(plan_.cuts.begin(), plan_.cuts.end(), [segment](const Cut& c) { return c.segment == segment; });
    return cut == plan_.cuts.end() ? nullptr : &*cut;
  }

  // The header of a torn group, true when it was written, may be all that says what was durable. Before it is cut, its marks
  // go into a segment of nothing but a header: otherwise, should this start be cut short as well, the next one would take
  // for a torn tail what is known to have been acknowledged.
  bool keep_marks() {
    Marks left;
    const auto raise = [&left](const Marks& marks) {
      left = {std::max(left.durable, marks.durable), std::max(left.checkpoint, marks.checkpoint)};
    };
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      const Cut* const cut = cut_of(s);
      if (cut != nullptr && cut->to == 0) continue;
      if (segments_[s].scan.header) raise(segments_[s].scan.header->marks);
      for (const ScannedGroup& group : segments_[s].scan.groups) {
        if (cut == nullptr || group.offset < cut->to) raise(group.header.marks);
      }
    }
    if (left == plan_.marks) return true;
    marks_segment_ = segments_.back().number + 1;
    const std::string name = segment_name(marks_segment_);
    const auto header = encode(SegmentHeader{marks_segment_, *log_id_, plan_.marks, kFormatVersion});
    const std::array<std::string_view, 1> pieces = {std::string_view(header.data(), header.size())};
    std::unique_ptr<DiskFile> file;
    std::error_code error = disk_.create(name, header.size(), file);
    if (error) return fail_disk(name, error);
    const Written written = file->write(0, pieces);
    error = written.error ? written.error : file->sync();
    if (!error && written.bytes != header.size()) error = std::make_error_code(std::errc::no_space_on_device);
    if (!error) error = disk_.sync_directory();
    return error ? fail_disk(name, error) : true;
  }

  // Calls visit(piece, ParsedRecord) for all that is to be replayed, ascending.
  template <typename Visit>
  bool for_each(Visit visit) {
    for (const Piece& piece : plan_.pieces) {
      const ScannedSegment& segment = segments_[piece.segment];
      if (!read(segment.number)) return false;
      const ScannedGroup& group = segment.scan.groups[piece.group];
      for_each_record(bytes_, group, group.sound, [&](const ParsedRecord& parsed) {
        if (parsed.sequence >= piece.first && parsed.sequence <= piece.last) visit(group, parsed);
      });
    }
    return true;
  }

  bool hand_over() {
    Superseded superseded;
    const bool supersedes =
        std::any_of(segments_.begin(), segments_.end(), [](const ScannedSegment& s) { return s.scan.supersedes; });
    if (supersedes && !for_each([&](const ScannedGroup&, const ParsedRecord& parsed) { superseded.note(parsed); })) {
      return false;
    }
    make_start();
    const std::uint64_t doubtful_below = plan_.lost.empty() ? 0 : plan_.lost.back().first;
    return for_each([&](const ScannedGroup& group, const ParsedRecord& parsed) {
      if (parsed.sequence > plan_.marks.durable) report_.start.pending.append(parsed.record, begin_checksum(parsed.record));
      if (is_superseding(parsed.record.kind)) return;
      if (superseded.covers(parsed)) {
        ++report_.superseded;
        return;
      }
      ++report_.records;
      replay_({parsed.record, parsed.sequence, group.header.written_at_ms, parsed.sequence < doubtful_below});
    });
  }

  void make_start() {
    LogStart& start = report_.start;
    start.log_id = log_id_ ? *log_id_ : options_.new_log_id;
    if (start.log_id == 0) start.log_id = random_id();
    start.marks = plan_.marks;
    start.pending.first = plan_.marks.durable + 1;
    start.next_segment = segments_.empty() ? 1 : segments_.back().number + 1;
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      const Cut* const cut = cut_of(s);
      if (cut != nullptr && cut->to == 0) continue;
      StoredSegment stored{segments_[s].number, segments_[s].scan.size, 0};
      if (cut != nullptr) stored.bytes = cut->to;
      for (const ScannedGroup& group : segments_[s].scan.groups) {
        stored.last = std::max(stored.last, std::min(group.header.last(), plan_.last));
      }
      start.segments.push_back(stored);
    }
    if (marks_segment_ == 0) return;
    start.segments.push_back({marks_segment_, kSegmentHeaderBytes, 0});
    start.next_segment = marks_segment_ + 1;
  }

  Disk& disk_;
  const RecoveryOptions& options_;
  const std::function<void(const RecoveredRecord&)>& replay_;

  std::optional<std::uint64_t> log_id_;
  std::vector<ScannedSegment> segments_;
  RecoveryPlan plan_;
  RecoveryReport report_;

  std::uint64_t marks_segment_ = 0;  // its number, if keep_marks() made one

  std::string bytes_;         // of the segment that was read last
  std::uint64_t loaded_ = 0;  // its number; 0: none
};

}  // namespace

RecoveryReport recover(Disk& disk, const RecoveryOptions& options,
                       const std::function<void(const RecoveredRecord&)>& replay) {
  return Recovery(disk, options, replay).run();
}

}  // namespace nearcached::tiers::write_behind
