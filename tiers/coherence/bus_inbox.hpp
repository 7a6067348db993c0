// What a fill connection hears on the bus, and whether it has heard everything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>

#include "tiers/coherence/bus_message.hpp"

namespace nearcached::tiers::coherence {

struct BusInboxOptions {
  std::uint64_t publisher = 0;          // of this process: its own messages are not applied
  std::int64_t silence_us = 1'000'000;  // a stream that is not heard for so long is dead; at most the smallest max_staleness
};

// One per fill link, on the very connection whose replies become entries. A writer publishes behind its write on one
// connection to the same node, so messages come in the order in which the node executed the writes, and any reply on the
// fill connection proves that what was published before it has come. What is left to prove is that writers did publish. Here
// it is proved, per stream (bus_message.hpp), by numbers and by not being silent; docs/bus_protocol.md has the argument in
// full:
//
// - A known stream whose next message is not the next number, or that is silent for silence_us without a kBye: gap. A number
//   that comes again or goes back is a gap too: on Redis it means that two processes speak under one name.
// - A writer announces each stream (kHeartbeat of 0) ahead of its first write, and never writes later than one heartbeat
//   interval after its last message. So a stream that writes after we subscribed is heard before its write is executed, or
//   within an interval of the subscription. Therefore: what is heard within silence_us of the subscription is joined at any
//   number, and at the end of that time there is one gap (*settling*), which covers writers that were never heard because
//   they died in it. Afterwards an unknown stream is joined without a gap only at its announcement.
// - kLost of a stream that was heard as far as its publisher knows it was published: no gap, since the publisher has told
//   the rest again ahead of it. Of any other stream: gap.
// - A stream that has ended is remembered for a while (kEndedMax): that it broke may be told again, if the stream that told
//   it broke as well.
// - A damaged message, or one of another version, may have been anything: gap, and everything is purged.
// - More than kStreamsMax streams: whatever the others say is a gap, and so is their silence.
//
// Bad at: writers whose connection is cut between write and message while their process dies with the write still unread by
// the node (that outlives our silence_us; l1.ttl bounds it). A gap is per link, never per key.
// Sans-I/O; confined to the fill link's owner. No allocation but for a new stream.
class BusInbox {
 public:
  static constexpr std::size_t kStreamsMax = 16'384;
  static constexpr std::size_t kEndedMax = 4096;

  enum class Action : std::uint8_t {
    kNothing,
    kKeys,    // drop the keys
    kPrefix,  // drop what begins with the text, of every link: a prefix knows no node
    kAll,     // drop everything, of every link: tags, namespaces, and what can't be read
  };
  struct Outcome {
    // Something published on this node may not have been heard: all entries of this link are unverified now, and what is
    // being filled may not be installed. The action is to be taken as well.
    bool gap = false;
    Action action = Action::kNothing;
    // Valid as long as the payload, and until the next message.
    std::span<const std::string_view> keys;
    std::string_view text;
  };

  struct Stats {
    std::uint64_t messages = 0;
    std::uint64_t own = 0;
    std::uint64_t damaged = 0;
    std::uint64_t other_version = 0;
    std::uint64_t gaps_sequence = 0;  // a number was missing, came again, or a stream appeared in the middle
    std::uint64_t gaps_lost = 0;      // kLost of what was not heard
    std::uint64_t gaps_silence = 0;   // streams that fell silent
    std::uint64_t gaps_crowded = 0;   // messages of streams beyond kStreamsMax
  };

  explicit BusInbox(BusInboxOptions options) : options_(options) {}

  // The node has confirmed a subscription. What was known is void; if it is not the connection's first (another channel),
  // that is a gap of the caller's.
  void subscribed(std::int64_t now_us);
  // The connection is lost. Nothing comes until subscribed().
  void clear();

  // `as_of_us`: a time at which the message was not yet published; it must not go back. The sending of the newest request
  // that is answered on this connection is exact; the present adds the message's delay to the time after which silence is
  // noticed.
  [[nodiscard]] Outcome on_message(std::string_view payload, std::int64_t as_of_us);

  // True: gap. To be called when sound_until_us() has come, at the latest; what has been received is to be given to
  // on_message before, or a sidecar that was stopped declares everybody else silent (which is safe).
  [[nodiscard]] bool tick(std::int64_t now_us);
  // Entries of this link may not be served from this time on, unless messages move it. O(1).
  [[nodiscard]] std::int64_t sound_until_us() const;

  // silence_us have passed since the subscription.
  [[nodiscard]] bool settled() const { return settled_; }
  [[nodiscard]] std::size_t streams() const { return streams_.size(); }
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  struct Name {
    std::uint64_t publisher = 0;
    std::uint32_t epoch = 0;
    friend bool operator==(const Name&, const Name&) = default;
  };
  struct NameHash {
    // The publisher is a random number already.
    std::size_t operator()(const Name& name) const { return name.publisher ^ (name.epoch * 0x9E3779B97F4A7C15u); }
  };
  struct Stream {
    Name name;
    std::uint64_t seen = 0;  // the last number
    std::int64_t heard_us = 0;
    bool ended = false;
  };
  using Streams = std::list<Stream>;  // the one that is silent for longest first
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();

  [[nodiscard]] static Action action_of(BusKind kind);
  [[nodiscard]] bool follow(std::int64_t as_of_us);
  [[nodiscard]] bool join(std::int64_t as_of_us);
  [[nodiscard]] bool close_lost();
  void end(Streams::iterator stream);
  void forget(Streams& from, Streams::iterator stream);

  const BusInboxOptions options_;
  BusMessage message_;
  Streams streams_;
  Streams ended_;  // the longest ended first
  std::unordered_map<Name, Streams::iterator, NameHash> by_name_;
  std::int64_t subscribed_us_ = kNever;
  bool settled_ = false;
  std::int64_t crowd_heard_us_ = kNever;  // the last message of a stream that found no place
  Stats stats_;
};

}  // namespace nearcached::tiers::coherence
