#include "tiers/write_behind/log_writer.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <string_view>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::string_view kPadding("\0\0\0\0\0\0\0", kAlignment - 1);
constexpr std::uint64_t kMarkBytes = aligned(kGroupHeaderBytes);  // kept free in a segment for a group without records
constexpr int kAttempts = 2;                                      // the second in a segment of its own

template <std::size_t N>
std::string_view view_of(const std::array<char, N>& bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace

LogWriter::LogWriter(Disk& disk, const LogStart& start, Options options)
    : disk_(disk),
      options_{std::clamp(options.segment_bytes, kSegmentBytesMin, kSegmentBytesMax)},
      log_id_(start.log_id),
      next_segment_(start.next_segment),
      durable_(start.marks.durable),
      checkpoint_(start.marks.checkpoint),
      marked_(start.marks),
      segments_(start.segments) {
  for (const StoredSegment& segment : segments_) file_bytes_ += segment.bytes;
  count_files();
}

void LogWriter::checkpoint(std::uint64_t sequence) noexcept { checkpoint_ = std::max(checkpoint_, sequence); }

Marks LogWriter::next_marks() const noexcept { return {durable_, std::min(checkpoint_, durable_)}; }

bool LogWriter::commit(const Group& group, std::int64_t now_ms) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (try_commit(group, now_ms, kMarkBytes)) {
      remove_applied();
      return true;
    }
    stats_.failures.add();
    abandon();
  }
  if (file_ != nullptr && mark_helps()) commit_mark(group.first, now_ms);
  count_files();
  return false;
}

// It frees a segment, or says that nothing is left to be replayed.
bool LogWriter::mark_helps() const noexcept {
  const std::uint64_t checkpoint = next_marks().checkpoint;
  if (checkpoint == marked_.checkpoint) return false;
  return checkpoint == durable_ || (segments_.size() > 1 && segments_.front().last <= checkpoint);
}

// In the room that is kept for it.
void LogWriter::commit_mark(std::uint64_t first, std::int64_t now_ms) {
  Group mark;
  mark.first = first;
  if (try_commit(mark, now_ms, 0)) {
    remove_applied();
  } else {
    abandon();
  }
}

bool LogWriter::try_commit(const Group& group, std::int64_t now_ms, std::uint64_t reserve) {
  const std::uint64_t bytes = aligned(kGroupHeaderBytes + group.bytes.size());
  const bool fresh = file_ == nullptr || used_ + bytes + reserve > segments_.back().bytes;
  if (fresh && !open_segment(bytes + reserve)) return false;
  doubtful_ = true;
  const Marks marks = next_marks();
  if (!write(group, now_ms, marks, fresh) || !sync(fresh)) return false;
  doubtful_ = false;
  used_ += bytes + (fresh ? kSegmentHeaderBytes : 0);
  durable_ = std::max(durable_, group.next() - 1);
  marked_ = marks;
  segments_.back().last = durable_;
  stats_.groups.add();
  stats_.records.add(group.records);
  stats_.group_records[std::min<std::size_t>(std::bit_width(group.records), stats_.group_records.size() - 1)].add();
  return true;
}

// The one that was written until now stays in use if there can be no other: it has room for a mark, and that may be what
// frees the space.
bool LogWriter::open_segment(std::uint64_t group_bytes) {
  const std::uint64_t least = kSegmentHeaderBytes + group_bytes;
  std::uint64_t bytes = std::max<std::uint64_t>(options_.segment_bytes, least);
  const std::uint64_t number = next_segment_++;
  const std::string name = segment_name(number);
  std::unique_ptr<DiskFile> file;
  std::error_code error = disk_.create(name, bytes, file);
  if (error == std::errc::no_space_on_device) {
    bytes = least;
    error = disk_.create(name, bytes, file);
  }
  if (error) return fail("creating " + name, error);
  file_ = std::move(file);
  used_ = 0;
  segments_.push_back({number, bytes, 0});
  file_bytes_ += bytes;
  return true;
}

bool LogWriter::write(const Group& group, std::int64_t now_ms, const Marks& marks, bool fresh) {
  const auto segment = encode(SegmentHeader{segments_.back().number, log_id_, marks, kFormatVersion});
  const auto header = encode(
      GroupHeader{static_cast<std::uint32_t>(group.bytes.size()), group.records, log_id_, group.first, marks, now_ms});
  const std::size_t unpadded = header.size() + group.bytes.size();
  const std::array<std::string_view, 4> pieces = {fresh ? view_of(segment) : std::string_view(), view_of(header),
                                                  group.bytes, kPadding.substr(0, aligned(unpadded) - unpadded)};
  std::size_t bytes = 0;
  for (const std::string_view piece : pieces) bytes += piece.size();
  const Written written = file_->write(used_, pieces);
  if (!written.error && written.bytes == bytes) return true;
  const std::string what = "writing to " + segment_name(segments_.back().number);
  if (written.error) return fail(what, written.error);
  failure_ = what + ": only " + std::to_string(written.bytes) + " of " + std::to_string(bytes) + " bytes were written";
  return false;
}

bool LogWriter::sync(bool fresh) {
  const auto begun = std::chrono::steady_clock::now();
  const std::error_code error = file_->sync();
  const auto took = std::chrono::steady_clock::now() - begun;
  stats_.sync_latency.observe(
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
  if (error) return fail("syncing " + segment_name(segments_.back().number), error);
  if (!fresh) return true;
  const std::error_code directory = disk_.sync_directory();
  return directory ? fail("syncing the directory of " + segment_name(segments_.back().number), directory) : true;
}

bool LogWriter::fail(const std::string& what, const std::error_code& error) {
  failure_ = what + ": " + error.message();
  return false;
}

void LogWriter::abandon() {
  if (!doubtful_) return;  // nothing was written: there was no new file
  doubtful_ = false;
  file_.reset();
  if (used_ != 0) return;  // it holds groups that were acknowledged
  if (disk_.remove(segment_name(segments_.back().number))) {
    stats_.removals_failed.add();  // remove_applied() comes to it: it has no record of its own
    return;
  }
  file_bytes_ -= segments_.back().bytes;
  segments_.pop_back();
}

// From the front only, and never the one being written: so the latest marks stay, and what is left has no holes.
void LogWriter::remove_applied() {
  std::size_t gone = 0;
  while (gone + 1 < segments_.size() && segments_[gone].last <= marked_.checkpoint) {
    if (disk_.remove(segment_name(segments_[gone].number))) {
      stats_.removals_failed.add();
      break;
    }
    file_bytes_ -= segments_[gone].bytes;
    ++gone;
  }
  segments_.erase(segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(gone));
  // Should the names come back after a crash, the checkpoint above covers them.
  if (gone > 0 && disk_.sync_directory()) stats_.removals_failed.add();
  count_files();
}

void LogWriter::count_files() noexcept {
  const std::uint64_t unused = file_ == nullptr ? 0 : segments_.back().bytes - used_;
  stats_.bytes.set(file_bytes_);
  stats_.filled_bytes.set(file_bytes_ - unused);
  stats_.segments.set(segments_.size());
}

}  // namespace nearcached::tiers::write_behind
