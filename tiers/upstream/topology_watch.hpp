// Keeps the topology current: asks one node after the other until one gives an answer to rely on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tiers/upstream/cluster_slots.hpp"
#include "tiers/upstream/control_link.hpp"
#include "tiers/upstream/control_plane.hpp"
#include "tiers/upstream/credential_list.hpp"
#include "tiers/upstream/node_ring.hpp"
#include "tiers/upstream/refresh_schedule.hpp"
#include "tiers/upstream/sentinels.hpp"

namespace nearcached::tiers::upstream {

// A round asks the nodes in the ring's order, each with the credentials in their order, over one link that is kept as long
// as it serves:
//
//   due -> ask node --answer to rely on--> adopt -> wait
//            ^  '---- refused, lost, fail state, older epoch: next node ----.
//            '---------------------------------------------------------------'
//                  no node left -> adopt the best of the answers seen, if any -> wait, as after a failure
//
// An answer is relied on if the node's cluster_state is not "fail" and its epoch not older than the one believed before: a
// node cut off from the majority says fail within its node timeout, and one that has slept through a failover has the older
// epoch. If all are like that the best of them is still taken (sidecar and cluster must not disagree for ever about a
// cluster that was made anew with the same addresses, or that lost slots for good), but it counts as good only if its state
// is ok.
//
// With sentinels a round begins with theirs, and the node it asks is the one they name: relied on if it calls itself a
// master.
//
// What it is bad at: seeing two halves of a split at once; it believes the first node that says it is well.
//
// Confined to the loop's thread, last_good_ms() excepted.
class TopologyWatch {
 public:
  TopologyWatch(ControlLoop& loop, const ControlPlaneOptions& options, ControlPlane::TopologyHandler publish,
                CredentialList& credentials, NodeRing& ring);

  void start();
  void request_refresh();
  // Clock::now() in ms when the last good answer was asked for, -1 if there was none. Any thread.
  [[nodiscard]] std::int64_t last_good_ms() const { return last_good_ms_.load(std::memory_order_relaxed); }

 private:
  using Clock = RefreshSchedule::Clock;

  struct Answer {
    Endpoint endpoint;
    Clock::time_point asked_at;
    ClusterInfo info;
    std::vector<SlotRange> ranges;
    std::string auth_refusal;  // of the AUTH before it, if that was refused
  };

  void publish_single_server();
  void ask_sentinels();
  void accept_master(const ControlReply& role);
  void take_master();
  void wait();
  void begin_round();
  void end_round(bool good);
  void ask_next_node();
  void ask_with_credentials();
  void open_link();
  void send_questions();

  void on_reply(LinkResult result);
  void on_link_failure(const LinkResult& result);
  void on_credentials_refused(const ControlReply& reply);
  void refuse_node(std::string why);
  void judge_slots(const ControlReply& reply);
  void accept_server(const ControlReply& reply);
  void give_up_round();
  void adopt(const Answer& answer, bool good);
  void publish(Topology next, const Endpoint& source);
  void report(ControlEvent::Kind kind, const Endpoint& endpoint, std::string text) const;

  ControlLoop& loop_;
  const ControlPlaneOptions& options_;
  ControlPlane::TopologyHandler publish_;
  CredentialList& credentials_;
  NodeRing& ring_;
  RefreshSchedule schedule_;
  ControlLoop::Timer timer_;

  std::shared_ptr<const Topology> current_;
  std::string server_version_;
  std::uint64_t believed_epoch_ = 0;
  Endpoint server_;  // without cluster
  std::unique_ptr<Sentinels> sentinels_;
  std::string sentinels_trouble_;
  bool lost_ = false;
  std::atomic<std::int64_t> last_good_ms_{-1};

  // The round that runs.
  std::vector<Endpoint> nodes_;
  std::size_t node_ = 0;
  std::vector<Credentials> attempts_;
  std::size_t attempt_ = 0;
  bool asked_for_ = false;
  bool changed_ = false;
  bool reused_link_ = false;
  Answer answer_;
  std::optional<Answer> best_;  // of those not relied on

  std::unique_ptr<ControlLink> link_;  // destroyed first: its handlers hold `this`
  Credentials link_credentials_;
};

}  // namespace nearcached::tiers::upstream
