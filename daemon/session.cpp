#include "daemon/session.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/worker.hpp"
#include "tiers/coherence/rules.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using protocol::ParseStatus;
using protocol::RespVersion;
using tiers::coherence::enforced;
using tiers::coherence::Rule;

namespace {

// A client that sent one command of a million arguments does not keep the room for another.
constexpr std::size_t kParserBytesKept = 64 * 1024;
// What a client may have sent of an unfinished command while the process is over its buffer budget.
constexpr std::size_t kInputKept = 64 * 1024;

// What the client is told of a write that is done, and of which the others could not be told.
std::string with_publication(std::string reply, const std::string& unpublished_why) {
  if (unpublished_why.empty() || reply.starts_with('-')) return reply;
  std::string error;
  protocol::append_error(error, "ERR nearcached: written, but other sidecars could not be told: " + unpublished_why);
  return error;
}

}  // namespace

Session::Session(Worker& worker, Shared& shared, int fd, bool tls)
    : worker_(worker),
      shared_(shared),
      stream_(worker.loop(), *this),
      lane_(&worker.router().attach(shared.identities.configured(), RespVersion::kResp2)),
      identity_(shared.identities.configured()),
      now_us_(tiers::io::boot_us()),
      id_(shared.next_client_id.fetch_add(1, std::memory_order_relaxed)),
      peer_(tiers::io::peer_name(fd)),
      local_address_(tiers::io::local_name(fd)),
      connected_us_(now_us_) {
  ++identity_->clients;
  if (shared.access.initial() != nullptr) become_initial();
  stream_.adopt(fd, tls ? shared.listener_tls->session({}) : nullptr);
}

Session::~Session() {
  leave_monitor();
  pinned_.reset();
  --identity_->clients;
  worker_.router().detach(*lane_, now_us_);
}

bool Session::idle() const { return replies_.empty() && !monitoring_ && (!pinned_ || !pinned_->waits()); }

void Session::touched() {
  if (!std::exchange(dirty_, true)) worker_.remember(*this);
}

std::size_t Session::on_data(std::string_view bytes) {
  now_us_ = enforced(Rule::kClockAfterRead) ? tiers::io::boot_us() : worker_.ticked_us();
  const tiers::l1::Store::ReadGuard guard(shared_.cache.store());
  touched();
  std::size_t at = 0;
  while (at < bytes.size() && stream_.is_open()) {
    if (!may_read_on()) {
      stream_.pause();
      break;
    }
    if (answers_hits_at_once()) at += answer_hits(bytes.substr(at));
    if (at == bytes.size()) break;
    const ParseStatus status = parser_.parse(bytes.substr(at), shared_.request_limits);
    if (status == ParseStatus::kNeedMore) {
      if (bytes.size() - at > kInputKept && shared_.over_buffer_budget.load(std::memory_order_relaxed)) stream_.pause();
      stream_.expect(parser_.bytes_wanted());
      break;
    }
    if (status == ParseStatus::kError) {
      worker_.counters().protocol_errors.add();
      answer_error("ERR " + std::string(parser_.error()));
      closing_ = true;
      break;
    }
    if (status == ParseStatus::kComplete) {
      if (replies_wanted_ == Replies::kSkipNext) replies_wanted_ = Replies::kSkip;
      if (!dispatch(parser_.args(), bytes.substr(at, parser_.consumed()))) {
        stream_.pause();
        break;
      }
      if (replies_wanted_ == Replies::kSkip) replies_wanted_ = Replies::kOn;
    }
    at += parser_.consumed();
    asked_us_ = 0;
  }
  if (!parser_.mid_command() && parser_.memory_bytes() > kParserBytesKept) parser_.release();
  return closing_ ? bytes.size() : at;
}

bool Session::may_read_on() {
  const config::Limits& limits = shared_.settings.limits;
  if (closing_ || stall_ != Stall::kNone) return false;
  if (replies_.size() >= limits.pipeline) return false;
  const std::size_t unread = stream_.out().size() + queued_bytes_;
  if (unread >= limits.output_pause_bytes) return false;
  const bool holds_much = unread != 0 || stream_.unread_bytes() > kInputKept;
  return !holds_much || !shared_.over_buffer_budget.load(std::memory_order_relaxed);
}

bool Session::on_end_of_input() {
  if (pinned_ && pinned_->waits()) return false;
  if (replies_.empty() && outside_ == 0 && stream_.out().empty()) return false;
  closing_ = true;
  touched();
  return true;
}

void Session::on_closed(int error) {
  if (error == EPROTO || error == ENOBUFS) {
    const std::string reason =
        error == EPROTO ? stream_.why(error) : "it pipelines too much behind a command that blocks (limits.output_bytes)";
    log::write_limited(log::Level::kWarn, "client_closed", reason, {{"id", id_}, {"client", peer_}, {"reason", reason}});
  }
  closing_ = true;
  if (pinned_) pinned_->client_gone();
  touched();
}

void Session::on_writable() { touched(); }

void Session::shut(std::string_view reason) {
  if (!reason.empty()) {
    log::write_limited(log::Level::kWarn, "client_closed", reason,
                       {{"id", id_}, {"client", peer_}, {"reason", reason}, {"buffered_bytes", buffered_bytes()}});
  }
  closing_ = true;
  stream_.close();
  if (pinned_) pinned_->client_gone();
  touched();
}

void Session::drain() {
  closing_ = true;
  stream_.pause();
  touched();
}

void Session::retry_congested() {
  if (stall_ == Stall::kCongested) stall_ = Stall::kNone;
  touched();
}

void Session::end_of_turn() {
  dirty_ = false;
  if (!stream_.is_open()) return;
  if (!stream_.flush()) {
    shut({});
    return;
  }
  if (stream_.out().size() + queued_bytes_ + kept_bytes_ > shared_.settings.limits.output_bytes) {
    worker_.counters().clients_closed_output.add();
    shut("it does not read its replies, or has too many subscriptions (limits.output_bytes)");
    return;
  }
  worker_.counters().bytes_in.add(stream_.bytes_in() - std::exchange(bytes_in_seen_, stream_.bytes_in()));
  if (const std::uint64_t sent = stream_.bytes_out() - std::exchange(bytes_out_seen_, stream_.bytes_out()); sent != 0) {
    worker_.counters().bytes_out.add(sent);
    answered_us_ = worker_.ticked_us();
  }
  if (closing_) {
    if (replies_.empty() && outside_ == 0 && stream_.out().empty()) shut({});
    return;
  }
  if (stream_.paused() && may_read_on()) stream_.resume();
}

void Session::push(std::string_view frame) {
  touched();
  if (!stream_.is_open()) return;
  if (mid_reply_) {
    pushes_.append(frame);
    queued_bytes_ += frame.size();
  } else {
    stream_.out().append(frame);
  }
}

std::uint64_t Session::open_place() {
  const std::uint64_t number = replies_.next();
  replies_.push(Place()).muted = muted();
  return number;
}

void Session::emit(std::uint64_t number, std::string_view bytes) {
  touched();
  if (!stream_.is_open() || replies_.at(number).muted) return;
  if (number == replies_.first()) {
    stream_.out().append(bytes);
    mid_reply_ = true;
  } else {
    replies_.at(number).early.append(bytes);
    queued_bytes_ += bytes.size();
  }
}

void Session::finish(std::uint64_t number) {
  replies_.at(number).done = true;
  if (replies_.at(number).trail != 0) end_measuring(replies_.at(number));
  touched();
  if (number != replies_.first()) return;
  // The head is complete: out it goes, and with it all behind it that waited only for that.
  for (bool head = true; !replies_.empty(); head = false) {
    Place& place = replies_.front();
    if (!head && !place.early.empty()) {
      queued_bytes_ -= place.early.size();
      if (stream_.is_open()) stream_.out().append(place.early);
      place.early = std::string();
      mid_reply_ = true;
    }
    if (!place.done) return;
    if (place.trail != 0) trail_.drop(place.trail);
    replies_.pop();
    mid_reply_ = false;
    if (!pushes_.empty()) {
      queued_bytes_ -= pushes_.size();
      stream_.out().append(std::exchange(pushes_, {}));
    }
  }
  replies_.shrink();
  rerouted_ = false;
  if (stall_ == Stall::kUntilEmpty) stall_ = Stall::kNone;
}

void Session::settle(Place& place) {
  const Touch touch = std::exchange(place.touch, Touch::kNothing);
  if (touch == Touch::kNothing) return;
  const auto each = [&](auto act) {
    if (place.hashes) {
      for (const std::uint64_t hash : *place.hashes) act(hash);
    } else {
      act(place.hash);
    }
  };
  tiers::NearCache& cache = shared_.cache;
  switch (touch) {
    case Touch::kRead: each([&](std::uint64_t hash) { cache.on_read_past(hash); }); break;
    case Touch::kWrite: {
      const std::int64_t now_us = tiers::io::boot_us();
      each([&](std::uint64_t hash) { cache.end_write(hash, now_us, worker_.counters()); });
      break;
    }
    case Touch::kWriteAll: cache.end_write_all(worker_.counters()); break;
    case Touch::kWriteUnknown:
      // Where changes are not tracked nobody tells a process of its own writes.
      if (shared_.own_writes_untold.load()) cache.purge_everything();
      break;
    case Touch::kReadUnknown:
    case Touch::kNothing: break;
  }
  if (place.against_all) {
    forwarded_.remove_all();
  } else {
    forwarded_.remove(place.hash);
  }
}

bool Session::gather_more(Gather& gather, std::uint64_t part, std::string_view bytes, bool last) {
  queued_bytes_ -= std::min(queued_bytes_, gather.bytes());
  const bool complete = gather.add(part, bytes, last);
  queued_bytes_ += gather.bytes();
  return complete;
}

void Session::finish_gather(std::uint64_t number) {
  Place& place = replies_.at(number);
  settle(place);
  const std::string reply = with_publication(place.gather->reply(), place.unpublished_why);
  queued_bytes_ -= std::min(queued_bytes_, place.gather->bytes());
  place.gather.reset();
  emit(number, reply);
  finish(number);
}

void Session::on_reply(std::uint64_t token, std::string_view bytes, bool last) {
  const std::uint64_t number = token_number(token);
  Place& place = replies_.at(number);
  heard();
  if (place.gather) {
    if (!gather_more(*place.gather, token_part(token), bytes, last)) return;
    place.replied = true;
    release(number);
    return;
  }
  if (needs_barrier(place) || place.unpublished != 0) {
    place.held.append(bytes);
    queued_bytes_ += bytes.size();
    if (!last) return;
    place.replied = true;
    release(number);
    return;
  }
  // The first byte says that the upstream has done it: the fence ends before the client can know.
  settle(place);
  emit(number, bytes);
  if (last) finish(number);
}

void Session::on_published(std::uint64_t token, bool told, std::string_view error) {
  const std::uint64_t number = token_number(token);
  Place& place = replies_.at(number);
  if (place.unpublished == 0) return;
  --place.unpublished;
  if (!told && place.unpublished_why.empty()) place.unpublished_why = error;
  if (place.replied) release(number);
}

// The reply is here. The client is told when nothing more is awaited that it could trip over.
void Session::release(std::uint64_t number) {
  Place& place = replies_.at(number);
  if (place.unpublished != 0) return;
  if (needs_barrier(place) && !(place.unheard_of && place.held.starts_with("-ERR unknown command"))) {
    worker_.fills().barrier(*this, make_token(number, 0));
  } else if (place.gather) {
    finish_gather(number);
  } else {
    finish_held(number);
  }
}

bool Session::needs_barrier(const Place& place) {
  const bool unknown = place.touch == Touch::kWriteUnknown || place.touch == Touch::kReadUnknown;
  return unknown && enforced(Rule::kUnknownWritesBarrier);
}

void Session::finish_held(std::uint64_t number) {
  Place& place = replies_.at(number);
  settle(place);
  queued_bytes_ -= place.held.size();
  const std::string reply = with_publication(std::move(place.held), place.unpublished_why);
  emit(number, reply);
  finish(number);
}

void Session::on_failure(std::uint64_t token, std::string_view error, bool broken) {
  const std::uint64_t number = token_number(token);
  Place& place = replies_.at(number);
  if (place.unpublished != 0) --place.unpublished;  // of what failed nothing is published
  if (place.gather) {
    if (!place.gather->fail(token_part(token), error)) return;
    place.replied = true;
    release(number);
    return;
  }
  settle(place);
  if (!place.held.empty()) {
    // None of it has left: an error can take its place.
    queued_bytes_ -= place.held.size();
    place.held.clear();
    broken = false;
  }
  if (broken) {
    // Half a reply is out, or waits in its place: nothing that follows would be understood.
    shut("its upstream connection broke in the middle of a reply");
  } else {
    std::string line;
    protocol::append_error(line, error);
    emit(number, line);
  }
  finish(number);
}

void Session::on_rerouted(std::uint64_t) { rerouted_ = true; }

void Session::on_outcome_unknown(std::uint64_t, std::string_view request) {
  if (enforced(Rule::kBusUnknownOutcome)) worker_.hold_unknown(request);
}

void Session::on_barrier(std::uint64_t token) {
  const std::uint64_t number = token_number(token);
  if (replies_.at(number).gather) {
    finish_gather(number);
  } else {
    finish_held(number);
  }
}

void Session::answer_wrong_arity(const Command& command) {
  answer_error("ERR wrong number of arguments for '" + std::string(command.name) + "' command");
}

void Session::answer_text(std::string_view text) {
  answer([&](auto& out) { protocol::append_text(out, text_reply(text)); });
}

std::string Session::text_reply(std::string_view text) const {
  std::string reply;
  if (version_ == RespVersion::kResp2) {
    protocol::append_bulk(reply, text);
    return reply;
  }
  protocol::append_header(reply, '=', static_cast<std::int64_t>(text.size() + 4));
  protocol::append_text(reply, "txt:");
  protocol::append_text(reply, text);
  protocol::append_text(reply, "\r\n");
  return reply;
}

void Session::answer_error(std::string_view text) {
  answer([&](auto& out) { protocol::append_error(out, text); });
}

}  // namespace nearcached::daemon
