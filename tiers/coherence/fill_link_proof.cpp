// How a fill link comes to be believed: its greeting, who tells it of changes, and its probes.
#include <algorithm>
#include <charconv>
#include <utility>

#include "protocol/writer.hpp"
#include "tiers/coherence/bus_channel.hpp"
#include "tiers/coherence/fill_link.hpp"
#include "tiers/coherence/rules.hpp"
#include "tiers/upstream/cluster_nodes.hpp"

namespace nearcached::tiers::coherence {
namespace {

using protocol::ReplyType;

bool is_error(const protocol::ReplyNode& node) {
  return node.type == ReplyType::kError || node.type == ReplyType::kBulkError;
}

// The text behind `name` in a map reply, empty if it is not there.
std::string_view field(const protocol::ReplyTree& tree, std::string_view name) {
  if (tree.root().type != ReplyType::kMap && tree.root().type != ReplyType::kArray) return {};
  const auto& nodes = tree.nodes();
  std::size_t at = 1;
  for (std::uint32_t i = 0; i + 1 < tree.root().children; i += 2) {
    const std::size_t value = at + nodes[at].subtree;
    if (nodes[at].text == name) return nodes[value].text;
    at = value + nodes[value].subtree;
  }
  return {};
}

// What INFO commandstats says of a command: "calls=N,usec=N,..."; empty if it was never called.
std::string_view statistics_of(std::string_view stats, std::string_view command) {
  return upstream::info_field(stats, "cmdstat_" + std::string(command));
}

std::uint64_t calls_of(std::string_view stats, std::string_view command) {
  constexpr std::string_view kCalls = "calls=";
  const std::string_view text = statistics_of(stats, command);
  std::uint64_t calls = 0;
  if (text.starts_with(kCalls)) std::from_chars(text.data() + kCalls.size(), text.data() + text.size(), calls);
  return calls;
}

int major_of(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

}  // namespace

void FillLink::enter(FillLinkState state, std::string reason) {
  state_ = state;
  reason_ = std::move(reason);
  events_.on_state(state_, reason_);
}

// In a generation that was never proven nothing was read. A failed attempt must not end one: of those that were the table
// remembers only the last few, and stale_ok needs them for as long as the node stays away.
void FillLink::lose_proof() {
  if (links_.proven_us(link_) != 0) links_.lose(link_);
}

void FillLink::refuse(std::string reason) {
  lose_proof();
  // It answers, and so can be reached: nothing that is unverified is served in its stead. One that is loading can't yet.
  if (reason.find("LOADING") == std::string::npos) links_.purge(link_);
  enter(FillLinkState::kRefused, std::move(reason));
}

void FillLink::connected(std::int64_t now_us) {
  if (!enforced(Rule::kLossAtOnce)) links_.lose(link_);
  enter(FillLinkState::kGreeting, {});
  const upstream::Credentials& who = options_.credentials;
  if (who.empty()) {
    send(Expected::kGreeting, {"HELLO", "3"}, now_us);
  } else {
    const std::string_view user = who.user.empty() ? std::string_view("default") : std::string_view(who.user);
    send(Expected::kGreeting, {"HELLO", "3", "AUTH", user, who.password}, now_us);
  }
  if (options_.database != 0) send(Expected::kSelect, {"SELECT", std::to_string(options_.database)}, now_us);
  send(Expected::kFieldExpiry, {"COMMAND", "INFO", "HPTTL"}, now_us);
  source_ = 0;
  source_reason_.clear();
  probes_forbidden_ = false;
  request_source(now_us);
}

void FillLink::request_source(std::int64_t now_us) {
  source_asked_us_ = now_us;
  switch (source()) {
    case ChangeSource::kTracking: send(Expected::kTracking, {"CLIENT", "TRACKING", "ON"}, now_us); return;
    case ChangeSource::kBus:
      // In a cluster the channel hangs on the slots that the node says it has.
      if (!options_.cluster || view_known_) {
        subscribe(now_us);
      } else {
        send_probe(now_us);
      }
      return;
    case ChangeSource::kTtl: source_granted(now_us); return;
  }
}

// By both ways: a publisher that takes the cluster for an older one uses the plain one.
void FillLink::subscribe(std::int64_t now_us) {
  std::string wanted = options_.bus_channel;
  if (options_.cluster) {
    if (owned_.none()) return;
    wanted = sharded_channel(options_.bus_channel, static_cast<std::uint16_t>(owned_._Find_first()));
  }
  if (std::find(channels_.begin(), channels_.end(), wanted) != channels_.end()) return;
  channels_.push_back(wanted);
  send(Expected::kSubscribe, {"SUBSCRIBE", wanted}, now_us);
  ++subscriptions_left_;
  if (!options_.cluster || !sharded_) return;
  send(Expected::kSubscribe, {"SSUBSCRIBE", wanted}, now_us);
  ++subscriptions_left_;
}

void FillLink::source_granted(std::int64_t now_us) {
  source_known_ = true;
  // What was read under another source is not vouched for by this one.
  if (granted_ && *granted_ != source()) {
    links_.purge(link_);
    lose_proof();
    proving_ = false;  // what is read before this source's first probe is answered would stand on nothing
  }
  granted_ = source();
  send_probe(now_us);
}

void FillLink::source_refused(std::string_view error, std::int64_t now_us) {
  if (source_reason_.empty()) {
    source_reason_ = source() == ChangeSource::kTracking ? "CLIENT TRACKING refused: " : "SUBSCRIBE refused: ";
    source_reason_ += error;
  }
  if (source_ + 1 == options_.sources.size()) {
    refuse(source_reason_);
    return;
  }
  ++source_;
  request_source(now_us);
}

void FillLink::handle_greeting(const Awaited& awaited, std::int64_t now_us) {
  const protocol::ReplyNode& root = tree_.root();
  switch (awaited.what) {
    case Expected::kGreeting:
      if (is_error(root)) {
        refuse("HELLO 3 refused: " + std::string(root.text));
      } else if (field(tree_, "proto") != "3") {
        refuse("HELLO 3 did not switch to RESP3");
      }
      sharded_ = major_of(field(tree_, "version")) >= 7;
      return;
    case Expected::kSelect:
      if (is_error(root)) refuse("SELECT refused: " + std::string(root.text));
      return;
    case Expected::kFieldExpiry:
      field_expiry_ = FieldExpiry::kUnknown;
      if (root.type == ReplyType::kArray && root.children == 1) {
        field_expiry_ = tree_.nodes()[1].type == ReplyType::kNull ? FieldExpiry::kNone : FieldExpiry::kPaired;
      }
      return;
    case Expected::kTracking:
      if (!is_error(root)) {
        source_ = 0;
        source_reason_.clear();
        source_granted(now_us);
      } else if (!source_known_) {
        source_refused(root.text, now_us);
      }
      return;
    default: subscription_refused(root.text, now_us);  // of a subscription only errors are replies
  }
}

void FillLink::subscription_refused(std::string_view error, std::int64_t now_us) {
  if (subscriptions_left_ != 0) --subscriptions_left_;
  if (source() != ChangeSource::kBus) return;
  channels_.clear();
  // The channel's slot has just left the node: the next view says where to subscribe.
  const bool moved = options_.cluster && (error.starts_with("MOVED ") || error.starts_with("CLUSTERDOWN"));
  if (!moved) {
    source_refused(error, now_us);
  } else if (source_known_) {
    gap();
  }
}

void FillLink::handle_subscription(std::string_view kind, std::string_view channel, std::int64_t now_us) {
  if (kind == "unsubscribe" || kind == "sunsubscribe") {
    // The channel's slot left the node.
    std::erase(channels_, channel);
    gap();
    return;
  }
  if (!awaited_.empty() && awaited_.front().what == Expected::kSubscribe) awaited_.pop_front();
  if (subscriptions_left_ == 0 || --subscriptions_left_ != 0 || channels_.empty()) return;
  inbox_.subscribed(now_us);
  if (source_known_) {
    gap();  // what was published here before we listened
    send_probe(now_us);
  } else {
    source_granted(now_us);
  }
}

void FillLink::handle_message(std::string_view payload) {
  const BusInbox::Outcome outcome = inbox_.on_message(payload, answered_sent_us_);
  if (outcome.gap) gap();
  if (outcome.action != BusInbox::Action::kNothing) ++invalidations_;
  switch (outcome.action) {
    case BusInbox::Action::kNothing: break;
    case BusInbox::Action::kKeys:
      for (const std::string_view key : outcome.keys) events_.on_invalidated(key);
      break;
    case BusInbox::Action::kPrefix: events_.on_invalidated_prefix(outcome.text); break;
    case BusInbox::Action::kAll: events_.on_invalidated_prefix({}); break;
  }
}

void FillLink::gap() {
  ++bus_gaps_;
  links_.unverify(link_);
  events_.on_gap();
}

void FillLink::send_probe(std::int64_t now_us) {
  // One probe at a time: a second one would only prove what the first is about to.
  const auto is_probe = [](const Awaited& a) { return a.what >= Expected::kProbeHello && a.what <= Expected::kProbeStats; };
  if (std::any_of(awaited_.begin(), awaited_.end(), is_probe)) return;
  probe_sent_us_ = now_us;
  probe_good_ = true;
  send(Expected::kProbeHello, {"HELLO"}, now_us);
  if (options_.cluster) {
    send(Expected::kProbeInfo, {"CLUSTER", "INFO"}, now_us);
    send(Expected::kProbeNodes, {"CLUSTER", "NODES"}, now_us);
  } else if (!options_.swapdb_never) {
    send(Expected::kProbeStats, {"INFO", "commandstats"}, now_us);
  }
}

// Without proofs only deadlines are left, if they were configured as a last resort.
void FillLink::probe_forbidden(std::string why, std::int64_t now_us) {
  if (options_.sources.back() != ChangeSource::kTtl) {
    refuse(std::move(why));
    return;
  }
  probes_forbidden_ = true;
  source_ = options_.sources.size() - 1;
  source_reason_ = std::move(why);
  source_granted(now_us);
}

void FillLink::handle_probe(const Awaited& awaited, std::int64_t now_us) {
  const protocol::ReplyNode& root = tree_.root();
  if (is_error(root)) {
    // What the ACL forbids stays forbidden: no use in asking on. Everything else may pass. Where nobody tells of changes the
    // probe is not what entries stand on.
    const bool forbidden = root.text.starts_with("NOPERM");
    if (forbidden && source() != ChangeSource::kTtl) {
      probe_forbidden("a probe was refused: " + std::string(root.text), now_us);
      return;
    }
    probe_good_ = probe_good_ && forbidden;
  } else if (!probe_reply_good(awaited.what)) {
    probe_good_ = false;
  }
  const bool last = options_.cluster        ? awaited.what == Expected::kProbeNodes
                    : options_.swapdb_never ? awaited.what == Expected::kProbeHello
                                            : awaited.what == Expected::kProbeStats;
  if (last) probe_done(awaited.sent_us, now_us);
}

bool FillLink::probe_reply_good(Expected what) {
  switch (what) {
    case Expected::kProbeHello: return field(tree_, "role") == "master" || !enforced(Rule::kRoleInProbe);
    case Expected::kProbeInfo:
      return upstream::parse_cluster_info(tree_.root().text).state == upstream::ClusterState::kOk ||
             !enforced(Rule::kStateInProbe);
    case Expected::kProbeNodes: return own_view_good();
    case Expected::kProbeStats: return swaps_unchanged() || !enforced(Rule::kSwapdbWatched);
    default: return false;
  }
}

bool FillLink::own_view_good() {
  const auto view = upstream::parse_own_view(tree_.root().text);
  if (!view) return !enforced(Rule::kOwnViewInProbe);
  const auto open = view->migrating | view->importing;
  if (view_known_) {
    const auto moved = owned_ ^ view->owned;
    // A slot that opens: what is absent here may be created on the other node, and nobody here will hear of it.
    const auto changed = moved | (enforced(Rule::kAbsentInClosedSlots) ? open & ~open_ : decltype(open)());
    for (std::size_t slot = 0; changed.any() && slot < changed.size(); ++slot) {
      if (changed.test(slot) && enforced(Rule::kEpochByOwnView)) epochs_.bump(static_cast<std::uint16_t>(slot));
    }
    if (moved.any()) events_.on_slots_moved(moved.count());
  }
  owned_ = view->owned;
  open_ = open;
  view_known_ = true;
  if (owned_.any()) events_.on_own_view(static_cast<std::uint16_t>(owned_._Find_first()), probe_sent_us_);
  return view->role == upstream::NodeRole::kPrimary || !enforced(Rule::kOwnViewInProbe);
}

bool FillLink::swaps_unchanged() {
  const std::string_view stats = tree_.root().text;
  const std::uint64_t swaps = calls_of(stats, "swapdb");
  // A reset of the statistics may have taken a SWAPDB with it. It is seen by its own line, which comes with the first reset
  // and changes with the next, and by our polls, which are counted as well and must have grown.
  const std::uint64_t polls = calls_of(stats, "info");
  const std::string_view resets = statistics_of(stats, "config|resetstat");
  const bool reset = polls <= stats_calls_seen_ || resets != resets_seen_;
  if (swaps_seen_.has_value() && (reset || swaps != *swaps_seen_) && enforced(Rule::kSwapdbWatched)) {
    links_.purge(link_);
    events_.on_invalidated_all();
  }
  swaps_seen_ = swaps;
  stats_calls_seen_ = polls;
  resets_seen_ = resets;
  return true;
}

void FillLink::probe_done(std::int64_t sent_us, std::int64_t now_us) {
  proving_ = probe_good_;
  if (!proving_) return;
  // The view that the channel hangs on is here.
  const bool bus = source() == ChangeSource::kBus;
  if (bus && options_.cluster) subscribe(now_us);
  if (!source_known_) return;
  // Until the new channel is confirmed nobody here hears what is published on it.
  const bool deaf = bus && subscriptions_left_ != 0;
  if (!deaf) {
    std::int64_t proven_us = enforced(Rule::kProvenFromSending) ? sent_us : now_us;
    // A writer that is silent may have died between its write and its message.
    if (bus) proven_us = std::min(proven_us, inbox_.sound_until_us() - options_.max_staleness_us);
    links_.prove(link_, source() == ChangeSource::kTtl ? LinkTable::kForever : proven_us);
    if (state_ == FillLinkState::kGreeting) enter(FillLinkState::kServing, {});
  }
  start_waiting(now_us);
}

}  // namespace nearcached::tiers::coherence
