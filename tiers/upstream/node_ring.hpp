// In which order the control plane asks the nodes it knows.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// The primaries of the last topology, then the seeds, as a ring that is entered at the node that answered last: one sticky
// node costs one connection. It is left (advance()) when it answers but does not show what somebody has seen, since a node
// in the minority of a split goes on telling the old story until its node timeout. Nodes that could not be reached lately
// come last, so that a black hole does not cost every round its connect timeout; they are not left out, or an outage of all
// would leave nobody to ask.
//
// Pure; confined to the control thread. Bounded by what is known: a node that is in neither list is forgotten.
class NodeRing {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  static constexpr std::chrono::seconds kUnreachableFor{5};  // then it is tried in its turn again

  explicit NodeRing(const std::vector<Endpoint>& seeds);

  void set_primaries(const std::vector<Endpoint>& primaries);

  // All nodes, each once: from the sticky node on.
  [[nodiscard]] std::vector<Endpoint> order(TimePoint now) const;
  // The same from a node that is another one at each call, to spread load.
  [[nodiscard]] std::vector<Endpoint> spread(TimePoint now);

  // Gave a good answer: becomes the sticky node.
  void answered(const Endpoint& endpoint);
  // Could not be asked, or gave an answer that is not relied on. True: these words are news about this node.
  bool refused(const Endpoint& endpoint, std::string_view why, TimePoint now);
  // What another link saw of the node; no judgement of its answers.
  void unreachable(const Endpoint& endpoint, TimePoint now);
  void reachable(const Endpoint& endpoint);
  // The next order() begins with another node, if there is one.
  void advance() { ++start_; }

 private:
  struct Standing {
    TimePoint unreachable_until{};
    std::string refusal;
  };

  [[nodiscard]] std::vector<Endpoint> order_from(std::size_t start, TimePoint now) const;

  std::vector<Endpoint> seeds_;
  std::vector<Endpoint> known_;             // primaries, then the seeds that are none; never empty
  std::map<Endpoint, Standing> standings_;  // keys are in known_
  std::size_t start_ = 0;                   // modulo the size of known_
  std::size_t spread_ = 0;
};

}  // namespace nearcached::tiers::upstream
