#include "tiers/coherence/fill_link.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "protocol/writer.hpp"
#include "tiers/upstream/cluster_nodes.hpp"

namespace nearcached::tiers::coherence {
namespace {

using protocol::ReplyType;

// Errors that say "not here" or "not now": the ordinary way knows what to do with them (redirects, waiting, the upstream's
// own words).
constexpr std::string_view kElsewhere[] = {"MOVED",   "ASK",    "TRYAGAIN",   "CLUSTERDOWN",
                                           "LOADING", "NOAUTH", "MASTERDOWN", "READONLY"};

// A hundred years: longer is for ever, and must not overflow.
constexpr std::int64_t kTtlMsMax = std::int64_t{100} * 365 * 24 * 3600 * 1000;

bool means_elsewhere(std::string_view error) {
  const std::string_view code = error.substr(0, error.find(' '));
  return std::find(std::begin(kElsewhere), std::end(kElsewhere), code) != std::end(kElsewhere);
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

}  // namespace

struct FillLink::Flight {
  std::string key;
  std::uint64_t hash = 0;
  std::int64_t sent_us = 0;
  FillBasis basis;
  std::string value;  // the reply of the read, kept until the TTL's is in
  std::vector<FillWaiter> waiters;
};

FillLink::FillLink(FillLinkOptions options, std::uint16_t link, FenceTable& fences, SlotEpochs& epochs, LinkTable& links,
                   FillLinkEvents& events)
    : options_(std::move(options)), link_(link), fences_(fences), epochs_(epochs), links_(links), events_(events) {}

FillLink::~FillLink() = default;

void FillLink::enter(FillLinkState state, std::string reason) {
  state_ = state;
  reason_ = std::move(reason);
  events_.on_state(state_, reason_);
}

void FillLink::send(Expected what, std::initializer_list<std::string_view> args, std::int64_t now_us) {
  protocol::append_command(output_, args);
  awaited_.push_back({what, now_us, nullptr, nullptr});
}

void FillLink::connected(std::int64_t now_us) {
  enter(FillLinkState::kGreeting, {});
  const upstream::Credentials& who = options_.credentials;
  if (who.empty()) {
    send(Expected::kGreeting, {"HELLO", "3"}, now_us);
  } else {
    const std::string_view user = who.user.empty() ? std::string_view("default") : std::string_view(who.user);
    send(Expected::kGreeting, {"HELLO", "3", "AUTH", user, who.password}, now_us);
  }
  if (options_.database != 0) send(Expected::kSelect, {"SELECT", std::to_string(options_.database)}, now_us);
  send(Expected::kTracking, {"CLIENT", "TRACKING", "ON"}, now_us);
  send_probe(now_us);
}

void FillLink::disconnected() {
  links_.lose(link_);
  proving_ = view_known_ = false;
  swaps_seen_.reset();
  output_.clear();
  framer_ = protocol::ReplyFramer();
  scanned_ = 0;
  current_.clear();
  std::deque<Awaited> lost;
  lost.swap(awaited_);
  reads_ = 0;
  if (state_ != FillLinkState::kRefused) enter(FillLinkState::kClosed, "connection lost");
  for (const Awaited& awaited : lost) {
    if (awaited.flight) answer(*awaited.flight, FillResult{});
    if (awaited.then) awaited.then();
  }
}

bool FillLink::tick(std::int64_t now_us) {
  if (state_ == FillLinkState::kClosed || state_ == FillLinkState::kRefused) return true;
  // Bytes that come are progress, however late: a stalled loop, or one long reply, is no silence.
  if (!awaited_.empty() && now_us - std::max(awaited_.front().sent_us, last_received_us_) > options_.reply_timeout_us) {
    return false;
  }
  if (now_us - probe_sent_us_ >= options_.max_staleness_us / 3) send_probe(now_us);
  return true;
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

bool FillLink::submit(std::string_view key, std::uint64_t hash, std::uint16_t slot, FillWaiter waiter, std::int64_t now_us) {
  if (state_ != FillLinkState::kServing || !proving_) return false;
  if (options_.cluster && !owned_.test(slot)) return false;
  const FillBasis basis{fences_.capture(hash), links_.generation(link_), epochs_.of(slot), link_, slot};
  if (const auto found = current_.find(hash); found != current_.end()) {
    Flight& flight = *found->second;
    const bool same = flight.key == key && flight.basis.fence == basis.fence &&
                      flight.basis.generation == basis.generation && flight.basis.slot_epoch == basis.slot_epoch;
    if (same && flight.waiters.size() < options_.joined_max) {
      flight.waiters.push_back(waiter);
      ++joined_;
      return true;
    }
  }
  if (reads_ >= options_.reads_max) return false;
  auto flight = std::make_unique<Flight>();
  flight->key = key;
  flight->hash = hash;
  flight->sent_us = now_us;
  flight->basis = basis;
  flight->waiters.push_back(waiter);
  // A flight that left while a write was under way is nobody else's: a reader after the write must not get its value.
  if (basis.fence.open()) {
    current_[hash] = flight.get();
  } else {
    current_.erase(hash);
  }
  ++reads_;
  send(Expected::kValue, {"GET", key}, now_us);
  send(Expected::kTtl, {"PTTL", key}, now_us);
  awaited_.back().flight = std::move(flight);
  return true;
}

bool FillLink::barrier(std::function<void()> then, std::int64_t now_us) {
  if (state_ != FillLinkState::kServing) return false;
  send(Expected::kBarrier, {"PING"}, now_us);
  awaited_.back().then = std::move(then);
  return true;
}

std::optional<std::size_t> FillLink::received(std::string_view bytes, std::int64_t now_us) {
  last_received_us_ = now_us;
  std::size_t consumed = 0;
  while (consumed + scanned_ < bytes.size()) {
    const auto step = framer_.advance(bytes.substr(consumed + scanned_));
    if (step.error != protocol::FrameError::kNone) return std::nullopt;
    scanned_ += step.bytes;
    if (!step.complete) break;
    const std::string_view frame = bytes.substr(consumed, scanned_);
    consumed += std::exchange(scanned_, 0);
    if (!handle_frame(frame, now_us)) return std::nullopt;
  }
  return consumed;
}

bool FillLink::handle_frame(std::string_view frame, std::int64_t) {
  if (framer_.type() == '>') {
    // An invalidation that can't be read is one that was not heard.
    return handle_push(frame);
  }
  if (awaited_.empty()) return false;
  Awaited awaited = std::move(awaited_.front());
  awaited_.pop_front();
  if (framer_.nested_push()) {
    if (!tree_.parse(frame)) return false;
    // The views are into `frame`, the tree is used again for each of them.
    const std::vector<std::string_view> pushes = tree_.pushes();
    for (const std::string_view push : pushes) {
      if (!handle_push(push)) return false;
    }
  }
  handle_reply(std::move(awaited), frame);
  return state_ != FillLinkState::kRefused;
}

bool FillLink::handle_push(std::string_view frame) {
  if (!tree_.parse(frame)) return false;
  if (tree_.root().children < 2) return true;
  const auto& nodes = tree_.nodes();
  if (nodes[1].text != "invalidate") return true;
  const std::size_t list = 1 + nodes[1].subtree;
  if (nodes[list].type == ReplyType::kNull) {
    ++invalidations_;
    links_.bump(link_);
    events_.on_invalidated_all();
    return true;
  }
  for (std::size_t at = list + 1; at < list + nodes[list].subtree; at += nodes[at].subtree) {
    ++invalidations_;
    events_.on_invalidated(nodes[at].text);
  }
  return true;
}

void FillLink::handle_reply(Awaited awaited, std::string_view frame) {
  switch (awaited.what) {
    case Expected::kValue:
      // The flight hangs on the TTL's place, right behind.
      awaited_.front().flight->value.assign(frame);
      return;
    case Expected::kTtl: {
      --reads_;
      const std::unique_ptr<Flight> flight = std::move(awaited.flight);
      if (const auto found = current_.find(flight->hash); found != current_.end() && found->second == flight.get()) {
        current_.erase(found);
      }
      const bool known = tree_.parse(frame) && tree_.root().type == ReplyType::kInteger;
      finish(*flight, known ? tree_.root().integer() : 0, known);
      return;
    }
    case Expected::kBarrier: awaited.then(); return;
    default: break;
  }
  if (!tree_.parse(frame)) {
    refuse("a reply that is not RESP");
  } else if (awaited.what <= Expected::kTracking) {
    handle_greeting(awaited);
  } else {
    handle_probe(awaited);
  }
}

void FillLink::handle_greeting(const Awaited& awaited) {
  const protocol::ReplyNode& root = tree_.root();
  if (root.type == ReplyType::kError || root.type == ReplyType::kBulkError) {
    const char* what = awaited.what == Expected::kGreeting   ? "HELLO 3 refused: "
                       : awaited.what == Expected::kTracking ? "CLIENT TRACKING refused: "
                                                             : "SELECT refused: ";
    refuse(what + std::string(root.text));
  } else if (awaited.what == Expected::kGreeting && field(tree_, "proto") != "3") {
    refuse("HELLO 3 did not switch to RESP3");
  }
}

void FillLink::handle_probe(const Awaited& awaited) {
  const protocol::ReplyNode& root = tree_.root();
  if (root.type == ReplyType::kError || root.type == ReplyType::kBulkError) {
    probe_good_ = false;
    // What the ACL forbids stays forbidden: no use in asking on. Everything else may pass.
    if (root.text.substr(0, 6) == "NOPERM") {
      refuse("a probe was refused: " + std::string(root.text));
      return;
    }
  } else if (!probe_reply_good(awaited.what)) {
    probe_good_ = false;
  }
  const bool last = options_.cluster        ? awaited.what == Expected::kProbeNodes
                    : options_.swapdb_never ? awaited.what == Expected::kProbeHello
                                            : awaited.what == Expected::kProbeStats;
  if (last) probe_done(awaited.sent_us);
}

bool FillLink::probe_reply_good(Expected what) {
  switch (what) {
    case Expected::kProbeHello: return field(tree_, "role") == "master";
    case Expected::kProbeInfo: return upstream::parse_cluster_info(tree_.root().text).state == upstream::ClusterState::kOk;
    case Expected::kProbeNodes: return own_view_good();
    case Expected::kProbeStats: return swaps_unchanged();
    default: return false;
  }
}

bool FillLink::own_view_good() {
  const auto view = upstream::parse_own_view(tree_.root().text);
  if (!view) return false;
  if (view_known_) {
    const auto changed = owned_ ^ view->owned;
    for (std::size_t slot = 0; changed.any() && slot < changed.size(); ++slot) {
      if (changed.test(slot)) epochs_.bump(static_cast<std::uint16_t>(slot));
    }
    if (changed.any()) events_.on_slots_moved(changed.count());
  }
  owned_ = view->owned;
  view_known_ = true;
  return view->role == upstream::NodeRole::kPrimary;
}

bool FillLink::swaps_unchanged() {
  const std::string_view stats = tree_.root().text;
  const std::uint64_t swaps = calls_of(stats, "swapdb");
  // A reset of the statistics may have taken a SWAPDB with it. It is seen by its own line, which comes with the first reset
  // and changes with the next, and by our polls, which are counted as well and must have grown.
  const std::uint64_t polls = calls_of(stats, "info");
  const std::string_view resets = statistics_of(stats, "config|resetstat");
  const bool reset = polls <= stats_calls_seen_ || resets != resets_seen_;
  if (swaps_seen_.has_value() && (reset || swaps != *swaps_seen_)) {
    links_.bump(link_);
    events_.on_invalidated_all();
  }
  swaps_seen_ = swaps;
  stats_calls_seen_ = polls;
  resets_seen_ = resets;
  return true;
}

void FillLink::probe_done(std::int64_t sent_us) {
  proving_ = probe_good_;
  if (!proving_) return;
  links_.verify_until(link_, sent_us + options_.max_staleness_us);
  if (state_ == FillLinkState::kGreeting) enter(FillLinkState::kServing, {});
}

void FillLink::refuse(std::string reason) {
  links_.lose(link_);
  enter(FillLinkState::kRefused, std::move(reason));
}

void FillLink::finish(Flight& flight, std::int64_t ttl_ms, bool ttl_known) {
  FillResult result;
  const char type = flight.value.empty() ? '\0' : flight.value.front();
  const bool error = type == '-' || type == '!';
  if (type == '\0' || (error && means_elsewhere(std::string_view(flight.value).substr(1)))) {
    answer(flight, result);
    return;
  }
  result.answered = true;
  result.reply = flight.value;
  // -2: the key is gone, though a value was read: it expired in between. A nil is not kept at all.
  result.cacheable =
      type == '$' && !flight.value.starts_with("$-1") && ttl_known && ttl_ms != -2 && flight.basis.fence.open();
  result.expires_at_us = ttl_ms >= 0 ? flight.sent_us + std::min(ttl_ms, kTtlMsMax) * 1000 : 0;
  answer(flight, result);
}

void FillLink::answer(const Flight& flight, FillResult result) {
  result.key = flight.key;
  result.hash = flight.hash;
  result.sent_us = flight.sent_us;
  result.basis = flight.basis;
  result.waiters = flight.waiters;
  events_.on_filled(result);
}

}  // namespace nearcached::tiers::coherence
