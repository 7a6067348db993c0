// Sends a worker's requests to the nodes that serve them, and again where the cluster says so.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tiers/upstream/data_connection.hpp"

namespace nearcached::tiers::upstream {

struct RouterOptions {
  std::vector<Endpoint> seeds;
  bool cluster = false;
  std::int64_t connect_timeout_us = 1'000'000;
  std::int64_t command_timeout_us = 1'000'000;
  std::size_t pending_max = 100'000;
  const io::Tls* tls = nullptr;         // plain
  const ScriptBook* scripts = nullptr;  // that every node is to know
  // Makes what each connection announces its writes with; empty: nobody is told of writes, and none may ask for it.
  AnnouncerFactory make_announcer;
  // The topology looks wrong (MOVED, a lost or refused connection).
  std::function<void()> request_refresh;
  // Something worth a log line: endpoint, what.
  std::function<void(const Endpoint&, std::string_view)> on_trouble;
};

// What the router knows of one node, for the statistics.
struct NodeTraffic {
  Endpoint endpoint;
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::size_t connections = 0;
  std::size_t pending = 0;
};

// A worker's view of the upstream: by topology snapshot, slot and identity to a connection. Follows MOVED and ASK, waits out
// TRYAGAIN, CLUSTERDOWN, LOADING and refused connections, all until the request's deadline; a write is sent again only if
// the node said that it did not execute it, or if no byte of it left.
//
// Order: requests of one slot that are sent again go in the order in which they came to wait, and while one of them waits
// no later request of that slot is sent past it.
//
// A lane is what sessions with one identity and RESP version share: one connection per node.
// Bounds: kWaitingMax requests wait to be tried again, kRedirectsMax redirects of one request before it waits.
// Threading: confined to the worker; set_topology comes through its mailbox.
class Router final : public DataConnectionOwner {
 public:
  static constexpr std::size_t kWaitingMax = 100'000;
  static constexpr std::uint8_t kRedirectsMax = 5;
  static constexpr std::int64_t kRetryAfterUs = 50'000;
  static constexpr std::int64_t kIdleCloseUs = 60'000'000;

  // Connections of one identity and RESP version. Stable address while sessions hold it.
  struct Lane {
    IdentityPtr identity;
    protocol::RespVersion version = protocol::RespVersion::kResp2;
    std::size_t sessions = 0;
    std::int64_t unused_since_us = 0;
    std::uint64_t topology_version = 0;
    std::vector<DataConnection*> by_primary;  // of that topology version; nullptr: not connected yet
  };

  Router(io::EventLoop& loop, io::Resolver& resolver, insight::Counters& counters, RouterOptions options);

  void set_topology(TopologyPtr topology);
  [[nodiscard]] const TopologyPtr& topology() const { return topology_; }

  [[nodiscard]] Lane& attach(const IdentityPtr& identity, protocol::RespVersion version);
  void detach(Lane& lane, std::int64_t now_us);

  // To the owner of meta.slot, or with kNoSlot to any node. meta.deadline_us, if 0, is command_timeout from now.
  void send(Lane& lane, RequestMeta meta, std::string_view bytes, std::int64_t now_us);
  // To one primary of the present topology, by its index, and nowhere else.
  void send_to(Lane& lane, std::size_t primary, RequestMeta meta, std::string_view bytes, std::int64_t now_us);
  // The connection for that slot takes no more for now: stop reading clients.
  [[nodiscard]] bool congested(Lane& lane, std::uint32_t slot) const;
  // What the connection to the slot's node shows of it at this moment; nothing: there is none.
  [[nodiscard]] const DataConnection* connection_for(const Lane& lane, std::uint32_t slot) const;

  // Somebody was told that the topology is another.
  void request_refresh() const { options_.request_refresh(); }
  // The process ends: nothing is sent any more.
  void farewell(std::int64_t now_us);
  void flush();
  void tick(std::int64_t now_us);
  void traffic(std::vector<NodeTraffic>& rows) const;
  [[nodiscard]] std::size_t waiting_bytes() const;

 private:
  using ConnectionKey = std::tuple<std::uint32_t, protocol::RespVersion, Endpoint>;

  void on_not_executed(DataConnection& from, RequestMeta meta, std::string_view bytes, std::string_view error) override;
  void on_redirected(DataConnection& from, RequestMeta meta, std::string_view bytes, const Redirect& redirect,
                     std::string_view line) override;
  void on_asked_write(DataConnection& from, RequestMeta meta, std::string_view bytes) override;
  void on_refused_announcement(DataConnection& from, std::string_view error) override;
  void on_trouble(DataConnection& from, std::string_view what) override;

  [[nodiscard]] std::size_t primary_for(const RequestMeta& meta) const;
  [[nodiscard]] bool is_primary(const Endpoint& endpoint) const;
  [[nodiscard]] bool somebody_waits(const RequestMeta& meta) const;
  [[nodiscard]] DataConnection& connection_to(Lane& lane, std::size_t primary);
  [[nodiscard]] DataConnection& connection_to(const IdentityPtr& identity, protocol::RespVersion version,
                                              const Endpoint& endpoint);
  void send_on(DataConnection& connection, const RequestMeta& meta, std::string_view bytes, std::int64_t now_us);
  void wait(const DataConnection& from, RequestMeta meta, std::string_view bytes, std::string_view error,
            std::int64_t now_us, const Endpoint& target);
  void line_up(WaitingRequest request);
  void retry_waiting(std::int64_t now_us);
  void collect_idle(std::int64_t now_us);

  io::EventLoop& loop_;
  io::Resolver& resolver_;
  insight::Counters& counters_;
  const RouterOptions options_;
  TopologyPtr topology_;
  std::map<std::pair<std::uint32_t, protocol::RespVersion>, std::unique_ptr<Lane>> lanes_;
  std::map<ConnectionKey, std::unique_ptr<DataConnection>> connections_;
  std::deque<WaitingRequest> waiting_;  // by meta.order
  std::uint64_t last_order_ = 0;
  std::vector<std::uint32_t> waiting_in_slot_;  // of waiting_: later requests of the slot line up behind them
  std::int64_t next_collect_us_ = 0;
};

}  // namespace nearcached::tiers::upstream
