// What all workers of the process share.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "daemon/access.hpp"
#include "daemon/client_pause.hpp"
#include "daemon/command_latency.hpp"
#include "daemon/monitor.hpp"
#include "daemon/slow_log.hpp"
#include "daemon/stats_report.hpp"
#include "protocol/request_parser.hpp"
#include "tiers/io/resolver.hpp"
#include "tiers/near_cache.hpp"
#include "tiers/upstream/control_plane.hpp"
#include "tiers/upstream/identity.hpp"
#include "tiers/upstream/pinned_pool.hpp"
#include "tiers/upstream/script_book.hpp"
#include "tiers/write_behind.hpp"

namespace nearcached::daemon {

class Worker;

// Owned by App, which outlives every worker. Each member is constant after construction or synchronised inside.
struct Shared {
  const config::Settings& settings;
  const protocol::RequestLimits request_limits;
  tiers::NearCache& cache;
  tiers::upstream::IdentityRegistry& identities;
  tiers::upstream::ControlPlane& control;
  tiers::io::Resolver& resolver;
  StatsSource stats;
  const Access& access;
  const tiers::io::Tls* listener_tls = nullptr;      // of clients that come over listen_tls
  const bool publishes = false;                      // peers may hear of writes over the bus: each is published
  tiers::WriteBehind* const write_behind = nullptr;  // none: nothing is deferred
  tiers::upstream::PinnedBudget pinned_budget{};
  tiers::upstream::ScriptBook scripts{};
  ClientPause pause{};
  MonitorFeed monitors{};
  SlowLog slow_log{settings.slowlog.max_len};
  LatencyEvents latency_events{};
  std::vector<Worker*> workers{};  // all of them; complete before the first one starts
  std::atomic<std::uint64_t> next_client_id{1};
  std::atomic<bool> own_writes_untold{false};   // some node's changes are, or were, heard of by other ways than tracking
  std::atomic<bool> over_buffer_budget{false};  // all buffers together are over limits.buffer_bytes
  std::atomic<int> worker_to_relieve{-1};       // that one closes its largest client, once; -1: none
};

}  // namespace nearcached::daemon
