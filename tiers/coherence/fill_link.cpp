#include "tiers/coherence/fill_link.hpp"

#include <algorithm>
#include <utility>

#include "protocol/writer.hpp"
#include "tiers/coherence/rules.hpp"

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

// What a command says of a key that does not exist, and of no other that would matter: nil, 0, nothing, or an array of these
// (HMGET, SMISMEMBER). An empty string only of a range: GET says it of a key that exists.
bool says_absent(std::string_view reply, std::string_view variant) {
  // Of these a zero is a place, the first one.
  constexpr std::string_view kPlaces[] = {"bitpos ", "lpos ", "zrank ", "zrevrank "};
  const bool zero_is_place =
      std::any_of(std::begin(kPlaces), std::end(kPlaces), [&](std::string_view name) { return variant.starts_with(name); });
  if (zero_is_place && reply.find(":0\r\n") != std::string_view::npos) return false;
  if (reply == "$0\r\n\r\n") return variant.starts_with("getrange ") || variant.starts_with("substr ");
  if (reply == "_\r\n" || reply == ":0\r\n" || reply == ":-2\r\n" || reply == "+none\r\n" || reply == "*0\r\n" ||
      reply == "%0\r\n" || reply == "~0\r\n") {
    return true;
  }
  if (reply.empty() || reply.front() != '*') return false;
  reply.remove_prefix(std::min(reply.size(), reply.find("\r\n") + 2));
  while (reply.starts_with("_\r\n")) reply.remove_prefix(3);
  while (reply.starts_with(":0\r\n")) reply.remove_prefix(4);
  return reply.empty();
}

// Of an HGET or HMGET reply in `tree`: how many fields were there.
std::size_t fields_told(const protocol::ReplyTree& tree) {
  const auto& nodes = tree.nodes();
  if (tree.root().type != ReplyType::kArray) return tree.root().type != ReplyType::kNull ? 1 : 0;
  std::size_t told = 0;
  for (std::size_t at = 1; at < nodes.size(); at += nodes[at].subtree) told += nodes[at].type != ReplyType::kNull ? 1 : 0;
  return told;
}

}  // namespace

FillLink::FillLink(FillLinkOptions options, std::uint16_t link, FenceTable& fences, SlotEpochs& epochs, LinkTable& links,
                   FillLinkEvents& events)
    : options_(std::move(options)),
      link_(link),
      fences_(fences),
      epochs_(epochs),
      links_(links),
      events_(events),
      inbox_({options_.bus_publisher, options_.max_staleness_us}) {}

FillLink::~FillLink() = default;

void FillLink::send(Expected what, std::initializer_list<std::string_view> args, std::int64_t now_us) {
  protocol::append_command(output_, args);
  awaited_.push_back({what, now_us});
}

void FillLink::disconnected() {
  // Entries that live by their deadline alone do so without the connection as well.
  if (granted_ != ChangeSource::kTtl && enforced(Rule::kLossAtOnce)) lose_proof();
  proving_ = view_known_ = source_known_ = false;
  swaps_seen_.reset();
  output_.clear();
  framer_ = protocol::ReplyFramer();
  scanned_ = 0;
  subscriptions_left_ = 0;
  channels_.clear();
  inbox_.clear();
  std::deque<Awaited> lost;
  lost.swap(awaited_);
  reads_ = 0;
  const bool refused = state_ == FillLinkState::kRefused;
  if (!refused) enter(FillLinkState::kClosed, "connection lost");
  for (const Awaited& awaited : lost) {
    if (!awaited.last) continue;
    forget(*awaited.last);
    answer(*awaited.last, FillResult{});
  }
  end_barriers();
  if (refused) end_waiting();
}

bool FillLink::tick(std::int64_t now_us) {
  expire_waiting(now_us);
  if (state_ == FillLinkState::kClosed || state_ == FillLinkState::kRefused) return true;
  // Bytes that come are progress, however late: a stalled loop, or one long reply, is no silence.
  if (!awaited_.empty() && now_us - std::max(awaited_.front().sent_us, last_received_us_) > options_.reply_timeout_us) {
    return false;
  }
  if (source_known_ && source() == ChangeSource::kBus && inbox_.tick(now_us)) gap();
  const bool needs_view = source() == ChangeSource::kBus && options_.cluster && channels_.empty();
  if ((source_known_ || needs_view) && now_us - probe_sent_us_ >= options_.max_staleness_us / 3) send_probe(now_us);
  // An ACL that was widened, a server that was upgraded: better than what we have?
  const bool could_be_better =
      source_known_ && source_ != 0 && !probes_forbidden_ && options_.sources.front() == ChangeSource::kTracking;
  if (could_be_better && now_us - source_asked_us_ >= kBetterSourceUs) {
    source_asked_us_ = now_us;
    send(Expected::kTracking, {"CLIENT", "TRACKING", "ON"}, now_us);
  }
  return true;
}

FillBasis FillLink::basis_of(const Flight& flight) const {
  return {fences_.capture(flight.hash), links_.generation(link_), flight.slot_epoch, link_, flight.slot};
}

// Its slot has another owner than when this node was chosen for it.
bool FillLink::outdated(const Flight& flight) const {
  return epochs_.of(flight.slot) != flight.slot_epoch && enforced(Rule::kTopologyAtFill);
}

bool FillLink::join(Flight& flight, const FillRead& read, std::uint32_t slot_epoch, FillWaiter waiter) {
  if (flight.slot_epoch != slot_epoch && enforced(Rule::kJoinOnSameBasis)) return false;
  // One that has not left yet reads what is true when it does. One that has left is joined only while nothing has happened.
  if (!flight.waiting) {
    const FillBasis basis = basis_of(flight);
    const bool same = flight.basis.fence == basis.fence && flight.basis.generation == basis.generation &&
                      epochs_.of(flight.slot) == flight.slot_epoch && flight.sent_us >= read.not_before_us;
    if (!same && enforced(Rule::kJoinOnSameBasis)) return false;
  }
  if (flight.waiters.size() >= options_.joined_max) return false;
  flight.waiters.push_back(waiter);
  ++joined_;
  return true;
}

bool FillLink::submit(const FillRead& read, FillWaiter waiter, std::int64_t now_us) {
  if (state_ == FillLinkState::kRefused) return false;
  if (not_here(read.slot)) return false;
  const std::uint32_t slot_epoch = read.slot_epoch.value_or(epochs_.of(read.slot));
  const std::uint64_t id = read_id(read.hash, read.variant);
  if (const auto found = current_.find(id); !read.audit && found != current_.end()) {
    Flight& flight = *found->second;
    if (flight.key == read.key && flight.variant == read.variant && join(flight, read, slot_epoch, waiter)) return true;
  }
  const bool now = may_send() && reads_ < options_.in_flight_max && waiting_.empty();
  const bool full = waiting_.size() >= options_.waiting_max || held_bytes_ >= options_.held_bytes_max;
  if (!now && (full || read.audit)) return false;
  auto flight = std::make_unique<Flight>();
  flight->id = id;
  flight->key = read.key;
  flight->command = read.command;
  flight->variant = read.variant;
  flight->hash = read.hash;
  flight->slot = read.slot;
  flight->slot_epoch = slot_epoch;
  flight->caching = read.caching;
  flight->audit = read.audit;
  flight->since_us = now_us;
  flight->waiters.push_back(waiter);
  held_bytes_ += flight->bytes();
  if (!read.audit) current_[id] = flight.get();
  if (now) {
    start(std::move(flight), now_us);
  } else {
    flight->waiting = true;
    waiting_.push_back(std::move(flight));
  }
  return true;
}

void FillLink::start(std::unique_ptr<Flight> flight, std::int64_t now_us) {
  flight->waiting = false;
  flight->sent_us = now_us;
  flight->basis = basis_of(*flight);
  // A flight that left while a write was under way is nobody else's: a reader after the write must not get its value.
  if (!flight->basis.fence.open() && enforced(Rule::kJoinOnSameBasis)) forget(*flight);
  ++reads_;
  output_.append(flight->command);
  awaited_.push_back({Expected::kValue, now_us, flight.get()});
  send(Expected::kTtl, {"PTTL", flight->key}, now_us);
  awaited_.back().flight = flight.get();
  const bool hash_read = flight->caching != protocol::Caching::kKey && enforced(Rule::kFieldExpiry);
  if (flight->caching == protocol::Caching::kFields && field_expiry_ == FieldExpiry::kPaired && hash_read) {
    send_field_ttl(*flight, now_us);
  } else if (hash_read && field_expiry_ != FieldExpiry::kNone) {
    flight->unwatched = true;
  }
  awaited_.back().last = std::move(flight);
}

void FillLink::send_field_ttl(const Flight& flight, std::int64_t now_us) {
  protocol::RequestParser parser;
  std::vector<std::string_view> args{"HPTTL", flight.key, "FIELDS"};
  std::string count;
  if (parser.parse(flight.command, {}) == protocol::ParseStatus::kComplete && parser.args().size() > 2) {
    count = std::to_string(parser.args().size() - 2);
    args.push_back(count);
    args.insert(args.end(), parser.args().begin() + 2, parser.args().end());
  }
  protocol::append_command(output_, args);
  awaited_.push_back({Expected::kFieldTtl, now_us, awaited_.back().flight});
}

void FillLink::start_waiting(std::int64_t now_us) {
  while (may_send() && reads_ < options_.in_flight_max && !waiting_.empty()) {
    std::unique_ptr<Flight> flight = std::move(waiting_.front());
    waiting_.pop_front();
    if (not_here(flight->slot) || outdated(*flight)) {
      forget(*flight);
      answer(*flight, FillResult{});
    } else {
      start(std::move(flight), now_us);
    }
  }
}

void FillLink::expire_waiting(std::int64_t now_us) {
  if (may_send()) return;
  const auto over = [&](const Flight& flight) {
    return now_us - flight.since_us > options_.hold_us || state_ == FillLinkState::kRefused || outdated(flight);
  };
  while (!waiting_.empty() && over(*waiting_.front())) {
    const std::unique_ptr<Flight> flight = std::move(waiting_.front());
    waiting_.pop_front();
    forget(*flight);
    answer(*flight, FillResult{});
  }
}

void FillLink::end_waiting() {
  while (!waiting_.empty()) {
    const std::unique_ptr<Flight> flight = std::move(waiting_.front());
    waiting_.pop_front();
    forget(*flight);
    answer(*flight, FillResult{});
  }
}

void FillLink::forget(const Flight& flight) {
  if (const auto found = current_.find(flight.id); found != current_.end() && found->second == &flight) {
    current_.erase(found);
  }
}

bool FillLink::barrier(std::function<void()> then, std::int64_t since_us, std::int64_t now_us) {
  if (state_ != FillLinkState::kServing) return false;
  next_barriers_.push_back({std::move(then), since_us});
  if (barriers_.empty()) send_barrier(now_us);
  return true;
}

void FillLink::send_barrier(std::int64_t now_us) {
  barriers_.swap(next_barriers_);
  std::int64_t sent_us = now_us;
  for (const Barrier& barrier : barriers_) sent_us = std::max(sent_us, barrier.since_us + 1);
  send(Expected::kBarrier, {"PING"}, sent_us);
}

void FillLink::end_barriers() {
  std::vector<Barrier> ended = std::exchange(barriers_, {});
  std::vector<Barrier> more = std::exchange(next_barriers_, {});
  for (const Barrier& barrier : ended) barrier.then();
  for (const Barrier& barrier : more) barrier.then();
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

bool FillLink::handle_frame(std::string_view frame, std::int64_t now_us) {
  if (framer_.type() == '>') {
    // An invalidation that can't be read is one that was not heard.
    return handle_push(frame, now_us);
  }
  if (awaited_.empty()) return false;
  Awaited awaited = std::move(awaited_.front());
  awaited_.pop_front();
  if (framer_.nested_push() && enforced(Rule::kNestedPush)) {
    if (!tree_.parse(frame)) return false;
    // The views are into `frame`, the tree is used again for each of them.
    const std::vector<std::string_view> pushes = tree_.pushes();
    without_pushes_.clear();
    // What is kept and told is the reply alone: who reads it knows nothing of our tracking.
    tree_.append_without_pushes(without_pushes_);
    for (const std::string_view push : pushes) {
      if (!handle_push(push, now_us)) return false;
    }
    frame = without_pushes_;
  }
  answered_sent_us_ = std::max(awaited.sent_us, answered_sent_us_);
  links_.deliver(link_, answered_sent_us_);
  handle_reply(std::move(awaited), frame, now_us);
  return state_ != FillLinkState::kRefused;
}

bool FillLink::handle_push(std::string_view frame, std::int64_t now_us) {
  if (!tree_.parse(frame)) return false;
  if (tree_.root().children < 2) return true;
  const auto& nodes = tree_.nodes();
  const std::string_view kind = nodes[1].text;
  const std::size_t second = 1 + nodes[1].subtree;
  if (kind == "invalidate") {
    handle_invalidation(second);
  } else if ((kind == "message" || kind == "smessage") && tree_.root().children == 3) {
    handle_message(nodes[second + nodes[second].subtree].text);
  } else if (kind == "subscribe" || kind == "ssubscribe" || kind == "unsubscribe" || kind == "sunsubscribe") {
    handle_subscription(kind, nodes[second].text, now_us);
  }
  return true;
}

void FillLink::handle_invalidation(std::size_t list) {
  const auto& nodes = tree_.nodes();
  if (nodes[list].type == ReplyType::kNull) {
    ++invalidations_;
    if (!enforced(Rule::kNullPushPurges)) return;
    links_.purge(link_);
    events_.on_invalidated_all();
    return;
  }
  for (std::size_t at = list + 1; at < list + nodes[list].subtree; at += nodes[at].subtree) {
    ++invalidations_;
    events_.on_invalidated(nodes[at].text);
  }
}

void FillLink::handle_reply(Awaited awaited, std::string_view frame, std::int64_t now_us) {
  switch (awaited.what) {
    case Expected::kValue: awaited.flight->value.assign(frame); return;
    case Expected::kTtl: take_ttl(*awaited.flight, frame); break;
    case Expected::kFieldTtl: take_field_ttl(*awaited.flight, frame); break;
    case Expected::kBarrier: {
      const std::vector<Barrier> ended = std::exchange(barriers_, {});
      if (!next_barriers_.empty()) send_barrier(now_us);
      for (const Barrier& barrier : ended) barrier.then();
      return;
    }
    default:
      if (!tree_.parse(frame)) {
        refuse("a reply that is not RESP");
      } else if (awaited.what <= Expected::kSubscribe) {
        handle_greeting(awaited, now_us);
      } else {
        handle_probe(awaited, now_us);
      }
      return;
  }
  if (!awaited.last) return;
  --reads_;
  forget(*awaited.last);
  finish(*awaited.last);
  start_waiting(now_us);
}

void FillLink::take_ttl(Flight& flight, std::string_view frame) {
  const bool known = tree_.parse(frame) && tree_.root().type == ReplyType::kInteger;
  flight.ttl_ms = known ? tree_.root().integer() : -3;
}

void FillLink::take_field_ttl(Flight& flight, std::string_view frame) {
  const std::size_t told = tree_.parse(flight.value) ? fields_told(tree_) : 0;
  // A field that is not there (-2) is like one without a TTL (-1): its creation is signalled.
  if (!tree_.parse(frame) || (tree_.root().type != ReplyType::kArray && tree_.root().type != ReplyType::kNull)) {
    flight.unwatched = true;
    return;
  }
  const auto& nodes = tree_.nodes();
  std::size_t there = 0;
  for (std::size_t at = 1; at < nodes.size(); at += nodes[at].subtree) {
    if (nodes[at].type != ReplyType::kInteger) flight.unwatched = true;
    const std::int64_t ttl_ms = nodes[at].integer(-1);
    there += ttl_ms != -2 ? 1 : 0;
    if (ttl_ms >= 0 && flight.ttl_ms >= -1) flight.ttl_ms = flight.ttl_ms == -1 ? ttl_ms : std::min(flight.ttl_ms, ttl_ms);
  }
  // In the millisecond of its end HGET tells a field and HPTTL calls it gone: a value without a deadline.
  if (there < told) flight.ttl_ms = -3;
}

bool FillLink::may_keep(const Flight& flight) const {
  const char type = flight.value.front();
  // A key that moves with an open slot leaves no message.
  if (source() == ChangeSource::kBus && options_.cluster && open_.test(flight.slot)) return false;
  if (flight.audit || (!flight.basis.fence.open() && enforced(Rule::kFenceAtInstall))) return false;
  if ((type == '-' || type == '!') && enforced(Rule::kErrorsNotCached)) return false;
  if (flight.ttl_ms < -2 || flight.value.starts_with("$-1") || flight.value.starts_with("*-1")) return false;
  if (flight.ttl_ms == -2) {
    // Gone: if something was read it went in between. Absent: it may be created on another node while the slot is open.
    const bool closed =
        !options_.cluster || (view_known_ && !open_.test(flight.slot)) || !enforced(Rule::kAbsentInClosedSlots);
    return closed && (says_absent(flight.value, flight.variant) || !enforced(Rule::kGoneByPttl));
  }
  // Created in between: its push is here or on its way, and without a source of pushes nobody would tell.
  return !flight.variant.empty() || flight.value != "_\r\n";
}

void FillLink::finish(Flight& flight) {
  FillResult result;
  const char type = flight.value.empty() ? '\0' : flight.value.front();
  const bool error = type == '-' || type == '!';
  if (type == '\0' ||
      (error && means_elsewhere(std::string_view(flight.value).substr(1)) && enforced(Rule::kErrorsNotCached))) {
    answer(flight, result);
    return;
  }
  result.answered = true;
  result.reply = flight.value;
  result.cacheable = may_keep(flight);
  result.untold = source() != ChangeSource::kTracking;
  result.unwatched = (flight.unwatched && flight.ttl_ms != -2) || (source() == ChangeSource::kTtl && !options_.ttl_is_bound);
  const bool expires = flight.ttl_ms >= 0 && enforced(Rule::kExpiryFromPttl);
  result.expires_at_us = expires ? flight.sent_us + std::min(flight.ttl_ms, kTtlMsMax) * 1000 : 0;
  answer(flight, result);
}

void FillLink::answer(const Flight& flight, FillResult result) {
  held_bytes_ -= flight.bytes();
  result.key = flight.key;
  result.hash = flight.hash;
  result.command = flight.command;
  result.variant = flight.variant;
  result.audit = flight.audit;
  result.sent_us = flight.sent_us;
  result.basis = flight.basis;
  result.waiters = flight.waiters;
  events_.on_filled(result);
}

}  // namespace nearcached::tiers::coherence
