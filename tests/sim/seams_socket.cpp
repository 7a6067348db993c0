// The system calls that tiers/io/{stream,socket}.cpp make, wrapped by the linker: descriptors of the simulation go to its
// kernel. And what needs a thread or a real clock: the resolver (addresses are literals here), boot_us, the hash's seed.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "tests/sim/kernel.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/io/resolver.hpp"
#include "tiers/l1/store.hpp"

using nearcached::sim::Kernel;

extern "C" {

int __real_close(int fd);

int __wrap_socket(int, int, int) { return Kernel::current().sys_socket(); }

int __wrap_connect(int fd, const sockaddr* address, socklen_t) {
  sockaddr_in v4{};
  std::memcpy(&v4, address, sizeof v4);
  return Kernel::current().sys_connect(fd, ntohs(v4.sin_port));
}

ssize_t __wrap_send(int fd, const void* bytes, size_t size, int) {
  return Kernel::current().sys_send(fd, {static_cast<const char*>(bytes), size});
}

ssize_t __wrap_recv(int fd, void* room, size_t size, int) {
  return Kernel::current().sys_recv(fd, static_cast<char*>(room), size);
}

int __wrap_getsockopt(int fd, int, int name, void* value, socklen_t*) {
  const int error = name == SO_ERROR ? Kernel::current().sys_error(fd) : 0;
  std::memcpy(value, &error, sizeof error);
  return 0;
}

int __wrap_setsockopt(int, int, int, const void*, socklen_t) { return 0; }

int __wrap_getpeername(int, sockaddr*, socklen_t*) {
  errno = ENOTCONN;
  return -1;
}

int __wrap_getsockname(int, sockaddr*, socklen_t*) {
  errno = ENOTCONN;
  return -1;
}

int __wrap_close(int fd) {
  if (fd < Kernel::kFirstFd) return __real_close(fd);
  Kernel::current().sys_close(fd);
  return 0;
}

}  // extern "C"

namespace nearcached::tiers::io {

std::int64_t boot_us() noexcept { return Kernel::current().now_us(); }

Resolver::Resolver() = default;
void Resolver::stop() {}
void Resolver::look_up(std::string, std::uint16_t, Answer answer) { answer({}); }

}  // namespace nearcached::tiers::io

namespace nearcached::tiers::l1 {

std::uint64_t hash_seed() { return 0x5EED; }

}  // namespace nearcached::tiers::l1
