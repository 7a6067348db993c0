#include "daemon/app.hpp"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>
#include <string_view>
#include <utility>

#include "config/policies.hpp"
#include "config/print.hpp"
#include "config/upstream_url.hpp"
#include "daemon/log.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/io/socket.hpp"

namespace nearcached::daemon {

using tiers::coherence::ChangeSource;
using tiers::coherence::FillLinkState;
using tiers::upstream::ControlEvent;
using tiers::upstream::Topology;

namespace {

constexpr std::int64_t kLiveWithinMs = 1000;
constexpr std::int64_t kListenerRetryUs = 100'000;
constexpr std::int64_t kBusRestUs = 10'000'000;

tiers::NearCacheOptions cache_options(const config::Settings& settings, tiers::WriteBehind* write_behind) {
  tiers::NearCacheOptions options;
  options.store = settings.l1.store;
  options.enabled = settings.l1.enabled;
  options.policies = config::make_policies(settings);
  options.queue = write_behind == nullptr ? nullptr : &write_behind->queue();
  return options;
}

protocol::RequestLimits request_limits(const config::Limits& limits) {
  return {limits.args, limits.bulk_bytes, limits.inline_bytes};
}

std::int64_t unix_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// Every client and every upstream connection takes a descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string_view source_text(ChangeSource source) {
  switch (source) {
    case ChangeSource::kTracking: return "tracking";
    case ChangeSource::kBus: return "bus";
    case ChangeSource::kTtl: return "ttl";
  }
  return "off";
}

std::string_view state_text(FillLinkState state, ChangeSource source) {
  switch (state) {
    case FillLinkState::kClosed: return "closed";
    case FillLinkState::kGreeting: return "greeting";
    case FillLinkState::kServing: return source_text(source);
    case FillLinkState::kRefused: return "refused";
  }
  return "closed";
}

// In the order in which a node is asked for them.
std::vector<ChangeSource> change_sources(const config::Coherence& coherence) {
  using config::CoherenceMode;
  switch (coherence.mode) {
    case CoherenceMode::kTracking: return {ChangeSource::kTracking};
    case CoherenceMode::kBus: return {ChangeSource::kBus};
    case CoherenceMode::kTtl: return {ChangeSource::kTtl};
    case CoherenceMode::kAuto: break;
  }
  if (coherence.bus.type == config::BusType::kNone) return {ChangeSource::kTracking, ChangeSource::kTtl};
  return {ChangeSource::kTracking, ChangeSource::kBus, ChangeSource::kTtl};
}

// Peers may be on the bus although tracking is to be had here: their upstream user may be another.
bool publishes(const config::Coherence& coherence) {
  return coherence.mode == config::CoherenceMode::kBus || coherence.bus.type == config::BusType::kRedis;
}

// How a sidecar is told from the others on the bus.
std::uint64_t random_id() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

// SIGTERM, SIGINT and SIGHUP as events of the main loop.
class App::Signals final : public tiers::io::EventHandler {
 public:
  explicit Signals(App& app) : app_(app) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    app_.loop_.watch(fd_, *this, EPOLLIN);
  }
  ~Signals() override {
    app_.loop_.unwatch(fd_, *this);
    close(fd_);
  }

 private:
  void on_events(std::uint32_t) override {
    signalfd_siginfo info{};
    while (read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo == SIGHUP) {
        app_.certificates_.reload();
      } else if (app_.drain_until_us_ != 0) {
        log::warn("stopping_now", {{"reason", "second signal"}});
        app_.drain_until_us_ = 1;
      } else {
        app_.stop();
      }
    }
  }

  App& app_;
  int fd_ = -1;
};

App::App(const config::Settings& settings, const config::ContainerLimits& limits)
    : settings_(settings),
      certificates_(settings_),
      access_(settings_),
      admin_token_(config::resolved_admin_token(settings_.admin)),
      started_us_(tiers::io::boot_us()),
      started_unix_ms_(unix_ms()),
      bus_publisher_(random_id()),
      dead_letters_(settings_.write_behind.log_dir),
      write_behind_(make_write_behind(settings_, dead_letters_)),
      cache_(cache_options(settings_, write_behind_.get())),
      identities_(settings_.limits.identities, config::resolved_credentials(settings_.upstream),
                  settings_.upstream.url.database) {
  raise_descriptor_limit();
  log::info("starting", {{"version", NEARCACHED_VERSION},
                         {"threads", settings_.threads},
                         {"upstream", settings_.upstream.url.redacted()},
                         {"l1_max_bytes", settings_.l1.enabled ? settings_.l1.store.max_bytes : 0},
                         {"cpus_from", limits.cpus_source},
                         {"memory_from", limits.memory_source}});
  tiers::upstream::ControlPlaneOptions control;
  control.seeds = settings_.upstream.url.endpoints;
  control.cluster = settings_.upstream.url.kind == config::UpstreamKind::kCluster;
  control.sentinel_master = settings_.upstream.url.master;
  control.sentinel_credentials = config::resolved_sentinel_credentials(settings_.upstream);
  control.credentials = config::resolved_credentials(settings_.upstream);
  control.tls = certificates_.upstream();
  control.connect_timeout = settings_.upstream.connect_timeout;
  control.command_timeout = settings_.upstream.command_timeout;
  control.on_event = [this](const ControlEvent& event) { on_control_event(event); };
  control_ = std::make_unique<tiers::upstream::ControlPlane>(
      control, [this](const tiers::upstream::TopologyPtr& topology) { on_topology(topology); });
  shared_.reset(new Shared{settings_, request_limits(settings_.limits), cache_, identities_, *control_, resolver_,
                           [this] { return collect(); }, access_, certificates_.listeners(), publishes(settings_.coherence),
                           write_behind_.get()});
  shared_->pinned_budget.max = settings_.upstream.pinned_pool.max;
  for (std::uint32_t i = 0; i < settings_.threads; ++i) {
    workers_.push_back(std::make_unique<Worker>(i, *shared_, worker_options()));
    shared_->workers.push_back(workers_.back().get());
    peers_.loops.push_back(&workers_.back()->loop());
    peers_.services.push_back(&workers_.back()->fills());
  }
  if (write_behind_) open_write_behind();  // its log tells all workers what is safe
}

App::~App() {
  listeners_.clear();
  if (admin_) admin_->stop();
  control_->stop();
  resolver_.stop();
  for (const auto& worker : workers_) worker->stop();
  if (write_behind_) close_write_behind();
}

WorkerOptions App::worker_options() {
  const config::Upstream& upstream = settings_.upstream;
  WorkerOptions options;
  const bool found_later = upstream.url.kind == config::UpstreamKind::kSentinel;
  options.router.seeds = found_later ? std::vector<tiers::upstream::Endpoint>(1) : upstream.url.endpoints;
  options.router.cluster = upstream.url.kind == config::UpstreamKind::kCluster;
  options.router.tls = certificates_.upstream();
  options.router.scripts = &shared_->scripts;
  options.router.connect_timeout_us = upstream.connect_timeout.count() * 1000;
  options.router.command_timeout_us = upstream.command_timeout.count() * 1000;
  options.router.pending_max = upstream.pending_max;
  options.router.request_refresh = [this] { control_->request_refresh(); };
  options.router.on_trouble = [](const tiers::upstream::Endpoint& node, std::string_view what) {
    const std::string name = node.text();
    log::write_limited(log::Level::kWarn, "upstream_connection_lost", name, {{"node", name}, {"reason", what}});
  };
  options.pinned.min = upstream.pinned_pool.min;
  options.pinned.acquire_timeout_us = upstream.pinned_pool.acquire_timeout.count() * 1000;
  options.pinned.connect_timeout_us = options.router.connect_timeout_us;
  options.pinned.tls = options.router.tls;
  if (publishes(settings_.coherence)) {
    tiers::BusPublisherOptions bus;
    bus.channel = settings_.coherence.bus.channel;
    bus.publisher = bus_publisher_;
    bus.heartbeat_us = cache_.policies().max_staleness_min_us() / 3;
    bus.rest_after_us = std::max(kBusRestUs, options.router.command_timeout_us * 4);
    bus.views = &bus_views_;
    options.bus = bus;
    options.bus_epochs = &bus_epochs_;
  }
  options.on_dead_letter = [this](const tiers::write_behind::WriteQueue::Flight& flight, std::string_view error) {
    return dead_letters_.add({flight.database, flight.key, flight.write.get(), flight.sequence, error});
  };
  options.fills.on_own_view = [this](const tiers::upstream::Endpoint& node, std::uint16_t lowest, std::int64_t asked_us) {
    bus_views_.note(node, lowest, asked_us);
  };
  options.fills.link.cluster = options.router.cluster;
  options.fills.link.swapdb_never = upstream.swapdb_never;
  options.fills.link.sources = change_sources(settings_.coherence);
  options.fills.link.ttl_is_bound = settings_.coherence.mode == config::CoherenceMode::kTtl;
  options.fills.link.bus_channel = settings_.coherence.bus.channel;
  options.fills.link.bus_publisher = bus_publisher_;
  options.fills.link.max_staleness_us = cache_.policies().max_staleness_min_us();
  options.fills.link.reply_timeout_us = options.router.command_timeout_us;
  options.fills.link.in_flight_max = settings_.coherence.refill_max;
  options.fills.connect_timeout_us = options.router.connect_timeout_us;
  options.fills.tls = options.router.tls;
  options.fills.on_state = [this](const tiers::upstream::Endpoint& node, std::uint32_t identity,
                                  const tiers::coherence::FillLink& link) { on_fill_state(node, identity, link); };
  options.fills.purge_prefix = [this](std::string prefix) {
    loop_.post([this, prefix = std::move(prefix)] { cache_.purge_prefix(prefix); });
  };
  options.fills.on_audit_stale = [](const tiers::upstream::Endpoint& node, std::uint16_t slot) {
    const std::string name = node.text();
    log::write_limited(log::Level::kError, "audit_stale", name,
                       {{"node", name}, {"slot", slot}, {"meaning", "a hit was not the upstream's value"}});
  };
  return options;
}

void App::on_fill_state(const tiers::upstream::Endpoint& node, std::uint32_t identity,
                        const tiers::coherence::FillLink& link) const {
  if (link.state() == FillLinkState::kGreeting) return;
  const std::string name = node.text();
  if (link.state() == FillLinkState::kServing) {
    if (link.source() != ChangeSource::kTracking) shared_->own_writes_untold.store(true);
    const bool ttl = link.source() == ChangeSource::kTtl;
    const std::string_view bound = !ttl ? "coherence.max_staleness"
                                   : settings_.coherence.mode == config::CoherenceMode::kTtl
                                       ? "l1.ttl: nobody tells of changes, values may be that old"
                                       : "coherence.max_staleness, as a deadline: nobody tells of changes";
    log::write_limited(ttl ? log::Level::kWarn : log::Level::kInfo, "l1_on", name,
                       {{"node", name},
                        {"identity", identity},
                        {"coherence", source_text(link.source())},
                        {"bound", bound},
                        {"why_not_better", link.source_reason()}});
    return;
  }
  const bool insisted = settings_.coherence.mode != config::CoherenceMode::kAuto;
  log::write_limited(insisted ? log::Level::kError : log::Level::kWarn, "l1_off", name,
                     {{"node", name}, {"identity", identity}, {"reason", link.state_reason()}});
}

void App::on_control_event(const ControlEvent& event) const {
  const std::string name = event.endpoint.text();
  switch (event.kind) {
    case ControlEvent::Kind::kTopologyChanged:
      log::write_limited(log::Level::kInfo, "topology_changed", {}, {{"node", name}, {"topology", event.text}});
      break;
    case ControlEvent::Kind::kTopologyLost:
      log::write_limited(log::Level::kError, "topology_lost", {}, {{"node", name}, {"reason", event.text}});
      break;
    case ControlEvent::Kind::kTopologyRegained:
      log::write_limited(log::Level::kInfo, "topology_regained", {}, {{"node", name}, {"topology", event.text}});
      break;
    case ControlEvent::Kind::kNodeRefused:
      log::write_limited(log::Level::kWarn, "topology_refused", name, {{"node", name}, {"reason", event.text}});
      break;
    case ControlEvent::Kind::kAuthRefused:
      log::write_limited(log::Level::kWarn, "control_auth_refused", name, {{"node", name}, {"reason", event.text}});
      break;
  }
}

void App::on_topology(const tiers::upstream::TopologyPtr& topology) {
  if (topology->primaries.empty()) return;
  // The epochs first: an entry of a slot that moved must be dead before any worker routes by the new map.
  const std::size_t moved = cache_.apply_topology(topology);
  if (moved != 0) log::write_limited(log::Level::kInfo, "slots_moved", {}, {{"slots", moved}});
  topology_version_.store(topology->version, std::memory_order_relaxed);
  for (const auto& worker : workers_) worker->set_topology(topology);
}

std::size_t App::clients() const {
  std::size_t sum = 0;
  for (const auto& worker : workers_) sum += worker->clients();
  return sum;
}

void App::accept(int fd, bool tls) {
  if (clients() >= settings_.limits.clients) {
    constexpr std::string_view kFull = "-ERR max number of clients reached\r\n";
    if (!tls) [[maybe_unused]]
      const auto sent = send(fd, kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    refused_clients_.fetch_add(1, std::memory_order_relaxed);
    log::write_limited(log::Level::kWarn, "client_refused", {}, {{"reason", "limits.clients"}, {"clients", clients()}});
    return;
  }
  tiers::io::set_no_delay(fd);
  tiers::io::set_keepalive(fd, settings_.limits.tcp_keepalive);
  const auto least = std::min_element(workers_.begin(), workers_.end(),
                                      [](const auto& a, const auto& b) { return a->clients() < b->clients(); });
  (*least)->adopt(fd, tls);
}

void App::tick() {
  const std::int64_t now_us = tiers::io::boot_us();
  certificates_.tick(now_us);
  if (write_behind_) write_behind_->tick();
  if (settings_.l1.enabled) cache_.maintain(now_us);
  std::size_t buffered = 0;
  for (const auto& worker : workers_) buffered += worker->counters().buffer_bytes.value();
  const bool over = buffered > settings_.limits.buffer_bytes;
  shared_->over_buffer_budget.store(over, std::memory_order_relaxed);
  if (over) {
    const auto fullest = std::max_element(workers_.begin(), workers_.end(), [](const auto& a, const auto& b) {
      return a->counters().buffer_bytes.value() < b->counters().buffer_bytes.value();
    });
    shared_->worker_to_relieve.store(static_cast<int>(fullest - workers_.begin()), std::memory_order_relaxed);
  }
  if (drain_until_us_ == 0) {
    if (now_us >= next_listener_retry_us_) {
      next_listener_retry_us_ = now_us + kListenerRetryUs;
      for (const auto& listener : listeners_) listener->resume();
    }
    return;
  }
  const std::size_t left = clients();
  const bool flushed = write_behind_ == nullptr || flush_write_behind();
  if ((left == 0 && flushed) || now_us >= drain_until_us_) {
    if (left != 0) log::warn("clients_cut_off", {{"clients", left}, {"reason", "limits.shutdown_timeout"}});
    loop_.stop();
  }
}

void App::stop() {
  log::info("stopping", {{"clients", clients()}});
  if (write_behind_) write_behind_->queue().hurry();
  listeners_.clear();
  for (const auto& worker : workers_) worker->drain();
  drain_until_us_ = tiers::io::boot_us() + settings_.limits.shutdown_timeout.count() * 1000;
}

bool App::live(std::string& why) const {
  const auto now_ms = static_cast<std::uint64_t>(tiers::io::boot_us() / 1000);
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const std::uint64_t turned_ms =
        std::max(workers_[i]->counters().loop_turn_ms.value(), static_cast<std::uint64_t>(started_us_ / 1000));
    if (now_ms > turned_ms + kLiveWithinMs) {
      why = "worker " + std::to_string(i) + " has not turned for " + std::to_string(now_ms - turned_ms) + " ms";
      return false;
    }
  }
  return true;
}

void App::add_link(StatsSnapshot& snapshot, NodeRow& row, const tiers::FillLinkRow& link) const {
  row.invalidations += link.invalidations;
  row.pending += link.in_flight;
  row.fills_in_flight += link.in_flight;
  row.fills_waiting += link.waiting;
  if (link.identity != identities_.configured()->id && row.state != "connected") return;
  row.state = state_text(link.state, link.source);
  row.coherence = "off";
  row.coherence_reason = link.reason.empty() ? link.source_reason : link.reason;
  if (!row.coherence_reason.empty()) snapshot.coherence_reason = link.endpoint.text() + ": " + row.coherence_reason;
  if (link.state != FillLinkState::kServing) return;
  ++row.connections;
  row.coherence = source_text(link.source);
  std::string& mode = snapshot.coherence_mode;
  mode = mode.empty() || mode == row.coherence ? row.coherence : "mixed";
  if (link.proven_us != 0 && link.source != ChangeSource::kTtl) {
    row.verified_age_ms = std::max<std::int64_t>(0, (tiers::io::boot_us() - link.proven_us) / 1000);
  }
}

void App::collect_nodes(StatsSnapshot& snapshot) {
  const auto row_of = [&](const tiers::upstream::Endpoint& endpoint) -> NodeRow& {
    const std::string name = endpoint.text();
    for (NodeRow& row : snapshot.nodes) {
      if (row.endpoint == name) return row;
    }
    NodeRow& row = snapshot.nodes.emplace_back();
    row.endpoint = name;
    row.state = "connected";
    return row;
  };
  for (const auto& worker : workers_) {
    const WorkerReport report = worker->report();
    for (const auto& traffic : report.traffic) {
      NodeRow& row = row_of(traffic.endpoint);
      row.requests += traffic.requests;
      row.errors += traffic.errors;
      row.connections += traffic.connections;
      row.pending += traffic.pending;
    }
    snapshot.pinned.in_use += report.pinned.in_use;
    snapshot.pinned.idle += report.pinned.idle;
    snapshot.pinned.waiting += report.pinned.waiting;
    snapshot.pinned.acquired += report.pinned.acquired;
    snapshot.pinned.opened += report.pinned.opened;
    snapshot.pinned.timeouts += report.pinned.timeouts;
    for (const auto& link : report.links) add_link(snapshot, row_of(link.endpoint), link);
  }
  if (snapshot.coherence_mode.empty()) snapshot.coherence_mode = "off";
  if (!settings_.l1.enabled) snapshot.coherence_reason = "l1.enabled is false";
}

StatsSnapshot App::collect() {
  StatsSnapshot snapshot;
  snapshot.version = NEARCACHED_VERSION;
  snapshot.build = __VERSION__;
  snapshot.start_time_unix_ms = started_unix_ms_;
  snapshot.uptime_ms = (tiers::io::boot_us() - started_us_) / 1000;
  snapshot.threads = settings_.threads;
  snapshot.pinned.max = settings_.upstream.pinned_pool.max;
  snapshot.l1 = cache_.stats();
  snapshot.compression = cache_.compression();
  if (write_behind_) snapshot.write_behind = write_behind_row();
  snapshot.l1_max_bytes = settings_.l1.enabled ? settings_.l1.store.max_bytes : 0;
  const std::int64_t now_ms = tiers::io::boot_us() / 1000;
  for (const auto& worker : workers_) {
    const auto& counters = worker->counters();
    snapshot.totals.add(counters);
    WorkerRow row;
    row.clients = worker->clients();
    for (const auto& count : counters.commands) row.commands += count.value();
    const auto turned_ms = static_cast<std::int64_t>(counters.loop_turn_ms.value());
    row.loop_age_ms = turned_ms == 0 ? -1 : std::max<std::int64_t>(0, now_ms - turned_ms);
    snapshot.workers.push_back(row);
  }
  snapshot.totals.clients_refused += refused_clients_.load(std::memory_order_relaxed);
  collect_nodes(snapshot);
  snapshot.topology_version = topology_version_.load(std::memory_order_relaxed);
  snapshot.topology_age_ms = control_->topology_age_ms();
  snapshot.clients = clients();
  snapshot.clients_max = settings_.limits.clients;
  snapshot.identities = identities_.size();
  snapshot.identities_max = settings_.limits.identities;
  snapshot.buffer_bytes = snapshot.totals.buffer_bytes;
  snapshot.buffer_limit_bytes = settings_.limits.buffer_bytes;
  return snapshot;
}

int App::run() {
  signals_ = std::make_unique<Signals>(*this);
  for (const auto& address : settings_.listen) {
    listeners_.push_back(std::make_unique<Listener>(loop_, address, [this](int fd) { accept(fd, false); }));
  }
  for (const auto& address : settings_.listen_tls) {
    listeners_.push_back(std::make_unique<Listener>(loop_, address, [this](int fd) { accept(fd, true); }));
  }
  for (const auto& worker : workers_) worker->start(&peers_);
  control_->start();
  if (settings_.admin.enabled) {
    AdminServer::Options options;
    options.listen = settings_.admin.listen.text();
    AdminHandlers handlers;
    handlers.stats = [this] { return collect(); };
    handlers.live = [this](std::string& why) { return live(why); };
    handlers.ready = [this](std::string& why) {
      if (ready_.load(std::memory_order_acquire)) return true;
      why = "not serving";
      return false;
    };
    handlers.config = [this] { return config::print_config(settings_); };
    handlers.purge = [this] { cache_.purge_everything(); };
    handlers.flush = [this] { return press_write_behind(); };
    handlers.labels = settings_.metrics.labels;
    if (!admin_token_.empty()) {
      handlers.is_token = [this](std::string_view given) { return same_secret(given, admin_token_); };
    }
    admin_ = std::make_unique<AdminServer>(options, handlers);
    admin_->start();
  }
  loop_.on_tick([this] { tick(); });
  std::string where;
  for (const auto& listener : listeners_) where += (where.empty() ? "" : ",") + listener->name();
  ready_.store(true, std::memory_order_release);
  log::info("ready", {{"listen", where}, {"admin", admin_ ? admin_->address() : "off"}, {"threads", settings_.threads}});
  loop_.run();
  ready_.store(false, std::memory_order_release);
  log::info("stopped", {{"uptime_ms", (tiers::io::boot_us() - started_us_) / 1000}});
  return 0;
}

}  // namespace nearcached::daemon
