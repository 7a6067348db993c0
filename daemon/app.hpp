// The composition root: builds everything, runs it, stops it in reverse.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/container_limits.hpp"
#include "config/settings.hpp"
#include "daemon/admin_server.hpp"
#include "daemon/certificates.hpp"
#include "daemon/dead_letters.hpp"
#include "daemon/listener.hpp"
#include "daemon/shared.hpp"
#include "daemon/worker.hpp"
#include "tiers/write_behind.hpp"

namespace nearcached::daemon {

// Nothing if write_behind.enabled is false.
[[nodiscard]] std::unique_ptr<tiers::WriteBehind> make_write_behind(const config::Settings& settings,
                                                                    const DeadLetters& letters);

// Members are declared in the order of construction: what is shared, the control plane, the workers, the admin server, the
// listeners. Stopping is the reverse, and says why:
//   1. listeners close, so that nobody new comes in while the rest goes;
//   2. workers drain: what is in flight is finished and answered, what was deferred is flushed, up to
//   limits.shutdown_timeout;
//   3. the admin server stops: until here probes and scrapes still see the drain;
//   4. the control plane and the resolver stop, so that no callback reaches a worker's mailbox any more;
//   5. workers end, and the log of write-behind after them: nobody appends any more.
//
// The main thread runs a loop of its own: signals, listeners, L1's background work, the process's buffer budget.
class App {
 public:
  App(const config::Settings& settings, const config::ContainerLimits& limits);
  ~App();

  // Serves until SIGTERM or SIGINT. Returns the process's exit code. Throws std::system_error if an address can't be had.
  int run();

 private:
  class Signals;

  [[nodiscard]] WorkerOptions worker_options();
  // app_write_behind.cpp. Throws std::runtime_error if the log can't be opened.
  void open_write_behind();
  // True: nothing waits to be flushed.
  [[nodiscard]] bool flush_write_behind();
  void close_write_behind();
  // What waits leaves at once; how much that is.
  [[nodiscard]] std::size_t press_write_behind();
  [[nodiscard]] WriteBehindRow write_behind_row() const;
  void accept(int fd, bool tls);
  void on_topology(const tiers::upstream::TopologyPtr& topology);
  void on_control_event(const tiers::upstream::ControlEvent& event) const;
  void on_fill_state(const tiers::upstream::Endpoint& node, std::uint32_t identity,
                     const tiers::coherence::FillLink& link) const;
  void tick();
  void stop();
  [[nodiscard]] StatsSnapshot collect();
  void collect_nodes(StatsSnapshot& snapshot);
  void add_link(StatsSnapshot& snapshot, NodeRow& row, const tiers::FillLinkRow& link) const;
  [[nodiscard]] bool live(std::string& why) const;
  [[nodiscard]] std::size_t clients() const;

  const config::Settings settings_;
  Certificates certificates_;
  const Access access_;
  const std::string admin_token_;
  const std::int64_t started_us_;
  const std::int64_t started_unix_ms_;
  const std::uint64_t bus_publisher_;
  std::atomic<std::uint32_t> bus_epochs_{0};
  tiers::coherence::BusViews bus_views_;
  tiers::io::Resolver resolver_;
  const DeadLetters dead_letters_;
  std::unique_ptr<tiers::WriteBehind> write_behind_;  // none: nothing is deferred
  std::uint64_t replayed_ = 0;                        // records that the log held at the start
  tiers::NearCache cache_;
  tiers::upstream::IdentityRegistry identities_;
  std::unique_ptr<tiers::upstream::ControlPlane> control_;
  std::unique_ptr<Shared> shared_;
  tiers::io::EventLoop loop_;
  std::vector<std::unique_ptr<Worker>> workers_;
  tiers::FillService::Peers peers_;
  std::unique_ptr<AdminServer> admin_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unique_ptr<Signals> signals_;
  std::atomic<std::uint64_t> topology_version_{0};
  std::atomic<std::uint64_t> refused_clients_{0};
  std::atomic<bool> ready_{false};
  std::int64_t drain_until_us_ = 0;  // 0: not stopping
  std::int64_t next_listener_retry_us_ = 0;
};

}  // namespace nearcached::daemon
