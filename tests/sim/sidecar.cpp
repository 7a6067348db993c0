#include "tests/sim/sidecar.hpp"

#include <algorithm>
#include <utility>

#include "tiers/upstream/control_plane.hpp"

namespace nearcached::sim {
namespace {

// Rare, as in a large L1: what it drops must not have been served before.
constexpr std::int64_t kBackgroundUs = 700'000;
constexpr std::int64_t kTimeoutUs = 200'000;
constexpr std::int64_t kHoldUs = 60'000;

std::vector<tiers::upstream::Endpoint> seeds(const World& world) {
  std::vector<tiers::upstream::Endpoint> nodes;
  const int count = world.options.model.cluster ? world.options.model.primaries : 1;
  for (int n = 0; n < count; ++n) nodes.push_back({"127.0.0.1", static_cast<std::uint16_t>(Kernel::kFirstPort + n)});
  return nodes;
}

config::Settings make_settings(const World& world) {
  config::Settings settings;
  settings.threads = static_cast<std::uint32_t>(world.options.workers);
  settings.upstream.url.endpoints = seeds(world);
  settings.upstream.url.kind = world.options.model.cluster ? config::UpstreamKind::kCluster : config::UpstreamKind::kServer;
  settings.upstream.command_timeout = std::chrono::milliseconds(kTimeoutUs / 1000);
  settings.upstream.connect_timeout = std::chrono::milliseconds(kTimeoutUs / 1000);
  settings.upstream.swapdb_never = world.options.swapdb_never;
  settings.limits.buffer_bytes = std::size_t{1} << 40;
  settings.coherence.audit_one_in = 7;
  return settings;
}

bool publishes(const World& world) {
  const auto& sources = world.options.sources;
  return std::find(sources.begin(), sources.end(), tiers::coherence::ChangeSource::kBus) != sources.end();
}

tiers::NearCacheOptions cache_options(const World& world) {
  tiers::NearCacheOptions options;
  options.store.max_bytes = 256 * 1024;
  options.store.max_item_bytes = 4096;
  options.store.shards = 1;
  tiers::Policy otherwise = world.options.otherwise;
  otherwise.l1_ttl_us = world.options.l1_ttl_us;
  std::vector<tiers::Policy> namespaces = world.options.namespaces;
  for (tiers::Policy& policy : namespaces) policy.l1_ttl_us = world.options.l1_ttl_us;
  options.policies = tiers::Policies(otherwise, std::move(namespaces));
  return options;
}

}  // namespace

Sidecar::Sidecar(World& world, int number)
    : world_(world),
      number_(number),
      settings_(make_settings(world)),
      cache_(cache_options(world)),
      identities_(settings_.limits.identities, {}, 0),
      access_(settings_) {
  world_.building = number;
  world_.kernel.set_building(number);
  tiers::upstream::ControlPlaneOptions control;
  control.seeds = settings_.upstream.url.endpoints;
  control.cluster = world_.options.model.cluster;
  control_ = std::make_unique<tiers::upstream::ControlPlane>(control, [this](const tiers::upstream::TopologyPtr& topology) {
    if (topology->primaries.empty()) return;
    cache_.apply_topology(topology);
    for (const auto& worker : workers_) worker->set_topology(topology);
  });
  shared_.reset(new daemon::Shared{settings_,
                                   {},
                                   cache_,
                                   identities_,
                                   *control_,
                                   resolver_,
                                   [] { return daemon::StatsSnapshot(); },
                                   access_,
                                   nullptr,
                                   publishes(world)});
  for (std::uint32_t i = 0; i < settings_.threads; ++i) {
    workers_.push_back(std::make_unique<daemon::Worker>(i, *shared_, worker_options()));
    peers_.loops.push_back(&workers_.back()->loop());
    peers_.services.push_back(&workers_.back()->fills());
  }
  for (const auto& worker : workers_) worker->fills().set_peers(&peers_);
  control_->start();
  background();
}

Sidecar::~Sidecar() {
  control_->stop();
  // As Worker::stop() does: the links before the worker that they report to.
  for (const auto& worker : workers_) worker->fills().close();
}

daemon::WorkerOptions Sidecar::worker_options() {
  daemon::WorkerOptions options;
  options.router.seeds = settings_.upstream.url.endpoints;
  options.router.cluster = world_.options.model.cluster;
  options.router.connect_timeout_us = kTimeoutUs;
  options.router.command_timeout_us = kTimeoutUs;
  options.router.request_refresh = [this] { control_->request_refresh(); };
  options.router.on_trouble = [](const tiers::upstream::Endpoint&, std::string_view) {};
  if (publishes(world_)) {
    tiers::BusPublisherOptions bus;
    bus.channel = settings_.coherence.bus.channel;
    bus.publisher = publisher();
    bus.heartbeat_us = cache_.policies().max_staleness_min_us() / 3;
    bus.rest_after_us = kTimeoutUs * 4;
    bus.views = &bus_views_;
    options.bus = bus;
    options.bus_epochs = &bus_epochs_;
  }
  options.fills.on_own_view = [this](const tiers::upstream::Endpoint& node, std::uint16_t lowest, std::int64_t asked_us) {
    bus_views_.note(node, lowest, asked_us);
  };
  options.fills.link.cluster = options.router.cluster;
  options.fills.link.swapdb_never = settings_.upstream.swapdb_never;
  options.fills.link.sources = world_.options.sources;
  options.fills.link.bus_channel = settings_.coherence.bus.channel;
  options.fills.link.bus_publisher = publisher();
  options.fills.link.max_staleness_us = cache_.policies().max_staleness_min_us();
  options.fills.link.reply_timeout_us = kTimeoutUs;
  options.fills.link.hold_us = kHoldUs;
  options.fills.connect_timeout_us = kTimeoutUs;
  options.fills.on_state = [this](const tiers::upstream::Endpoint& node, std::uint32_t,
                                  const tiers::coherence::FillLink& link) {
    const bool tracked = link.source() == tiers::coherence::ChangeSource::kTracking;
    if (!tracked && link.state() == tiers::coherence::FillLinkState::kServing) shared_->own_writes_untold.store(true);
    if (!world_.kernel.tracing()) return;
    world_.kernel.trace("sidecar " + std::to_string(number_) + " link to " + node.text() + " state " +
                        std::to_string(static_cast<int>(link.state())) + " " + link.state_reason());
  };
  options.fills.purge_prefix = [this](std::string prefix) {
    world_.kernel.after(500, [this, prefix = std::move(prefix)] { cache_.purge_prefix(prefix); });
  };
  options.fills.on_audit_stale = [this](const tiers::upstream::Endpoint& node, std::uint16_t slot) {
    world_.kernel.trace("sidecar " + std::to_string(number_) + " audit: stale, " + node.text() + " slot " +
                        std::to_string(slot));
  };
  return options;
}

void Sidecar::background() {
  if (world_.kernel.sidecar_paused_until(number_) <= world_.kernel.now_us()) cache_.maintain(world_.kernel.now_us());
  world_.kernel.after(kBackgroundUs, [this] { background(); });
}

SocketPtr Sidecar::connect(int worker, Peer& client) {
  const SocketPtr socket = world_.kernel.connect_client(number_, client);
  workers_[static_cast<std::size_t>(worker)]->adopt(socket->fd, false);
  return socket;
}

std::uint64_t Sidecar::hits() const {
  std::uint64_t hits = 0;
  for (const auto& worker : workers_) hits += worker->counters().l1_hits.value();
  return hits;
}

}  // namespace nearcached::sim
