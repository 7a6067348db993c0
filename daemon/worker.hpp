// One thread of the data path: its loop, its clients, its connections to the upstream.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "daemon/command_latency.hpp"
#include "daemon/session.hpp"
#include "daemon/shared.hpp"
#include "protocol/command_table.hpp"
#include "tiers/bus_quarantine.hpp"
#include "tiers/fill_service.hpp"
#include "tiers/insight/counters.hpp"
#include "tiers/io/event_loop.hpp"
#include "tiers/upstream/pinned_pool.hpp"
#include "tiers/upstream/router.hpp"
#include "tiers/write_behind.hpp"
#include "tiers/write_flusher.hpp"

namespace nearcached::daemon {

struct WorkerOptions {
  tiers::upstream::RouterOptions router;
  tiers::FillServiceOptions fills;
  tiers::upstream::PinnedPoolOptions pinned;
  std::optional<tiers::BusPublisherOptions> bus;     // given: writes are published
  std::atomic<std::uint32_t>* bus_epochs = nullptr;  // of the process
  decltype(tiers::WriteFlusherOptions::on_dead_letter) on_dead_letter;
};

// What a worker tells the statistics, renewed by its own thread a few times a second: whoever scrapes takes the lock, never
// the data path.
struct WorkerReport {
  std::vector<tiers::upstream::NodeTraffic> traffic;
  std::vector<tiers::FillLinkRow> links;
  tiers::upstream::PinnedPoolCounts pinned;
};

// Everything in here is confined to the worker's thread, but for adopt(), set_topology(), drain(), stop(), which go through
// the loop's mailbox, and report(), counters() and clients(), which anybody may read.
//
// A turn ends in this order: answers of fills reach their sessions; sessions write and read on, which may ask for more;
// requests leave for the upstream. So what one turn took in leaves with one system call per connection.
class Worker {
 public:
  static constexpr std::size_t kLearnedMax = 1024;

  Worker(std::uint32_t index, Shared& shared, WorkerOptions options);
  ~Worker();

  void start(const tiers::FillService::Peers* peers);
  void adopt(int fd, bool tls);
  void set_topology(tiers::upstream::TopologyPtr topology);
  // No new requests are read; sessions close as their replies are out.
  void drain();
  void stop();  // ends the thread
  // Any thread: something may be safe now.
  void tell_safe();
  // Any thread: somebody waits for a write of a node that this worker flushes.
  void flush_soon();

  [[nodiscard]] std::size_t clients() const { return clients_.load(std::memory_order_relaxed); }
  [[nodiscard]] WorkerReport report();

  // For sessions, on the worker's thread.
  [[nodiscard]] tiers::io::EventLoop& loop() { return loop_; }
  [[nodiscard]] tiers::upstream::Router& router() { return router_; }
  [[nodiscard]] tiers::FillService& fills() { return fills_; }
  [[nodiscard]] tiers::upstream::PinnedPool& pinned() { return pinned_; }
  [[nodiscard]] tiers::insight::Counters& counters() { return counters_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Session>>& sessions() const { return sessions_; }
  [[nodiscard]] std::vector<std::uint32_t>& positions() { return positions_; }  // scratch of one dispatch
  [[nodiscard]] std::string& encoded() { return encoded_; }                     // scratch of one dispatch
  [[nodiscard]] std::string& variant() { return variant_; }                     // scratch of one read
  [[nodiscard]] std::string& converted() { return converted_; }                 // scratch of one reply
  [[nodiscard]] AskedGets& asked_gets() { return asked_gets_; }                 // scratch of one run
  [[nodiscard]] std::string& unpacked() { return unpacked_; }                   // scratch of one command's replies
  [[nodiscard]] protocol::RequestParser& read_parser() { return read_parser_; }
  // A write may have been executed, or may be yet: what it would change is not kept for a while, and told once more.
  void hold_unknown(std::string_view request);
  // One hit of so many is to be compared with the upstream.
  [[nodiscard]] bool audit_due();
  // Tells the session, with `number`, once that is safe or never will be. In the order of the sequences.
  void await_safe(tiers::SafePoint point, Session& session, std::uint64_t number);
  // When the loop last ticked.
  [[nodiscard]] std::int64_t ticked_us() const { return ticked_us_; }
  // When this turn first asked. A clock of its own for each reply would cost more than it tells.
  [[nodiscard]] std::int64_t turn_us();
  [[nodiscard]] CommandLatency& latency() { return latency_; }
  // What this turn's commands are told to monitors with; they go at its end.
  [[nodiscard]] std::string& monitor_lines() { return monitor_lines_; }
  void add_monitor(Session& session);
  void remove_monitor(Session& session);
  void remember(Session& session) { dirty_.push_back(&session); }
  void remember_congested(Session& session) { congested_.push_back(&session); }

  // What the upstream says of a command that is not in the table.
  struct Learned {
    bool asked = false;                          // it has been asked, not too long ago
    const protocol::Command* command = nullptr;  // nullptr: the upstream does not know it, or can't be asked
  };
  [[nodiscard]] Learned learned(std::string_view name, std::int64_t now_us);
  void learn(std::string name, std::function<void()> then);

 private:
  struct SafeWaiter {
    tiers::SafePoint point;
    Session* session = nullptr;
    std::uint64_t number = 0;  // which place
  };
  struct Lesson {
    std::unique_ptr<protocol::DynamicCommand> command;
    std::int64_t until_us = 0;
  };

  [[nodiscard]] tiers::upstream::RouterOptions with_announcer(WorkerOptions& options);
  [[nodiscard]] tiers::CommandLookup lookup();
  [[nodiscard]] tiers::WriteFlusherOptions flusher_options(const WorkerOptions& options);
  void release_safe();
  void regroup();
  void end_turn();
  void send_monitor_lines();
  void tick();
  void each_second(std::int64_t now_us);
  void close_largest();
  void warn_of_thrashing();
  void renew_report();

  const std::uint32_t index_;
  Shared& shared_;
  tiers::insight::Counters counters_;
  tiers::io::EventLoop loop_;
  tiers::upstream::Router router_;
  tiers::FillService fills_;
  tiers::upstream::PinnedPool pinned_;
  std::optional<tiers::BusQuarantine> quarantine_;
  std::optional<tiers::WriteFlusher> flusher_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<Session*> dirty_;
  std::vector<Session*> turn_;  // those whose turn ends; empty otherwise, with its room
  std::vector<Session*> congested_;
  std::deque<SafeWaiter> safe_waiters_;  // by sequence
  std::atomic<bool> awaits_safe_{false};
  std::atomic<bool> urged_{false};
  std::vector<std::uint32_t> positions_;
  std::string encoded_;
  std::string variant_;
  std::string converted_;
  AskedGets asked_gets_;
  std::string unpacked_;
  protocol::RequestParser read_parser_;
  std::uint64_t audit_in_;         // hits until the next one that is audited
  std::uint32_t audits_left_ = 0;  // of this second
  std::int64_t ticked_us_ = 0;
  std::int64_t turn_us_ = 0;  // 0: nobody has asked in this turn
  CommandLatency latency_;
  std::string monitor_lines_;
  std::vector<Session*> monitors_;
  std::uint64_t invalidations_seen_ = 0;
  std::uint64_t unexplained_seen_ = 0;
  std::unordered_map<std::string, Lesson> lessons_;
  std::int64_t next_second_us_ = 0;
  std::int64_t next_report_us_ = 0;
  std::size_t heap_bytes_ = 0;  // of sessions and waiting requests, beside the buffer pool; as of the last report
  bool draining_ = false;
  std::atomic<std::size_t> clients_{0};  // handed out and not yet gone

  std::mutex report_mutex_;
  WorkerReport report_;  // guarded by report_mutex_
  std::thread thread_;
};

}  // namespace nearcached::daemon
