#include "daemon/listener.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/log.hpp"
#include "tiers/io/socket.hpp"

namespace nearcached::daemon {
namespace {

// Connections taken per readiness: a storm of them must not keep the loop from everything else.
constexpr int kAcceptsMax = 256;

}  // namespace

Listener::Listener(tiers::io::EventLoop& loop, const config::ListenAddress& address, std::function<void(int)> on_client)
    : loop_(loop), address_(address), on_client_(std::move(on_client)) {
  fd_ = address.is_unix() ? tiers::io::listen_unix(address.host) : tiers::io::listen_tcp(address.host, address.port);
  name_ = address_.text();
  resume();
}

Listener::~Listener() { close(); }

void Listener::resume() {
  if (fd_ < 0 || watched_) return;
  loop_.watch(fd_, *this, EPOLLIN);
  watched_ = true;
}

void Listener::close() {
  if (fd_ < 0) return;
  if (watched_) loop_.unwatch(fd_, *this);
  ::close(fd_);
  fd_ = -1;
  if (address_.is_unix()) unlink(address_.host.c_str());
}

void Listener::on_events(std::uint32_t) {
  for (int i = 0; i < kAcceptsMax && fd_ >= 0; ++i) {
    const int client = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0) {
      on_client_(client);
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    log::write_limited(log::Level::kError, "accept_failed", name_, {{"listen", name_}, {"error", std::strerror(errno)}});
    loop_.unwatch(fd_, *this);
    watched_ = false;
    return;
  }
}

}  // namespace nearcached::daemon
