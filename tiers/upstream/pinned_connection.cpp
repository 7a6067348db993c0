#include "tiers/upstream/pinned_connection.hpp"

#include <cerrno>
#include <charconv>
#include <chrono>
#include <utility>

#include "tiers/io/clock.hpp"
#include "tiers/io/socket.hpp"
#include "tiers/upstream/greeting.hpp"

namespace nearcached::tiers::upstream {

PinnedConnection::PinnedConnection(io::EventLoop& loop, io::Resolver& resolver, PinnedConnectionOptions options,
                                   PinnedHost& host)
    : loop_(loop),
      options_(std::move(options)),
      host_(host),
      stream_(loop, *this),
      connector_(loop, resolver, stream_, options_.endpoint, options_.tls) {}

PinnedConnection::~PinnedConnection() { *alive_ = false; }

void PinnedConnection::open(std::int64_t now_us) {
  opened_us_ = now_us;
  connector_.open(0);
}

void PinnedConnection::on_connected() {
  state_ = State::kGreeting;
  if (!options_.endpoint.is_unix()) io::set_keepalive(stream_.fd(), std::chrono::milliseconds(kKeepaliveMs));
  for (const std::string& command : greeting(*options_.identity, options_.version)) {
    stream_.out().append(command);
    pending_.push({0, 0, Role::kGreeting, false});
  }
  stream_.out().append("*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n");
  pending_.push({0, 0, Role::kClientId, false});
  host_.on_bytes(*this);
}

void PinnedConnection::greeted(Role role, std::string_view frame) {
  if (role == Role::kGreeting && frame.starts_with('-')) {
    refused_ = true;
    lose(frame.substr(1, frame.size() - 3));
    return;
  }
  if (role != Role::kClientId) return;
  // A user that may not ask has none.
  if (frame.starts_with(':')) std::from_chars(frame.data() + 1, frame.data() + frame.size() - 2, upstream_id_);
  state_ = State::kReady;
  host_.on_ready(*this);
}

void PinnedConnection::send(std::uint64_t token, std::string_view bytes, std::int64_t deadline_us) {
  stream_.out().append(bytes);
  pending_.push({token, deadline_us, Role::kRequest, false});
  host_.on_bytes(*this);
}

void PinnedConnection::tell(std::string_view bytes) {
  stream_.out().append(bytes);
  host_.on_bytes(*this);
}

void PinnedConnection::flush() {
  if (stream_.flush()) return;
  const int error = errno;
  stream_.close();
  loop_.post([this, alive = alive_, error] {
    if (*alive) lose(connector_.error_text(error));
  });
}

std::size_t PinnedConnection::on_data(std::string_view bytes) {
  std::size_t at = 0;
  const std::shared_ptr<bool> alive = alive_;
  while (at < bytes.size() && state_ != State::kBroken) {
    const protocol::ReplyFramer::Step step = framer_.advance(bytes.substr(at));
    if (step.error != protocol::FrameError::kNone) {
      stream_.pause();
      loop_.post([this, alive] {
        if (*alive) lose("the node does not speak RESP");
      });
      return bytes.size();
    }
    if (!mid_frame_) to_owner_ = !pending_.empty() && framer_.type() != '>';
    mid_frame_ = !step.complete;
    const std::string_view piece = bytes.substr(at, step.bytes);
    at += step.bytes;
    pass_on(piece, step.complete);
    if (!*alive) return bytes.size();
  }
  return bytes.size();
}

void PinnedConnection::pass_on(std::string_view piece, bool last) {
  if (to_owner_ && pending_.front().role == Role::kRequest) {
    const std::uint64_t token = pending_.front().token;
    pending_.front().begun = true;
    if (last) pending_.pop();
    if (owner_ != nullptr) owner_->on_reply(token, piece, last);
    return;
  }
  frame_.append(piece);
  if (!last) {
    if (frame_.size() > options_.push_bytes_max) stream_.pause();
    return;
  }
  const std::string frame = std::exchange(frame_, {});
  if (to_owner_) {
    const Role role = pending_.front().role;
    pending_.pop();
    greeted(role, frame);
  } else if (owner_ != nullptr) {
    owner_->on_push(*this, frame);
  }
}

void PinnedConnection::on_closed(int error) { lose(connector_.error_text(error)); }

void PinnedConnection::lose(std::string_view why) {
  if (state_ == State::kBroken) return;
  const bool was_ready = state_ == State::kReady;
  state_ = State::kBroken;
  connector_.cancel();
  stream_.close();
  if (!was_ready || owner_ == nullptr) {
    const std::string text = "ERR nearcached: no connection to " + options_.endpoint.text() + ": " + std::string(why);
    host_.on_useless(*this, refused_ ? why : std::string_view(text));
    return;
  }
  const std::shared_ptr<bool> alive = alive_;
  const std::string text = "ERR nearcached: the connection to " + options_.endpoint.text() + " was lost (" +
                           std::string(why) + "): the command may have taken effect";
  while (*alive && owner_ != nullptr && !pending_.empty()) {
    const Pending request = pending_.front();
    pending_.pop();
    owner_->on_failure(request.token, text, request.begun);
  }
  if (*alive && owner_ != nullptr) owner_->on_lost(*this, why);
}

void PinnedConnection::tick(std::int64_t now_us) {
  if (state_ == State::kConnecting || state_ == State::kGreeting) {
    if (now_us - opened_us_ <= options_.connect_timeout_us) return;
    lose(stream_.handshaking() ? kNoHandshake : "no answer in time");
  } else if (state_ == State::kReady && !pending_.empty() && pending_.front().deadline_us != 0 &&
             pending_.front().deadline_us < now_us) {
    lose("no answer in time");
  }
}

}  // namespace nearcached::tiers::upstream
