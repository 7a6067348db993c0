#include "tiers/io/stream.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace nearcached::tiers::io {
namespace {

// Room asked for behind unconsumed bytes; a message known to be larger gets its size, up to kExpectMax at a time: a client
// that announces 512 MB and sends nothing must not make us hold them.
constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::size_t kExpectMax = 1024 * 1024;

}  // namespace

void Stream::adopt(int fd, std::unique_ptr<TlsSession> tls) {
  fd_ = fd;
  tls_ = std::move(tls);
  accepted_ = true;
  interest_ = EPOLLIN;
  loop_.watch(fd_, *this, interest_);
  if (!tls_) return;
  tls_->attach(fd_);
  connecting_ = handshaking_ = true;
}

bool Stream::connect(const SocketAddress& address, std::unique_ptr<TlsSession> tls) {
  failure_.clear();
  const int fd = start_connect(address);
  if (fd < 0) return false;
  if (address.family() != AF_UNIX) set_no_delay(fd);
  fd_ = fd;
  tls_ = std::move(tls);
  sent_ = 0;
  connecting_ = true;
  interest_ = EPOLLOUT;
  loop_.watch(fd_, *this, interest_);
  return true;
}

std::string Stream::why(int error) const {
  if (!failure_.empty()) return "TLS: " + failure_;
  return error == 0 ? "closed by the other side" : std::strerror(error);
}

void Stream::close() {
  if (fd_ < 0) return;
  loop_.unwatch(fd_, *this);
  if (tls_) {
    if (!connecting_) tls_->close();
    failure_ = tls_->failure();
    tls_.reset();
  }
  ::close(fd_);
  fd_ = -1;
  connecting_ = handshaking_ = paused_ = want_write_ = ended_ = false;
  expected_ = 0;
  if (!delivering_) in_.clear();
  if (!retain_) out_.clear();
}

void Stream::update_interest() {
  if (fd_ < 0 || connecting_) return;
  const std::uint32_t wanted = (reads() ? std::uint32_t{EPOLLIN} : 0u) |
                               (want_write_ || (tls_ && tls_->read_wants_write()) ? std::uint32_t{EPOLLOUT} : 0u);
  if (wanted == interest_) return;
  interest_ = wanted;
  loop_.rewatch(fd_, *this, interest_);
}

ssize_t Stream::transmit(std::string_view bytes) {
  if (tls_) return tls_->write(bytes.data(), bytes.size());
  return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

ssize_t Stream::receive(char* room, std::size_t n) { return tls_ ? tls_->read(room, n) : recv(fd_, room, n, 0); }

bool Stream::flush() {
  if (fd_ < 0 || connecting_) return true;
  if (out_.size() == sent_ && !want_write_ && !tls_) return true;
  while (out_.size() > sent_) {
    const std::string_view bytes = out_.view().substr(sent_);
    const ssize_t sent = transmit(bytes);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
      break;
    }
    bytes_out_ += static_cast<std::uint64_t>(sent);
    if (retain_) {
      sent_ += static_cast<std::size_t>(sent);
    } else {
      out_.consume(static_cast<std::size_t>(sent));
    }
    if (static_cast<std::size_t>(sent) < bytes.size() && !tls_) break;  // TLS sends a record at a time
  }
  want_write_ = out_.size() > sent_;
  update_interest();
  return true;
}

void Stream::acknowledge(std::size_t n) {
  out_.consume(n);
  sent_ -= std::min(n, sent_);
}

void Stream::pause() {
  paused_ = true;
  update_interest();
}

void Stream::mind_hangup(std::size_t bytes_max) {
  read_ahead_ = bytes_max;
  update_interest();
}

void Stream::resume() {
  if (!paused_ || ended_) return;
  paused_ = false;
  if (!delivering_ && !in_.empty()) deliver();
  if (!delivering_) drain_decrypted();
  update_interest();
}

// The socket does not become readable for what the session holds already. Reading that can't fail, so that the owner, whose
// call this may be, is not told on_closed().
void Stream::drain_decrypted() {
  while (tls_ && !connecting_ && reads() && tls_->holds_input()) read_once();
}

void Stream::fail(int error) {
  close();
  owner_.on_closed(error);
}

void Stream::finish_connect() {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    fail(error);
    return;
  }
  if (tls_) {
    tls_->attach(fd_);
    handshaking_ = true;
    shake_hands();
    return;
  }
  connecting_ = false;
  update_interest();
  owner_.on_connected();
}

void Stream::shake_hands() {
  std::uint32_t wanted = EPOLLIN;
  switch (tls_->handshake()) {
    case TlsSession::Step::kFailed: fail(EPROTO); return;
    case TlsSession::Step::kClosed: fail(ECONNRESET); return;
    case TlsSession::Step::kWantWrite: wanted = EPOLLOUT; [[fallthrough]];
    case TlsSession::Step::kWantRead:
      if (std::exchange(interest_, wanted) != wanted) loop_.rewatch(fd_, *this, wanted);
      return;
    case TlsSession::Step::kDone: break;
  }
  connecting_ = handshaking_ = false;
  update_interest();
  if (!accepted_) {
    owner_.on_connected();
  } else if (!flush()) {
    fail(errno);
    return;
  }
  drain_decrypted();
}

void Stream::on_events(std::uint32_t events) {
  if (connecting_) {
    handshaking_ ? shake_hands() : finish_connect();
    return;
  }
  if ((events & EPOLLOUT) != 0) {
    if (!flush()) {
      fail(errno);
      return;
    }
    owner_.on_writable();
    if (fd_ < 0) return;
  }
  const bool to_be_read = (events & EPOLLIN) != 0 || (tls_ && tls_->read_wants_write());
  if (to_be_read && reads()) {
    read_once();
    drain_decrypted();
  } else if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    // Paused: nothing can be read or written any more, and the event would come again for ever.
    close();
    owner_.on_closed(0);
  }
}

void Stream::read_once() {
  const bool straight = !paused_ && in_.empty() && expected_ <= EventLoop::kScratchBytes;
  char* room = loop_.scratch();
  std::size_t room_bytes = read_max_;
  if (!straight) {
    const std::size_t missing = expected_ > in_.size() ? std::min(expected_ - in_.size(), kExpectMax) : 0;
    room = in_.prepare(std::max(kReadBytes, missing));
    room_bytes = in_.room();
  }
  const ssize_t got = receive(room, room_bytes);
  if (got <= 0) {
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (tls_) update_interest();
      return;
    }
    const int error = got == 0 ? 0 : errno;
    if (got == 0 && owner_.on_end_of_input()) {
      ended_ = true;
      pause();
      return;
    }
    fail(error);
    return;
  }
  const auto n = static_cast<std::size_t>(got);
  bytes_in_ += n;
  expected_ = 0;
  if (!straight) {
    in_.commit(n);
    if (!paused_) {
      deliver();
    } else if (in_.size() > read_ahead_) {
      fail(ENOBUFS);
    }
    return;
  }
  delivering_ = true;
  const std::size_t consumed = owner_.on_data({room, n});
  delivering_ = false;
  if (fd_ >= 0 && consumed < n) in_.append(room + consumed, n - consumed);
}

void Stream::deliver() {
  delivering_ = true;
  const std::size_t consumed = owner_.on_data(in_.view());
  delivering_ = false;
  if (fd_ < 0) {
    in_.clear();
  } else {
    in_.consume(consumed);
  }
}

}  // namespace nearcached::tiers::io
