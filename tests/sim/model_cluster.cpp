#include "tests/sim/model_cluster.hpp"

#include <algorithm>
#include <utility>

#include "protocol/key_slot.hpp"

namespace nearcached::sim {
namespace {

constexpr std::int64_t kGossipUsMax = 60'000;
constexpr std::int64_t kNodeTimeoutUs = 200'000;
constexpr std::uint16_t kSpareSlots = 4;  // of each node, that hold no key

}  // namespace

Cluster::Cluster(Kernel& kernel, const ModelOptions& options, std::uint64_t seed)
    : kernel_(kernel), options_(options), rng_(seed, 0x7), isolated_until_us_(kNodesMax) {
  const int count = options_.cluster ? options_.primaries + 1 : 1;
  for (int n = 0; n < count; ++n) nodes_.push_back(std::make_unique<Node>(*this, n));
  kernel_.accept = [this](int to, const SocketPtr& socket) { return node(to).accept(socket); };
  if (!options_.cluster) return;
  pair_ = {0, options_.primaries};
  node(options_.primaries).replica = true;
  for (const std::string& key : options_.keys) {
    owner_.try_emplace(slot_of(key), static_cast<int>(slot_of(key) % static_cast<std::uint16_t>(options_.primaries)));
  }
  for (int n = 0; n < options_.primaries; ++n) {
    for (std::uint16_t i = 0; i < kSpareSlots; ++i) owner_.try_emplace(static_cast<std::uint16_t>(n * 1000 + i), n);
  }
  for (const auto& known : nodes_) {
    for (const auto& [slot, owner] : owner_) known->learn(slot, owner);
  }
}

std::uint16_t Cluster::slot_of(std::string_view key) const {
  return options_.cluster ? protocol::key_slot(key) : std::uint16_t{0};
}

int Cluster::owner(std::uint16_t slot) const {
  const auto found = owner_.find(slot);
  return found == owner_.end() ? 0 : found->second;
}

void Cluster::truth_changed(const std::string& key) {
  const std::uint16_t slot = slot_of(key);
  const Item* item = node(owner(slot)).find(key);
  if (item == nullptr) {
    const auto moving = moving_to_.find(slot);
    if (moving != moving_to_.end()) item = node(moving->second).find(key);
  }
  const Value value = item == nullptr ? Value() : item->value;
  if (kernel_.tracing() && history_.present(key) != value) {
    kernel_.trace("TRUTH " + key + " = " + (value.empty() ? "absent" : value));
  }
  history_.set(key, value, kernel_.now_us());
}

void Cluster::all_truth_changed() {
  for (const std::string& key : options_.keys) truth_changed(key);
}

void Cluster::note_written(const std::string& text) {
  if (!written_.insert(text).second) written_twice_ = text;
}

void Cluster::replicate(int from, const std::string& key) {
  if (!options_.cluster || from != pair_[0] || isolated(from)) return;
  const auto found = node(from).data().find(key);
  const Item item = found == node(from).data().end() ? Item() : found->second;
  replicated_us_ = std::max(replicated_us_, kernel_.now_us() + rng_.range(50, 3'000));
  const std::uint64_t line = replication_;
  kernel_.at(replicated_us_, [this, key, item, line] {
    if (line != replication_) return;
    auto data = node(pair_[1]).data();
    if (item.value.empty()) {
      data.erase(key);
    } else {
      data[key] = item;
    }
    node(pair_[1]).replace_data(std::move(data));
  });
}

void Cluster::watch_expiry(int of, const std::string& key, const Item& item) {
  if (item.expires_ms == 0) return;
  const std::int64_t over_us = (item.expires_ms + 1) * 1000;
  kernel_.at(over_us, [this, key] { truth_changed(key); });
  kernel_.at(over_us + rng_.range(0, 1'200'000), [this, of, key] { node(of).expire(key); });
}

bool Cluster::write_directly(const std::vector<std::string>& args) {
  // EVAL names its key inside its text; nothing else that is written directly has none.
  const std::string& key = args.size() > 1 ? args[1] : args[0];
  const std::uint16_t slot = slot_of(key);
  int at = owner(slot);
  const auto moving = moving_to_.find(slot);
  if (moving != moving_to_.end() && node(at).find(key) == nullptr) at = moving->second;
  if (kernel_.down(at) || kernel_.node_paused(at) || isolated(at) || node(at).failing) return false;
  std::string ignored;
  if (kernel_.tracing()) {
    std::string text;
    for (const std::string& arg : args) text += " " + arg;
    kernel_.trace("direct at node " + std::to_string(at) + ":" + text);
  }
  node(at).execute(nullptr, Node::Args(args.begin(), args.end()), ignored);
  return true;
}

// ---- slots

void Cluster::own(std::uint16_t slot, int owner) {
  owner_[slot] = owner;
  ++epoch_;
  for (const auto& learning : nodes_) {
    const auto learn = [this, n = learning->number(), slot, owner, epoch = epoch_] {
      if (node(n).epoch_seen >= epoch) return;
      node(n).epoch_seen = epoch;
      node(n).learn(slot, owner);
    };
    const bool at_once = learning->number() == owner || learning->owner_seen(slot) == learning->number();
    at_once ? learn() : kernel_.after(rng_.range(200, kGossipUsMax), learn);
  }
}

void Cluster::migrate(std::uint16_t slot, int to, Rng& rng) {
  const int from = owner(slot);
  if (from == to || busy() || node(to).replica || kernel_.down(from) || kernel_.down(to)) return;
  busy_until_us_ = kernel_.now_us() + 900'000;
  kernel_.trace("slot " + std::to_string(slot) + " migrates from node " + std::to_string(from) + " to " +
                std::to_string(to));
  node(to).importing[slot] = from;
  node(from).migrating[slot] = to;
  moving_to_[slot] = to;
  kernel_.after(rng.range(500, 60'000), [this, slot, from, to, seed = rng.next()] { migrate_next(slot, from, to, seed); });
}

void Cluster::migrate_next(std::uint16_t slot, int from, int to, std::uint64_t seed) {
  Rng rng(seed);
  for (const auto& [key, item] : std::map(node(from).data())) {
    if (slot_of(key) != slot) continue;
    if (node(from).find(key) != nullptr) node(to).put(key, item);
    node(from).remove(key);
    if (rng.percent(50)) continue;
    kernel_.after(rng.range(100, 20'000), [this, slot, from, to, next = rng.next()] { migrate_next(slot, from, to, next); });
    return;
  }
  if (rng.percent(60)) {
    kernel_.after(rng.range(100, 200'000),
                  [this, slot, from, to, next = rng.next()] { migrate_next(slot, from, to, next); });
    return;
  }
  finish_migration(slot, from, to, rng);
}

void Cluster::finish_migration(std::uint16_t slot, int from, int to, Rng& rng) {
  kernel_.trace("slot " + std::to_string(slot) + " belongs to node " + std::to_string(to));
  node(to).importing.erase(slot);
  owner_[slot] = to;
  ++epoch_;
  node(to).learn(slot, to);
  node(to).epoch_seen = epoch_;
  moving_to_.erase(slot);
  // The old owner is told a moment later: until then it answers ASK, for it has no key of the slot any more.
  kernel_.after(rng.range(50, 5'000), [this, slot, from, to, epoch = epoch_] {
    node(from).migrating.erase(slot);
    node(from).learn(slot, to);
    node(from).epoch_seen = std::max(node(from).epoch_seen, epoch);
  });
  for (const auto& other : nodes_) {
    if (other->number() == from || other->number() == to) continue;
    kernel_.after(rng.range(500, kGossipUsMax), [this, n = other->number(), slot, to, epoch = epoch_] {
      if (owner(slot) != to) return;
      node(n).learn(slot, to);
      node(n).epoch_seen = std::max(node(n).epoch_seen, epoch);
    });
  }
  busy_until_us_ = kernel_.now_us() + kGossipUsMax;
  all_truth_changed();
}

void Cluster::take_over(std::uint16_t slot, int to) {
  const int from = owner(slot);
  if (from == to || busy() || node(to).replica || kernel_.down(from) || kernel_.down(to)) return;
  busy_until_us_ = kernel_.now_us() + 2 * kGossipUsMax;
  kernel_.trace("node " + std::to_string(to) + " takes slot " + std::to_string(slot) + " from node " + std::to_string(from) +
                ", whose keys of it are dropped");
  own(slot, to);
  node(from).drop_slot_silently(slot);
  all_truth_changed();
}

// ---- failures

void Cluster::fail_over(bool with_lost_tail, std::uint64_t split_sidecars, Rng& rng) {
  if (busy() || !options_.cluster || kernel_.down(pair_[0]) || kernel_.down(pair_[1])) return;
  const int from = pair_[0];
  const int to = pair_[1];
  if (!with_lost_tail) {
    // By hand: the replica has everything before it takes over.
    kernel_.trace("node " + std::to_string(to) + " takes over from node " + std::to_string(from) + ", by hand");
    ++replication_;
    node(to).replace_data(node(from).data());
    promote(from, to);
    rejoin(from, to);
    busy_until_us_ = kernel_.now_us() + 2 * kGossipUsMax;
    return;
  }
  const std::int64_t fails_us = kernel_.now_us() + kNodeTimeoutUs;
  const std::int64_t promoted_us = fails_us + rng.range(0, 50'000);
  const std::int64_t healed_us = promoted_us + rng.range(50'000, 400'000);
  busy_until_us_ = healed_us + 2 * kGossipUsMax;
  kernel_.trace("node " + std::to_string(from) + " is cut from the other nodes");
  isolated_until_us_[static_cast<std::size_t>(from)] = healed_us;
  ++replication_;  // what is on its way is lost
  for (int sidecar = 0; sidecar < kSidecarsMax; ++sidecar) {
    const bool with_old = (split_sidecars >> sidecar & 1) != 0;
    for (const auto& other : nodes_) {
      if ((other->number() == from) == with_old || (split_sidecars >> kSidecarsMax & 1) == 0) continue;
      kernel_.hold(sidecar, other->number(), Direction::kOut, healed_us);
      kernel_.hold(sidecar, other->number(), Direction::kIn, healed_us);
    }
  }
  kernel_.at(fails_us, [this, from] {
    kernel_.trace("node " + std::to_string(from) + " says cluster_state:fail");
    node(from).failing = true;
  });
  kernel_.at(promoted_us, [this, from, to] {
    kernel_.trace("node " + std::to_string(to) + " takes over");
    promote(from, to);
  });
  kernel_.at(healed_us, [this, from, to] { rejoin(from, to); });
}

void Cluster::promote(int from, int to) {
  ++epoch_;
  pair_ = {to, from};
  node(to).replica = false;
  for (const auto& learning : nodes_) {
    if (learning->number() == from) continue;
    const auto learn = [this, n = learning->number(), from, to, epoch = epoch_] {
      node(n).epoch_seen = std::max(node(n).epoch_seen, epoch);
      for (const auto& [slot, owner] : std::map(node(n).view())) {
        if (owner == from) node(n).learn(slot, to);
      }
    };
    learning->number() == to ? learn() : kernel_.after(rng_.range(200, kGossipUsMax), learn);
  }
  for (auto& [slot, owner] : owner_) {
    if (owner == from) owner = to;
  }
  all_truth_changed();
}

void Cluster::rejoin(int from, int to) {
  kernel_.trace("node " + std::to_string(from) + " is a replica of node " + std::to_string(to));
  Node& demoted = node(from);
  demoted.replica = true;
  demoted.epoch_seen = epoch_;
  for (const auto& [slot, owner] : owner_) demoted.learn(slot, owner);
  demoted.signal_all();
  demoted.replace_data(node(to).data());
  ++replication_;
  replicated_us_ = kernel_.now_us();
  kernel_.after(rng_.range(1'000, 100'000), [this, from] { node(from).failing = false; });
}

void Cluster::restart(int number, std::int64_t down_us) {
  if (busy() || kernel_.down(number)) return;
  busy_until_us_ = kernel_.now_us() + down_us + 1'000;
  kernel_.trace("node " + std::to_string(number) + " is killed, and back with its data in " +
                std::to_string(down_us / 1000) + " ms");
  kernel_.set_down(number, true);
  for (int sidecar = 0; sidecar < kSidecarsMax; ++sidecar) kernel_.reset(sidecar, number, 100);
  node(number).close_all();
  kernel_.after(down_us, [this, number] { kernel_.set_down(number, false); });
}

void Cluster::flush_all() {
  for (const auto& each : nodes_) {
    if (each->replica || kernel_.down(each->number()) || kernel_.node_paused(each->number()) || isolated(each->number()))
      continue;
    std::string ignored;
    kernel_.trace("FLUSHALL at node " + std::to_string(each->number()));
    each->execute(nullptr, {"FLUSHALL"}, ignored);
  }
}

void Cluster::swap_databases() {
  if (options_.cluster || node(0).replica) return;
  std::string ignored;
  kernel_.trace("SWAPDB 0 1");
  node(0).execute(nullptr, {"SWAPDB", "0", "1"}, ignored);
}

void Cluster::demote_server(std::int64_t for_us) {
  if (options_.cluster || busy()) return;
  kernel_.trace("the server is a replica of another one now");
  busy_until_us_ = kernel_.now_us() + for_us + 1'000;
  node(0).replica = true;
  node(0).link_down = true;
  // Writers go on at the other one: what they write is the truth.
  node(0).muted = true;
  kernel_.after(for_us, [this] {
    kernel_.trace("the server is a master again, with what was written meanwhile");
    node(0).replica = false;
    node(0).link_down = node(0).muted = false;
    node(0).signal_all();
    all_truth_changed();
  });
}

void Cluster::set_failing(int number, std::int64_t for_us) {
  if (!options_.cluster || busy() || node(number).replica) return;
  busy_until_us_ = kernel_.now_us() + for_us + 1'000;
  kernel_.trace("node " + std::to_string(number) + " says cluster_state:fail");
  node(number).failing = true;
  kernel_.after(for_us, [this, number] { node(number).failing = false; });
}

}  // namespace nearcached::sim
