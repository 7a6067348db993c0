#include "loadtest/process_cpu.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <limits>

using nearcached::loadtest::CpuTime;
using nearcached::loadtest::process_cpu;

namespace {

double seconds(const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; }

double own_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

TEST_CASE("the process's own CPU time lies between what getrusage says before and after") {
  volatile unsigned spin = 0;
  while (own_seconds() < 0.15) {
    spin = spin + 1;
  }
  const double before = own_seconds();
  const auto found = process_cpu(::getpid());
  const double after = own_seconds();
  REQUIRE(found);
  CHECK(found->user_seconds + found->system_seconds >= before - 0.021);  // both parts are cut to a tick of 10 ms
  CHECK(found->user_seconds + found->system_seconds <= after + 0.001);
}

TEST_CASE("a process that does not exist has no CPU time") { CHECK_FALSE(process_cpu(std::numeric_limits<pid_t>::max())); }

TEST_CASE("differences are taken part by part") {
  const CpuTime difference = CpuTime{5, 3} - CpuTime{1, 2};
  CHECK(difference.user_seconds == 4);
  CHECK(difference.system_seconds == 1);
}
