// Single questions to the upstream on connections of their own.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tiers/upstream/control_link.hpp"
#include "tiers/upstream/control_plane.hpp"
#include "tiers/upstream/credential_list.hpp"
#include "tiers/upstream/node_ring.hpp"

namespace nearcached::tiers::upstream {

struct Errand {
  std::vector<Credentials> attempts;  // in this order, an empty one means no AUTH; not empty
  std::vector<std::string> command;   // empty: the AUTH with the first of the attempts is the question
  // Called once. A status other than kOk or kTooDeep: no node could be asked.
  ControlLink::Handler handler;
};

// Each errand opens a link to some node (another one each time, to spread an AUTH storm), asks and closes; where the link
// fails it goes on to the next node, until the deadline. A link of its own per errand, because AUTH changes what a link is,
// and because a reply that hiredis's reader can't follow ends its link.
//
// Bounds: kRunningMax at once, kWaitingMax wait, more are refused; 2 * connect_timeout + command_timeout each, from run()
// on.
//
// Confined to the loop's thread. Handlers are not called from within run(), nor after destruction.
class ControlErrands {
 public:
  static constexpr std::size_t kRunningMax = 64;
  static constexpr std::size_t kWaitingMax = 1024;

  ControlErrands(ControlLoop& loop, const ControlPlaneOptions& options, NodeRing& ring);

  void run(Errand errand);

 private:
  struct Active {
    Active(ControlLoop& loop, Errand the_errand) : errand(std::move(the_errand)), deadline(loop) {}

    Errand errand;
    std::vector<Endpoint> nodes;
    std::size_t node = 0;
    std::size_t attempt = 0;
    bool running = false;
    std::string trouble = "no answer in time";
    ControlLoop::Timer deadline;
    std::unique_ptr<ControlLink> link;
  };
  using Id = std::uint64_t;

  void begin(Id id, Active& active);
  void ask(Id id, Active& active);
  void on_result(Id id, LinkResult result);
  void finish(Id id, LinkResult result);
  void begin_waiting();

  ControlLoop& loop_;
  const ControlPlaneOptions& options_;
  NodeRing& ring_;
  Id next_id_ = 0;
  std::size_t running_ = 0;
  std::deque<Id> waiting_;                                  // some may be over already
  std::unordered_map<Id, std::unique_ptr<Active>> active_;  // running and waiting
};

}  // namespace nearcached::tiers::upstream
