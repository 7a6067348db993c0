// What a data connection says to other processes about the writes that go over it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// Made for one connection, which knows nothing of what is said: only that each message is a whole request of its own, that
// it has one reply, and that messages and writes leave in the order in which they are given here. For each write:
//
//     before_write() -> messages;   the write;   behind_write() -> messages
//
// and then acknowledged() or refused() with each message's reply, in order. What was refused, or lost with the connection,
// is owed: again() gives it out once more, on the same connection to the same node. Of a write that the node may not even
// know nothing is said behind it, but behind_reply() or unanswered(). tiers/bus_publisher.hpp is the one there is. Confined
// to the connection's worker.
class Announcer {
 public:
  using Messages = std::vector<std::string>;  // whole requests, RESP

  virtual ~Announcer() = default;

  // It knows where its messages go on this node. While it does not, no write may be sent.
  [[nodiscard]] virtual bool able() const = 0;
  // All of these append to `out`.
  virtual void before_write(Messages& out, std::int64_t now_us) = 0;
  // False: its reply will show whether there is anything to say.
  [[nodiscard]] virtual bool behind_write(Messages& out, std::string_view request, std::int64_t now_us) = 0;
  // `error`: the line of the reply, without '-' and CR LF; empty if it is none, or not known. Nothing is appended if it says
  // that nothing was executed.
  virtual void behind_reply(Messages& out, std::string_view request, std::string_view error, std::int64_t now_us) = 0;
  // What behind_reply() would have said is owed: the reply was lost, or the messages can't go out now.
  virtual void unanswered() = 0;
  virtual void tick(Messages& out, std::int64_t now_us) = 0;
  // The connection is about to be closed in peace.
  virtual void farewell(Messages& out, std::int64_t now_us) = 0;

  // The reply of the oldest message.
  virtual void acknowledged() = 0;
  // It is an error. All messages on their way count as not said. False: this one had been counted so already.
  [[nodiscard]] virtual bool refused() = 0;
  // True if messages go elsewhere on this node now: those on their way count as not said.
  [[nodiscard]] virtual bool set_topology(const Topology& topology, std::int64_t now_us) = 0;
  // The same of what the node itself has said lately; asked ahead of each write and at ticks.
  [[nodiscard]] virtual bool moved() = 0;
  // The connection broke.
  virtual void lost() = 0;

  // Something that was not said is to be said again.
  [[nodiscard]] virtual bool owes() const = 0;
  // Nothing if it does not know where to.
  virtual void again(Messages& out, std::int64_t now_us) = 0;
};

using AnnouncerFactory = std::function<std::unique_ptr<Announcer>(const Endpoint&)>;

}  // namespace nearcached::tiers::upstream
