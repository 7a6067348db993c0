// CPU time of another process, from /proc.
#pragma once

#include <sys/types.h>

#include <optional>

namespace nearcached::loadtest {

// CPU time a process has used since it started, all its threads together, ended ones included.
struct CpuTime {
  double user_seconds = 0;
  double system_seconds = 0;
  friend CpuTime operator-(const CpuTime& a, const CpuTime& b) {
    return {a.user_seconds - b.user_seconds, a.system_seconds - b.system_seconds};
  }
};

// From /proc/PID/stat: the sum is exact to a clock tick (10 ms), the split between user and system is the kernel's estimate.
// Empty when there is no such process or it can't be read.
[[nodiscard]] std::optional<CpuTime> process_cpu(pid_t pid);

}  // namespace nearcached::loadtest
