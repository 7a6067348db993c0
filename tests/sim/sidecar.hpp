// One nearcached process of the simulation: what daemon/app.cpp builds, without threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "config/settings.hpp"
#include "daemon/shared.hpp"
#include "daemon/worker.hpp"
#include "tests/sim/world.hpp"

namespace nearcached::sim {

// Mirrors App: the same objects, wired in the same way, in the same order; the scheduler turns the loops of its workers.
// What App's own loop does (L1's background work, purges by prefix) are events of the kernel. If App wires something new,
// this has to follow, or the simulation proves another program.
class Sidecar {
 public:
  Sidecar(World& world, int number);
  ~Sidecar();
  Sidecar(const Sidecar&) = delete;
  Sidecar& operator=(const Sidecar&) = delete;

  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] SocketPtr connect(int worker, Peer& client);
  [[nodiscard]] const tiers::Policies& policies() const { return cache_.policies(); }
  [[nodiscard]] std::uint64_t hits() const;

 private:
  [[nodiscard]] daemon::WorkerOptions worker_options();
  void background();
  [[nodiscard]] std::uint64_t publisher() const { return 0xB05 + static_cast<std::uint64_t>(number_); }

  World& world_;
  const int number_;
  const config::Settings settings_;
  tiers::io::Resolver resolver_;
  std::atomic<std::uint32_t> bus_epochs_{0};
  tiers::coherence::BusViews bus_views_;
  tiers::NearCache cache_;
  tiers::upstream::IdentityRegistry identities_;
  const daemon::Access access_;
  std::unique_ptr<tiers::upstream::ControlPlane> control_;
  std::unique_ptr<daemon::Shared> shared_;
  std::vector<std::unique_ptr<daemon::Worker>> workers_;
  tiers::FillService::Peers peers_;
};

}  // namespace nearcached::sim
