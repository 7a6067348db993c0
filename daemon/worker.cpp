#include "daemon/worker.hpp"

#include <unistd.h>

#include <algorithm>
#include <future>
#include <utility>

#include "daemon/log.hpp"
#include "protocol/ascii_case.hpp"
#include "protocol/key_slot.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;
constexpr std::int64_t kReportEveryUs = 200'000;
constexpr std::int64_t kLessonUs = 60 * kSecondUs;      // an upgrade may bring the command
constexpr std::int64_t kNobodyAskedUs = kSecondUs / 2;  // the upstream could not be asked

std::string lower(std::string_view text) {
  std::string result(text.substr(0, 128));
  std::transform(result.begin(), result.end(), result.begin(), protocol::ascii_lower);
  return result;
}

}  // namespace

Worker::Worker(std::uint32_t index, Shared& shared, WorkerOptions options)
    : index_(index),
      shared_(shared),
      router_(loop_, shared.resolver, counters_, with_announcer(options)),
      fills_(index, loop_, shared.resolver, shared.cache, counters_, std::move(options.fills)),
      pinned_(loop_, shared.resolver, options.pinned, shared.pinned_budget),
      audit_in_(shared.settings.coherence.audit_one_in) {
  if (options.bus) {
    const std::int64_t timeout_us = shared.settings.upstream.command_timeout.count() * 1000;
    const tiers::BusQuarantineOptions quarantine{timeout_us * tiers::upstream::DataConnection::kSilenceFactor};
    quarantine_.emplace(quarantine, lookup(), shared.cache, router_, shared.identities.configured(), counters_);
  }
  if (shared.write_behind != nullptr) {
    flusher_.emplace(flusher_options(options), router_, shared.cache, shared.write_behind->queue(), counters_);
  }
  loop_.on_turn_end([this] { end_turn(); });
  loop_.on_tick([this] { tick(); });
}

Worker::~Worker() { stop(); }

tiers::CommandLookup Worker::lookup() {
  return [this](std::string_view name) { return learned(name, tiers::io::boot_us()).command; };
}

tiers::upstream::RouterOptions Worker::with_announcer(WorkerOptions& options) {
  if (options.bus) {
    options.router.make_announcer = [this, bus = *options.bus, epochs = options.bus_epochs](const auto& node) {
      return std::make_unique<tiers::BusPublisher>(bus, lookup(), *epochs, node);
    };
  }
  return std::move(options.router);
}

tiers::WriteFlusherOptions Worker::flusher_options(const WorkerOptions& options) {
  tiers::WriteFlusherOptions flusher;
  flusher.worker = index_;
  flusher.workers = shared_.settings.threads;
  flusher.announce = shared_.publishes;
  flusher.safe_sequence = [behind = shared_.write_behind] { return behind->flushable_sequence(); };
  flusher.identity_of = [this](std::uint32_t database) {
    return shared_.identities.obtain(shared_.identities.configured()->credentials, database);
  };
  flusher.on_dead_letter = options.on_dead_letter;
  flusher.on_outcome_unknown = [this](std::string_view request) { hold_unknown(request); };
  return flusher;
}

void Worker::await_safe(tiers::SafePoint point, Session& session, std::uint64_t number) {
  // Nearly always the last one: only reads wait for what was written before.
  const auto at = std::upper_bound(safe_waiters_.rbegin(), safe_waiters_.rend(), point.sequence,
                                   [](std::uint64_t one, const SafeWaiter& other) { return one >= other.point.sequence; });
  safe_waiters_.insert(at.base(), {point, &session, number});
  awaits_safe_.store(true);
  // It may have become so in between, and then nobody tells.
  if (shared_.write_behind->safety(point) != tiers::Safety::kNotYet) loop_.post([this] { release_safe(); });
}

void Worker::tell_safe() {
  if (awaits_safe_.load()) loop_.post([this] { release_safe(); });
}

void Worker::flush_soon() {
  if (urged_.exchange(true)) return;
  loop_.post([this] {
    urged_.store(false);
    flusher_->tick(tiers::io::boot_us());
  });
}

void Worker::release_safe() {
  std::deque<SafeWaiter> later;
  while (!safe_waiters_.empty()) {
    const SafeWaiter waiter = safe_waiters_.front();
    const tiers::Safety safety = shared_.write_behind->safety(waiter.point);
    if (safety == tiers::Safety::kNotYet && !shared_.write_behind->disk_failed()) break;
    safe_waiters_.pop_front();
    if (safety == tiers::Safety::kNotYet) {
      later.push_back(waiter);
    } else {
      waiter.session->on_safe(waiter.number, safety == tiers::Safety::kSafe);
    }
  }
  safe_waiters_.insert(safe_waiters_.begin(), later.begin(), later.end());
  if (safe_waiters_.empty()) awaits_safe_.store(false);
}

void Worker::hold_unknown(std::string_view request) {
  if (quarantine_) quarantine_->hold(request, tiers::io::boot_us());
}

void Worker::start(const tiers::FillService::Peers* peers) {
  fills_.set_peers(peers);
  thread_ = std::thread([this] { loop_.run(); });
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  // Peers hear that nothing more comes, or they would take our silence for a loss.
  std::promise<void> said;
  loop_.post([this, &said] {
    router_.farewell(tiers::io::boot_us());
    said.set_value();
  });
  said.get_future().wait();
  loop_.stop();
  thread_.join();
  // Sessions before what they use; their descriptors go with them.
  dirty_.clear();
  congested_.clear();
  sessions_.clear();
  fills_.close();
}

void Worker::adopt(int fd, bool tls) {
  clients_.fetch_add(1, std::memory_order_relaxed);
  loop_.post([this, fd, tls] {
    if (draining_) {
      close(fd);
      clients_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
    sessions_.push_back(std::make_unique<Session>(*this, shared_, fd, tls));
    counters_.clients_accepted.add();
    counters_.clients.set(sessions_.size());
  });
}

void Worker::set_topology(tiers::upstream::TopologyPtr topology) {
  loop_.post([this, topology = std::move(topology)]() mutable {
    if (shared_.cache.enabled()) fills_.set_topology(topology, shared_.identities.configured());
    router_.set_topology(std::move(topology));
    if (flusher_ && index_ == 0) regroup();
  });
}

// What waits to be flushed goes to the nodes that own its slots now.
void Worker::regroup() {
  shared_.write_behind->queue().regroup([&topology = *router_.topology()](tiers::write_behind::QueueKey key) {
    const std::uint16_t owner = topology.owner[topology.cluster ? protocol::key_slot(key.key) : std::uint16_t{0}];
    return owner == tiers::upstream::Topology::kNoNode ? std::uint16_t{0} : owner;
  });
}

void Worker::drain() {
  loop_.post([this] {
    draining_ = true;
    for (const auto& session : sessions_) session->drain();
  });
}

void Worker::end_turn() {
  turn_us_ = 0;
  const bool busy = !dirty_.empty();
  fills_.flush();
  // A session that reads on may ask for a fill that is answered at once, which is another session's, or its own, turn again.
  while (!dirty_.empty()) {
    turn_.swap(dirty_);
    bool any_finished = false;
    for (Session* session : turn_) {
      session->end_of_turn();
      any_finished |= session->finished();
    }
    turn_.clear();
    if (any_finished) {
      std::erase_if(dirty_, [](const Session* session) { return session->finished(); });
      std::erase_if(congested_, [](const Session* session) { return session->finished(); });
      std::erase_if(sessions_, [](const auto& session) { return session->finished(); });
      clients_.fetch_sub(counters_.clients.value() - sessions_.size(), std::memory_order_relaxed);
      counters_.clients.set(sessions_.size());
    }
    fills_.flush();
  }
  if (flusher_) flusher_->end_turn(busy);
  router_.flush();
  pinned_.flush();
  if (!monitor_lines_.empty()) send_monitor_lines();
  turn_us_ = 0;
}

std::int64_t Worker::turn_us() {
  if (turn_us_ == 0) turn_us_ = tiers::io::boot_us();
  return turn_us_;
}

void Worker::add_monitor(Session& session) {
  monitors_.push_back(&session);
  shared_.monitors.join();
}

void Worker::remove_monitor(Session& session) {
  std::erase(monitors_, &session);
  shared_.monitors.leave();
}

void Worker::send_monitor_lines() {
  const MonitorFeed::Lines lines = shared_.monitors.admit(std::exchange(monitor_lines_, {}));
  if (!lines) {
    log::write_limited(log::Level::kWarn, "monitor_lines_dropped", {},
                       {{"bytes", shared_.monitors.dropped_bytes()}, {"reason", "there are more than workers can pass on"}});
    return;
  }
  for (Worker* worker : shared_.workers) {
    worker->loop().post([worker, lines] {
      for (Session* session : worker->monitors_) session->show(*lines);
    });
  }
}

void Worker::tick() {
  const std::int64_t now_us = tiers::io::boot_us();
  ticked_us_ = now_us;
  counters_.loop_turn_ms.set(static_cast<std::uint64_t>(now_us / 1000));
  counters_.buffer_bytes.set(loop_.buffers().bytes_out() + heap_bytes_);
  if (shared_.over_buffer_budget.load(std::memory_order_relaxed)) loop_.buffers().drop_spares();
  router_.tick(now_us);
  if (shared_.cache.enabled()) fills_.tick(now_us);
  if (quarantine_) quarantine_->tick(now_us);
  pinned_.tick(now_us);
  if (flusher_) flusher_->tick(now_us);
  std::vector<Session*> congested;
  congested.swap(congested_);
  for (Session* session : congested) session->retry_congested();
  int relieve = static_cast<int>(index_);
  if (shared_.worker_to_relieve.compare_exchange_strong(relieve, -1)) close_largest();
  if (now_us >= next_report_us_) {
    next_report_us_ = now_us + kReportEveryUs;
    renew_report();
  }
  if (now_us >= next_second_us_) {
    next_second_us_ = now_us + kSecondUs;
    each_second(now_us);
  }
}

bool Worker::audit_due() {
  if (audit_in_ == 0 || --audit_in_ != 0) return false;
  audit_in_ = shared_.settings.coherence.audit_one_in;
  if (audits_left_ == 0) return false;
  --audits_left_;
  return true;
}

// The upstream's tracking table is smaller than what its readers keep: it drops keys that nobody has written, which we read
// again, so that it drops others.
void Worker::warn_of_thrashing() {
  constexpr std::uint64_t kWorthSaying = 100;  // a second
  const auto tracking = static_cast<std::size_t>(tiers::insight::InvalidationSource::kTracking);
  const std::uint64_t invalidations = counters_.invalidations[tracking].value();
  const std::uint64_t unexplained = counters_.invalidations_unexplained.value();
  const std::uint64_t told = invalidations - std::exchange(invalidations_seen_, invalidations);
  const std::uint64_t of_these = unexplained - std::exchange(unexplained_seen_, unexplained);
  if (of_these < kWorthSaying || of_these * 2 < told) return;
  log::write_limited(log::Level::kWarn, "tracking_table_thrash", {},
                     {{"invalidations", told}, {"unexplained", of_these}, {"advice", "raise tracking-table-max-keys"}});
}

void Worker::each_second(std::int64_t now_us) {
  constexpr std::int64_t kHandshakeUs = 10'000'000;
  audits_left_ = shared_.settings.coherence.audit_per_second;
  loop_.buffers().trim();
  warn_of_thrashing();
  const std::int64_t idle_us = shared_.settings.limits.idle_timeout.count() * 1000;
  for (const auto& session : sessions_) {
    if (session->handshaking() && now_us - session->last_active_us() > kHandshakeUs)
      session->shut("no TLS handshake in time");
    if (idle_us > 0 && session->is_open() && session->idle() && now_us - session->last_active_us() > idle_us) {
      counters_.clients_closed_idle.add();
      session->shut({});
    } else if (!shared_.over_buffer_budget.load(std::memory_order_relaxed)) {
      session->retry_congested();  // paused by the budget, which has room again
    }
  }
}

void Worker::close_largest() {
  constexpr std::size_t kWorthClosing = 256 * 1024;
  Session* largest = nullptr;
  for (const auto& session : sessions_) {
    if (session->is_open() && (largest == nullptr || session->buffered_bytes() > largest->buffered_bytes())) {
      largest = session.get();
    }
  }
  if (largest == nullptr || largest->buffered_bytes() < kWorthClosing) return;
  counters_.clients_closed_output.add();
  largest->shut("the process is over its buffer budget (limits.buffer_bytes), and this client holds most of it");
}

void Worker::renew_report() {
  heap_bytes_ = router_.waiting_bytes() + fills_.held_bytes();
  for (const auto& session : sessions_) heap_bytes_ += session->heap_bytes();
  WorkerReport report;
  router_.traffic(report.traffic);
  fills_.links(report.links);
  report.pinned = pinned_.counts();
  const std::lock_guard lock(report_mutex_);
  report_ = std::move(report);
}

WorkerReport Worker::report() {
  const std::lock_guard lock(report_mutex_);
  return report_;
}

Worker::Learned Worker::learned(std::string_view name, std::int64_t now_us) {
  const auto lesson = lessons_.find(lower(name));
  if (lesson == lessons_.end() || lesson->second.until_us < now_us) return {};
  const auto& command = lesson->second.command;
  return {true, command ? &command->command() : nullptr};
}

void Worker::learn(std::string name, std::function<void()> then) {
  std::string key = lower(name);
  shared_.control.command_info(key, [this, key, then = std::move(then)](bool reached, tiers::upstream::CommandInfo info) {
    loop_.post([this, key, then, reached, info = std::move(info)] {
      if (lessons_.size() >= kLearnedMax) lessons_.clear();
      Lesson& lesson = lessons_[key];
      lesson.until_us = tiers::io::boot_us() + (reached ? kLessonUs : kNobodyAskedUs);
      lesson.command.reset();
      if (info.known) {
        lesson.command = std::make_unique<protocol::DynamicCommand>(info.name, info.arity, info.flags, info.first_key,
                                                                    info.last_key, info.key_step);
      }
      then();
    });
  });
}

}  // namespace nearcached::daemon
