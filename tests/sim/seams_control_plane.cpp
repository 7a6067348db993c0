// tiers/upstream/control_plane.hpp over the model: polls one node after the other for its view of the slots.
#include <algorithm>
#include <optional>
#include <utility>

#include "tests/sim/world.hpp"
#include "tiers/upstream/cluster_slots.hpp"
#include "tiers/upstream/control_plane.hpp"

namespace nearcached::tiers::upstream {
namespace {

constexpr std::int64_t kRefreshMinUs = 10'000;
constexpr std::int64_t kGiveUpUs = 60'000;  // a node that can't be reached

}  // namespace

// As TopologyWatch: the sticky node first, then the others; who says cluster_state:fail, or has an older epoch than was
// believed before, is not believed while another may be asked.
struct ControlPlane::Impl {
  Impl(ControlPlaneOptions the_options, TopologyHandler handler)
      : options(std::move(the_options)),
        on_topology(std::move(handler)),
        world(sim::World::current()),
        sidecar(world.building),
        rng(world.seed, 0x900 + static_cast<std::uint64_t>(sidecar)) {}

  struct Answer {
    std::vector<SlotRange> ranges;
    std::uint64_t epoch = 0;
    bool failing = false;
  };

  void schedule(std::int64_t delay_us) {
    const std::int64_t due_us = world.kernel.now_us() + delay_us;
    if (stopped || asking || due_us >= due_at_us) return;
    due_at_us = due_us;
    world.kernel.at(due_us, [this, due_us, alive = alive] {
      if (*alive && due_us == due_at_us) begin_round();
    });
  }

  void begin_round() {
    due_at_us = sim::kNeverUs;
    asking = true;
    nodes_left = world.cluster.nodes();
    best.reset();
    ask();
  }

  // The question arrives, the node's view is taken, the answer comes back: each after a while.
  void ask() {
    const int node = sticky % world.cluster.nodes();
    const bool reachable = !world.kernel.down(node) && !world.kernel.held(sidecar, node);
    world.kernel.after(reachable ? rng.range(100, 3'000) : kGiveUpUs, [this, node, reachable, alive = alive] {
      if (!*alive) return;
      const bool answers = reachable && !world.kernel.down(node) && !world.kernel.node_paused(node);
      std::optional<Answer> answer;
      if (answers) answer = view_of(node);
      world.kernel.after(answers ? rng.range(100, 3'000) : kGiveUpUs, [this, answer, alive] {
        if (*alive) answered(answer);
      });
    });
  }

  [[nodiscard]] Answer view_of(int number) const {
    const sim::Node& node = world.cluster.node(number);
    Answer answer;
    answer.epoch = node.epoch_seen;
    answer.failing = node.failing;
    for (const auto& [slot, owner] : node.view()) {
      answer.ranges.push_back({slot, slot, {"127.0.0.1", static_cast<std::uint16_t>(sim::Kernel::kFirstPort + owner)}});
    }
    return answer;
  }

  void answered(const std::optional<Answer>& answer) {
    // A process that is stopped hears of it when it goes on.
    const std::int64_t until_us = world.kernel.sidecar_paused_until(sidecar);
    if (until_us > world.kernel.now_us()) {
      world.kernel.at(until_us, [this, answer, alive = alive] {
        if (*alive) answered(answer);
      });
      return;
    }
    if (answer && !answer->failing && answer->epoch >= believed_epoch) {
      adopt(*answer);
      return end_round();
    }
    if (answer && (!best || (best->failing && !answer->failing))) best = answer;
    ++sticky;
    if (--nodes_left > 0) return ask();
    if (best) adopt(*best);
    end_round();
  }

  void adopt(const Answer& answer) {
    believed_epoch = answer.epoch;
    Topology next = make_cluster_topology(answer.ranges, "7.0.15", current.get());
    if (current && same_topology(*current, next)) return;
    publish(std::move(next));
  }

  void publish(Topology next) {
    current = std::make_shared<const Topology>(std::move(next));
    world.kernel.trace("sidecar " + std::to_string(sidecar) + " learns topology " + std::to_string(current->version));
    on_topology(current);
  }

  void end_round() {
    asking = false;
    if (std::exchange(asked_for, false)) {
      ++sticky;
      schedule(kRefreshMinUs);
    }
    schedule(world.options.poll_us + rng.range(0, world.options.poll_us / 10));
  }

  void start() {
    if (options.cluster) return schedule(1);
    Topology topology;
    topology.version = 1;
    topology.primaries = {options.seeds.front()};
    topology.server_version = "7.0.15";
    publish(std::move(topology));
  }

  void request_refresh() {
    if (!options.cluster) return;
    asked_for = asking;
    schedule(kRefreshMinUs + rng.range(0, kRefreshMinUs));
  }

  const ControlPlaneOptions options;
  const TopologyHandler on_topology;
  sim::World& world;
  const int sidecar;
  sim::Rng rng;
  TopologyPtr current;
  std::optional<Answer> best;
  std::uint64_t believed_epoch = 0;
  int sticky = 0;
  int nodes_left = 0;
  bool asking = false;
  bool asked_for = false;
  bool stopped = false;
  std::int64_t due_at_us = sim::kNeverUs;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

ControlPlane::ControlPlane(ControlPlaneOptions options, TopologyHandler on_topology)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(on_topology))) {}

ControlPlane::~ControlPlane() { stop(); }

void ControlPlane::start() { impl_->start(); }

void ControlPlane::stop() {
  impl_->stopped = true;
  *impl_->alive = false;
}

void ControlPlane::request_refresh() { impl_->request_refresh(); }
void ControlPlane::check_auth(Credentials, AuthHandler handler) { handler({}); }
void ControlPlane::check_select(Credentials, std::string, AuthHandler handler) { handler({}); }
void ControlPlane::learn_credentials(const Credentials&) {}
void ControlPlane::command_info(std::string, CommandInfoHandler handler) { handler(false, {}); }
std::int64_t ControlPlane::topology_age_ms() const { return 0; }

}  // namespace nearcached::tiers::upstream
