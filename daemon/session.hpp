// One client: its requests in, its replies out, in that order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/asked_get.hpp"
#include "daemon/client_facts.hpp"
#include "daemon/gather.hpp"
#include "daemon/pinned_client.hpp"
#include "daemon/request_trail.hpp"
#include "daemon/shared.hpp"
#include "daemon/upstream_question.hpp"
#include "protocol/command_table.hpp"
#include "protocol/request_parser.hpp"
#include "protocol/writer.hpp"
#include "tiers/coherence/keys_in_flight.hpp"
#include "tiers/fill_service.hpp"
#include "tiers/io/ring.hpp"
#include "tiers/io/stream.hpp"
#include "tiers/upstream/router.hpp"
#include "tiers/write_behind.hpp"

namespace nearcached::daemon {

class Worker;

// Reads requests, decides what each one is, and sends the replies back in request order. What L1 or the process itself can
// answer is written at once if nothing older is unanswered; everything else takes a place in the queue of replies, and bytes
// that come before their turn wait there.
//
//     bytes -> RequestParser -> command table -> local, or an L1 hit                 -> out
//                                             -> fill (FillService)       -> a place -> out
//                                             -> forward (Router)         -> a place -> out
//                                             -> split or fan-out (Gather) -> a place -> out
//
// Coherence, as far as a session is concerned: an own write is fenced from dispatch to the first byte of its reply, which is
// not passed on before the fence's end has erased the key; keys that are in flight on a data connection are read past L1,
// behind what is in flight; keys that are being filled are forwarded only when the fill is answered; a reply that came past
// L1 erases the key on its way out, so that no later hit is older.
//
// Where peers hear of changes over the bus, a write's reply is held until the node has taken the message that tells of it;
// if it does not, the client gets an error that says so. Its fence lasts as long.
//
// Requests stop being read (backpressure) while: limits.pipeline replies are open, limits.output_pause_bytes are unread, a
// command must wait for all before it, the upstream connection is full, or the process is over its buffer budget.
//
// A session whose client is gone lives on until everything it asked for is answered: fences must end. Confined to its
// worker.
class Session final : public tiers::io::StreamOwner, public tiers::upstream::ReplySink, public tiers::FillSink {
 public:
  Session(Worker& worker, Shared& shared, int fd, bool tls);
  ~Session();

  // The end of the loop's turn: writes what collected, reads on if it may, dies if it must.
  void end_of_turn();
  // No further requests; closes when all replies are out.
  void drain();
  // Closes now; `reason` is for the log, empty for an ordinary end.
  void shut(std::string_view reason);
  // What CLIENT LIST says of it.
  [[nodiscard]] ClientFacts facts();
  // The upstream connections have room again.
  void retry_congested();

  [[nodiscard]] bool finished() const { return !stream_.is_open() && replies_.empty() && outside_ == 0; }
  [[nodiscard]] std::size_t buffered_bytes() {
    return stream_.out().size() + stream_.unread_bytes() + queued_bytes_ + kept_bytes_;
  }
  // Of that what does not lie in the worker's buffer pool.
  [[nodiscard]] std::size_t heap_bytes() const {
    return queued_bytes_ + kept_bytes_ + parser_.memory_bytes() + trail_.memory_bytes();
  }
  [[nodiscard]] std::int64_t last_active_us() const { return std::max(now_us_, answered_us_); }
  [[nodiscard]] bool idle() const;
  // Says why, if the command is not for this client.
  [[nodiscard]] bool refused(const protocol::Command& command, const std::vector<std::string_view>& args);
  [[nodiscard]] bool is_open() const { return stream_.is_open(); }
  [[nodiscard]] bool handshaking() const { return stream_.handshaking(); }
  // What others do, if this client monitors.
  void show(std::string_view lines) {
    if (!muted()) push(lines);
  }

 private:
  friend class Worker;
  friend class PinnedClient;
  using Args = std::vector<std::string_view>;
  using Command = protocol::Command;

  // What ends with the reply of a request.
  enum class Touch : std::uint8_t {
    kNothing,
    kRead,
    kWrite,
    kReadUnknown,   // keys that the command does not name (KEYS, EVAL_RO without keys): what it tells may be newer than L1
    kWriteUnknown,  // the same; the replies of both are held until the invalidations of what they tell are in
    kWriteAll,
  };
  struct Place {
    std::string early;                                   // bytes that came before their turn
    std::string held;                                    // a reply that waits for invalidations, or to be published
    std::string unpublished_why;                         // the write is done, but the others could not be told
    std::unique_ptr<Gather> gather;                      // of a command with several parts
    std::unique_ptr<std::vector<std::uint64_t>> hashes;  // of the keys, if there are several
    std::vector<std::uint64_t> filled;                   // by part of a gather: its hash in filling_, 0 if against all
    std::uint64_t hash = 0;
    std::int64_t asked_us = 0;  // of fills: when the client asked
    std::int64_t held_us = 0;   // ... and since when a link that is not serving has been waited for
    std::uint64_t trail = 0;    // ticket of what is measured; 0: it is not
    protocol::Resp2Form form = protocol::Resp2Form::kPlain;  // of fills
    std::uint32_t unpublished = 0;                           // requests of which the others have not been told
    Touch touch = Touch::kNothing;
    bool replied = false;             // all of the reply is in held or in gather
    bool unheard_of = false;          // a command that the upstream may not know either
    bool against_all = false;         // counts against all keys in forwarded_
    bool filled_against_all = false;  // the same in filling_
    bool local = false;               // measured: answered by this process
    bool muted = false;               // CLIENT REPLY: the client wants no answer
    bool done = false;
  };
  // One key of an MGET.
  struct KeyRead {
    enum class Way : std::uint8_t { kHit, kFilled, kForwarded };
    std::uint64_t hash = 0;
    std::string_view reply = {};  // of a hit
    std::size_t unpacked_at = 0;  // where it lies among what was unpacked for this command
    std::size_t unpacked = 0;     // and its size; 0: it does not lie there
    Way way = Way::kForwarded;
    tiers::insight::MissReason reason = tiers::insight::MissReason::kAbsent;
    bool stale = false;
    bool pending = false;  // the value of a deferred write
  };
  enum class Stall : std::uint8_t {
    kNone,
    kUntilEmpty,  // the next command must not overtake anything
    kAsked,       // an answer from outside the data path is awaited (AUTH, COMMAND INFO, a proof)
    kCongested,
  };

  // tiers::io::StreamOwner
  std::size_t on_data(std::string_view bytes) override;
  bool on_end_of_input() override;
  void on_closed(int error) override;
  void on_writable() override;
  // tiers::upstream::ReplySink
  void on_reply(std::uint64_t token, std::string_view bytes, bool last) override;
  void on_failure(std::uint64_t token, std::string_view error, bool broken) override;
  void on_rerouted(std::uint64_t token) override;
  void on_published(std::uint64_t token, bool told, std::string_view error) override;
  void on_outcome_unknown(std::uint64_t token, std::string_view request) override;
  // tiers::FillSink
  void on_fill(std::uint64_t token, bool answered, std::string_view bytes) override;
  void on_barrier(std::uint64_t token) override;
  void on_proven() override;

  // session.cpp: reading and answering.
  [[nodiscard]] bool may_read_on();
  std::uint64_t open_place();
  void emit(std::uint64_t number, std::string_view bytes);
  void finish(std::uint64_t number);
  [[nodiscard]] bool gather_more(Gather& gather, std::uint64_t part, std::string_view bytes, bool last);
  void finish_gather(std::uint64_t number);
  void finish_held(std::uint64_t number);
  void release(std::uint64_t number);
  [[nodiscard]] static bool needs_barrier(const Place& place);
  void settle(Place& place);
  void touched();
  // Bytes that answer nothing (RESP3 pushes, messages to a subscriber), between two replies.
  void push(std::string_view frame);
  template <class Write>
  void answer(Write write);
  // Whatever CLIENT REPLY says: what is no reply but a push.
  template <class Write>
  void answer_in_any_case(Write write);
  void answer_error(std::string_view text);
  void answer_wrong_arity(const Command& command);
  // Text for people: a bulk string, in RESP3 a verbatim one.
  void answer_text(std::string_view text);
  [[nodiscard]] std::string text_reply(std::string_view text) const;

  // session_dispatch.cpp: false if the command was not taken: it comes again when the session may read on.
  [[nodiscard]] bool dispatch(const Args& args, std::string_view raw);
  [[nodiscard]] bool dispatch_known(const Command& command, const Args& args, std::string_view raw);
  template <class Act>
  [[nodiscard]] bool take(const Command& command, const Args& args, Act act);
  [[nodiscard]] bool carry_out(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool awaits_topology();
  [[nodiscard]] bool dispatch_shared(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool dispatch_unknown(const Args& args, std::string_view raw);
  [[nodiscard]] bool forward(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool split(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool forward_parts(const Command& command, const Args& args, std::string_view raw);
  void send_parts(const Command& command, const Args& args);
  [[nodiscard]] bool fan_out(const Command& command, const Args& args, std::string_view raw);
  // session_cluster.cpp. scan() is for a cluster; emulate_cluster() is false where the command is not one that it answers.
  [[nodiscard]] bool scan(const Command& command, const Args& args);
  [[nodiscard]] bool near_upstream(const Args& args);
  [[nodiscard]] bool emulate_cluster(const Command& command, const Args& args);
  // The command must wait: for what it would overtake, or for room on the way to the slot's node.
  [[nodiscard]] bool must_wait(const Args& args, std::uint32_t slot);
  [[nodiscard]] bool congested(std::uint32_t slot);
  void touch_keys(Place& place, const Command& command, const Args& args);
  // A write is about to be sent, or has just been answered: its fence begins, and ends with settle().
  void begin_fences(const Place& place);
  void begin_pinned_write(Place& place, Touch touch);
  // WAIT asks the nodes that this client wrote to.
  void note_written(std::uint32_t slot);
  [[nodiscard]] bool wrote_to(std::size_t primary) const;
  [[nodiscard]] std::uint16_t slot_of(std::string_view key) const;
  [[nodiscard]] tiers::upstream::RequestMeta request(const Command& command, std::uint64_t token, std::uint32_t slot);
  // It is about to be sent.
  static void await_publication(Place& place, const tiers::upstream::RequestMeta& meta);

  // session_deferred.cpp: write-behind. Before anything else is done with a command.
  enum class Behind : std::uint8_t {
    kNotMine,  // nothing that it concerns waits to be flushed: it goes the ordinary way
    kTaken,
    kNotNow,  // it comes again
  };
  static constexpr std::uint64_t kStalled = ~std::uint64_t{0};  // no place: the command itself waits
  [[nodiscard]] Behind behind(const Command& command, const Args& args);
  [[nodiscard]] bool may_defer() const;
  [[nodiscard]] bool own_is_under_way(std::string_view key);
  [[nodiscard]] Behind defer(const Command& command, const Args& args);
  [[nodiscard]] Behind defer_dependent(const Command& command, const Args& args);
  // Whether L1 says that there is such a key; nothing if it does not say.
  [[nodiscard]] std::optional<bool> exists_in_l1(std::string_view key, const tiers::Policy& policy) const;
  [[nodiscard]] tiers::write_behind::WriteQueue::PutResult put_off(std::string_view key,
                                                                   const tiers::write_behind::WritePtr& write,
                                                                   std::optional<std::uint64_t> follows);
  [[nodiscard]] Behind wait_for_room();
  [[nodiscard]] Behind answer_pending(const Command& command, const Args& args);
  [[nodiscard]] tiers::SafePoint safe_after(std::string_view key,
                                            const tiers::write_behind::WriteQueue::Pending& pending) const;
  // One key of an MGET; the value lies in worker_.unpacked().
  [[nodiscard]] Behind take_pending(std::string_view key, KeyRead& read);
  void answer_when_safe(tiers::SafePoint point, std::string reply);
  void await_safe(tiers::SafePoint point);
  [[nodiscard]] Behind wait_for_flush(const Command& command, const Args& args, bool all);
  [[nodiscard]] bool near_flush(const Args& args);
  // Of a command of which nobody knows what it does.
  [[nodiscard]] Behind flush_all_first(const Command& command, const Args& args) {
    return shared_.write_behind == nullptr ? Behind::kNotMine : wait_for_flush(command, args, true);
  }
  void begin_wait(std::uint32_t events);
  void end_wait();
  void on_safe(std::uint64_t number, bool safe);

  // session_hits.cpp: the shortest way. Returns the bytes of the requests answered, 0 if the first one is to be dispatched.
  [[nodiscard]] bool answers_hits_at_once() const;
  [[nodiscard]] std::size_t answer_hits(std::string_view bytes);
  [[nodiscard]] bool answer_hit(const AskedGet& asked, std::string_view raw);

  // session_reads.cpp: answered by L1, or filled for it. False as above.
  [[nodiscard]] bool read_cached(const Command& command, const Args& args, std::string_view raw);
  // It is an MGET that read_many() may answer.
  [[nodiscard]] bool reads_by_key(const Command& command, const Args& args) const;
  [[nodiscard]] bool read_many(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool look_up_one(std::string_view key, KeyRead& read);
  void read_missing(const Command& command, const Args& args, const std::vector<KeyRead>& reads, std::size_t hits,
                    std::size_t fills);
  void note_forwarded(Place& place, std::uint64_t hash);
  [[nodiscard]] bool read_past(const Command& command, const Args& args, std::string_view raw,
                               tiers::insight::MissReason reason);
  // What L1 says; nothing if the command must wait for a proof first.
  [[nodiscard]] std::optional<tiers::NearCache::Lookup> look_up(const tiers::coherence::FillRead& read,
                                                                const tiers::Policy& policy);
  [[nodiscard]] bool answer_cached(protocol::Resp2Form form, const tiers::l1::StoredReply& stored);
  [[nodiscard]] bool answer_packed(protocol::Resp2Form form, const tiers::l1::StoredReply& stored);
  [[nodiscard]] bool answer_plain(protocol::Resp2Form form, std::string_view reply);
  [[nodiscard]] bool take_hit(const tiers::l1::StoredReply& stored, KeyRead& read);
  [[nodiscard]] std::int64_t earliest_answer_us(std::string_view key, std::int64_t asked_us) const;
  void sample(const tiers::coherence::FillRead& read, const tiers::Policy& policy);
  void fill_or_forward(std::uint64_t number, std::uint64_t part, const tiers::coherence::FillRead& read);
  void end_fill(Place& place, std::uint64_t part);
  void go_on_without_fill(std::uint64_t number, std::uint64_t part, std::string_view command);
  void forward_read(std::uint64_t number, std::uint64_t part, const tiers::coherence::FillRead& read);
  // A read as its command says it; its views are into the command and the worker's scratch.
  [[nodiscard]] tiers::coherence::FillRead parse_read(std::string_view command);
  void heard();
  [[nodiscard]] std::int64_t command_timeout_us() const;

  // session_local.cpp: answered by this process.
  [[nodiscard]] bool local(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool info(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] bool memory_doctor(const Command& command, const Args& args, std::string_view raw);
  void hello(const Args& args);
  template <class Sink>
  void write_hello(Sink& out) const;
  void auth(const Args& args);
  void client(const Command& command, const Args& args);
  void client_reply(const Args& args);
  [[nodiscard]] bool muted() const { return replies_wanted_ == Replies::kOff || replies_wanted_ == Replies::kSkip; }
  void reset();
  // Asks the upstream; `then` runs if it agrees, with the place that the reply goes to.
  void authenticate(tiers::upstream::Credentials credentials, std::function<void(std::uint64_t)> then);
  void authenticate_here(const tiers::upstream::Credentials& credentials, const std::function<void(std::uint64_t)>& then);
  // Whoever a client is before AUTH.
  void become_initial();
  void become(const tiers::upstream::IdentityPtr& identity, protocol::RespVersion version);

  // session_client.cpp: about the clients of all workers, and about settings. False as above.
  void ask_upstream(std::initializer_list<std::string_view> question, std::function<void(std::uint64_t, std::string)> then);
  void ask_upstream(std::string_view question, std::function<void(std::uint64_t, std::string)> then);
  void end_question(std::uint64_t number, std::string_view reply);
  [[nodiscard]] bool client_list(const Args& args);
  [[nodiscard]] bool client_kill(const Args& args);
  void client_tracking_info();
  void client_switch(const Args& args);
  [[nodiscard]] bool config_get(const Args& args, std::string_view raw);
  void refuse_setting(std::string_view name);

  void ask_again(std::uint64_t number, std::string_view question, std::function<void(std::uint64_t, std::string)> then);

  // session_latency.cpp: how long it took, SLOWLOG, LATENCY.
  void begin_measuring(std::uint64_t number, const Command& command, const Args& args);
  void end_measuring(const Place& place);
  void if_permitted(std::initializer_list<std::string_view> question, std::function<void(std::uint64_t)> then);
  [[nodiscard]] bool slow_log(const Command& command, const Args& args);
  [[nodiscard]] bool latency(const Command& command, const Args& args);
  void latency_histogram(std::uint64_t number, const std::shared_ptr<std::vector<std::string>>& named);

  // session_monitor.cpp: MONITOR, CLIENT PAUSE.
  void if_dry_run_permits(std::initializer_list<std::string_view> command, std::string_view name,
                          std::initializer_list<std::string_view> alike, std::function<void(std::uint64_t)> then);
  [[nodiscard]] bool client_pause(const Command& command, const Args& args);
  [[nodiscard]] bool held_by_pause(const Command& command);
  [[nodiscard]] bool monitor(const Args& args);
  void leave_monitor();
  void tell_monitors(const Command& command, const Args& args);
  [[nodiscard]] bool refused_to_monitor(const Command& command);

  // session_databases.cpp: SELECT.
  [[nodiscard]] bool select(const Args& args);
  void ask_for_database(std::int64_t wanted);
  void enter_database(std::uint64_t number, const tiers::upstream::IdentityPtr& identity);

  Worker& worker_;
  Shared& shared_;
  tiers::io::Stream stream_;
  protocol::RequestParser parser_;
  tiers::upstream::Router::Lane* lane_;
  tiers::upstream::IdentityPtr identity_;
  const LocalUser* user_ = nullptr;  // of the configuration's users; nobody: there are none, or it has not said who it is
  protocol::RespVersion version_ = protocol::RespVersion::kResp2;

  tiers::io::Ring<Place> replies_;
  std::size_t queued_bytes_ = 0;              // in the places
  std::size_t kept_bytes_ = 0;                // of a transaction and of subscriptions: reading on does not make them more
  tiers::coherence::KeysInFlight forwarded_;  // on data connections
  tiers::coherence::KeysInFlight filling_;    // on fill connections
  std::uint64_t forward_topology_ = 0;        // version that the requests in forwarded_ were routed by
  bool rerouted_ = false;                     // one of them went elsewhere
  std::int64_t asked_us_ = 0;                 // when the command at hand was first taken up; 0: now
  std::int64_t taken_us_ = 0;                 // the same, for measuring
  std::int64_t heard_us_ = 0;                 // when the client was last told something that did not come from L1

  Stall stall_ = Stall::kNone;
  std::uint32_t outside_ = 0;       // answers awaited from outside the data path
  std::uint32_t awaited_ = 0;       // of these: of write-behind
  bool flush_awaited_ = false;      // what the command at hand concerns has been flushed
  std::int64_t full_since_us_ = 0;  // the queue, for this client; 0: it is not
  // Of WAIT: primaries of the topology of that version, one bit each. All are meant once the topology changed, or there are
  // more.
  std::uint64_t written_ = 0;
  std::uint64_t written_topology_ = 0;
  std::unique_ptr<PinnedClient> pinned_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what the loop does later
  std::string pushes_;                                          // that wait for the end of a reply
  bool mid_reply_ = false;                                      // the oldest reply is out in part
  enum class Replies : std::uint8_t { kOn, kOff, kSkipNext, kSkip } replies_wanted_ = Replies::kOn;
  bool closing_ = false;  // no further requests, close when everything is out
  bool monitoring_ = false;
  bool dirty_ = false;            // on the worker's list for the end of the turn
  std::int64_t now_us_ = 0;       // when it was last read from
  std::int64_t answered_us_ = 0;  // and, to the tick, last written to
  std::uint64_t bytes_in_seen_ = 0;
  std::uint64_t bytes_out_seen_ = 0;

  std::uint64_t id_;
  std::string peer_;
  std::string local_address_;
  std::int64_t connected_us_;
  std::string_view last_command_;  // of the table, or NEAR.*
  UpstreamQuestion question_;
  RequestTrail trail_;
  std::string name_;
  std::string library_name_;
  std::string library_version_;
};

// A token names a place in the queue of replies and a part of its gather.
inline constexpr unsigned kPartBits = 24;
inline constexpr std::size_t kPartsMax = std::size_t{1} << kPartBits;
[[nodiscard]] constexpr std::uint64_t make_token(std::uint64_t number, std::uint64_t part) {
  return number << kPartBits | part;
}
[[nodiscard]] constexpr std::uint64_t token_number(std::uint64_t token) { return token >> kPartBits; }
[[nodiscard]] constexpr std::uint64_t token_part(std::uint64_t token) { return token & ((1u << kPartBits) - 1); }

// To who would be one identity more than limits.identities.
inline constexpr std::string_view kTooManyIdentities =
    "ERR nearcached: too many different users and databases (limits.identities)";

template <class Write>
void Session::answer(Write write) {
  if (replies_wanted_ != Replies::kOn && muted()) return;
  answer_in_any_case(write);
}

template <class Write>
void Session::answer_in_any_case(Write write) {
  if (replies_.empty()) {
    write(stream_.out());
  } else {
    Place place;
    write(place.early);
    place.done = true;
    queued_bytes_ += place.early.size();
    replies_.push(std::move(place));
  }
}

}  // namespace nearcached::daemon
