#include "loadtest/client_loop.hpp"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <system_error>
#include <utility>

#include "loadtest/connect.hpp"

namespace nearcached::loadtest {

namespace {

constexpr std::size_t kReceiveBytes = 256u << 10;
constexpr int kEventsMax = 256;
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::int64_t kIdleWait = 50'000'000;  // how often the ends of a run are looked at when nothing happens

std::int64_t to_nanoseconds(double seconds) { return std::llround(seconds * 1e9); }

}  // namespace

void LoopStats::merge(const LoopStats& other) {
  latency.merge(other.latency);
  replies += other.replies;
  nulls += other.nulls;
  errors += other.errors;
  unanswered += other.unanswered;
  disconnects += other.disconnects;
  seconds = std::max(seconds, other.seconds);
  if (first_error.empty()) {
    first_error = other.first_error;
  }
}

struct ClientLoop::Connection {
  Connection(int socket, std::uint32_t pipeline) : fd(socket), charged_from(pipeline) {}
  ~Connection() {
    if (fd >= 0) {
      ::close(fd);
    }
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd;
  bool watching_writable = false;
  std::uint32_t in_flight = 0;
  std::uint32_t oldest = 0;                // ring position of the oldest request in flight
  std::vector<std::int64_t> charged_from;  // ring: since when each request in flight is waited for
  std::string out;
  std::size_t out_sent = 0;
  ReplySkimmer skimmer;
};

ClientLoop::ClientLoop(const Options& options) : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_create1");
  }
  chunk_.resize(kReceiveBytes);
  try {
    for (std::uint32_t i = 0; i < options_.clients; ++i) {
      const int fd = connect_to(options_.target);
      connections_.push_back(std::make_unique<Connection>(fd, options_.pipeline));
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = connections_.back().get();
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
      ++connected_;
    }
  } catch (...) {
    ::close(epoll_);
    throw;
  }
}

ClientLoop::~ClientLoop() { ::close(epoll_); }

LoopStats ClientLoop::run(RequestSource& source) {
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // else the kernel adds up to 50 us to every open-loop wait
  source_ = &source;
  stats_ = LoopStats{};
  issuing_ = true;
  issued_ = 0;
  now_ = started_ = last_reply_ = monotonic_nanoseconds();
  const std::int64_t issue_until = options_.seconds > 0 ? started_ + to_nanoseconds(options_.seconds) : INT64_MAX;
  const std::int64_t silence_max = to_nanoseconds(options_.drain_seconds);
  if (options_.rate <= 0) {
    for (const auto& connection : connections_) {
      issue_closed(*connection);
    }
  }
  for (;;) {
    issuing_ = issuing_ && now_ < issue_until;
    if (options_.rate > 0) {
      issue_due();
    }
    if (done() || (in_flight_ > 0 && now_ - silent_since_ > silence_max)) {
      break;
    }
    handle_events();
  }
  stats_.seconds = static_cast<double>(last_reply_ - started_) / 1e9;
  for (const auto& connection : connections_) {
    if (connection->in_flight > 0) {
      drop(*connection);
    }
    if (stats_.first_error.empty()) {
      stats_.first_error = connection->skimmer.first_error();
    }
  }
  return std::move(stats_);
}

bool ClientLoop::done() const { return connected_ == 0 || (!issuing_ && in_flight_ == 0); }

std::int64_t ClientLoop::wait_nanoseconds() const {
  if (options_.rate <= 0 || !issuing_) {
    return kIdleWait;
  }
  const std::int64_t due = started_ + static_cast<std::int64_t>(static_cast<double>(issued_) * 1e9 / options_.rate);
  // A request that is due already waits for a connection with room, which only an event can bring.
  return due <= now_ ? kIdleWait : std::min(due - now_, kIdleWait);
}

void ClientLoop::handle_events() {
  epoll_event events[kEventsMax];
  const std::int64_t wait = wait_nanoseconds();
  const timespec timeout{wait / kNanosecondsPerSecond, wait % kNanosecondsPerSecond};
  const int count = ::epoll_pwait2(epoll_, events, kEventsMax, &timeout, nullptr);
  now_ = monotonic_nanoseconds();
  for (int i = 0; i < count; ++i) {
    Connection& connection = *static_cast<Connection*>(events[i].data.ptr);
    if (connection.fd >= 0 && (events[i].events & EPOLLOUT) != 0) {
      flush(connection);
    }
    if (connection.fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
      receive(connection);
    }
  }
}

bool ClientLoop::append_request(Connection& connection, std::int64_t charged_from) {
  if (!source_->append(connection.out)) {
    issuing_ = false;
    return false;
  }
  connection.charged_from[(connection.oldest + connection.in_flight) % options_.pipeline] = charged_from;
  ++connection.in_flight;
  if (in_flight_++ == 0) {
    silent_since_ = now_;
  }
  ++issued_;
  return true;
}

void ClientLoop::issue_closed(Connection& connection) {
  while (issuing_ && connection.in_flight < options_.pipeline && append_request(connection, now_)) {}
  flush(connection);
}

void ClientLoop::issue_due() {
  const double elapsed = static_cast<double>(now_ - started_) / 1e9;
  const auto due = static_cast<std::uint64_t>(elapsed * options_.rate) + 1;
  std::size_t full = 0;
  while (issuing_ && issued_ < due && full < connections_.size()) {
    Connection& connection = *connections_[next_connection_];
    next_connection_ = (next_connection_ + 1) % connections_.size();
    if (connection.fd < 0 || connection.in_flight == options_.pipeline) {
      ++full;
      continue;
    }
    full = 0;
    const auto offset = static_cast<std::int64_t>(static_cast<double>(issued_) * 1e9 / options_.rate);
    append_request(connection, started_ + offset);
  }
  for (const auto& connection : connections_) {
    flush(*connection);
  }
}

void ClientLoop::flush(Connection& connection) {
  while (connection.fd >= 0 && connection.out_sent < connection.out.size()) {
    const ssize_t sent = ::send(connection.fd, connection.out.data() + connection.out_sent,
                                connection.out.size() - connection.out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      connection.out_sent += static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN) {
      return watch(connection, true);
    } else if (errno != EINTR) {
      return drop(connection);
    }
  }
  connection.out.clear();
  connection.out_sent = 0;
  if (connection.watching_writable) {
    watch(connection, false);
  }
}

void ClientLoop::receive(Connection& connection) {
  const ssize_t received = ::recv(connection.fd, chunk_.data(), chunk_.size(), MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (received <= 0) {
    return drop(connection);
  }
  now_ = monotonic_nanoseconds();
  const auto counts = connection.skimmer.feed({chunk_.data(), static_cast<std::size_t>(received)});
  if (connection.skimmer.malformed() || counts.replies > connection.in_flight) {
    stats_.first_error = "a reply that is not RESP, or that nobody asked for";
    ++stats_.errors;
    return drop(connection);
  }
  for (std::uint64_t i = 0; i < counts.replies; ++i) {
    const std::int64_t waited = now_ - connection.charged_from[connection.oldest];
    stats_.latency.record(static_cast<std::uint64_t>(std::max<std::int64_t>(waited, 0)));
    connection.oldest = (connection.oldest + 1) % options_.pipeline;
  }
  connection.in_flight -= static_cast<std::uint32_t>(counts.replies);
  in_flight_ -= counts.replies;
  stats_.replies += counts.replies;
  stats_.nulls += counts.nulls;
  stats_.errors += counts.errors;
  if (counts.replies > 0) {
    last_reply_ = silent_since_ = now_;
  }
  if (options_.rate <= 0 && connection.in_flight == 0) {
    issue_closed(connection);
  }
}

void ClientLoop::drop(Connection& connection) {
  if (connection.fd < 0) {
    return;
  }
  ::close(connection.fd);
  connection.fd = -1;
  --connected_;
  ++stats_.disconnects;
  stats_.unanswered += connection.in_flight;
  in_flight_ -= connection.in_flight;
  connection.in_flight = 0;
}

void ClientLoop::watch(Connection& connection, bool writable) {
  if (connection.watching_writable == writable) {
    return;
  }
  connection.watching_writable = writable;
  epoll_event event{};
  event.events = EPOLLIN | (writable ? std::uint32_t{EPOLLOUT} : 0u);
  event.data.ptr = &connection;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
}

}  // namespace nearcached::loadtest
