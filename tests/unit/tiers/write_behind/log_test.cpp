#include "tiers/write_behind/log.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/config/temp_dir.hpp"
#include "tests/unit/tiers/write_behind/support.hpp"
#include "tiers/write_behind/posix_disk.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;
using config::TempDir;

// A disk of which the test opens and shuts a gate in front of every sync, and whose faults may be set while it is used.
class GatedDisk final : public Disk {
 public:
  explicit GatedDisk(Disk& disk) : disk_(disk) {}

  void shut() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void fail(bool failing) {
    const std::lock_guard lock(mutex_);
    failing_ = failing;
  }
  void wait_for_sync() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_; });
  }

  std::error_code create(const std::string& name, std::uint64_t bytes, std::unique_ptr<DiskFile>& file) override {
    if (failing()) return std::make_error_code(std::errc::no_space_on_device);
    std::unique_ptr<DiskFile> real;
    const std::error_code error = disk_.create(name, bytes, real);
    if (!error) file = std::make_unique<GatedFile>(*this, std::move(real));
    return error;
  }
  std::error_code sync_directory() override { return disk_.sync_directory(); }
  std::error_code list(std::vector<std::string>& names) override { return disk_.list(names); }
  std::error_code read(const std::string& name, std::string& content) override { return disk_.read(name, content); }
  std::error_code truncate(const std::string& name, std::uint64_t bytes) override { return disk_.truncate(name, bytes); }
  std::error_code remove(const std::string& name) override { return disk_.remove(name); }

 private:
  class GatedFile final : public DiskFile {
   public:
    GatedFile(GatedDisk& disk, std::unique_ptr<DiskFile> real) : disk_(disk), real_(std::move(real)) {}
    Written write(std::uint64_t offset, std::span<const std::string_view> pieces) override {
      return real_->write(offset, pieces);
    }
    std::error_code sync() override {
      disk_.pass();
      return disk_.failing() ? std::make_error_code(std::errc::io_error) : real_->sync();
    }

   private:
    GatedDisk& disk_;
    std::unique_ptr<DiskFile> real_;
  };

  bool failing() {
    const std::lock_guard lock(mutex_);
    return failing_;
  }
  void pass() {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    waiting_ = false;
  }

  Disk& disk_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true, failing_ = false, waiting_ = false;
};

// What the log's thread said; the test waits for it.
class Heard {
 public:
  LogOptions options(std::int64_t idle_mark_ms = 1) {
    LogOptions options;
    options.writer.segment_bytes = LogWriter::kSegmentBytesMin;
    options.idle_mark_ms = idle_mark_ms;
    options.retry_ms = 2;
    options.on_durable = [this](std::uint64_t sequence) { note([&] { durable = sequence; }); };
    options.on_state = [this](LogState state, const std::string& text) { note([&] { states.emplace_back(state, text); }); };
    return options;
  }
  template <typename Condition>
  void wait(Condition condition) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(20), condition));
  }
  void wait_durable(std::uint64_t sequence) {
    wait([&] { return durable >= sequence; });
  }

  std::uint64_t durable = 0;
  std::vector<std::pair<LogState, std::string>> states;

 private:
  template <typename Change>
  void note(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
};

constexpr std::int64_t kNeverMs = 1'000'000;

LogStart start_of(Disk& disk) {
  RecoveryReport report = recover(disk, {}, [](const RecoveredRecord&) {});
  REQUIRE(report.error == "");
  return std::move(report.start);
}

std::uint64_t append_one(Log& log, const Record& record) {
  const Appended appended = log.append(record);
  CHECK(appended.status == AppendStatus::kTaken);
  return appended.sequence;
}

template <typename Condition>
void wait_until(Condition condition) {
  for (int i = 0; i < 20'000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  REQUIRE(condition());
}

TEST_CASE("what is appended becomes durable, and a clean end marks it", "[log]") {
  MemoryDisk disk;
  Heard heard;
  Log log(disk, start_of(disk), heard.options(kNeverMs));
  CHECK(append_one(log, set_of("a", "1")) == 1);
  CHECK(append_one(log, set_of("b", "2")) == 2);
  heard.wait_durable(2);
  CHECK(log.durable_sequence() == 2);
  CHECK(log.close());
  CHECK(log.close());
  CHECK(log.append(set_of("c", "3")).status == AppendStatus::kClosed);
  CHECK(log.stats().pending_records == 0);
  const Recovered recovered = recover_all(disk);
  CHECK(recovered.records.size() == 2);
  CHECK(recovered.report.marks.durable == 2);
}

TEST_CASE("while a group is synced the next one fills, and becomes one group", "[log]") {
  MemoryDisk memory;
  GatedDisk disk(memory);
  Heard heard;
  Log log(disk, start_of(disk), heard.options(kNeverMs));
  disk.shut();
  append_one(log, set_of("a", "0"));
  disk.wait_for_sync();
  for (int i = 0; i < 100; ++i) append_one(log, set_of("a", std::to_string(i)));
  CHECK(log.durable_sequence() == 0);
  const LogStats waiting = log.stats();
  CHECK(waiting.pending_records == 101);
  CHECK(waiting.appended == 101);
  disk.open();
  heard.wait_durable(101);
  const LogStats stats = log.stats();
  CHECK(stats.groups == 2);
  CHECK(stats.records == 101);
  CHECK(stats.group_records[1] == 1);
  CHECK(stats.group_records[7] == 1);
  CHECK(stats.sync_latency.count() >= 1);
  CHECK(log.close());
}

TEST_CASE("a group that none follows is marked after a while, with the checkpoint", "[log]") {
  MemoryDisk disk;
  Heard heard;
  Log log(disk, start_of(disk), heard.options());
  const std::uint64_t sequence = append_one(log, set_of("a", "1"));
  wait_until([&] { return log.stats().groups == 2; });
  log.checkpoint(sequence);
  wait_until([&] { return log.stats().checkpoint == sequence; });
  CHECK(log.stats().groups == 3);
  CHECK(log.close());
  CHECK(log.stats().groups == 3);
  CHECK(recover_all(disk).report.marks == Marks{1, 1});
}

TEST_CASE("a record too large, a full log and a full buffer are refused with the reason", "[log]") {
  MemoryDisk memory;
  GatedDisk disk(memory);
  Heard heard;
  LogOptions options = heard.options(kNeverMs);
  options.record_bytes_max = 1000;
  options.pending_bytes_max = 2000;
  options.bytes_max = 8000;
  Log log(disk, start_of(disk), options);
  const std::string value(1000 - kRecordHeadBytes - 1, 'v');
  CHECK(log.append(set_of("k", value + "v")).status == AppendStatus::kTooLarge);
  disk.shut();
  append_one(log, set_of("k", value));
  disk.wait_for_sync();
  append_one(log, set_of("k", value));
  append_one(log, set_of("k", value));
  CHECK(log.append(set_of("k", "")).status == AppendStatus::kFull);
  disk.open();
  heard.wait_durable(3);
  std::uint64_t last = 3;
  for (AppendStatus status = AppendStatus::kTaken; status == AppendStatus::kTaken;) {
    const Appended appended = log.append(set_of("k", value));
    status = appended.status;
    if (status == AppendStatus::kTaken) heard.wait_durable(last = appended.sequence);
  }
  CHECK(log.append(set_of("k", value)).status == AppendStatus::kFull);
  CHECK(log.append({RecordKind::kSuperseded, 0, 0, "k", ""}).status == AppendStatus::kTaken);
  log.checkpoint(last);
  CHECK(log.stats().refused_full >= 2);
  CHECK(log.stats().refused_too_large == 1);
  heard.wait_durable(last + 1);
  append_one(log, {RecordKind::kSuperseded, 0, 0, "k", ""});  // brings the checkpoint with it
  heard.wait_durable(last + 2);
  wait_until([&] { return log.append(set_of("k", value)).status == AppendStatus::kTaken; });
  CHECK(log.close());
}

TEST_CASE("a disk that fails is said, refuses at once, and what was taken becomes durable when it is good again", "[log]") {
  MemoryDisk memory;
  GatedDisk disk(memory);
  Heard heard;
  Log log(disk, start_of(disk), heard.options());
  heard.wait_durable(append_one(log, set_of("a", "1")));
  disk.shut();
  append_one(log, set_of("b", "2"));
  disk.wait_for_sync();
  append_one(log, set_of("c", "3"));
  disk.fail(true);
  disk.open();
  heard.wait([&] { return !heard.states.empty(); });
  CHECK(heard.states[0].first == LogState::kFailed);
  CHECK(heard.states[0].second.find("No space left on device") != std::string::npos);
  CHECK(log.append(set_of("d", "4")).status == AppendStatus::kFailed);
  CHECK(log.stats().state == LogState::kFailed);
  CHECK(log.stats().pending_records == 2);
  CHECK(log.durable_sequence() == 1);
  wait_until([&] { return log.stats().failures >= 6; });
  disk.fail(false);
  heard.wait_durable(3);
  heard.wait([&] { return heard.states.size() == 2; });
  CHECK(heard.states[1] == std::pair{LogState::kGood, std::string()});
  CHECK(append_one(log, set_of("d", "4")) == 4);
  CHECK(log.close());
  CHECK(memory.misuse == 0);
  CHECK(recover_all(memory).records.size() == 4);
}

TEST_CASE("an end on a disk that fails says what was not made durable", "[log]") {
  MemoryDisk memory;
  GatedDisk disk(memory);
  Heard heard;
  Log log(disk, start_of(disk), heard.options());
  disk.fail(true);
  append_one(log, set_of("a", "1"));
  heard.wait([&] { return !heard.states.empty(); });
  CHECK_FALSE(log.close());
  CHECK_FALSE(log.close());
  CHECK(log.stats().pending_records == 1);
}

TEST_CASE("records above the mark of the last process are durable again first", "[log]") {
  MemoryDisk disk;
  {
    LogStart start;
    start.log_id = kLogId;
    LogWriter writer(disk, start, {LogWriter::kSegmentBytesMin});
    REQUIRE(writer.commit(group_of(1, 3), kNowMs));
  }
  Heard heard;
  Log log(disk, start_of(disk), heard.options());
  CHECK(append_one(log, set_of("a", "4")) == 4);
  heard.wait_durable(4);
  CHECK(log.close());
  CHECK(scan_segment(disk.bytes(segment_name(2)), kLogId).groups.front().header.records >= 3);
  CHECK(recover_all(disk).records.size() == 4);
}

// Threads that append to a real directory; each checks that its records come back in its order.
void append_from_threads(Log& log, int threads, int each, const std::string& run) {
  std::vector<std::thread> writers;
  for (int writer = 0; writer < threads; ++writer) {
    writers.emplace_back([&log, each, key = run + ":" + std::to_string(writer)] {
      for (int i = 0; i < each; ++i) {
        const std::uint64_t sequence = log.append(set_of(key, std::to_string(i))).sequence;
        while (log.durable_sequence() < sequence) std::this_thread::yield();
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

TEST_CASE("threads append to a real directory, and all of it is there when it is opened again", "[log]") {
  const TempDir temp;
  constexpr int kThreads = 4, kEach = 60, kRuns = 3;
  for (int run = 0; run < kRuns; ++run) {
    std::string error;
    const auto disk = PosixDisk::open(temp.path("log"), error);
    REQUIRE(disk != nullptr);
    const Recovered before = recover_all(*disk);
    REQUIRE(before.report.ok());
    REQUIRE(before.records.size() == static_cast<std::size_t>(run * kThreads * kEach));
    std::map<std::string, int> next;
    for (const Kept& record : before.records) REQUIRE(record.value == std::to_string(next[record.key]++));
    Heard heard;
    Log log(*disk, before.report.start, heard.options());
    append_from_threads(log, kThreads, kEach, std::to_string(run));
    if (run % 2 == 0) REQUIRE(log.close());
    REQUIRE(log.stats().durable == static_cast<std::uint64_t>((run + 1) * kThreads * kEach));
  }
}

// In a process of its own: appends until it is killed, and says each sequence that is durable.
[[noreturn]] void append_until_killed(const std::string& path, int told) {
  std::string error;
  const auto disk = PosixDisk::open(path, error);
  if (disk == nullptr) ::_exit(2);
  const RecoveryReport report = recover(*disk, {}, [](const RecoveredRecord&) {});
  if (!report.ok()) ::_exit(3);
  LogOptions options;
  options.writer.segment_bytes = LogWriter::kSegmentBytesMin;
  options.pending_bytes_max = 8192;
  options.on_durable = [told](std::uint64_t sequence) {
    if (::write(told, &sequence, sizeof sequence) < 0) ::_exit(4);
  };
  Log log(*disk, report.start, options);
  for (std::uint64_t next = report.start.pending.next();; ++next) {
    if (log.append(view_of(made_up(next))).status != AppendStatus::kTaken) --next;
  }
}

TEST_CASE("a process that is killed at any moment has lost nothing that it acknowledged", "[log]") {
  const TempDir temp;
  std::uint64_t acknowledged = 0;
  for (int kill = 0; kill < 12; ++kill) {
    std::array<int, 2> told{};
    REQUIRE(::pipe(told.data()) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) append_until_killed(temp.path("log"), told[1]);
    ::close(told[1]);
    std::uint64_t sequence = 0;
    for (int i = 0; i < 1 + kill * 3; ++i) {
      REQUIRE(::read(told[0], &sequence, sizeof sequence) == sizeof sequence);
      acknowledged = sequence;
    }
    ::kill(child, SIGKILL);
    while (::read(told[0], &sequence, sizeof sequence) == sizeof sequence) acknowledged = sequence;
    ::close(told[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));

    std::string error;
    const auto disk = PosixDisk::open(temp.path("log"), error);
    REQUIRE(disk != nullptr);
    const Recovered recovered = recover_all(*disk);
    REQUIRE(recovered.report.error == "");
    REQUIRE(recovered.records.size() >= acknowledged);
    std::uint64_t next = 1;
    bool good = true;
    for (const Kept& record : recovered.records) good = good && record == made_up(next++);
    REQUIRE(good);
    acknowledged = recovered.records.size();
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
