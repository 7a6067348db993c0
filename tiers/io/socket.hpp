// Sockets: listening, and the non-blocking start of a connect.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

namespace nearcached::tiers::io {

// A resolved address, ready for connect(2).
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

// An address literal ("127.0.0.1", "::1"), length 0 if `host` is a name.
[[nodiscard]] SocketAddress literal_address(const std::string& host, std::uint16_t port);
// Length 0 if the path is too long for a socket address.
[[nodiscard]] SocketAddress unix_address(const std::string& path);
// Blocks on the name service.
[[nodiscard]] std::vector<SocketAddress> resolve(const std::string& host, std::uint16_t port);

// Listening sockets, non-blocking; throw std::system_error whose text names the address. A unix socket replaces a path that
// nobody listens on any more, and refuses one that somebody does. Port 0 asks the kernel for one: see local_port().
[[nodiscard]] int listen_tcp(const std::string& host, std::uint16_t port);
[[nodiscard]] int listen_unix(const std::string& path);
[[nodiscard]] std::uint16_t local_port(int fd);

// Starts a connect; -1 with errno if it failed at once.
[[nodiscard]] int start_connect(const SocketAddress& address);
// TCP_NODELAY, and keepalive probes after `idle` of silence (0: none); no-ops on unix sockets.
void set_no_delay(int fd);
void set_keepalive(int fd, std::chrono::milliseconds idle);
// "10.0.0.1:5555", "unix" for the other end of a unix socket.
[[nodiscard]] std::string peer_name(int fd);
// The same of this end.
[[nodiscard]] std::string local_name(int fd);

}  // namespace nearcached::tiers::io
