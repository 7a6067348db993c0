#include "tiers/upstream/node_ring.hpp"

#include <algorithm>
#include <cstdint>

namespace nearcached::tiers::upstream {

NodeRing::NodeRing(const std::vector<Endpoint>& seeds) : seeds_(seeds) { set_primaries({}); }

void NodeRing::set_primaries(const std::vector<Endpoint>& primaries) {
  const std::vector<Endpoint> before = std::move(known_);
  known_.clear();
  std::map<Endpoint, Standing> standings;
  const auto add = [&](const Endpoint& endpoint) {
    if (standings.contains(endpoint)) return;
    standings[endpoint] = standings_[endpoint];
    known_.push_back(endpoint);
  };
  std::ranges::for_each(primaries, add);
  std::ranges::for_each(seeds_, add);
  standings_ = std::move(standings);

  if (before.empty()) return;
  const auto sticky = std::ranges::find(known_, before[start_ % before.size()]);
  start_ = sticky == known_.end() ? 0 : static_cast<std::size_t>(sticky - known_.begin());
}

std::vector<Endpoint> NodeRing::order(TimePoint now) const { return order_from(start_, now); }

std::vector<Endpoint> NodeRing::spread(TimePoint now) { return order_from(spread_++, now); }

std::vector<Endpoint> NodeRing::order_from(std::size_t start, TimePoint now) const {
  std::vector<Endpoint> nodes = known_;
  std::ranges::rotate(nodes, nodes.begin() + static_cast<std::ptrdiff_t>(start % nodes.size()));
  std::ranges::stable_partition(nodes, [&](const Endpoint& node) { return standings_.at(node).unreachable_until <= now; });
  return nodes;
}

void NodeRing::answered(const Endpoint& endpoint) {
  const auto at = std::ranges::find(known_, endpoint);
  if (at == known_.end()) return;
  start_ = static_cast<std::size_t>(at - known_.begin());
  standings_[endpoint] = {};
}

bool NodeRing::refused(const Endpoint& endpoint, std::string_view why, TimePoint now) {
  const auto standing = standings_.find(endpoint);
  if (standing == standings_.end()) return true;
  standing->second.unreachable_until = now + kUnreachableFor;
  if (standing->second.refusal == why) return false;
  standing->second.refusal = why;
  return true;
}

void NodeRing::unreachable(const Endpoint& endpoint, TimePoint now) {
  const auto standing = standings_.find(endpoint);
  if (standing != standings_.end()) standing->second.unreachable_until = now + kUnreachableFor;
}

void NodeRing::reachable(const Endpoint& endpoint) {
  const auto standing = standings_.find(endpoint);
  if (standing != standings_.end()) standing->second.unreachable_until = {};
}

}  // namespace nearcached::tiers::upstream
