#include "tests/sim/simulation.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "tests/sim/client.hpp"
#include "tests/sim/sidecar.hpp"

namespace nearcached::sim {
namespace {

constexpr std::int64_t kGraceUs = 700'000;   // for the longest fault to end
constexpr std::int64_t kSettleUs = 900'000;  // reconnects, retries, timeouts
constexpr std::int64_t kFinalUs = 400'000;
constexpr std::int64_t kSlowUs = 150'000;
constexpr std::int64_t kOutlastsUs = 400'000;    // longer than a command's timeout
constexpr std::int64_t kStaleGraceUs = 400'000;  // a fault is over, and the link not yet back

class Simulation {
 public:
  Simulation(const Script& script, bool tracing) : script_(script), world_(script.seed, script.world) {
    world_.kernel.set_tracing(tracing);
    for (int s = 0; s < script.world.sidecars; ++s) sidecars_.push_back(std::make_unique<Sidecar>(world_, s));
    for (int s = 0; s < script.world.sidecars; ++s) {
      for (int c = 0; c < script.clients; ++c) {
        clients_.push_back(std::make_unique<Client>(world_, *sidecars_[static_cast<std::size_t>(s)],
                                                    c % script.world.workers, (script.resp3_clients >> c & 1) != 0));
      }
    }
    for (const Action& action : script.actions) {
      world_.kernel.at(Kernel::kStartUs + action.at_us, [this, &action] { perform(action); });
    }
  }

  Outcome run() {
    run_until(Kernel::kStartUs + script_.span_us);
    const bool faults =
        std::any_of(script_.actions.begin(), script_.actions.end(), [](const Action& a) { return is_fault(a.kind); });
    if (faults) {
      run_until(world_.kernel.now_us() + kGraceUs);
      world_.kernel.end_faults();
      for (int n = 0; n < world_.cluster.nodes(); ++n) {
        world_.cluster.node(n).tracking_refused = script_.world.tracking_refused;
      }
      run_until(world_.kernel.now_us() + kSettleUs);
    } else {
      run_until(world_.kernel.now_us() + kSettleUs / 2);
    }
    if (world_.failure.empty()) {
      for (const auto& client : clients_) client->read_everything();
      run_until(world_.kernel.now_us() + kFinalUs);
    }
    return outcome();
  }

 private:
  static constexpr std::int64_t kStepUs = 20'000;

  void run_until(std::int64_t until_us) {
    while (world_.failure.empty() && world_.kernel.now_us() < until_us) {
      world_.kernel.run_until(std::min(until_us, world_.kernel.now_us() + kStepUs));
    }
  }

  Outcome outcome() {
    Outcome outcome;
    for (const auto& client : clients_) {
      outcome.errors += client->errors();
      outcome.reads += client->reads();
      if (world_.failure.empty() && client->unanswered() != 0) {
        world_.failure = std::to_string(client->unanswered()) + " requests of a client were never answered";
      }
    }
    if (world_.failure.empty() && !world_.cluster.written_twice().empty()) {
      world_.failure = "written twice: " + world_.cluster.written_twice();
    }
    for (const auto& sidecar : sidecars_) outcome.hits += sidecar->hits();
    outcome.failure = world_.failure;
    outcome.hash = world_.kernel.hash();
    outcome.events = world_.kernel.events();
    outcome.trace = world_.kernel.lines();
    return outcome;
  }

  void perform(const Action& action) {
    world_.kernel.note(static_cast<std::uint64_t>(action.kind) + action.number);
    if (is_fault(action.kind)) {
      const std::int64_t for_us = action.kind == ActionKind::kReset ? 0 : action.for_us;
      world_.stale_until_us = std::max(world_.stale_until_us, world_.kernel.now_us() + for_us + kStaleGraceUs);
      world_.kernel.trace("FAULT " + action.describe(world_.options.model.keys));
      fault(action);
    } else if (is_direct(action.kind)) {
      write_directly(action);
    } else {
      clients_[static_cast<std::size_t>(action.sidecar * script_.clients + action.client)]->act(action);
    }
  }

  void write_directly(const Action& action) {
    const std::vector<std::string>& keys = world_.options.model.keys;
    const std::string& key = keys[action.key];
    const std::string text = "v" + std::to_string(action.number);
    const std::string ms = std::to_string(action.for_us / 1000);
    std::vector<std::string> args;
    switch (action.kind) {
      case ActionKind::kDirectSet:
        args = {"SET", key, text};
        if (action.for_us != 0) args.insert(args.end(), {"PX", ms});
        break;
      case ActionKind::kDirectDelete: args = {"DEL", key}; break;
      case ActionKind::kDirectIncrement: args = {"INCR", key}; break;
      case ActionKind::kDirectSetField: args = {"HSET", key, action.number % 4 == 0 ? "g" : "f", text}; break;
      case ActionKind::kDirectExpire: args = {"PEXPIRE", key, ms}; break;
      case ActionKind::kDirectPair:
        if (!world_.cluster.write_directly({"SET", key, text})) return;
        args = {"SET", keys[0], text + "q"};
        break;
      default: return;
    }
    world_.cluster.write_directly(args);
  }

  void fault(const Action& action) {
    Kernel& kernel = world_.kernel;
    Cluster& cluster = world_.cluster;
    const std::int64_t until_us = kernel.now_us() + action.for_us;
    Rng rng(action.number);
    const std::uint16_t slot = cluster.slot_of(world_.options.model.keys[action.key]);
    const int other = (cluster.owner(slot) + 1) % std::max(1, cluster.nodes());
    switch (action.kind) {
      case ActionKind::kReset: return kernel.reset(action.sidecar, action.node, rng.percent(50) ? 100 : 50);
      case ActionKind::kHold: {
        const std::uint64_t which = rng.below(4);
        if (which != 1) kernel.hold(action.sidecar, action.node, Direction::kIn, until_us);
        if (which != 0) kernel.hold(action.sidecar, action.node, Direction::kOut, until_us);
        return;
      }
      case ActionKind::kSlow: {
        const std::uint64_t which = rng.below(3);
        // On the bus a write may land when nobody waits for it any more.
        const bool outlasts = script_.profile == Profile::kBus && rng.percent(50);
        return kernel.slow(action.sidecar, action.node, until_us, which, outlasts ? kOutlastsUs : kSlowUs);
      }
      case ActionKind::kPauseSidecar: return kernel.pause_sidecar(action.sidecar, until_us);
      case ActionKind::kPauseNode: return kernel.pause_node(action.node, until_us);
      case ActionKind::kRestart: return cluster.restart(action.node, action.for_us / 3);
      case ActionKind::kMigrate: return migrate_to_and_fro(slot, other, rng);
      case ActionKind::kTakeOver: return take_to_and_fro(slot, other, rng);
      case ActionKind::kFailOver: return cluster.fail_over(false, 0, rng);
      case ActionKind::kFailOverLosing: return cluster.fail_over(true, rng.next(), rng);
      case ActionKind::kFlushAll: return cluster.flush_all();
      case ActionKind::kSwapDatabases: world_.swapped_us = kernel.now_us(); return cluster.swap_databases();
      case ActionKind::kDemote: return cluster.demote_server(action.for_us);
      case ActionKind::kFailing: return cluster.set_failing(action.node, action.for_us);
      case ActionKind::kRefuseTracking:
        cluster.node(action.node).tracking_refused = true;
        return kernel.reset(action.sidecar, action.node, 100);
      case ActionKind::kCutBetween: return kernel.cut_between(action.sidecar, action.node, action.for_us);
      case ActionKind::kLoseMessages:
        cluster.node(action.node).loses_messages_until_us = kernel.now_us() + action.for_us / 4;
        return;
      default: return;
    }
  }

  void migrate_to_and_fro(std::uint16_t slot, int to, Rng& rng) {
    if (!world_.options.model.cluster) return;
    const int from = world_.cluster.owner(slot);
    world_.cluster.migrate(slot, to, rng);
    if (rng.percent(40)) return;
    world_.kernel.after(rng.range(150'000, 500'000), [this, slot, from, seed = rng.next()] {
      Rng again(seed);
      world_.cluster.migrate(slot, from, again);
    });
  }

  void take_to_and_fro(std::uint16_t slot, int to, Rng& rng) {
    if (!world_.options.model.cluster) return;
    const int from = world_.cluster.owner(slot);
    world_.cluster.take_over(slot, to);
    if (rng.percent(30)) return;
    world_.kernel.after(rng.range(125'000, 300'000), [this, slot, from] { world_.cluster.take_over(slot, from); });
  }

  const Script& script_;
  World world_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Sidecar>> sidecars_;
};

}  // namespace

Outcome simulate(const Script& script, bool tracing) { return Simulation(script, tracing).run(); }

}  // namespace nearcached::sim
