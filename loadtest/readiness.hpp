// Waits for sockets or a deadline, to the microsecond.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace nearcached::loadtest {

// Waits until one of its sockets is readable or a deadline (CLOCK_MONOTONIC, nanoseconds) has come.
//
// The wait is exact: the calling thread's timer slack is set to the least there is, else the kernel adds up to 50 us to
// each. Level-triggered; sockets stay watched as long as they are open. Confined to the thread that created it.
class Readiness {
 public:
  static constexpr std::int64_t kIdleWait = 20'000'000;  // a good wait where there is no deadline

  Readiness();
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  void watch(int fd, std::size_t name);
  // Calls `ready` with the name of each readable socket, after at most one wait.
  void wait(std::int64_t deadline, const std::function<void(std::size_t name)>& ready);

 private:
  int epoll_;
};

}  // namespace nearcached::loadtest
