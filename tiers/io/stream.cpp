#include "tiers/io/stream.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace nearcached::tiers::io {
namespace {

// Room asked for behind unconsumed bytes; a message known to be larger gets its size, up to kExpectMax at a time: a client
// that announces 512 MB and sends nothing must not make us hold them.
constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::size_t kExpectMax = 1024 * 1024;

}  // namespace

void Stream::adopt(int fd) {
  fd_ = fd;
  interest_ = EPOLLIN;
  loop_.watch(fd_, *this, interest_);
}

bool Stream::connect(const SocketAddress& address) {
  const int fd = start_connect(address);
  if (fd < 0) return false;
  if (address.family() != AF_UNIX) set_no_delay(fd);
  fd_ = fd;
  sent_ = 0;
  connecting_ = true;
  interest_ = EPOLLOUT;
  loop_.watch(fd_, *this, interest_);
  return true;
}

void Stream::close() {
  if (fd_ < 0) return;
  loop_.unwatch(fd_, *this);
  ::close(fd_);
  fd_ = -1;
  connecting_ = paused_ = want_write_ = ended_ = false;
  expected_ = 0;
  if (!delivering_) in_.clear();
  if (!retain_) out_.clear();
}

void Stream::update_interest() {
  if (fd_ < 0 || connecting_) return;
  const std::uint32_t when_paused = mind_hangup_ ? std::uint32_t{EPOLLRDHUP} : 0u;
  const std::uint32_t wanted =
      (paused_ ? when_paused : std::uint32_t{EPOLLIN}) | (want_write_ ? std::uint32_t{EPOLLOUT} : 0u);
  if (wanted == interest_) return;
  interest_ = wanted;
  loop_.rewatch(fd_, *this, interest_);
}

bool Stream::flush() {
  if (fd_ < 0 || connecting_) return true;
  while (out_.size() > sent_) {
    const std::string_view bytes = out_.view().substr(sent_);
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
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
    if (static_cast<std::size_t>(sent) < bytes.size()) break;
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

void Stream::mind_hangup(bool mind) {
  mind_hangup_ = mind;
  update_interest();
}

void Stream::resume() {
  if (!paused_ || ended_) return;
  paused_ = false;
  if (!delivering_ && !in_.empty()) deliver();
  update_interest();
}

void Stream::finish_connect() {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    close();
    owner_.on_closed(error);
    return;
  }
  connecting_ = false;
  update_interest();
  owner_.on_connected();
}

void Stream::on_events(std::uint32_t events) {
  if (connecting_) {
    finish_connect();
    return;
  }
  if ((events & EPOLLOUT) != 0) {
    if (!flush()) {
      const int error = errno;
      close();
      owner_.on_closed(error);
      return;
    }
    owner_.on_writable();
    if (fd_ < 0) return;
  }
  if ((events & EPOLLIN) != 0 && !paused_) {
    read_once();
  } else if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) {
    // Paused: nothing can be read or written any more, and the event would come again for ever.
    close();
    owner_.on_closed(0);
  }
}

void Stream::read_once() {
  const bool straight = in_.empty() && expected_ <= EventLoop::kScratchBytes;
  char* room = loop_.scratch();
  std::size_t room_bytes = EventLoop::kScratchBytes;
  if (!straight) {
    const std::size_t missing = expected_ > in_.size() ? std::min(expected_ - in_.size(), kExpectMax) : 0;
    room = in_.prepare(std::max(kReadBytes, missing));
    room_bytes = in_.room();
  }
  const ssize_t got = recv(fd_, room, room_bytes, 0);
  if (got <= 0) {
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
    const int error = got == 0 ? 0 : errno;
    if (got == 0 && owner_.on_end_of_input()) {
      ended_ = true;
      pause();
      return;
    }
    close();
    owner_.on_closed(error);
    return;
  }
  const auto n = static_cast<std::size_t>(got);
  bytes_in_ += n;
  expected_ = 0;
  if (!straight) {
    in_.commit(n);
    deliver();
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
