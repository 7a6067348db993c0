// A connection's writes, told to the other sidecars over Redis Pub/Sub.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command_table.hpp"
#include "protocol/request_parser.hpp"
#include "tiers/coherence/bus_outbox.hpp"
#include "tiers/coherence/bus_views.hpp"
#include "tiers/upstream/announcer.hpp"

namespace nearcached::tiers {

// What the upstream says of a command that the table does not have; nullptr: it is not known.
using CommandLookup = std::function<const protocol::Command*(std::string_view name)>;

// Finds the keys that a request writes in its bytes: connections carry requests, not what the session knew of them. Confined
// to one thread.
class WrittenKeys {
 public:
  explicit WrittenKeys(CommandLookup learned) : learned_(std::move(learned)) {}

  // False: they are not known, or are all there are. Else keys() are views into `request`, until the next call.
  [[nodiscard]] bool find(std::string_view request);
  // Of the last request: nobody knows the command. Its name, else empty; a view into `request`.
  [[nodiscard]] std::string_view unknown_command() const { return unknown_command_; }
  [[nodiscard]] std::span<const std::string_view> keys() const { return keys_; }

 private:
  [[nodiscard]] const protocol::Command* command_of(std::span<const std::string_view> args) const;

  CommandLookup learned_;
  protocol::RequestParser parser_;
  std::vector<std::uint32_t> positions_;
  std::vector<std::string_view> keys_;
  std::string_view unknown_command_;
};

// The line of an error reply, without '-' and CR LF, with which Redis and Valkey say of this very command that they did not
// begin to execute it: it is not known, has the wrong number of arguments, the user may not call it or has not said who it
// is. An error that names another command may come from inside one that has changed something.
[[nodiscard]] bool says_not_executed(std::string_view error, std::string_view command);

struct BusPublisherOptions {
  std::string channel;          // coherence.bus.channel
  std::uint64_t publisher = 0;  // random, of the process
  std::int64_t heartbeat_us = 1'000'000 / 3;
  std::int64_t rest_after_us = 10'000'000;  // longer than any command takes
  coherence::BusViews* views = nullptr;     // of the process; none: the topology alone says where to publish
};

// The Announcer of one data connection: a BusOutbox, the channel that its payloads are published on, and what of them the
// node did not take. docs/bus_protocol.md says what is said when, and why it is enough.
//
// One server: the configured channel. In a cluster the channel hangs on the lowest slot that the node says it has
// (coherence::BusViews); where it has not said so for three heartbeats, that it has in the topology. SPUBLISH from Redis 7
// on. A node that has no slot has no channel, and takes no write until the topology names one. When the channel moves, those
// who listen on the new one are told that they may have missed something.
//
// What is owed is bounded by what the outbox remembers; beyond it says "everything". A node that refuses every message is
// not told of the streams that it refused: nobody has heard of them.
//
// Bad at: writes of unknown keys. Each is a message that drops everything at all peers; of a command that neither the table
// nor the upstream knew it waits for the reply, or a client's typo would empty every L1. Confined to the connection's
// worker; `epochs` is the process's own.
class BusPublisher final : public upstream::Announcer {
 public:
  BusPublisher(const BusPublisherOptions& options, CommandLookup learned, std::atomic<std::uint32_t>& epochs,
               upstream::Endpoint node);

  [[nodiscard]] bool able() const override { return !channel_.empty(); }
  void before_write(Messages& out, std::int64_t now_us) override;
  [[nodiscard]] bool behind_write(Messages& out, std::string_view request, std::int64_t now_us) override;
  void behind_reply(Messages& out, std::string_view request, std::string_view error, std::int64_t now_us) override;
  void unanswered() override { owed_.everything = true; }
  void tick(Messages& out, std::int64_t now_us) override;
  void farewell(Messages& out, std::int64_t now_us) override;
  void acknowledged() override;
  [[nodiscard]] bool refused() override;
  [[nodiscard]] bool set_topology(const upstream::Topology& topology, std::int64_t now_us) override;
  [[nodiscard]] bool moved() override;
  void lost() override;
  [[nodiscard]] bool owes() const override { return !owed_.empty(); }
  void again(Messages& out, std::int64_t now_us) override;

  [[nodiscard]] const std::string& channel() const { return channel_; }

 private:
  void publish(Messages& out, std::string_view payload) const;
  void owe(coherence::BusLost lost);
  [[nodiscard]] bool move_to(std::string channel);

  const std::string configured_channel_;
  const upstream::Endpoint node_;
  const std::shared_ptr<const coherence::BusViews::View> view_;  // none: not asked for
  const std::int64_t view_lasts_us_;
  coherence::BusOutbox outbox_;
  WrittenKeys written_;
  std::string channel_;  // empty: not known
  bool cluster_ = false;
  bool sharded_ = false;
  std::int64_t followed_us_ = 0;  // View::asked_us of the last one followed
  bool refuted_ = false;          // it, by a refusal since
  coherence::BusLost owed_;
  coherence::BusLost paying_;  // given out by again(), and nothing of it acknowledged yet
};

}  // namespace nearcached::tiers
