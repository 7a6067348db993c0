// nearcached_delay_proxy LISTEN_PORT UPSTREAM DELAY_US: a TCP proxy that hands every byte on DELAY_US later, each way, as a
// longer wire would. For loadtest/latency.py: the kernels of small virtual machines often have no netem.
//
// The delay is the same for all, so what has been read is due in the order of reading: one queue for all connections, one
// timer. A wire has no width here: nothing is lost, reordered or throttled. Not for anything but measurements: a side that
// does not read while kBufferedMax waits for it is cut off.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "loadtest/connect.hpp"

namespace {

using nearcached::loadtest::connect_to;
using nearcached::loadtest::monotonic_nanoseconds;

constexpr std::size_t kReadBytes = 64u << 10;
constexpr std::size_t kBufferedMax = 64u << 20;
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr int kEventsMax = 128;

// One socket of a link; what it is to send waits in `out` when the kernel takes no more. Owns the descriptor.
struct Side {
  explicit Side(int socket) : fd(socket) {}
  ~Side() { ::close(fd); }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  int fd;
  std::string out;
  bool watching_writable = false;
  bool open = true;
  std::weak_ptr<Side> peer;
  std::shared_ptr<Side> self;  // keeps it alive while epoll has its address
};

struct Chunk {
  std::int64_t due;
  std::shared_ptr<Side> to;
  std::string bytes;  // empty: the other side has ended
};

class DelayProxy {
 public:
  DelayProxy(int listener, std::string upstream, std::int64_t delay_ns)
      : listener_(listener), upstream_(std::move(upstream)), delay_ns_(delay_ns), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
  }

  [[noreturn]] void run() {
    epoll_event events[kEventsMax];
    for (;;) {
      const std::int64_t now = monotonic_nanoseconds();
      deliver(now);
      const std::int64_t wait = queue_.empty() ? kNanosecondsPerSecond : std::max<std::int64_t>(queue_.front().due - now, 0);
      const timespec timeout{wait / kNanosecondsPerSecond, wait % kNanosecondsPerSecond};
      const int count = ::epoll_pwait2(epoll_, events, kEventsMax, &timeout, nullptr);
      for (int i = 0; i < count; ++i) handle(events[i]);
    }
  }

 private:
  void handle(const epoll_event& event) {
    if (event.data.ptr == nullptr) return accept_one();
    const std::shared_ptr<Side> side = static_cast<Side*>(event.data.ptr)->self;
    if (side == nullptr || !side->open) return;
    if ((event.events & EPOLLOUT) != 0) send_waiting(*side);
    if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_from(*side);
  }

  void accept_one() {
    const int accepted = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (accepted < 0) return;
    const int on = 1;
    ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const auto client = std::make_shared<Side>(accepted);
    std::shared_ptr<Side> server;
    try {
      server = std::make_shared<Side>(connect_to(upstream_));
    } catch (const std::exception&) {
      return;  // the client sees its connection closed
    }
    client->peer = server;
    server->peer = client;
    for (const auto& side : {client, server}) {
      side->self = side;
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = side.get();
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, side->fd, &event);
    }
  }

  void read_from(Side& side) {
    const ssize_t received = ::recv(side.fd, chunk_.data(), chunk_.size(), MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const std::size_t bytes = received > 0 ? static_cast<std::size_t>(received) : 0;
    if (auto peer = side.peer.lock()) {
      queue_.push_back({monotonic_nanoseconds() + delay_ns_, std::move(peer), std::string(chunk_.data(), bytes)});
    }
    if (received <= 0) close(side);
  }

  void deliver(std::int64_t now) {
    while (!queue_.empty() && queue_.front().due <= now) {
      const Chunk chunk = std::move(queue_.front());
      queue_.pop_front();
      if (!chunk.to->open) continue;
      if (chunk.bytes.empty()) {
        close(*chunk.to);
        continue;
      }
      chunk.to->out += chunk.bytes;
      send_waiting(*chunk.to);
    }
  }

  void send_waiting(Side& side) {
    const ssize_t sent = ::send(side.fd, side.out.data(), side.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) side.out.erase(0, static_cast<std::size_t>(sent));
    const bool broken = sent < 0 && errno != EAGAIN && errno != EINTR;
    if (broken || side.out.size() > kBufferedMax) return close(side);
    if (side.watching_writable == side.out.empty()) {
      side.watching_writable = !side.out.empty();
      epoll_event event{};
      event.events = EPOLLIN | (side.watching_writable ? std::uint32_t{EPOLLOUT} : 0u);
      event.data.ptr = &side;
      ::epoll_ctl(epoll_, EPOLL_CTL_MOD, side.fd, &event);
    }
  }

  // The socket itself is closed when the last chunk for it is gone. Its peer follows when the end has travelled to it.
  void close(Side& side) {
    if (!side.open) return;
    side.open = false;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, side.fd, nullptr);
    ::shutdown(side.fd, SHUT_RDWR);
    if (auto peer = side.peer.lock(); peer && peer->open) {
      queue_.push_back({monotonic_nanoseconds() + delay_ns_, std::move(peer), {}});
    }
    const std::shared_ptr<Side> last = std::move(side.self);
  }

  int listener_;
  std::string upstream_;
  std::int64_t delay_ns_;
  int epoll_;
  std::deque<Chunk> queue_;
  std::array<char, kReadBytes> chunk_{};
};

int listen_on(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 1024) != 0) {
    std::perror("nearcached_delay_proxy: listen");
    return -1;
  }
  return fd;
}

bool read_number(std::string_view text, std::int64_t low, std::int64_t high, std::int64_t& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() && value >= low && value <= high;
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t port = 0;
  std::int64_t delay_us = 0;
  if (argc != 4 || !read_number(argv[1], 1, 65535, port) || !read_number(argv[3], 0, 1'000'000, delay_us)) {
    std::fprintf(stderr, "usage: nearcached_delay_proxy LISTEN_PORT UPSTREAM_HOST:PORT DELAY_US (0 to 1000000, each way)\n");
    return 2;
  }
  const int listener = listen_on(static_cast<std::uint16_t>(port));
  if (listener < 0) return 1;
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // else the kernel may add 50 us to every wait
  DelayProxy(listener, argv[2], delay_us * 1000).run();
}
