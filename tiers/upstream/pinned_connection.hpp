// An upstream connection that belongs to one client at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/reply_framer.hpp"
#include "tiers/io/resolver.hpp"
#include "tiers/io/ring.hpp"
#include "tiers/io/stream.hpp"
#include "tiers/upstream/connector.hpp"
#include "tiers/upstream/request.hpp"

namespace nearcached::tiers::upstream {

class PinnedConnection;

// Whose connection it is. on_failure's `broken` is true where bytes of the reply have been passed on before.
class PinnedOwner : public ReplySink {
 public:
  // A whole frame that answers nothing: a push of RESP3, a confirmation or message of RESP2, an error nobody waits for.
  virtual void on_push(PinnedConnection& from, std::string_view frame) = 0;
  // It broke, behind on_failure for all that was unanswered. To be given back to its pool, later.
  virtual void on_lost(PinnedConnection& connection, std::string_view why) = 0;

 protected:
  ~PinnedOwner() = default;
};

// What the connection tells the pool it comes from.
class PinnedHost {
 public:
  virtual void on_ready(PinnedConnection& connection) = 0;
  // Before it was ready, or while nobody owned it; `why` is the text of an error reply.
  virtual void on_useless(PinnedConnection& connection, std::string_view why) = 0;
  // There are bytes to flush.
  virtual void on_bytes(PinnedConnection& connection) = 0;

 protected:
  ~PinnedHost() = default;
};

struct PinnedConnectionOptions {
  Endpoint endpoint;
  IdentityPtr identity;
  protocol::RespVersion version = protocol::RespVersion::kResp2;
  std::int64_t connect_timeout_us = 1'000'000;
  const io::Tls* tls = nullptr;             // plain
  std::size_t push_bytes_max = 512u << 20;  // of one frame that answers nothing
};

// Bytes pass in both directions as they are; replies are counted to know whose they are, nothing else. No request is ever
// sent twice or elsewhere, and an error, a redirection too, is a reply like any other: the owner knows what it means.
//
//   connecting -> greeting (AUTH or HELLO, SELECT, CLIENT ID) -> ready -> broken
//
// Deadlines are of requests that have one: a connection whose oldest request is over its deadline breaks, because what comes
// later could no longer be told apart. TCP keepalive ends one to a host that is gone.
//
// Threading: confined to the worker. Callbacks never come from inside send() or tell().
class PinnedConnection final : public io::StreamOwner {
 public:
  static constexpr std::int64_t kKeepaliveMs = 15'000;

  PinnedConnection(io::EventLoop& loop, io::Resolver& resolver, PinnedConnectionOptions options, PinnedHost& host);
  ~PinnedConnection();

  void open(std::int64_t now_us);
  // nullptr: nobody's.
  void set_owner(PinnedOwner* owner) { owner_ = owner; }

  // One reply, which goes to the owner with `token`. deadline_us 0: it may take for ever.
  void send(std::uint64_t token, std::string_view bytes, std::int64_t deadline_us);
  // Whatever it causes comes as on_push.
  void tell(std::string_view bytes);
  void flush();
  void tick(std::int64_t now_us);

  [[nodiscard]] const Endpoint& endpoint() const { return options_.endpoint; }
  [[nodiscard]] const IdentityPtr& identity() const { return options_.identity; }
  [[nodiscard]] protocol::RespVersion version() const { return options_.version; }
  // The node's number for it (CLIENT ID); 0: the node did not tell.
  [[nodiscard]] std::uint64_t upstream_id() const { return upstream_id_; }
  [[nodiscard]] bool ready() const { return state_ == State::kReady; }
  [[nodiscard]] bool broken() const { return state_ == State::kBroken; }
  // Nothing is owed, in either direction.
  [[nodiscard]] bool idle() const { return pending_.empty() && !mid_frame_; }

 private:
  enum class State : std::uint8_t { kConnecting, kGreeting, kReady, kBroken };
  enum class Role : std::uint8_t { kRequest, kGreeting, kClientId };
  struct Pending {
    std::uint64_t token = 0;
    std::int64_t deadline_us = 0;
    Role role = Role::kRequest;
    bool begun = false;  // bytes of its reply were passed on
  };

  void on_connected() override;
  std::size_t on_data(std::string_view bytes) override;
  void on_closed(int error) override;
  void pass_on(std::string_view piece, bool last);
  void greeted(Role role, std::string_view frame);
  void lose(std::string_view why);

  io::EventLoop& loop_;
  const PinnedConnectionOptions options_;
  PinnedHost& host_;
  PinnedOwner* owner_ = nullptr;
  io::Stream stream_;
  Connector connector_;
  protocol::ReplyFramer framer_;
  State state_ = State::kConnecting;
  io::Ring<Pending> pending_;
  std::string frame_;     // of a greeting or a push, as far as it is here
  bool refused_ = false;  // the node said why it does not greet
  bool mid_frame_ = false;
  bool to_owner_ = false;  // the frame at hand answers the oldest request
  std::int64_t opened_us_ = 0;
  std::uint64_t upstream_id_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace nearcached::tiers::upstream
