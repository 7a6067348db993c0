// nearcached_bare_loop PORT: the floor of loadtest/compare.sh. One thread, one epoll, and nothing but an answer: every
// command, whatever it says, gets the same 64-byte value. It reads, counts the commands, and writes all their answers at
// once; so what it costs per operation is what the kernel costs, and the distance to it is what a real server's own work
// costs. Not a server: no back pressure, and a client that does not read its answers is dropped.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>

namespace {

constexpr std::size_t kReadBytes = 64u << 10;
constexpr std::size_t kValueBytes = 64;
constexpr int kEventsMax = 128;

struct Client {
  std::string unparsed;  // the start of a command that is not complete yet
};

// The size of the complete command at the start of `in`; 0 when it is not complete.
std::size_t command_size(std::string_view in) {
  const auto number_at = [in](std::size_t position, std::size_t& next) {
    const std::size_t end = in.find("\r\n", position);
    std::size_t value = 0;
    if (end == std::string_view::npos) {
      next = 0;
      return value;
    }
    std::from_chars(in.data() + position + 1, in.data() + end, value);
    next = end + 2;
    return value;
  };
  std::size_t position = 0;
  std::size_t left = number_at(0, position);
  for (; position != 0 && left > 0; --left) {
    std::size_t after = 0;
    const std::size_t size = number_at(position, after);
    if (after == 0 || after + size + 2 > in.size()) {
      return 0;
    }
    position = after + size + 2;
  }
  return position;
}

// Answers what has come; false when the client is gone.
bool answer(int fd, Client& client, std::string& out, std::array<char, kReadBytes>& chunk, const std::string& reply) {
  const ssize_t received = ::recv(fd, chunk.data(), chunk.size(), 0);
  if (received <= 0) {
    return false;
  }
  std::string_view in(chunk.data(), static_cast<std::size_t>(received));
  if (!client.unparsed.empty()) {
    client.unparsed.append(in);
    in = client.unparsed;
  }
  out.clear();
  for (std::size_t size = command_size(in); size > 0; size = in.empty() ? 0 : command_size(in)) {
    in.remove_prefix(size);
    out += reply;
  }
  client.unparsed = std::string(in);
  return out.empty() || ::send(fd, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(out.size());
}

int listen_on(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 1024) != 0) {
    std::perror("nearcached_bare_loop: listen");
    return -1;
  }
  return fd;
}

void serve(int listener) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [epoll](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener);
  std::unordered_map<int, Client> clients;
  const std::string reply = "$" + std::to_string(kValueBytes) + "\r\n" + std::string(kValueBytes, 'v') + "\r\n";
  std::string out;
  std::array<char, kReadBytes> chunk{};
  epoll_event events[kEventsMax];
  for (;;) {
    const int count = ::epoll_wait(epoll, events, kEventsMax, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        const int on = 1;
        ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(accepted);
      } else if (!answer(fd, clients[fd], out, chunk, reply)) {
        clients.erase(fd);
        ::close(fd);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int port = argc == 2 ? std::atoi(argv[1]) : 0;
  if (port < 1 || port > 65535) {
    std::fprintf(stderr, "usage: nearcached_bare_loop PORT\n");
    return 2;
  }
  const int listener = listen_on(static_cast<std::uint16_t>(port));
  if (listener < 0) {
    return 1;
  }
  serve(listener);
}
