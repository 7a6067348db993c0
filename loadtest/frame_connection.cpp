#include "loadtest/frame_connection.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "loadtest/connect.hpp"
#include "loadtest/versioned_values.hpp"

namespace nearcached::loadtest {

FrameConnection::FrameConnection(const std::string& target) : target_(target), fd_(connect_to(target)) {
  chunk_.resize(kReceiveBytes);
}

FrameConnection::~FrameConnection() { ::close(fd_); }

void FrameConnection::fail(const std::string& what) const { throw std::runtime_error(target_ + ": " + what); }

std::string FrameConnection::call(std::string_view bytes) {
  const timeval patience{kCallSeconds, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    fail("send: " + std::string(std::strerror(errno)));
  }
  std::string in;
  for (;;) {
    const Frame frame = first_frame(in);
    if (frame.state == Frame::State::kMalformed) {
      fail("not RESP: " + in.substr(0, 60));
    }
    if (frame.state == Frame::State::kComplete) {
      return in.substr(0, frame.size);
    }
    const ssize_t received = ::recv(fd_, chunk_.data(), chunk_.size(), 0);
    if (received <= 0) {
      fail(received == 0 ? "closed" : "no answer: " + std::string(std::strerror(errno)));
    }
    in.append(chunk_, 0, static_cast<std::size_t>(received));
  }
}

void FrameConnection::send(std::string_view bytes) {
  if (unsent_.size() + bytes.size() > kUnsentMax) {
    fail("does not take what is sent");
  }
  unsent_ += bytes;
  flush();
}

void FrameConnection::flush() {
  if (unsent_.empty()) {
    return;
  }
  const ssize_t sent = ::send(fd_, unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    fail("send: " + std::string(std::strerror(errno)));
  }
  unsent_.erase(0, sent > 0 ? static_cast<std::size_t>(sent) : 0);
}

void FrameConnection::receive(const std::function<void()>& started, const std::function<void(std::string_view)>& take) {
  const ssize_t received = ::recv(fd_, chunk_.data(), chunk_.size(), MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (received <= 0) {
    fail(received == 0 ? "closed the connection" : std::strerror(errno));
  }
  started();
  std::string_view in(chunk_.data(), static_cast<std::size_t>(received));
  if (!unparsed_.empty()) {
    unparsed_ += in;
    in = unparsed_;
  }
  for (Frame frame = first_frame(in); frame.state != Frame::State::kIncomplete && !in.empty(); frame = first_frame(in)) {
    if (frame.state == Frame::State::kMalformed) {
      fail("not RESP: " + std::string(in.substr(0, 60)));
    }
    take(in.substr(0, frame.size));
    in.remove_prefix(frame.size);
  }
  unparsed_ = std::string(in);
}

}  // namespace nearcached::loadtest
