#include "tiers/upstream/router.hpp"

#include <algorithm>
#include <utility>

#include "tiers/io/clock.hpp"

namespace nearcached::tiers::upstream {
namespace {

// Until the control plane has seen the upstream: the seeds, of which any answers MOVED, NOAUTH or CLUSTERDOWN as it is.
TopologyPtr provisional(const RouterOptions& options) {
  auto topology = std::make_shared<Topology>();
  topology->cluster = options.cluster;
  topology->primaries = options.seeds;
  topology->owner.fill(options.cluster ? Topology::kNoNode : 0);
  return topology;
}

// A client that knows of no cluster is not told to go elsewhere.
std::string told(const std::string& last_error) {
  const bool redirect = last_error.starts_with("MOVED ") || last_error.starts_with("ASK ");
  return redirect ? "ERR nearcached: the nodes do not agree on who serves the slot: " + last_error : last_error;
}

}  // namespace

Router::Router(io::EventLoop& loop, io::Resolver& resolver, insight::Counters& counters, RouterOptions options)
    : loop_(loop),
      resolver_(resolver),
      counters_(counters),
      options_(std::move(options)),
      topology_(provisional(options_)),
      waiting_in_slot_(protocol::kSlotCount) {}

void Router::set_topology(TopologyPtr topology) {
  topology_ = std::move(topology);
  for (const auto& [key, connection] : connections_) connection->set_topology(*topology_);
}

Router::Lane& Router::attach(const IdentityPtr& identity, protocol::RespVersion version) {
  std::unique_ptr<Lane>& lane = lanes_[{identity->id, version}];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->identity = identity;
    lane->version = version;
  }
  ++lane->sessions;
  return *lane;
}

void Router::detach(Lane& lane, std::int64_t now_us) {
  --lane.sessions;
  lane.unused_since_us = now_us;
}

std::size_t Router::primary_for(const RequestMeta& meta) const {
  const std::size_t primaries = topology_->primaries.size();
  if (meta.slot == kNoSlot) return meta.affinity % primaries;
  const std::uint16_t owner = topology_->owner[meta.slot];
  // Nobody is known to serve the slot: always the same node, so that requests of one key keep their order.
  return owner != Topology::kNoNode ? owner : meta.slot % primaries;
}

DataConnection& Router::connection_to(Lane& lane, std::size_t primary) {
  if (lane.topology_version != topology_->version || lane.by_primary.size() != topology_->primaries.size()) {
    lane.topology_version = topology_->version;
    lane.by_primary.assign(topology_->primaries.size(), nullptr);
  }
  DataConnection*& connection = lane.by_primary[primary];
  if (connection == nullptr) connection = &connection_to(lane.identity, lane.version, topology_->primaries[primary]);
  return *connection;
}

DataConnection& Router::connection_to(const IdentityPtr& identity, protocol::RespVersion version, const Endpoint& endpoint) {
  std::unique_ptr<DataConnection>& connection = connections_[{identity->id, version, endpoint}];
  if (!connection) {
    connection = std::make_unique<DataConnection>(
        loop_, resolver_, counters_,
        DataConnectionOptions{endpoint, identity, version, options_.connect_timeout_us, options_.command_timeout_us,
                              options_.pending_max, options_.tls, options_.scripts},
        *this, options_.make_announcer ? options_.make_announcer(endpoint) : nullptr);
    connection->set_topology(*topology_);
  }
  return *connection;
}

void Router::send(Lane& lane, RequestMeta meta, std::string_view bytes, std::int64_t now_us) {
  if (meta.deadline_us == 0) meta.deadline_us = now_us + options_.command_timeout_us;
  meta.order = ++last_order_;
  DataConnection& connection = connection_to(lane, primary_for(meta));
  if (somebody_waits(meta)) {
    wait(connection, meta, bytes, "ERR nearcached: requests of this slot wait for the cluster", now_us,
         connection.endpoint());
  } else {
    send_on(connection, meta, bytes, now_us);
  }
}

void Router::send_to(Lane& lane, std::size_t primary, RequestMeta meta, std::string_view bytes, std::int64_t now_us) {
  meta.deadline_us = now_us + options_.command_timeout_us;
  meta.order = ++last_order_;
  meta.pinned_to_node = true;
  meta.affinity = static_cast<std::uint32_t>(primary);  // a node that takes its place in the topology has its index
  send_on(connection_to(lane, primary), meta, bytes, now_us);
}

void Router::send_on(DataConnection& connection, const RequestMeta& meta, std::string_view bytes, std::int64_t now_us) {
  if (!connection.takes(meta)) {
    options_.request_refresh();
    wait(connection, meta, bytes, connection.why_not(), now_us, connection.endpoint());
  } else if (connection.available(now_us)) {
    connection.send(meta, bytes, now_us);
  } else {
    wait(connection, meta, bytes, connection.no_connection(), now_us, connection.endpoint());
  }
}

const DataConnection* Router::connection_for(const Lane& lane, std::uint32_t slot) const {
  if (slot == kNoSlot) return nullptr;
  const std::uint16_t owner = topology_->owner[slot];
  if (owner == Topology::kNoNode || lane.topology_version != topology_->version || owner >= lane.by_primary.size()) {
    return nullptr;
  }
  return lane.by_primary[owner];
}

bool Router::congested(Lane& lane, std::uint32_t slot) const {
  if (waiting_.size() >= kWaitingMax / 2) return true;
  const DataConnection* connection = connection_for(lane, slot);
  return connection != nullptr && connection->full();
}

void Router::wait(const DataConnection& from, RequestMeta meta, std::string_view bytes, std::string_view error,
                  std::int64_t now_us, const Endpoint& target) {
  meta.sink->on_rerouted(meta.token);
  // No room: its time is over at the next tick.
  if (waiting_.size() >= kWaitingMax) meta.deadline_us = 0;
  counters_.retries.add();
  line_up({meta, std::string(bytes), from.identity(), from.version(), target, now_us + kRetryAfterUs, std::string(error)});
}

void Router::line_up(WaitingRequest request) {
  if (request.meta.slot != kNoSlot) ++waiting_in_slot_[request.meta.slot];
  const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), request.meta.order,
                                      [](std::uint64_t order, const WaitingRequest& w) { return order < w.meta.order; });
  waiting_.insert(place, std::move(request));
}

bool Router::is_primary(const Endpoint& endpoint) const {
  const auto& primaries = topology_->primaries;
  return std::find(primaries.begin(), primaries.end(), endpoint) != primaries.end();
}

bool Router::somebody_waits(const RequestMeta& meta) const {
  return meta.slot != kNoSlot && waiting_in_slot_[meta.slot] != 0;
}

void Router::on_not_executed(DataConnection& from, RequestMeta meta, std::string_view bytes, std::string_view error) {
  wait(from, meta, bytes, error, io::boot_us(), from.endpoint());
}

void Router::on_redirected(DataConnection& from, RequestMeta meta, std::string_view bytes, const Redirect& redirect,
                           std::string_view line) {
  const std::int64_t now_us = io::boot_us();
  if (redirect.kind == RedirectKind::kMoved) {
    counters_.redirects_moved.add();
    options_.request_refresh();
  } else if (redirect.kind == RedirectKind::kAsk) {
    counters_.redirects_ask.add();
  }
  if (redirect.kind == RedirectKind::kWait) options_.request_refresh();
  const bool again = redirect.kind == RedirectKind::kWait || meta.redirects >= kRedirectsMax || somebody_waits(meta);
  meta.asking = redirect.kind == RedirectKind::kAsk;
  if (again) {
    meta.asking = false;
    meta.redirects = 0;
    wait(from, meta, bytes, line, now_us, from.endpoint());
    return;
  }
  ++meta.redirects;
  meta.sink->on_rerouted(meta.token);
  // `bytes` lie in from's buffer: the target may be the same connection, whose buffer would move under them.
  DataConnection& target = connection_to(from.identity(), from.version(), redirect.target);
  if (&target == &from) {
    send_on(target, meta, std::string(bytes), now_us);
  } else {
    send_on(target, meta, bytes, now_us);
  }
}

// Entries of the key stand on the owner's connection as long as the slot is its own: there they must be told. What was kept
// of the slot's next owner is told by the announcement behind the write itself.
void Router::on_asked_write(DataConnection& from, RequestMeta meta, std::string_view bytes) {
  meta.asking = false;
  meta.only_announce = true;
  send_on(connection_to(from.identity(), from.version(), topology_->primaries[primary_for(meta)]), meta, bytes,
          io::boot_us());
}

void Router::on_refused_announcement(DataConnection& from, std::string_view error) {
  options_.request_refresh();
  options_.on_trouble(from.endpoint(), "an announcement was refused: " + std::string(error));
}

void Router::on_trouble(DataConnection& from, std::string_view what) {
  options_.request_refresh();
  if (!from.repeats()) options_.on_trouble(from.endpoint(), what);
}

void Router::retry_waiting(std::int64_t now_us) {
  if (waiting_.empty()) return;
  std::deque<WaitingRequest> turn;
  turn.swap(waiting_);
  for (const WaitingRequest& request : turn) {
    if (request.meta.slot != kNoSlot) waiting_in_slot_[request.meta.slot] = 0;
  }
  for (WaitingRequest& request : turn) {
    const RequestMeta& meta = request.meta;
    if (meta.deadline_us <= now_us) {
      counters_.timeouts.add();
      fail(meta, told(request.last_error), false);
    } else if (request.next_try_us > now_us || somebody_waits(meta)) {
      line_up(std::move(request));  // and all of its slot behind it
    } else {
      const bool still_there = meta.asking || (meta.pinned_to_node && is_primary(request.target));
      const Endpoint& target = still_there ? request.target : topology_->primaries[primary_for(meta)];
      send_on(connection_to(request.identity, request.version, target), meta, request.bytes, now_us);
    }
  }
}

void Router::farewell(std::int64_t now_us) {
  for (const auto& [key, connection] : connections_) connection->farewell(now_us);
}

void Router::flush() {
  for (const auto& [key, connection] : connections_) connection->flush();
}

void Router::tick(std::int64_t now_us) {
  for (const auto& [key, connection] : connections_) connection->tick(now_us);
  retry_waiting(now_us);
  if (now_us >= next_collect_us_) {
    next_collect_us_ = now_us + kIdleCloseUs / 60;
    collect_idle(now_us);
  }
}

void Router::collect_idle(std::int64_t now_us) {
  std::erase_if(lanes_, [&](const auto& item) {
    return item.second->sessions == 0 && now_us - item.second->unused_since_us > kIdleCloseUs;
  });
  const auto idle = [&](const auto& item) {
    if (item.second->pending() != 0 || now_us - item.second->idle_since_us() <= kIdleCloseUs) return false;
    item.second->farewell(now_us);
    return true;
  };
  if (std::erase_if(connections_, idle) != 0) {
    for (const auto& [key, lane] : lanes_) lane->by_primary.clear();
  }
}

std::size_t Router::waiting_bytes() const {
  std::size_t bytes = 0;
  for (const WaitingRequest& request : waiting_) bytes += request.bytes.size() + sizeof request;
  return bytes;
}

void Router::traffic(std::vector<NodeTraffic>& rows) const {
  for (const auto& [key, connection] : connections_) {
    const Endpoint& endpoint = connection->endpoint();
    auto row = std::find_if(rows.begin(), rows.end(), [&](const NodeTraffic& r) { return r.endpoint == endpoint; });
    if (row == rows.end()) row = rows.insert(rows.end(), NodeTraffic{endpoint});
    row->requests += connection->requests();
    row->errors += connection->errors();
    row->connections += connection->ready() ? 1 : 0;
    row->pending += connection->pending();
  }
}

}  // namespace nearcached::tiers::upstream
