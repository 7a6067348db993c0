// From the name of a node to a connected stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/io/resolver.hpp"
#include "tiers/io/stream.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// A handshake that is not done when its time is over: the server may wait for something else.
inline constexpr std::string_view kNoHandshake = "TLS: no answer to the handshake";

// What every connection to the upstream begins with: the address of the endpoint (a literal, a unix socket, or asked of the
// resolver), then Stream::connect, with TLS if the upstream has it; unix sockets are plain always. Of a name's several
// addresses the attempt-th is taken, so that whoever counts his failures in a row goes through all of them.
//
// Success is the stream's on_connected(); a failure is told as on_closed(errno) to the stream's owner, never from inside
// open(), and once. Whoever gives up closes the stream and calls cancel(): a look-up has no socket yet that could be closed.
//
// Bad at: a deadline. The owner has one for connecting, greeting and all. Threading: confined to the loop's thread.
class Connector {
 public:
  // `loop`, `resolver`, `stream` and `tls` outlive it. `tls`: nullptr is plain.
  Connector(io::EventLoop& loop, io::Resolver& resolver, io::Stream& stream, Endpoint endpoint,
            const io::Tls* tls = nullptr);
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

  // The stream is closed, and no attempt is under way.
  void open(std::uint32_t attempt);
  void cancel() { ++round_; }
  // What an error of on_closed means, for people.
  [[nodiscard]] std::string error_text(int error) const;

 private:
  void connect(const std::vector<io::SocketAddress>& addresses, std::uint32_t attempt);
  void fail(int error);

  io::EventLoop& loop_;
  io::Resolver& resolver_;
  io::Stream& stream_;
  const Endpoint endpoint_;
  const io::Tls* const tls_;
  std::uint64_t round_ = 0;  // an answer that belongs to an earlier one comes too late
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace nearcached::tiers::upstream
