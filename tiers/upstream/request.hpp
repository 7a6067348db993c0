// A request on its way to the upstream, and whoever waits for its reply.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/writer.hpp"
#include "tiers/upstream/identity.hpp"

namespace nearcached::tiers::upstream {

// Gets the reply of a request. Called on the worker's thread, never from inside the call that sent the request. Exactly one
// of "on_reply with last" and on_failure ends each request.
class ReplySink {
 public:
  // The upstream's own bytes, as they come; `last` with the end of the reply.
  virtual void on_reply(std::uint64_t token, std::string_view bytes, bool last) = 0;
  // The request could not be answered: `error` is the text of an error reply, without '-' and CR LF. Bytes of a reply may
  // have been passed on before (`broken`): then the client's stream can only be closed.
  virtual void on_failure(std::uint64_t token, std::string_view error, bool broken) = 0;
  // The request goes elsewhere than where it was sent first (MOVED, ASK, waiting): later requests may overtake it.
  virtual void on_rerouted(std::uint64_t token) = 0;
  // Of a request that is announced, once, besides "on_reply with last" and before or after it (never besides on_failure):
  // the others have been told, or could not be, and `error` says why.
  virtual void on_published(std::uint64_t, bool /*told*/, std::string_view /*error*/) {}
  // Ahead of on_failure of an announced request: it may have been executed, or may be yet. `request` is valid in the call.
  virtual void on_outcome_unknown(std::uint64_t, std::string_view /*request*/) {}

 protected:
  ~ReplySink() = default;
};

inline constexpr std::uint32_t kNoSlot = 0xffffffff;

struct RequestMeta {
  ReplySink* sink = nullptr;
  std::uint64_t token = 0;
  std::uint32_t slot = kNoSlot;  // kNoSlot: any node, or the one it is sent to
  std::uint32_t affinity = 0;    // with kNoSlot: which node, so that one client's requests keep their order
  bool write = false;            // may change something: never sent again once a byte of it left
  bool pinned_to_node = false;   // meant for that node and no other (fan-out): no rerouting
  bool asking = false;           // goes behind ASKING
  bool announce = false;         // a write that others are told of (Announcer)
  bool only_announce = false;    // it has been executed: only the others are told; ends with on_published
  std::uint8_t redirects = 0;
  std::int64_t deadline_us = 0;
  std::uint64_t order = 0;  // in which the router was given them
};

inline void fail(const RequestMeta& meta, std::string_view error, bool broken) {
  if (meta.only_announce) {
    meta.sink->on_published(meta.token, false, error);
  } else {
    meta.sink->on_failure(meta.token, error, broken);
  }
}

// A request that waits: for a connection, or for its time to be tried again. Holds a copy of its bytes.
struct WaitingRequest {
  RequestMeta meta;
  std::string bytes;
  IdentityPtr identity;
  protocol::RespVersion version = protocol::RespVersion::kResp2;
  Endpoint target;  // of pinned_to_node and asking
  std::int64_t next_try_us = 0;
  std::string last_error;  // what the client is told if the deadline passes
};

}  // namespace nearcached::tiers::upstream
