// What a session does with each command that is not answered by this process alone.
#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/own_settings.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"
#include "protocol/key_slot.hpp"
#include "tiers/coherence/rules.hpp"

namespace nearcached::daemon {

using protocol::Handling;
using protocol::Merge;
using tiers::coherence::enforced;
using tiers::coherence::Rule;
using tiers::insight::CommandClass;
using tiers::upstream::kNoSlot;
using tiers::upstream::RequestMeta;

namespace {

CommandClass class_of(Handling handling) {
  switch (handling) {
    case Handling::kLocal: return CommandClass::kLocal;
    case Handling::kCachedRead: return CommandClass::kCachedRead;
    case Handling::kForward: return CommandClass::kForward;
    case Handling::kSplit: return CommandClass::kSplit;
    case Handling::kFanOut: return CommandClass::kFanOut;
    case Handling::kAnyNode: return CommandClass::kAnyNode;
    case Handling::kPinned:
    case Handling::kDenied: return CommandClass::kRefused;
  }
  return CommandClass::kRefused;
}

// A node's own command may be any.
constexpr protocol::Command kNearUpstream{
    "near.upstream", -1, protocol::kFlagWrite, Handling::kAnyNode, Merge::kNone, 0, 0, 0, {}, {}};

constexpr protocol::Command kNearFlush{"near.flush", -1, protocol::kFlagWrite, Handling::kLocal, Merge::kNone, 0, 0, 0,
                                       {},           {}};

// Of CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT, which only the slot's owner can answer.
std::uint32_t slot_asked_about(const protocol::Command& command, const std::vector<std::string_view>& args) {
  const bool asks = command.name == "cluster|countkeysinslot" || command.name == "cluster|getkeysinslot";
  std::uint32_t slot = 0;
  if (!asks || args.size() < 3) return kNoSlot;
  const auto [end, error] = std::from_chars(args[2].data(), args[2].data() + args[2].size(), slot);
  const bool whole = error == std::errc() && end == args[2].data() + args[2].size();
  return whole && slot < protocol::kSlotCount ? slot : kNoSlot;
}

// Of a client that watches keys.
Handling past_l1_handling(Handling handling) { return handling == Handling::kCachedRead ? Handling::kForward : handling; }

std::string upper(std::string_view lower) {
  std::string result(lower);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return result;
}

}  // namespace

std::uint16_t Session::slot_of(std::string_view key) const {
  return worker_.router().topology()->cluster ? protocol::key_slot(key) : std::uint16_t{0};
}

RequestMeta Session::request(const Command& command, std::uint64_t token, std::uint32_t slot) {
  RequestMeta meta;
  meta.sink = this;
  meta.token = token;
  meta.slot = slot;
  meta.affinity = static_cast<std::uint32_t>(id_);
  meta.write = !command.has(protocol::kFlagReadonly);
  meta.announce = shared_.publishes && protocol::may_write(command);
  return meta;
}

void Session::await_publication(Place& place, const RequestMeta& meta) {
  if (meta.announce && enforced(Rule::kAnswerAfterPublish)) ++place.unpublished;
}

bool Session::dispatch(const Args& args, std::string_view raw) {
  if (parser_.is_inline()) {
    std::string& encoded = worker_.encoded();
    encoded.clear();
    protocol::append_command(encoded, args);
    raw = encoded;
  }
  const Command* command = protocol::find_command(args[0]);
  // The table's names of subcommands, CLIENT|ID, are no commands.
  const bool no_command =
      command != nullptr && command->handling != Handling::kCachedRead && command->name.find('|') != command->name.npos;
  if (command == nullptr || no_command) return dispatch_unknown(args, raw);
  if (!command->subcommands.empty() && args.size() > 1) {
    if (const Command* sub = protocol::find_subcommand(*command, args[1])) {
      command = sub;
    } else if (command->handling == Handling::kPinned || command->handling == Handling::kDenied) {
      answer_error("ERR unknown subcommand '" + std::string(args[1].substr(0, 128)) + "'. Try " + upper(command->name) +
                   " HELP.");
      worker_.counters().commands[static_cast<std::size_t>(CommandClass::kUnknown)].add();
      return true;
    }
  }
  last_command_ = command->name;
  return dispatch_known(*command, args, raw);
}

// What holds of every command, whatever it is: pauses, monitors, measuring.
template <class Act>
bool Session::take(const Command& command, const Args& args, Act act) {
  if (held_by_pause(command)) return false;
  if (monitoring_ && refused_to_monitor(command)) {
    taken_us_ = 0;
    return true;
  }
  const std::uint64_t number = replies_.next();
  if (!act()) {
    if (taken_us_ == 0) taken_us_ = now_us_;
    return false;
  }
  if (replies_.next() != number) begin_measuring(number, command, args);
  taken_us_ = 0;
  if (shared_.monitors.watched()) tell_monitors(command, args);
  return true;
}

bool Session::dispatch_known(const Command& command, const Args& args, std::string_view raw) {
  return take(command, args, [&] { return carry_out(command, args, raw); });
}

// The deny list, and what the user may do. In a transaction what is refused aborts it.
bool Session::refused(const Command& command, const Args& args) {
  std::string error;
  const bool known = !shared_.access.has_users() || user_ != nullptr;  // who is not is told that first
  if (known && shared_.access.denied(command)) {
    error =
        "NOPERM nearcached: '" + std::string(command.name) + "' is not passed on to the upstream (security.deny_commands)";
  } else if (shared_.access.has_users()) {
    error = shared_.access.refusal(user_, command, args, worker_.positions());
  }
  if (error.empty()) return false;
  if (pinned_ && pinned_->queueing()) {
    pinned_->refuse_queued(error);
  } else {
    answer_error(error);
  }
  worker_.counters().commands[static_cast<std::size_t>(CommandClass::kRefused)].add();
  return true;
}

bool Session::carry_out(const Command& command, const Args& args, std::string_view raw) {
  if (refused(command, args)) return true;
  if (shared_.write_behind != nullptr) {
    const Behind done = behind(command, args);
    if (done != Behind::kNotMine) return done == Behind::kTaken;
  }
  if (pinned_ || (command.handling != Handling::kCachedRead && protocol::needs_own_connection(command, args))) {
    if (awaits_topology()) return false;
    if (!pinned_) pinned_ = std::make_unique<PinnedClient>(*this, worker_);
    const PinnedClient::Taken taken = pinned_->dispatch(command, args, raw);
    if (taken == PinnedClient::Taken::kNotNow) return false;
    if (taken == PinnedClient::Taken::kYes) {
      worker_.counters().commands[static_cast<std::size_t>(CommandClass::kPinned)].add();
      return true;
    }
  }
  return dispatch_shared(command, args, raw);
}

// Which node a connection of one's own goes to is not known in the first moments of the process.
bool Session::awaits_topology() {
  const tiers::upstream::Topology& topology = *worker_.router().topology();
  if (!topology.cluster || topology.version != 0) return false;
  if (taken_us_ != 0 && now_us_ - taken_us_ >= command_timeout_us()) return false;
  stall_ = Stall::kCongested;  // asks again at the next tick
  worker_.remember_congested(*this);
  return true;
}

bool Session::dispatch_shared(const Command& command, const Args& args, std::string_view raw) {
  bool taken = true;
  if (!command.arity_fits(args.size())) {
    answer_wrong_arity(command);
  } else if (shared_.settings.cluster_emulation && emulate_cluster(command, args)) {
    taken = true;
  } else {
    const bool past_l1 = pinned_ && pinned_->past_l1();
    switch (past_l1 ? past_l1_handling(command.handling) : command.handling) {
      case Handling::kCachedRead: taken = read_cached(command, args, raw); break;
      case Handling::kLocal: taken = local(command, args, raw); break;
      case Handling::kSplit: taken = split(command, args, raw); break;
      case Handling::kFanOut: taken = fan_out(command, args, raw); break;
      case Handling::kForward: taken = forward(command, args, raw); break;
      case Handling::kAnyNode:
        if (user_ != nullptr && command.name == "acl|whoami") {
          answer([this](auto& out) { protocol::append_bulk(out, user_->name); });
          break;
        }
        taken = command.name == "config|get" ? config_get(args, raw) : forward(command, args, raw);
        break;
      case Handling::kPinned:
      case Handling::kDenied:
        answer_error("NOPERM nearcached: '" + std::string(command.name) + "' is not passed on to the upstream");
        break;
    }
  }
  if (taken) worker_.counters().commands[static_cast<std::size_t>(class_of(command.handling))].add();
  return taken;
}

bool Session::dispatch_unknown(const Args& args, std::string_view raw) {
  // A browser or a scanner. Redis closes such a connection, and if it came from here that would be one which all share.
  if (protocol::equal_ignoring_case(args[0], "post") || protocol::equal_ignoring_case(args[0], "host:")) {
    shut("it speaks HTTP");
    return true;
  }
  if (protocol::equal_ignoring_case(args[0], kNearUpstream.name)) {
    if (pinned_ && pinned_->queueing()) {
      pinned_->refuse_queued("ERR nearcached: 'near.upstream' is not offered inside a transaction");
      return true;
    }
    last_command_ = kNearUpstream.name;
    return take(kNearUpstream, args, [&] {
      if (refused(kNearUpstream, args)) return true;
      const Behind done = flush_all_first(kNearUpstream, args);
      return done == Behind::kNotMine ? near_upstream(args) : done == Behind::kTaken;
    });
  }
  if (protocol::equal_ignoring_case(args[0], kNearFlush.name)) {
    last_command_ = kNearFlush.name;
    return take(kNearFlush, args, [&] { return refused(kNearFlush, args) || near_flush(args); });
  }
  const bool no_command = args[0].find('|') != args[0].npos;
  const Worker::Learned learned = no_command ? Worker::Learned{true, nullptr} : worker_.learned(args[0], now_us_);
  if (learned.asked) {
    if (learned.command != nullptr) return dispatch_known(*learned.command, args, raw);
    // The upstream does not know it either, as far as we could ask: its own words are the answer, and if it does know it by
    // now, what it changed is unknown.
    static constexpr Command kUnknown{"unknown", -1, protocol::kFlagWrite, Handling::kAnyNode, Merge::kNone, 0, 0, 0,
                                      {},        {}};
    if (pinned_ || shared_.access.has_users()) return dispatch_known(kUnknown, args, raw);
    if (held_by_pause(kUnknown)) return false;
    if (const Behind done = flush_all_first(kUnknown, args); done != Behind::kNotMine) return done == Behind::kTaken;
    if (!forward(kUnknown, args, raw)) return false;
    worker_.counters().commands[static_cast<std::size_t>(CommandClass::kUnknown)].add();
    return true;
  }
  stall_ = Stall::kAsked;
  ++outside_;
  worker_.learn(std::string(args[0]), [this] {
    --outside_;
    if (stall_ == Stall::kAsked) stall_ = Stall::kNone;
    touched();
  });
  return false;
}

bool Session::must_wait(const Args& args, std::uint32_t slot) {
  tiers::upstream::Router& router = worker_.router();
  // Something in flight was routed by an older topology, or was sent elsewhere: a later command of the same key might arrive
  // before it.
  bool overtakes = !forwarded_.empty() && (rerouted_ || forward_topology_ != router.topology()->version);
  if (!filling_.empty() && enforced(Rule::kForwardAfterFill)) {
    const std::vector<std::uint32_t>& positions = worker_.positions();
    overtakes |= positions.empty() || std::any_of(positions.begin(), positions.end(), [&](std::uint32_t at) {
                   return filling_.contains(tiers::l1::hash_key(args[at]));
                 });
  }
  if (overtakes) {
    stall_ = Stall::kUntilEmpty;
    return true;
  }
  return congested(slot);
}

bool Session::congested(std::uint32_t slot) {
  if (!worker_.router().congested(*lane_, slot)) return false;
  stall_ = Stall::kCongested;
  worker_.remember_congested(*this);
  return true;
}

void Session::touch_keys(Place& place, const Command& command, const Args& args) {
  const std::vector<std::uint32_t>& positions = worker_.positions();
  const bool write = protocol::may_write(command);
  if (positions.size() == 1) {
    place.hash = tiers::l1::hash_key(args[positions[0]]);
  } else if (!positions.empty()) {
    place.hashes = std::make_unique<std::vector<std::uint64_t>>();
    place.hashes->reserve(positions.size());
    for (const std::uint32_t at : positions) place.hashes->push_back(tiers::l1::hash_key(args[at]));
    std::sort(place.hashes->begin(), place.hashes->end());
    place.hashes->erase(std::unique(place.hashes->begin(), place.hashes->end()), place.hashes->end());
  }
  if (!write && positions.empty() && !command.has(protocol::kFlagReadonly)) return;
  if (forwarded_.empty()) forward_topology_ = worker_.router().topology()->version;
  if (!write) {
    place.touch = positions.empty() ? Touch::kReadUnknown : Touch::kRead;
  } else if (command.has(protocol::kFlagChangesAllKeys)) {
    place.touch = Touch::kWriteAll;
    shared_.cache.begin_write_all();
  } else if (positions.empty() || !protocol::write_keys_known(command)) {
    place.touch = Touch::kWriteUnknown;
    place.unheard_of = command.name == "unknown";
  } else {
    place.touch = Touch::kWrite;
    begin_fences(place);
  }
  if (write) note_written(positions.empty() ? kNoSlot : std::uint32_t{slot_of(args[positions[0]])});
  // It goes to a node, not to a slot: should it have to wait there, what follows would overtake it.
  if (place.touch == Touch::kWriteAll || place.touch == Touch::kWriteUnknown) stall_ = Stall::kUntilEmpty;
  const bool one_key = positions.size() == 1 && (place.touch == Touch::kRead || place.touch == Touch::kWrite);
  if (one_key) {
    place.against_all = !forwarded_.add(place.hash);
  } else {
    forwarded_.add_all();
    place.against_all = true;
  }
}

void Session::begin_fences(const Place& place) {
  if (place.hashes) {
    for (const std::uint64_t hash : *place.hashes) shared_.cache.begin_write(hash, worker_.counters());
  } else {
    shared_.cache.begin_write(place.hash, worker_.counters());
  }
}

// Writes of a pinned connection: they count against all keys, what follows waits for their answer anyway.
void Session::begin_pinned_write(Place& place, Touch touch) {
  if (forwarded_.empty()) forward_topology_ = worker_.router().topology()->version;
  place.touch = touch;
  if (touch == Touch::kWriteAll) shared_.cache.begin_write_all();
  if (touch == Touch::kWrite) begin_fences(place);
  forwarded_.add_all();
  place.against_all = true;
}

void Session::note_written(std::uint32_t slot) {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  constexpr std::size_t kBits = 64;
  const auto& topology = *worker_.router().topology();
  if (written_ != 0 && written_topology_ != topology.version) written_ = kAll;
  written_topology_ = topology.version;
  const std::uint16_t owner = slot == kNoSlot ? tiers::upstream::Topology::kNoNode : topology.owner[slot];
  written_ |= owner < kBits ? std::uint64_t{1} << owner : kAll;
}

bool Session::wrote_to(std::size_t primary) const {
  constexpr std::size_t kBits = 64;
  if (written_ == 0) return false;
  const bool same = written_topology_ == worker_.router().topology()->version;
  return !same || primary >= kBits || (written_ >> primary & 1) != 0;
}

bool Session::forward(const Command& command, const Args& args, std::string_view raw) {
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  const bool cluster = worker_.router().topology()->cluster;
  if (cluster && command.name == "scan") return scan(command, args);
  std::uint32_t slot = positions.empty() ? kNoSlot : slot_of(args[positions[0]]);
  if (cluster && positions.empty()) slot = slot_asked_about(command, args);
  if (must_wait(args, slot)) return false;
  const std::uint64_t number = open_place();
  Place& place = replies_.at(number);
  touch_keys(place, command, args);
  const RequestMeta meta = request(command, make_token(number, 0), slot);
  await_publication(place, meta);
  worker_.router().send(*lane_, meta, raw, now_us_);
  return true;
}

bool Session::split(const Command& command, const Args& args, std::string_view raw) {
  if (pinned_ && pinned_->past_l1()) return forward_parts(command, args, raw);
  if (shared_.cache.enabled() && protocol::cacheable(command, args)) return read_cached(command, args, raw);
  return reads_by_key(command, args) ? read_many(command, args, raw) : forward_parts(command, args, raw);
}

bool Session::forward_parts(const Command& command, const Args& args, std::string_view raw) {
  std::vector<std::uint32_t>& positions = worker_.positions();
  const bool cluster = worker_.router().topology()->cluster;
  if (!cluster || !protocol::extract_keys(command, args, positions)) return forward(command, args, raw);
  if ((args.size() - 1) % static_cast<std::size_t>(command.key_step) != 0) {
    answer_wrong_arity(command);
    return true;
  }
  const std::uint16_t first = slot_of(args[positions[0]]);
  const bool one_slot =
      std::all_of(positions.begin(), positions.end(), [&](std::uint32_t at) { return slot_of(args[at]) == first; });
  if (one_slot) return forward(command, args, raw);
  if (must_wait(args, kNoSlot)) return false;
  send_parts(command, args);
  return true;
}

void Session::send_parts(const Command& command, const Args& args) {
  const std::vector<std::uint32_t>& positions = worker_.positions();
  struct Key {
    std::uint16_t slot;
    std::uint32_t index;
  };
  std::vector<Key> keys;
  keys.reserve(positions.size());
  for (std::uint32_t i = 0; i < positions.size(); ++i) keys.push_back({slot_of(args[positions[i]]), i});
  // Stable: a key that is named twice keeps the order of its values.
  std::stable_sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.slot < b.slot; });
  std::size_t parts = 1;
  for (std::size_t i = 1; i < keys.size(); ++i) parts += keys[i].slot != keys[i - 1].slot ? 1 : 0;

  const std::uint64_t number = open_place();
  Place& place = replies_.at(number);
  touch_keys(place, command, args);
  place.gather = std::make_unique<Gather>(command.merge, version_, parts, shared_.settings.limits.output_bytes);
  if (command.merge == Merge::kByKey) place.gather->set_elements(keys.size());
  const auto step = static_cast<std::size_t>(command.key_step);
  std::string bytes;
  for (std::size_t from = 0, part = 0; from < keys.size(); ++part) {
    std::size_t to = from;
    while (to < keys.size() && keys[to].slot == keys[from].slot) ++to;
    bytes.clear();
    protocol::append_header(bytes, '*', static_cast<std::int64_t>(1 + (to - from) * step));
    protocol::append_bulk(bytes, args[0]);
    std::vector<std::uint32_t> places;
    for (std::size_t i = from; i < to; ++i) {
      const std::size_t at = positions[keys[i].index];
      for (std::size_t n = 0; n < step; ++n) protocol::append_bulk(bytes, args[at + n]);
      places.push_back(keys[i].index);
    }
    if (command.merge == Merge::kByKey) place.gather->set_places(part, std::move(places));
    const RequestMeta meta = request(command, make_token(number, part), keys[from].slot);
    await_publication(place, meta);
    worker_.router().send(*lane_, meta, bytes, now_us_);
    from = to;
  }
}

bool Session::fan_out(const Command& command, const Args& args, std::string_view raw) {
  if (command.name == "config|set") {
    if (const std::string_view own = own_setting_named(args); !own.empty()) {
      refuse_setting(own);
      return true;
    }
  }
  if (command.name == "script|load" && args.size() == 3) shared_.scripts.remember(args[2]);
  if (command.name == "script|flush") shared_.scripts.clear();
  const std::size_t primaries = worker_.router().topology()->primaries.size();
  if (primaries == 1) return forward(command, args, raw);
  worker_.positions().clear();
  if (must_wait(args, kNoSlot)) return false;
  const std::uint64_t number = open_place();
  Place& place = replies_.at(number);
  touch_keys(place, command, args);
  place.gather = std::make_unique<Gather>(command.merge, version_, primaries, shared_.settings.limits.output_bytes);
  for (std::size_t i = 0; i < primaries; ++i) {
    const RequestMeta meta = request(command, make_token(number, i), kNoSlot);
    await_publication(place, meta);
    worker_.router().send_to(*lane_, i, meta, raw, now_us_);
  }
  return true;
}

}  // namespace nearcached::daemon
