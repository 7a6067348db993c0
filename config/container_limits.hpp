// How much CPU and memory this process may use, and what "auto" makes of it.
//
// A container sees the host's CPUs and memory; its limits stand in cgroup files. Quotas of all groups from the process's own
// up to the root apply at once, so the tightest wins; version 1 and version 2 hierarchies may be mounted side by side.
// What this does not know: cgroups mounted anywhere but below /sys/fs/cgroup, and limits that are changed later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "config/config_error.hpp"
#include "config/settings.hpp"

namespace nearcached::config {

struct ContainerLimits {
  double cpus = 1;               // > 0; 0.5 is half a CPU
  std::size_t memory_bytes = 0;  // > 0
  std::string cpus_source;       // for the log: the file that limits, or "affinity"
  std::string memory_source;     // for the log: the file that limits, or "physical memory"
};

// What the kernel would let this process use if there were no cgroups: CPUs of its affinity mask, physical memory.
[[nodiscard]] ContainerLimits host_limits();

// The tightest of `host` and all cgroups of this process. `root` stands before /proc and /sys (tests); what is missing or
// unreadable there limits nothing.
[[nodiscard]] ContainerLimits container_limits(const std::string& root, const ContainerLimits& host);
[[nodiscard]] ContainerLimits container_limits();

// Fills in what is "auto": threads (CPUs rounded up, 1..4), l1.max_bytes (a quarter of the memory), limits.buffer_bytes (a
// quarter, 64MB..1GB). Throws ConfigError where sizes that were given do not fit into the memory.
void resolve(Settings& settings, const ContainerLimits& limits, const Origins& origins = {});

}  // namespace nearcached::config
