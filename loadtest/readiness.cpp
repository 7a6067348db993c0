#include "loadtest/readiness.hpp"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "loadtest/connect.hpp"

namespace nearcached::loadtest {

Readiness::Readiness() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_create1");
  }
  ::prctl(PR_SET_TIMERSLACK, 1UL);
}

Readiness::~Readiness() { ::close(epoll_); }

void Readiness::watch(int fd, std::size_t name) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = name;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
}

void Readiness::wait(std::int64_t deadline, const std::function<void(std::size_t name)>& ready) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t left = std::max<std::int64_t>(deadline - monotonic_nanoseconds(), 0);
  const timespec timeout{left / kSecond, left % kSecond};
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  for (int i = 0; i < count; ++i) {
    ready(events[static_cast<std::size_t>(i)].data.u64);
  }
}

}  // namespace nearcached::loadtest
