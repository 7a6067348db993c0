#include "tiers/bus_publisher.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <utility>

#include "protocol/ascii_case.hpp"
#include "protocol/writer.hpp"
#include "tiers/coherence/bus_channel.hpp"

namespace nearcached::tiers {

using coherence::BusKind;
using coherence::BusLost;
using upstream::Topology;

namespace {

// The session has bounded it already.
constexpr protocol::RequestLimits kAnyRequest{std::numeric_limits<std::int32_t>::max(),
                                              std::numeric_limits<std::int32_t>::max(), 64 * 1024};
// One max_staleness: fill links ask their nodes as often as heartbeats go.
constexpr std::int64_t kViewLastsHeartbeats = 3;
constexpr std::size_t kParserBytesKept = 64 * 1024;

int major_of(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

}  // namespace

const protocol::Command* WrittenKeys::command_of(std::span<const std::string_view> args) const {
  const protocol::Command* command = protocol::find_command(args[0]);
  if (command == nullptr) return learned_ ? learned_(args[0]) : nullptr;
  if (command->subcommands.empty() || args.size() < 2) return command;
  const protocol::Command* sub = protocol::find_subcommand(*command, args[1]);
  return sub != nullptr ? sub : command;
}

bool WrittenKeys::find(std::string_view request) {
  keys_.clear();
  unknown_command_ = {};
  if (parser_.memory_bytes() > kParserBytesKept) parser_.release();
  if (parser_.parse(request, kAnyRequest) != protocol::ParseStatus::kComplete) return false;
  const auto& args = parser_.args();
  const protocol::Command* command = command_of(args);
  if (command == nullptr) unknown_command_ = args[0];
  if (command == nullptr || command->has(protocol::kFlagChangesAllKeys) || !protocol::write_keys_known(*command) ||
      !protocol::extract_keys(*command, args, positions_)) {
    return false;
  }
  for (const std::uint32_t at : positions_) keys_.push_back(args[at]);
  return !keys_.empty();
}

bool says_not_executed(std::string_view error, std::string_view command) {
  if (error.starts_with("NOAUTH ")) return true;
  constexpr std::size_t kNameMax = 128;  // of an unknown name Redis says no more
  const std::string_view name = command.substr(0, kNameMax);
  const auto names_it = [&](std::string_view before, char quote) {
    const std::size_t begin = error.find(before);
    if (begin == std::string_view::npos) return false;
    const std::string_view rest = error.substr(begin + before.size());
    return rest.size() > name.size() && protocol::equal_ignoring_case(rest.substr(0, name.size()), name) &&
           rest[name.size()] == quote;
  };
  if (error.starts_with("NOPERM ")) return names_it("has no permissions to run the '", '\'');
  if (error.starts_with("ERR wrong number of arguments for ")) return names_it("arguments for '", '\'');
  if (!error.starts_with("ERR unknown command ")) return false;
  return names_it("ERR unknown command '", '\'') || names_it("ERR unknown command `", '`');
}

BusPublisher::BusPublisher(const BusPublisherOptions& options, CommandLookup learned, std::atomic<std::uint32_t>& epochs,
                           upstream::Endpoint node)
    : configured_channel_(options.channel),
      node_(std::move(node)),
      view_(options.views == nullptr ? nullptr : options.views->of(node_)),
      view_lasts_us_(options.heartbeat_us * kViewLastsHeartbeats),
      outbox_({options.publisher, options.heartbeat_us, options.rest_after_us}, epochs),
      written_(std::move(learned)) {}

void BusPublisher::publish(Messages& out, std::string_view payload) const {
  if (payload.empty()) return;
  protocol::append_command(out.emplace_back(), {sharded_ ? "SPUBLISH" : "PUBLISH", channel_, payload});
}

void BusPublisher::before_write(Messages& out, std::int64_t now_us) { publish(out, outbox_.announcement(now_us)); }

bool BusPublisher::behind_write(Messages& out, std::string_view request, std::int64_t now_us) {
  if (!written_.find(request)) {
    if (!written_.unknown_command().empty()) return false;
    publish(out, outbox_.purge(BusKind::kNamespace, {}, now_us));
    return true;
  }
  for (auto keys = written_.keys(); !keys.empty();) {
    const std::size_t some = std::min(keys.size(), coherence::kBusKeysMax);
    publish(out, outbox_.invalidate(keys.first(some), now_us));
    keys = keys.subspan(some);
  }
  return true;
}

// The command may be known by now; which keys it wrote is not worth a look.
void BusPublisher::behind_reply(Messages& out, std::string_view request, std::string_view error, std::int64_t now_us) {
  static_cast<void>(written_.find(request));
  const std::string_view command = written_.unknown_command();
  if (!command.empty() && says_not_executed(error, command)) return;
  publish(out, outbox_.purge(BusKind::kNamespace, {}, now_us));
}

void BusPublisher::tick(Messages& out, std::int64_t now_us) {
  if (able()) publish(out, outbox_.heartbeat(now_us));
}

// What is not acknowledged may not have been executed: then the peers had better hear of no end.
void BusPublisher::farewell(Messages& out, std::int64_t now_us) {
  if (able() && outbox_.awaited() == 0 && !owes()) publish(out, outbox_.bye(now_us));
}

void BusPublisher::acknowledged() {
  outbox_.acknowledged();
  paying_ = {};
}

bool BusPublisher::refused() {
  BusLost lost = outbox_.refused();
  if (lost.empty()) return false;
  refuted_ = true;
  if (!paying_.empty()) {
    // The first message of that stream: nobody has heard of it. What it was to say again is owed as before, and what came
    // behind it as well.
    const std::size_t said_again = paying_.payloads.size() + paying_.streams.size() + (paying_.everything ? 1 : 0);
    lost.streams.clear();
    lost.payloads.erase(lost.payloads.begin(),
                        lost.payloads.begin() + static_cast<std::ptrdiff_t>(std::min(said_again, lost.payloads.size())));
    owe(std::exchange(paying_, {}));
  }
  owe(std::move(lost));
  return true;
}

bool BusPublisher::set_topology(const Topology& topology, std::int64_t now_us) {
  cluster_ = topology.cluster;
  sharded_ = topology.cluster && major_of(topology.server_version) >= 7;
  if (!topology.cluster) return move_to(configured_channel_);
  const bool moved_by_view = moved();
  // The topology may be older, or another node's opinion.
  if (followed_us_ != 0 && !refuted_ && now_us - followed_us_ <= view_lasts_us_) return moved_by_view;
  const auto owns = [&](std::uint16_t owner) { return owner != Topology::kNoNode && topology.primaries[owner] == node_; };
  const auto lowest = std::find_if(topology.owner.begin(), topology.owner.end(), owns);
  if (lowest == topology.owner.end()) return move_to({}) || moved_by_view;
  const auto slot = static_cast<std::uint16_t>(std::distance(topology.owner.begin(), lowest));
  return move_to(coherence::sharded_channel(configured_channel_, slot)) || moved_by_view;
}

bool BusPublisher::moved() {
  if (!view_ || !cluster_) return false;
  const std::int64_t asked_us = view_->asked_us.load(std::memory_order_acquire);
  if (asked_us <= followed_us_) return false;
  followed_us_ = asked_us;
  refuted_ = false;
  return move_to(coherence::sharded_channel(configured_channel_, view_->lowest.load(std::memory_order_relaxed)));
}

bool BusPublisher::move_to(std::string channel) {
  if (channel == channel_) return false;
  channel_ = std::move(channel);
  if (!outbox_.open() && outbox_.awaited() == 0) return false;
  owe(outbox_.moved());
  paying_ = {};
  return true;
}

void BusPublisher::lost() {
  owe(outbox_.lost());
  paying_ = {};
}

void BusPublisher::again(Messages& out, std::int64_t now_us) {
  if (!able()) return;
  for (const std::string& payload : outbox_.republish(owed_, now_us)) publish(out, payload);
  paying_ = std::exchange(owed_, {});
}

void BusPublisher::owe(BusLost lost) {
  std::move(lost.streams.begin(), lost.streams.end(), std::back_inserter(owed_.streams));
  std::move(lost.payloads.begin(), lost.payloads.end(), std::back_inserter(owed_.payloads));
  owed_.everything = owed_.everything || lost.everything;
}

}  // namespace nearcached::tiers
