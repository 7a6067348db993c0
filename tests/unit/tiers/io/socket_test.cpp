#include "tiers/io/socket.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace nearcached::tiers::io {
namespace {

struct TempDir {
  TempDir() {
    char name[] = "/tmp/nearcached_socket_XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path = name;
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

// A finished connect to the address, or its error.
int connect_error(const SocketAddress& address) {
  const int fd = start_connect(address);
  if (fd < 0) return errno;
  pollfd poll_fd{fd, POLLOUT, 0};
  ::poll(&poll_fd, 1, 20'000);
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  close(fd);
  return error;
}

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  getsockopt(fd, level, name, &value, &length);
  return value;
}

}  // namespace

TEST_CASE("address literals are told from names", "[socket]") {
  CHECK(literal_address("127.0.0.1", 6379).family() == AF_INET);
  CHECK(literal_address("::1", 6379).family() == AF_INET6);
  for (const char* name : {"localhost", "", "127.0.0.1.example.com", "127.1", "256.0.0.1", "[::1]", "1.2.3.4 "}) {
    CAPTURE(name);
    CHECK(literal_address(name, 6379).length == 0);
  }
  const SocketAddress address = literal_address("10.1.2.3", 0x1234);
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(address.get());
  CHECK(ntohs(v4->sin_port) == 0x1234);
  CHECK(ntohl(v4->sin_addr.s_addr) == 0x0a010203);
}

TEST_CASE("a path fits a socket address with its NUL, or is refused", "[socket]") {
  CHECK(unix_address(std::string(107, 'p')).length != 0);
  CHECK(unix_address(std::string(108, 'p')).length == 0);
  CHECK(unix_address(std::string(5000, 'p')).length == 0);
}

TEST_CASE("a listening TCP socket is reachable at the port it says", "[socket]") {
  const int fd = listen_tcp("127.0.0.1", 0);
  const std::uint16_t port = local_port(fd);
  REQUIRE(port != 0);
  CHECK((option(fd, SOL_SOCKET, SO_ACCEPTCONN)) == 1);
  CHECK(connect_error(literal_address("127.0.0.1", port)) == 0);

  const int accepted = accept(fd, nullptr, nullptr);
  REQUIRE(accepted >= 0);
  CHECK(peer_name(accepted).substr(0, 10) == "127.0.0.1:");
  set_no_delay(accepted);
  set_keepalive(accepted, std::chrono::milliseconds(0));
  CHECK(option(accepted, SOL_SOCKET, SO_KEEPALIVE) == 0);
  set_keepalive(accepted, std::chrono::milliseconds(90'000));
  CHECK(option(accepted, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(accepted, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(accepted, IPPROTO_TCP, TCP_KEEPIDLE) == 90);
  close(accepted);

  // In use: the error names the address.
  try {
    close(listen_tcp("127.0.0.1", port));
    FAIL("two listen on one port");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::address_in_use);
    CHECK(std::string(error.what()).find("127.0.0.1:" + std::to_string(port)) != std::string::npos);
  }
  close(fd);
  CHECK(connect_error(literal_address("127.0.0.1", port)) == ECONNREFUSED);
}

TEST_CASE("a host that does not resolve can't be listened on, and is named", "[socket]") {
  CHECK(resolve("no-such-host.invalid", 1).empty());
  try {
    close(listen_tcp("no-such-host.invalid", 1));
    FAIL("it listens");
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()).find("no-such-host.invalid:1") != std::string::npos);
  }
}

TEST_CASE("a unix socket replaces what nobody listens on any more, and nothing else", "[socket]") {
  const TempDir dir;
  const std::string path = dir.path + "/s.sock";
  const int first = listen_unix(path);
  CHECK(connect_error(unix_address(path)) == 0);
  const int accepted = accept(first, nullptr, nullptr);
  CHECK(peer_name(accepted) == "unix");
  CHECK(local_port(first) == 0);
  close(accepted);
  try {
    close(listen_unix(path));
    FAIL("two listen on one path");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::address_in_use);
    CHECK(std::string(error.what()).find(path) != std::string::npos);
  }
  CHECK(connect_error(unix_address(path)) == 0);  // the first one still listens

  close(first);  // its file stays, as after a kill -9
  REQUIRE(std::filesystem::exists(path));
  const int second = listen_unix(path);
  CHECK(connect_error(unix_address(path)) == 0);
  close(second);

  CHECK_THROWS_AS(listen_unix(std::string(200, 'p')), std::system_error);
  CHECK_THROWS_AS(listen_unix(dir.path + "/no/such/folder.sock"), std::system_error);
}

}  // namespace nearcached::tiers::io
