#include "loadtest/connect.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace nearcached::loadtest {

namespace {

[[noreturn]] void fail(const std::string& target, int error) {
  throw std::system_error(error, std::generic_category(), "cannot connect to " + target);
}

int connect_unix(const std::string& target, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    fail(target, ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(fd);
    fail(target, error);
  }
  return fd;
}

int connect_tcp(const std::string& target) {
  const std::size_t colon = target.rfind(':');
  if (colon == std::string::npos) {
    throw std::invalid_argument("target '" + target + "' is neither host:port nor unix:path");
  }
  std::string host = target.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), target.c_str() + colon + 1, &hints, &found);
  if (status != 0) {
    throw std::invalid_argument("target '" + target + "': " + ::gai_strerror(status));
  }
  int error = ECONNREFUSED;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    const int fd = ::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, each->ai_addr, each->ai_addrlen) == 0) {
      ::freeaddrinfo(found);
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return fd;
    }
    error = errno;
    ::close(fd);
  }
  ::freeaddrinfo(found);
  fail(target, error);
}

}  // namespace

int connect_to(const std::string& target) {
  constexpr std::string_view kUnix = "unix:";
  return target.starts_with(kUnix) ? connect_unix(target, target.substr(kUnix.size())) : connect_tcp(target);
}

std::int64_t monotonic_nanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

}  // namespace nearcached::loadtest
