// nearcached_connection_storm TARGET RATE SECONDS: opens RATE connections per second, each for one PING, whatever the server
// does, and prints as JSON how many were answered and how long they took.
//
// An open loop: connection n is due at start + n / RATE, and its time runs from then to its +PONG, so a server that stops
// accepting is charged for all that should have come meanwhile. At most kOpenMax wait for their answer at once. TARGET is a
// numeric IPv4 address and port; where it is on loopback the connections come from kSources addresses in turn, since the
// ports of one, with those that are in TIME_WAIT, would soon be so few that the kernel searches long for each.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <unordered_map>

#include "loadtest/connect.hpp"
#include "loadtest/hdr_histogram.hpp"

namespace {

using nearcached::loadtest::HdrHistogram;
using nearcached::loadtest::monotonic_nanoseconds;

constexpr std::string_view kPing = "*1\r\n$4\r\nPING\r\n";
constexpr std::string_view kPong = "+PONG\r\n";
constexpr std::size_t kOpenMax = 5000;
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::int64_t kDrain = 5 * kNanosecondsPerSecond;
constexpr std::int64_t kWaitMax = kNanosecondsPerSecond / 20;
constexpr int kEventsMax = 256;
constexpr std::uint32_t kSources = 16;  // 127.1.0.1 and following

class Storm {
 public:
  Storm(const sockaddr_in& target, double rate, double seconds)
      : target_(target),
        rate_(rate),
        total_(static_cast<std::uint64_t>(rate * seconds)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  void run() {
    const std::int64_t started = monotonic_nanoseconds();
    std::int64_t now = started;
    std::int64_t all_sent = started;
    while (issued_ < total_ || (!waiting_.empty() && now - all_sent < kDrain)) {
      for (; issued_ < total_ && due(started) <= now && waiting_.size() < kOpenMax; ++issued_) open(due(started));
      if (issued_ < total_) all_sent = monotonic_nanoseconds();
      collect(issued_ < total_ ? std::min(std::max<std::int64_t>(due(started) - all_sent, 0), kWaitMax) : kWaitMax);
      now = monotonic_nanoseconds();
    }
    unanswered_ += waiting_.size();
    seconds_ = static_cast<double>(all_sent - started) / 1e9;
  }

  void print() const {
    const auto us = [this](double percent) { return static_cast<double>(latency_.percentile(percent)) / 1e3; };
    std::printf(
        "{\"connections\": %llu, \"answered\": %llu, \"failed\": %llu, \"unanswered\": %llu, \"per_second\": %.1f, "
        "\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}}\n",
        static_cast<unsigned long long>(issued_), static_cast<unsigned long long>(answered_),
        static_cast<unsigned long long>(failed_), static_cast<unsigned long long>(unanswered_),
        static_cast<double>(issued_) / seconds_, us(50), us(99), us(99.9), static_cast<double>(latency_.max()) / 1e3);
  }

 private:
  [[nodiscard]] std::int64_t due(std::int64_t started) const {
    return started + static_cast<std::int64_t>(static_cast<double>(issued_) * 1e9 / rate_);
  }

  // Connected or under way; -1 when refused at once.
  [[nodiscard]] int connect_from_next() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ntohl(target_.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
      sockaddr_in source{};
      source.sin_family = AF_INET;
      source.sin_addr.s_addr = htonl((127u << 24) + (1u << 16) + 1 + static_cast<std::uint32_t>(issued_ % kSources));
      ::bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source);
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0 && errno != EINPROGRESS) {
      ::close(fd);
      return -1;
    }
    return fd;
  }

  void open(std::int64_t due) {
    const int fd = connect_from_next();
    if (fd < 0) {
      ++failed_;
      return;
    }
    epoll_event event{};
    event.events = EPOLLOUT;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    waiting_.emplace(fd, due);
  }

  void collect(std::int64_t wait) {
    epoll_event events[kEventsMax];
    const timespec timeout{wait / kNanosecondsPerSecond, wait % kNanosecondsPerSecond};
    const int count = ::epoll_pwait2(epoll_, events, kEventsMax, &timeout, nullptr);
    const std::int64_t now = monotonic_nanoseconds();
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if ((events[i].events & EPOLLOUT) != 0 && send_ping(fd)) continue;
      char reply[64];
      const ssize_t received = ::recv(fd, reply, sizeof reply, MSG_DONTWAIT);
      if (received > 0 && std::string_view(reply, static_cast<std::size_t>(received)) == kPong) {
        ++answered_;
        latency_.record(static_cast<std::uint64_t>(now - waiting_.at(fd)));
      } else {
        ++failed_;
      }
      waiting_.erase(fd);
      ::close(fd);
    }
  }

  // The connection stands: from now on only its answer is waited for. False when it doesn't.
  [[nodiscard]] bool send_ping(int fd) const {
    if (::send(fd, kPing.data(), kPing.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(kPing.size())) return false;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) == 0;
  }

  sockaddr_in target_;
  double rate_;
  std::uint64_t total_;
  int epoll_;
  std::uint64_t issued_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t failed_ = 0;  // not connected, closed, or answered with something else
  std::uint64_t unanswered_ = 0;
  double seconds_ = 0;
  HdrHistogram latency_;
  std::unordered_map<int, std::int64_t> waiting_;  // since when each connection was due
};

bool read_target(const std::string& text, sockaddr_in& target) {
  const std::size_t colon = text.find(':');
  std::uint16_t port = 0;
  if (colon == std::string::npos) return false;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
  target.sin_family = AF_INET;
  target.sin_port = htons(port);
  return parsed.ec == std::errc{} && parsed.ptr == end &&
         ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &target.sin_addr) == 1;
}

bool read_number(std::string_view text, double& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() && value > 0 && value <= 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in target{};
  double rate = 0;
  double seconds = 0;
  if (argc != 4 || !read_target(argv[1], target) || !read_number(argv[2], rate) || !read_number(argv[3], seconds)) {
    std::fprintf(stderr, "usage: nearcached_connection_storm A.B.C.D:PORT RATE SECONDS\n");
    return 2;
  }
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  Storm storm(target, rate, seconds);
  storm.run();
  storm.print();
}
