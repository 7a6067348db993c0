#include "tiers/upstream/topology_watch.hpp"

#include <random>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

constexpr std::string_view kNoCluster = "cluster support disabled";
const std::string kNoClusterAdvice = "it is a server without cluster, to be named by a redis:// URL: ";

std::int64_t to_ms(RefreshSchedule::TimePoint time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

RefreshSchedule::Options schedule_options(const ControlPlaneOptions& options) {
  RefreshSchedule::Options result;
  result.poll_interval = options.poll_interval;
  result.interval_min = options.refresh_interval_min;
  result.random = [engine = std::minstd_rand(std::random_device{}())]() mutable {
    return std::uniform_real_distribution<double>(0, 1)(engine);
  };
  return result;
}

std::string describe(const Credentials& credentials) {
  if (credentials.empty()) return "without credentials";
  return credentials.user.empty() ? "default user" : "user " + credentials.user;
}

std::string summary(const Topology& topology) {
  return std::to_string(topology.primaries.size()) + " primaries, " + std::to_string(covered_slots(topology)) + " of " +
         std::to_string(topology.owner.size()) + " slots served, version " + std::to_string(topology.version);
}

}  // namespace

TopologyWatch::TopologyWatch(ControlLoop& loop, const ControlPlaneOptions& options, ControlPlane::TopologyHandler publish,
                             CredentialList& credentials, NodeRing& ring)
    : loop_(loop),
      options_(options),
      publish_(std::move(publish)),
      credentials_(credentials),
      ring_(ring),
      schedule_(schedule_options(options), Clock::now()),
      timer_(loop) {
  if (options.cluster) return;
  if (options.sentinel_master.empty()) {
    server_ = options.seeds.front();
  } else {
    sentinels_ = std::make_unique<Sentinels>(loop, options, [this] { request_refresh(); });
  }
}

void TopologyWatch::start() {
  if (!options_.cluster) publish_single_server();
  wait();
}

void TopologyWatch::publish_single_server() {
  Topology topology;
  topology.version = current_ ? current_->version + 1 : 1;
  topology.primaries = {server_};
  topology.server_version = server_version_;
  publish(std::move(topology), server_);
}

void TopologyWatch::request_refresh() {
  schedule_.ask();
  wait();
}

void TopologyWatch::wait() {
  const auto due = schedule_.due();
  if (due == Clock::time_point::max()) return;  // end_round() comes back here
  timer_.arm(due - Clock::now(), [this] { begin_round(); });
}

void TopologyWatch::begin_round() {
  const auto now = Clock::now();
  timer_.cancel();
  asked_for_ = schedule_.begin(now);
  changed_ = false;
  best_.reset();
  nodes_ = options_.cluster ? ring_.order(now) : std::vector<Endpoint>{server_};
  node_ = 0;
  sentinels_ ? ask_sentinels() : ask_next_node();
}

void TopologyWatch::ask_sentinels() {
  sentinels_->ask([this](const std::optional<Endpoint>& master, const std::string& why) {
    if (master) {
      nodes_ = {*master};
      return ask_next_node();
    }
    if (why != std::exchange(sentinels_trouble_, why)) report(ControlEvent::Kind::kNodeRefused, server_, why);
    node_ = nodes_.size();
    give_up_round();
  });
}

void TopologyWatch::end_round(bool good) {
  schedule_.end(Clock::now(), good);
  if (good && std::exchange(lost_, false)) report(ControlEvent::Kind::kTopologyRegained, nodes_[node_], "");
  if (asked_for_ && !changed_) ring_.advance();
  wait();
}

void TopologyWatch::ask_next_node() {
  if (node_ == nodes_.size()) return give_up_round();
  attempts_ = credentials_.attempts();
  attempt_ = 0;
  ask_with_credentials();
}

void TopologyWatch::ask_with_credentials() {
  answer_ = {};
  answer_.endpoint = nodes_[node_];
  answer_.asked_at = Clock::now();
  reused_link_ =
      link_ && !link_->dead() && link_->endpoint() == answer_.endpoint && link_credentials_ == attempts_[attempt_];
  if (!reused_link_) open_link();
  send_questions();
}

void TopologyWatch::open_link() {
  link_credentials_ = attempts_[attempt_];
  link_ = std::make_unique<ControlLink>(
      loop_, ControlLink::Options{answer_.endpoint, options_.tls, options_.connect_timeout, options_.command_timeout});
  if (link_credentials_.empty()) return;
  link_->request(auth_command(link_credentials_), [this](LinkResult result) {
    if (result.status != LinkStatus::kOk) return on_link_failure(result);
    if (result.reply.is_error()) answer_.auth_refusal = std::move(result.reply.text);
  });
}

// The last of the questions is the one that the answer hangs on; a failure reaches whichever comes first.
void TopologyWatch::send_questions() {
  const auto last = [this](LinkResult result) { on_reply(std::move(result)); };
  if (!options_.cluster && !sentinels_) return link_->request({"INFO", "server"}, last);
  if (!reused_link_) {
    link_->request({"INFO", "server"}, [this](LinkResult result) {
      if (result.status != LinkStatus::kOk) return on_link_failure(result);
      std::string version = parse_server_version(result.reply);
      if (!version.empty()) server_version_ = std::move(version);
    });
  }
  if (sentinels_) return link_->request({"ROLE"}, last);
  link_->request({"CLUSTER", "INFO"}, [this](LinkResult result) {
    if (result.status != LinkStatus::kOk) return on_link_failure(result);
    if (result.reply.is_text()) answer_.info = parse_cluster_info(result.reply.text);
  });
  link_->request({"CLUSTER", "SLOTS"}, last);
}

void TopologyWatch::on_reply(LinkResult result) {
  if (result.status != LinkStatus::kOk) return on_link_failure(result);
  const ControlReply& reply = result.reply;
  if (is_auth_error(reply.error_code())) {
    return on_credentials_refused(reply);
  }
  if (reply.is_error()) {
    const bool no_cluster = reply.text.find(kNoCluster) != std::string::npos;
    return refuse_node(no_cluster ? kNoClusterAdvice + reply.text : reply.text);
  }
  if (answer_.auth_refusal.empty()) {
    credentials_.worked(attempts_[attempt_]);
  } else if (credentials_.refused(attempts_[attempt_], answer_.auth_refusal)) {
    report(ControlEvent::Kind::kAuthRefused, answer_.endpoint, describe(attempts_[attempt_]) + ": " + answer_.auth_refusal);
  }
  if (options_.cluster) return judge_slots(reply);
  sentinels_ ? accept_master(reply) : accept_server(reply);
}

void TopologyWatch::on_link_failure(const LinkResult& result) {
  link_.reset();
  // The server may have closed the idle link for reasons of its own (a restart, CLIENT KILL); that says nothing about now.
  if (reused_link_ && result.status == LinkStatus::kLost) return ask_with_credentials();
  refuse_node(result.why);
}

void TopologyWatch::on_credentials_refused(const ControlReply& reply) {
  const std::string why = answer_.auth_refusal.empty() ? reply.text : answer_.auth_refusal;
  if (credentials_.refused(attempts_[attempt_], why)) {
    report(ControlEvent::Kind::kAuthRefused, answer_.endpoint, describe(attempts_[attempt_]) + ": " + why);
  }
  if (++attempt_ < attempts_.size()) return ask_with_credentials();
  // One server is all the topology there is: that INFO is not permitted hides no more than its version.
  if (!options_.cluster && reply.error_code() == "NOPERM") return sentinels_ ? take_master() : accept_server(reply);
  link_.reset();
  refuse_node(why);
}

void TopologyWatch::refuse_node(std::string why) {
  if (ring_.refused(answer_.endpoint, why, Clock::now())) {
    report(ControlEvent::Kind::kNodeRefused, answer_.endpoint, std::move(why));
  }
  ++node_;
  ask_next_node();
}

void TopologyWatch::judge_slots(const ControlReply& reply) {
  auto ranges = parse_cluster_slots(reply, answer_.endpoint);
  if (!ranges) return refuse_node("its answer to CLUSTER SLOTS can't be read");
  if (ranges->empty()) return refuse_node("it knows no node that serves slots");
  answer_.ranges = *std::move(ranges);

  const bool failing = answer_.info.state == ClusterState::kFail;
  const std::uint64_t epoch = answer_.info.current_epoch;
  const bool behind = epoch != 0 && epoch < believed_epoch_;
  if (!failing && !behind) {
    adopt(answer_, true);
    return end_round(true);
  }
  const bool best_failing = best_ && best_->info.state == ClusterState::kFail;
  const bool better = !best_ || (best_failing && !failing) || (best_failing == failing && best_->info.current_epoch < epoch);
  if (better) best_ = answer_;
  refuse_node(failing ? "its cluster_state is fail"
                      : "it is behind: epoch " + std::to_string(epoch) + ", known " + std::to_string(believed_epoch_));
}

void TopologyWatch::accept_server(const ControlReply& reply) {
  std::string version = parse_server_version(reply);
  if (!version.empty()) server_version_ = std::move(version);
  ring_.answered(answer_.endpoint);
  last_good_ms_.store(to_ms(answer_.asked_at), std::memory_order_relaxed);
  if (current_->server_version != server_version_) publish_single_server();
  end_round(true);
}

void TopologyWatch::accept_master(const ControlReply& role) {
  const bool is_array = role.type == ControlReply::Type::kArray && !role.elements.empty();
  const std::string what = is_array ? role.elements.front().text : "nothing that can be read";
  if (what != "master") return refuse_node("its sentinels call it the master, its ROLE is " + what);
  take_master();
}

void TopologyWatch::take_master() {
  sentinels_trouble_.clear();
  ring_.set_primaries({answer_.endpoint});
  ring_.answered(answer_.endpoint);
  last_good_ms_.store(to_ms(answer_.asked_at), std::memory_order_relaxed);
  const bool changed = server_ != answer_.endpoint || current_->server_version != server_version_;
  server_ = answer_.endpoint;
  if (changed) publish_single_server();
  end_round(true);
}

void TopologyWatch::give_up_round() {
  node_ = nodes_.size() - 1;
  const bool good = best_ && best_->info.state != ClusterState::kFail;
  if (best_) adopt(*best_, good);
  if (!good && !std::exchange(lost_, true)) {
    report(ControlEvent::Kind::kTopologyLost, nodes_[node_],
           std::to_string(nodes_.size()) + " asked" +
               (best_ ? ", best answer has cluster_state fail" : ", none answered well"));
  }
  end_round(good);
}

void TopologyWatch::adopt(const Answer& answer, bool good) {
  believed_epoch_ = answer.info.current_epoch;
  Topology next = make_cluster_topology(answer.ranges, server_version_, current_.get());
  ring_.set_primaries(next.primaries);
  if (good) {
    ring_.answered(answer.endpoint);
    last_good_ms_.store(to_ms(answer.asked_at), std::memory_order_relaxed);
  }
  if (!current_ || !same_topology(*current_, next)) publish(std::move(next), answer.endpoint);
}

void TopologyWatch::publish(Topology next, const Endpoint& source) {
  changed_ = true;
  current_ = std::make_shared<const Topology>(std::move(next));
  report(ControlEvent::Kind::kTopologyChanged, source, summary(*current_));
  if (publish_) publish_(current_);
}

void TopologyWatch::report(ControlEvent::Kind kind, const Endpoint& endpoint, std::string text) const {
  if (options_.on_event) options_.on_event({kind, endpoint, std::move(text)});
}

}  // namespace nearcached::tiers::upstream
