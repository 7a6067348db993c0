#include "tiers/upstream/data_connection.hpp"

#include <algorithm>
#include <cerrno>
#include <unordered_set>
#include <utility>

#include "tiers/coherence/rules.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/upstream/greeting.hpp"

namespace nearcached::tiers::upstream {
namespace {

constexpr std::int64_t kBackoffStepUs = 50'000;
constexpr std::int64_t kBackoffMaxUs = 1'000'000;
constexpr std::size_t kErrorLineMax = 64 * 1024;

}  // namespace

DataConnection::DataConnection(io::EventLoop& loop, io::Resolver& resolver, insight::Counters& counters,
                               DataConnectionOptions options, DataConnectionOwner& owner,
                               std::unique_ptr<Announcer> announcer)
    : counters_(counters),
      options_(std::move(options)),
      owner_(owner),
      stream_(loop, *this),
      connector_(loop, resolver, stream_, options_.endpoint, options_.tls),
      announcer_(std::move(announcer)) {
  stream_.retain_sent();
}

void DataConnection::send(const RequestMeta& meta, std::string_view bytes, std::int64_t now_us) {
  last_used_us_ = now_us;
  ++requests_;
  if (state_ == State::kReady) {
    enqueue_write(meta, bytes, now_us);
    return;
  }
  waiting_.push_back({meta, std::string(bytes)});
  if (state_ == State::kClosed && now_us >= retry_at_us_) open(now_us);
}

void DataConnection::enqueue(const RequestMeta& meta, std::string_view bytes, Role role, std::int64_t now_us) {
  if (role == Role::kRequest && meta.asking) {
    constexpr std::string_view kAsking = "*1\r\n$6\r\nASKING\r\n";
    stream_.out().append(kAsking);
    pending_.push({{}, kAsking.size(), now_us, Role::kDropped});
  }
  stream_.out().append(bytes);
  pending_.push({meta, bytes.size(), now_us, role});
}

bool DataConnection::silent(std::int64_t now_us) const {
  return state_ == State::kReady && !pending_.empty() &&
         now_us - std::max(pending_.front().sent_us, last_progress_us_) >= kSilentUs;
}

void DataConnection::open(std::int64_t now_us) {
  state_ = State::kConnecting;
  opened_us_ = now_us;
  connector_.open(failures_);
}

void DataConnection::on_connected() {
  state_ = State::kGreeting;
  const std::int64_t now_us = io::boot_us();
  const std::vector<std::string> commands = greeting(*options_.identity, options_.version);
  greetings_left_ = commands.size();
  for (const std::string& command : commands) enqueue({}, command, Role::kGreeting, now_us);
  if (greetings_left_ == 0) become_ready(now_us);
  flush();
}

void DataConnection::greeted() {
  if (--greetings_left_ == 0) become_ready(io::boot_us());
}

void DataConnection::become_ready(std::int64_t now_us) {
  state_ = State::kReady;
  failures_ = 0;
  std::deque<Waiting> waiting;
  waiting.swap(waiting_);
  if (options_.scripts != nullptr) {
    for (const auto& script : options_.scripts->commands()) enqueue({}, *script, Role::kDropped, now_us);
  }
  announce_again(now_us);
  std::unordered_set<std::uint32_t> given_back;  // slots: what waits behind a request of theirs goes back with it
  for (const Waiting& request : waiting) {
    if (takes(request.meta) && !given_back.contains(request.meta.slot)) {
      enqueue_write(request.meta, request.bytes, now_us);
    } else {
      if (request.meta.slot != kNoSlot) given_back.insert(request.meta.slot);
      owner_.on_not_executed(*this, request.meta, request.bytes, why_not());
    }
  }
  flush();
}

void DataConnection::flush() {
  if (!stream_.flush()) {
    const int error = errno;
    stream_.close();
    on_closed(error);
  }
  counters_.upstream_bytes_out.add(stream_.bytes_out() - bytes_out_seen_);
  bytes_out_seen_ = stream_.bytes_out();
}

std::size_t DataConnection::on_data(std::string_view bytes) {
  const std::int64_t now_us = io::boot_us();
  last_progress_us_ = now_us;
  counters_.upstream_bytes_in.add(stream_.bytes_in() - bytes_in_seen_);
  bytes_in_seen_ = stream_.bytes_in();
  std::size_t at = 0;
  while (at < bytes.size() && stream_.is_open()) {
    const bool starts = !mid_frame_;
    if (starts) {
      in_push_ = bytes[at] == '>';
      if (bytes[at] == '|') {
        // An attribute may precede a reply or a push: which of them shows when all of it is here.
        protocol::ReplyFramer ahead = framer_;
        if (!ahead.advance(bytes.substr(at)).complete && bytes.size() - at < kErrorLineMax) break;
        in_push_ = ahead.type() == '>';
      }
    }
    if (!in_push_ && pending_.empty()) {
      stream_.close();
      lost("it sent a reply that nobody asked for", false);
      break;
    }
    if (starts && bytes[at] == '-') {
      const std::size_t end = bytes.find("\r\n", at);
      if (end == std::string_view::npos && bytes.size() - at < kErrorLineMax) break;  // the rest of the line will come
      if (end != std::string_view::npos && on_error_line(bytes.substr(at, end + 2 - at))) {
        at = end + 2;
        if (stream_.is_open()) finish_head(now_us);
        continue;
      }
    }
    const auto step = framer_.advance(bytes.substr(at));
    if (step.error != protocol::FrameError::kNone) {
      stream_.close();
      lost("it sent something that is not RESP", false);
      break;
    }
    const std::string_view piece = bytes.substr(at, step.bytes);
    at += step.bytes;
    mid_frame_ = !step.complete;
    if (in_push_) continue;
    pass_on(piece, step.complete);
    if (!step.complete) continue;
    if (pending_.front().role == Role::kAnnouncement) announced();
    announce_answered({}, now_us);
    finish_head(now_us);
  }
  return at;
}

// Whoever is told may send something new here: no reference into pending_ survives that.
void DataConnection::pass_on(std::string_view piece, bool last) {
  const Pending& head = pending_.front();
  if (head.meta.sink == nullptr) return;
  if (head.again) {
    if (!last) return;
    owner_.on_not_executed(*this, head.meta, stream_.out().view().substr(0, head.bytes), "ERR nearcached: overtook a write");
  } else if (head.role == Role::kRequest) {
    head.meta.sink->on_reply(head.meta.token, piece, last);
  }
}

bool DataConnection::on_error_line(std::string_view frame) {
  const std::string_view line = frame.substr(1, frame.size() - 3);
  Pending& head = pending_.front();
  if (head.role == Role::kGreeting) {
    stream_.close();
    lost(line, true);
    return true;
  }
  if (head.role == Role::kAnnouncement) {
    announcement_refused(line, io::boot_us());
    return true;
  }
  if (head.role == Role::kDropped || head.meta.sink == nullptr) {
    announce_answered(line, io::boot_us());
    return true;
  }
  if (head.again) {
    owner_.on_not_executed(*this, head.meta, stream_.out().view().substr(0, head.bytes), "ERR nearcached: overtook a write");
    return true;
  }
  ++errors_;
  counters_.upstream_errors.add();
  const auto redirect = parse_redirect(line, options_.endpoint, head.meta.slot);
  const bool told = !redirect || (head.meta.pinned_to_node && redirect->kind != RedirectKind::kWait);
  if (told) {
    head.meta.sink->on_reply(head.meta.token, frame, true);
    announce_answered(line, io::boot_us());
    return true;
  }
  if (redirect->kind == RedirectKind::kWait) hold_followers();
  const std::string_view request = stream_.out().view().substr(0, head.bytes);
  const RequestMeta meta = head.meta;
  disown(pending_.first(), meta);  // whoever executes it announces it
  head.meta.announce = false;
  owner_.on_redirected(*this, meta, request, *redirect, line);
  return true;
}

void DataConnection::hold_followers() {
  const RequestMeta& held = pending_.front().meta;
  if (held.slot == kNoSlot) return;
  const std::uint64_t end = pending_.first() + kFollowersLookedAt;
  for (std::uint64_t n = pending_.first() + 1; n < end && pending_.holds(n); ++n) {
    Pending& pending = pending_.at(n);
    const bool follows = pending.role == Role::kRequest && pending.meta.sink == held.sink && pending.meta.slot == held.slot;
    if (follows && !pending.meta.write) pending.again = true;
  }
}

void DataConnection::finish_head(std::int64_t now_us) {
  const Pending& head = pending_.front();
  const Role role = head.role;
  const std::size_t bytes = head.bytes;
  if (role == Role::kRequest && head.meta.sink != nullptr) {
    counters_.upstream_latency.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us - head.sent_us)));
    if (head.meta.asking && head.meta.announce) {
      owner_.on_asked_write(*this, head.meta, std::string(stream_.out().view().substr(0, bytes)));
    }
  }
  stream_.acknowledge(bytes);
  pending_.pop();
  if (role == Role::kGreeting) greeted();
}

void DataConnection::expire(std::int64_t now_us) {
  // While replies flow, the ones behind them are late and not lost: they get a little longer.
  const bool flowing = now_us - last_progress_us_ < options_.command_timeout_us;
  if (flowing && head_passed_on()) return;
  const std::int64_t patience_us = flowing ? options_.command_timeout_us * (kSilenceFactor - 1) : 0;
  expired_ = std::max(expired_, pending_.first());
  std::size_t offset = 0;  // of the next one's bytes
  for (std::uint64_t n = pending_.first(); n != expired_; ++n) offset += pending_.at(n).bytes;
  while (pending_.holds(expired_)) {
    Pending& pending = pending_.at(expired_);
    const bool awaited = pending.role == Role::kRequest || (pending.role == Role::kAnnouncement && pending.meta.sink);
    if (awaited && pending.meta.deadline_us + patience_us > now_us) break;
    const std::string_view request = stream_.out().view().substr(offset, pending.bytes);
    offset += pending.bytes;
    ++expired_;
    if (!awaited || pending.meta.sink == nullptr) continue;
    ReplySink* sink = std::exchange(pending.meta.sink, nullptr);
    counters_.timeouts.add();
    ++errors_;
    if (pending.role == Role::kAnnouncement) {
      sink->on_published(pending.meta.token, false, "timeout: no answer from " + options_.endpoint.text());
      continue;
    }
    const bool broken = head_passed_on() && expired_ - 1 == pending_.first();
    RequestMeta meta = pending.meta;
    meta.sink = sink;
    if (meta.announce) {
      sink->on_outcome_unknown(meta.token, request);
      disown(expired_ - 1, meta);
    }
    sink->on_failure(meta.token,
                     "ERR nearcached: timeout: no answer from " + options_.endpoint.text() +
                         (meta.write ? "; the command may still take effect" : ""),
                     broken);
  }
}

void DataConnection::expire_waiting(std::int64_t now_us) {
  while (!waiting_.empty() && waiting_.front().meta.deadline_us <= now_us) {
    const RequestMeta meta = waiting_.front().meta;
    waiting_.pop_front();
    counters_.timeouts.add();
    ++errors_;
    fail(meta,
         "ERR nearcached: timeout: no connection to " + options_.endpoint.text() +
             (stream_.handshaking() ? ": " + std::string(kNoHandshake) : ""),
         false);
  }
}

void DataConnection::tick(std::int64_t now_us) {
  expire_waiting(now_us);
  expire_owed(now_us);
  if (state_ == State::kConnecting || state_ == State::kGreeting) {
    if (now_us - opened_us_ > options_.connect_timeout_us) {
      const std::string_view what = stream_.handshaking() ? kNoHandshake : "connecting takes too long";
      stream_.close();
      lost(what, false);
    }
    return;
  }
  if (state_ == State::kReady) {
    expire(now_us);
    const std::int64_t silence_us = pending_.empty() ? 0 : now_us - std::max(pending_.front().sent_us, last_progress_us_);
    if (silence_us > options_.command_timeout_us * kSilenceFactor) {
      stream_.close();
      lost("it does not answer", false);
      return;
    }
    tick_announcements(now_us);
    return;
  }
  if (!waiting_.empty()) give_back("no connection");
  if (announcer_ && announcer_->owes() && now_us >= retry_at_us_) open(now_us);
}

void DataConnection::on_closed(int error) { lost(connector_.error_text(error), false); }

void DataConnection::lost(std::string_view what, bool refused) {
  const State before = std::exchange(state_, State::kClosed);
  connector_.cancel();
  const std::int64_t now_us = io::boot_us();
  ++failures_;
  ++errors_;
  retry_at_us_ = before == State::kReady ? now_us : now_us + std::min(kBackoffStepUs * failures_, kBackoffMaxUs);
  repeats_ = last_progress_us_ < opened_us_ && trouble_ == what;
  const std::string text = trouble_ = what;
  if (refused) {
    // The upstream does not take this identity: its own words are the answer, trying again is not.
    std::deque<Waiting> waiting;
    waiting.swap(waiting_);
    for (const Waiting& request : waiting) fail(request.meta, text, false);
  }
  give_back(text);
  owner_.on_trouble(*this, text);
}

void DataConnection::give_back(std::string_view what) {
  const bool passed_on = head_passed_on();
  framer_ = protocol::ReplyFramer();
  mid_frame_ = in_push_ = false;
  // Taken first: whoever is told of a failure may send something new here.
  const std::size_t sent = stream_.sent();
  const io::Buffer requests = std::move(stream_.out());
  io::Ring<Pending> pending = std::exchange(pending_, {});
  expired_ = 0;
  std::deque<Waiting> waiting;
  waiting.swap(waiting_);
  std::size_t offset = 0;
  RequestMeta ended;  // the request before the announcements at hand was: they are nobody's any more
  for (bool head = true; !pending.empty(); head = false) {
    const Pending request = pending.front();
    pending.pop();
    const bool left = offset < sent;
    const std::string_view bytes = requests.view().substr(offset, request.bytes);
    offset += request.bytes;
    if (request.unsaid && left) announcer_->unanswered();
    if (request.meta.sink == nullptr) continue;
    if (request.role == Role::kAnnouncement) {
      if (request.meta.sink != ended.sink || request.meta.token != ended.token) owe(request.meta);
    } else if (request.role == Role::kRequest) {
      ended = request.meta;
      give_back_request(request, bytes, left, head && passed_on, what);
    }
  }
  if (announcer_) announcer_->lost();
  again_at_us_ = 0;
  for (const Waiting& request : waiting) owner_.on_not_executed(*this, request.meta, request.bytes, no_connection());
}

void DataConnection::give_back_request(const Pending& request, std::string_view bytes, bool left, bool broken,
                                       std::string_view what) {
  const RequestMeta& meta = request.meta;
  const std::string node = options_.endpoint.text();
  const bool unknown = broken || (left && meta.write && coherence::enforced(coherence::Rule::kWriteOnceOnly));
  if (meta.announce) {
    // An announcement that was refused before its write was answered.
    std::erase_if(owed_, [&](const Owed& owed) { return owed.meta.sink == meta.sink && owed.meta.token == meta.token; });
    if (unknown) meta.sink->on_outcome_unknown(meta.token, bytes);
  }
  if (broken) {
    meta.sink->on_failure(meta.token, no_connection(), true);
  } else if (unknown) {
    meta.sink->on_failure(
        meta.token,
        "ERR nearcached: connection to " + node + " lost: " + std::string(what) + "; the command may have taken effect",
        false);
  } else {
    owner_.on_not_executed(*this, meta, bytes, no_connection());
  }
}

std::string DataConnection::no_answer() const {
  const std::string text = "ERR nearcached: timeout: no answer from " + options_.endpoint.text();
  return trouble_.empty() || state_ == State::kReady ? text : text + ": " + trouble_;
}

std::string DataConnection::no_connection() const {
  const std::string text = "ERR nearcached: no connection to " + options_.endpoint.text();
  return trouble_.empty() ? text : text + ": " + trouble_;
}

}  // namespace nearcached::tiers::upstream
