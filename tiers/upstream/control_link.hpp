// One RESP2 connection of the control plane.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tiers/io/tls.hpp"
#include "tiers/upstream/control_loop.hpp"
#include "tiers/upstream/control_reply.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

enum class LinkStatus : std::uint8_t {
  kOk,             // there is a reply; it may be an error reply
  kConnectFailed,  // name not resolved, refused, unreachable, no TLS, or not within connect_timeout
  kTimedOut,       // connected, but no whole reply within command_timeout
  kLost,           // closed or reset by the other side, or too many requests at once
  kMalformed,      // not RESP2, or a reply beyond the link's bounds
  kTooDeep         // nested deeper than hiredis's reader follows (7 levels in 0.14): `reply` holds what came before that
};

struct LinkResult {
  LinkStatus status = LinkStatus::kOk;
  ControlReply reply;
  std::string why;  // for people, where status is not kOk
};

// Pipelined request and reply on a TCP or unix socket; hiredis's reader parses, Asio moves the bytes. hiredis's own contexts
// and adapters are not used: the packaged version has no TLS, connects to one address only and owns its socket.
//
//   resolving -> connecting (address by address) -> with TLS, shaking hands -> up -> dead
//
// It lives once: whatever goes wrong fails every request that waits, with the same status, and the link is dead;
// reconnecting is a new link and the owner's decision. connect_timeout covers the lookup and all addresses together (each
// address gets an equal share of what is left, so that a black hole among them does not use up the time of the others).
// command_timeout runs per request, from the moment it can be sent.
//
// Once subscribed, only messages are to come: nothing is asked on that link any more, they could not be told apart.
//
// Bounds: kRequestsMax requests at once, kReplyBytesMax and kReplyElementsMax per reply, kAddressesMax addresses of a name.
//
// Threading: of the loop's thread. A handler is never called from within request(), and never after the link was destroyed;
// it may destroy the link.
class ControlLink {
 public:
  static constexpr std::size_t kRequestsMax = 16;
  // CLUSTER SLOTS of 16384 ranges of one slot, with replicas, is about 8 MB and 600,000 elements.
  static constexpr std::size_t kReplyBytesMax = 16u << 20;
  static constexpr std::size_t kReplyElementsMax = 1u << 20;
  static constexpr std::size_t kAddressesMax = 16;

  struct Options {
    Endpoint endpoint;
    const io::Tls* tls = nullptr;  // plain
    std::chrono::milliseconds connect_timeout{1000};
    std::chrono::milliseconds command_timeout{1000};
    // What nobody asked for: messages of a subscription. Empty: it breaks the link.
    std::function<void(const ControlReply&)> on_push{};
  };
  using Handler = std::function<void(LinkResult)>;

  // Begins to connect at once.
  ControlLink(ControlLoop& loop, Options options);
  ~ControlLink();
  ControlLink(const ControlLink&) = delete;
  ControlLink& operator=(const ControlLink&) = delete;

  // `arguments` are sent as they are, whatever bytes they hold.
  void request(const std::vector<std::string>& arguments, Handler handler);
  [[nodiscard]] bool dead() const;
  [[nodiscard]] const Endpoint& endpoint() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace nearcached::tiers::upstream
