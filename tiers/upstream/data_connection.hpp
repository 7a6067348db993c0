// A pipelined connection to one node, shared by all sessions of a worker that have the same identity and RESP version.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/reply_framer.hpp"
#include "tiers/insight/counters.hpp"
#include "tiers/io/resolver.hpp"
#include "tiers/io/ring.hpp"
#include "tiers/io/stream.hpp"
#include "tiers/upstream/announcer.hpp"
#include "tiers/upstream/connector.hpp"
#include "tiers/upstream/redirect.hpp"
#include "tiers/upstream/request.hpp"
#include "tiers/upstream/script_book.hpp"

namespace nearcached::tiers::upstream {

class DataConnection;

// What a connection tells its owner, the router.
class DataConnectionOwner {
 public:
  // The request was not executed: it may be tried again, here or elsewhere, until its deadline. `error` says why.
  virtual void on_not_executed(DataConnection& from, RequestMeta meta, std::string_view bytes, std::string_view error) = 0;
  // The node sends the request elsewhere; `line` is its error.
  virtual void on_redirected(DataConnection& from, RequestMeta meta, std::string_view bytes, const Redirect& redirect,
                             std::string_view line) = 0;
  // A write that was sent behind ASKING is done: those who listen at the slot's owner are to be told of it.
  virtual void on_asked_write(DataConnection& from, RequestMeta meta, std::string_view bytes) = 0;
  // The node did not take an announcement: its channel may have moved.
  virtual void on_refused_announcement(DataConnection& from, std::string_view error) = 0;
  // Connecting failed, the connection broke, the node refused the credentials.
  virtual void on_trouble(DataConnection& from, std::string_view what) = 0;

 protected:
  ~DataConnectionOwner() = default;
};

struct DataConnectionOptions {
  Endpoint endpoint;
  IdentityPtr identity;
  protocol::RespVersion version = protocol::RespVersion::kResp2;
  std::int64_t connect_timeout_us = 1'000'000;
  std::int64_t command_timeout_us = 1'000'000;
  std::size_t pending_max = 100'000;
  const io::Tls* tls = nullptr;         // plain
  const ScriptBook* scripts = nullptr;  // that every node is to know
};

// Requests go out in the order they came, replies come back in that order and are passed on as they arrive, without a tree.
// The bytes of a request stay in the output buffer until its reply is complete: a redirected request is sent on from there.
//
// A request that gets no reply by its deadline is answered with an error, but keeps its place: its late reply is dropped,
// and the requests behind it still find theirs. A connection whose oldest request stays silent for kSilenceFactor times the
// command timeout is closed.
//
// Until the node has accepted the identity (AUTH, HELLO, SELECT) no request leaves: on a connection that failed to become
// somebody, a request would run as somebody else.
//
// With an Announcer, a write that is to be announced goes out with its announcement right behind it, so that the node
// executes the one after the other; where the announcer wants to see the reply first, with it. What the node refused, or
// what was lost with the connection, is announced again over the same connection, made anew for that; whose write it
// concerns is told when the node has taken it, or at the request's deadline that it has not. While a refusal stands no
// announced write is sent: it could not be announced either.
//
// Bad at: one huge reply holds up the ones behind it. Threading: confined to the worker.
class DataConnection final : public io::StreamOwner {
 public:
  static constexpr int kSilenceFactor = 3;
  static constexpr std::int64_t kSilentUs = 100'000;
  static constexpr std::uint64_t kFollowersLookedAt = 4096;

  DataConnection(io::EventLoop& loop, io::Resolver& resolver, insight::Counters& counters, DataConnectionOptions options,
                 DataConnectionOwner& owner, std::unique_ptr<Announcer> announcer = nullptr);

  [[nodiscard]] const Endpoint& endpoint() const { return options_.endpoint; }
  [[nodiscard]] const IdentityPtr& identity() const { return options_.identity; }
  [[nodiscard]] protocol::RespVersion version() const { return options_.version; }

  // False while it waits before it connects again: whoever sends now is told on_not_executed at the next tick.
  [[nodiscard]] bool available(std::int64_t now_us) const { return state_ != State::kClosed || now_us >= retry_at_us_; }
  [[nodiscard]] bool ready() const { return state_ == State::kReady; }
  // The node owes an answer for kSilentUs: one that is stopped still accepts connections and bytes.
  [[nodiscard]] bool silent(std::int64_t now_us) const;
  // It has answered on this connection, and is not silent.
  [[nodiscard]] bool responsive(std::int64_t now_us) const {
    return state_ == State::kReady && last_progress_us_ >= opened_us_ && !silent(now_us);
  }
  [[nodiscard]] bool full() const { return pending_.size() + waiting_.size() >= options_.pending_max; }
  [[nodiscard]] std::size_t pending() const { return pending_.size() + waiting_.size() + owed_.size(); }
  [[nodiscard]] std::uint64_t requests() const { return requests_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  [[nodiscard]] std::int64_t idle_since_us() const { return last_used_us_; }

  // False: a write that can't be announced at this moment; try again later.
  [[nodiscard]] bool takes(const RequestMeta& meta) const;
  // Why not: the error of the node, or that its channel is not known.
  [[nodiscard]] std::string why_not() const;
  // What on_trouble says was said the last time as well, and the node has answered nothing in between.
  [[nodiscard]] bool repeats() const { return repeats_; }
  // The error of a request while there is no connection: what became of the last one.
  [[nodiscard]] std::string no_connection() const;
  // The error of a request whose time was over before it could be sent.
  [[nodiscard]] std::string no_answer() const;
  void send(const RequestMeta& meta, std::string_view bytes, std::int64_t now_us);
  void set_topology(const Topology& topology);
  // Before it is closed in peace, and nothing is sent any more.
  void farewell(std::int64_t now_us);
  void flush();
  void tick(std::int64_t now_us);

 private:
  enum class State : std::uint8_t { kClosed, kConnecting, kGreeting, kReady };
  enum class Role : std::uint8_t {
    kRequest,
    kGreeting,
    kDropped,       // our own, its reply interests nobody
    kAnnouncement,  // with a sink: the last one of that sink's write
  };
  struct Pending {
    RequestMeta meta;
    std::size_t bytes = 0;  // of the request in the output buffer
    std::int64_t sent_us = 0;
    Role role = Role::kRequest;
    std::uint64_t pays = 0;  // of kAnnouncement: with it all in owed_ below this number are announced
    bool again = false;      // a read that overtook a request of its client: its reply is dropped, it is asked again
    bool unsaid = false;     // a write that its reply decides of whether it is announced
  };
  // A write that was executed, or may be yet, and whose announcement the node did not take.
  struct Owed {
    std::uint64_t number = 0;
    RequestMeta meta;
  };
  struct Waiting {
    RequestMeta meta;
    std::string bytes;
  };

  void on_connected() override;
  std::size_t on_data(std::string_view bytes) override;
  void on_closed(int error) override;

  void open(std::int64_t now_us);
  void enqueue(const RequestMeta& meta, std::string_view bytes, Role role, std::int64_t now_us);
  void greeted();
  void become_ready(std::int64_t now_us);
  void pass_on(std::string_view piece, bool last);
  // A whole error line at the head of the queue; a redirect is not the client's business.
  [[nodiscard]] bool on_error_line(std::string_view frame);
  // The oldest request is to wait: what its client reads of its slot behind it must not be answered from before it.
  void hold_followers();
  void finish_head(std::int64_t now_us);
  void expire(std::int64_t now_us);
  void expire_waiting(std::int64_t now_us);
  void lost(std::string_view what, bool refused);
  void give_back(std::string_view what);
  void give_back_request(const Pending& request, std::string_view bytes, bool left, bool broken, std::string_view what);

  // data_connection_announce.cpp
  void enqueue_write(const RequestMeta& meta, std::string_view bytes, std::int64_t now_us);
  void enqueue_announcements(std::int64_t now_us);
  void announce_answered(std::string_view error, std::int64_t now_us);
  void announced();
  void announcement_refused(std::string_view error, std::int64_t now_us);
  void announce_again(std::int64_t now_us);
  void owe_all();
  void owe(const RequestMeta& meta) { owed_.push_back({owed_next_++, meta}); }
  void disown(std::uint64_t number, const RequestMeta& meta);
  void follow_channel();
  void tick_announcements(std::int64_t now_us);
  void expire_owed(std::int64_t now_us);
  // Bytes of the oldest request's reply went to its sink, and more are to come.
  [[nodiscard]] bool head_passed_on() const { return mid_frame_ && !in_push_; }

  insight::Counters& counters_;
  const DataConnectionOptions options_;
  DataConnectionOwner& owner_;
  io::Stream stream_;
  Connector connector_;
  protocol::ReplyFramer framer_;
  State state_ = State::kClosed;
  io::Ring<Pending> pending_;
  std::deque<Waiting> waiting_;  // before the node has accepted us
  std::uint64_t expired_ = 0;    // pending requests below this number were told that their time is over
  bool mid_frame_ = false;       // the framer is inside a reply or a push
  bool in_push_ = false;         // it is a push
  std::size_t greetings_left_ = 0;
  std::uint32_t failures_ = 0;  // in a row
  std::string trouble_;         // what ended the last connection
  bool repeats_ = false;        // the one before, too
  std::int64_t opened_us_ = 0;
  std::int64_t retry_at_us_ = 0;
  std::int64_t last_used_us_ = 0;
  std::int64_t last_progress_us_ = 0;  // bytes came in
  std::uint64_t requests_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t bytes_in_seen_ = 0;
  std::uint64_t bytes_out_seen_ = 0;

  const std::unique_ptr<Announcer> announcer_;
  Announcer::Messages messages_;  // scratch
  std::deque<Owed> owed_;
  std::uint64_t owed_next_ = 1;
  std::uint32_t refusals_ = 0;  // in a row: the node refuses announcements, as far as is known
  std::string refusal_;
  std::int64_t again_at_us_ = 0;
};

}  // namespace nearcached::tiers::upstream
