#include "config/container_limits.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "config/units.hpp"

namespace nearcached::config {
namespace {

constexpr int kGroupDepthMax = 64;
constexpr std::size_t kGroupLinesMax = 64;
constexpr std::size_t kCgroupFileMax = 4096;  // path names in /proc/self/cgroup are at most this long
constexpr std::uint32_t kAutoThreadsMax = 4;
constexpr std::size_t kAutoL1Min = 1u << 20;
constexpr std::size_t kAutoBufferMin = 64u << 20;
constexpr std::size_t kAutoBufferMax = 1u << 30;

// Lines as they stand in /proc/self/cgroup: "4:cpu,cpuacct:/path" (version 1), "0::/path" (version 2).
struct Group {
  std::string controllers;
  std::string path;
};

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line.size() > kCgroupFileMax) return std::nullopt;
  return line;
}

std::vector<Group> own_groups(const std::string& root) {
  std::vector<Group> groups;
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (groups.size() < kGroupLinesMax && std::getline(file, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.size() > kCgroupFileMax) continue;
    groups.push_back({line.substr(first + 1, second - first - 1), line.substr(second + 1)});
  }
  return groups;
}

bool has_controller(const Group& group, std::string_view name) {
  std::istringstream controllers(group.controllers);
  std::string controller;
  while (std::getline(controllers, controller, ',')) {
    if (controller == name) return true;
  }
  return false;
}

// "/a/b" -> "/a/b", "/a", "": the group and all above it, the root (or what is mounted as such in a container) last.
std::vector<std::string> with_parents(const std::string& path) {
  std::vector<std::string> paths;
  // A group outside of the cgroup namespace is shown as "/../x"; only the mounted root can be read then.
  std::string at = path.find("..") == std::string::npos ? path : "";
  for (int depth = 0; depth < kGroupDepthMax && !at.empty() && at != "/"; ++depth) {
    paths.push_back(at);
    at.erase(at.find_last_of('/') == std::string::npos ? 0 : at.find_last_of('/'));
  }
  paths.emplace_back();
  return paths;
}

void limit_cpus(ContainerLimits& limits, double cpus, const std::string& source) {
  if (!(cpus > 0) || cpus >= limits.cpus) return;
  limits.cpus = cpus;
  limits.cpus_source = source;
}

void limit_memory(ContainerLimits& limits, const std::string& file) {
  const auto line = first_line(file);
  const auto bytes = line ? parse_integer(*line) : std::nullopt;  // "max" is no number and no limit
  if (!bytes || *bytes == 0 || *bytes >= limits.memory_bytes) return;
  limits.memory_bytes = *bytes;
  limits.memory_source = file;
}

double quota(std::string_view runtime, std::string_view period) {
  const auto runtime_us = parse_integer(runtime);  // "max" and "-1" are no numbers and no limits
  const auto period_us = parse_integer(period);
  if (!runtime_us || !period_us || *period_us == 0) return 0;
  return static_cast<double>(*runtime_us) / static_cast<double>(*period_us);
}

void read_v2(ContainerLimits& limits, const std::string& directory) {
  limit_memory(limits, directory + "/memory.max");
  const std::string file = directory + "/cpu.max";
  const auto line = first_line(file);
  const std::size_t space = line ? line->find(' ') : std::string::npos;
  if (space == std::string::npos) return;
  limit_cpus(limits, quota(line->substr(0, space), line->substr(space + 1)), file);
}

void read_v1_cpu(ContainerLimits& limits, const std::string& directory) {
  const std::string file = directory + "/cpu.cfs_quota_us";
  const auto runtime = first_line(file);
  const auto period = first_line(directory + "/cpu.cfs_period_us");
  if (runtime && period) limit_cpus(limits, quota(*runtime, *period), file);
}

void read_group(ContainerLimits& limits, const Group& group, const std::string& mounts) {
  for (const std::string& path : with_parents(group.path)) {
    if (group.controllers.empty()) {
      read_v2(limits, mounts + path);
      read_v2(limits, mounts + "/unified" + path);
    }
    // The directory is named after all controllers mounted together; each name alone is usually a link to it.
    if (has_controller(group, "cpu")) {
      read_v1_cpu(limits, mounts + "/" + group.controllers + path);
      read_v1_cpu(limits, mounts + "/cpu" + path);
    }
    if (has_controller(group, "memory")) {
      limit_memory(limits, mounts + "/" + group.controllers + path + "/memory.limit_in_bytes");
      limit_memory(limits, mounts + "/memory" + path + "/memory.limit_in_bytes");
    }
  }
}

[[noreturn]] void fail(const Origins& origins, std::string_view key, const std::string& message) {
  const auto origin = origins.find(key);
  const std::string place = origin == origins.end() ? "" : origin->second.text() + ": ";
  throw ConfigError(place + std::string(key) + ": " + message);
}

// Sizes that were given, not derived, must leave the process room to live.
void check_memory(const Settings& settings, const ContainerLimits& limits, const Origins& origins) {
  const std::size_t l1 = settings.l1.enabled ? settings.l1.store.max_bytes : 0;
  const std::size_t l1_allowed = limits.memory_bytes / 4 * 3;
  const std::string memory = "the memory limit of " + format_bytes(limits.memory_bytes);
  if (l1 > l1_allowed) {
    fail(origins, "l1.max_bytes",
         format_bytes(l1) + " is more than three quarters of " + memory + "; allowed: at most " + format_bytes(l1_allowed) +
             ", or auto");
  }
  const std::size_t buffers = settings.limits.buffer_bytes;
  const std::size_t buffers_allowed = limits.memory_bytes - l1;
  if (buffers > buffers_allowed) {
    fail(origins, "limits.buffer_bytes",
         format_bytes(buffers) + " and l1.max_bytes, " + format_bytes(l1) + ", are more than " + memory +
             "; allowed: at most " + format_bytes(buffers_allowed) + ", or auto");
  }
}

}  // namespace

ContainerLimits host_limits() {
  ContainerLimits limits;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // A mask of 1024 CPUs is too small for the largest hosts; the call fails there and all CPUs are taken.
  const bool known = sched_getaffinity(0, sizeof mask, &mask) == 0;
  limits.cpus = known ? CPU_COUNT(&mask) : std::max(1u, std::thread::hardware_concurrency());
  limits.cpus_source = "affinity";
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  constexpr std::size_t kUnknownMemory = 1u << 30;
  limits.memory_bytes =
      pages > 0 && page_bytes > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page_bytes) : kUnknownMemory;
  limits.memory_source = "physical memory";
  return limits;
}

ContainerLimits container_limits(const std::string& root, const ContainerLimits& host) {
  ContainerLimits limits = host;
  for (const Group& group : own_groups(root)) read_group(limits, group, root + "/sys/fs/cgroup");
  return limits;
}

ContainerLimits container_limits() { return container_limits("", host_limits()); }

void resolve(Settings& settings, const ContainerLimits& limits, const Origins& origins) {
  if (settings.threads == 0) {
    const double wanted = std::clamp(std::ceil(limits.cpus), 1.0, static_cast<double>(kAutoThreadsMax));
    settings.threads = static_cast<std::uint32_t>(wanted);
  }
  const std::size_t quarter = limits.memory_bytes / 4;
  if (settings.l1.store.max_bytes == 0) settings.l1.store.max_bytes = std::max(quarter, kAutoL1Min);
  check_memory(settings, limits, origins);
  if (settings.limits.buffer_bytes == 0) settings.limits.buffer_bytes = std::clamp(quarter, kAutoBufferMin, kAutoBufferMax);
  if (!settings.l1.enabled) return;
  // An entry that is larger than a derived budget is not a mistake of whoever left both at their defaults.
  settings.l1.store.max_item_bytes = std::min(settings.l1.store.max_item_bytes, settings.l1.store.max_bytes);
  const std::string problem = settings.l1.store.validate();
  if (!problem.empty()) fail(origins, "l1.max_bytes", problem);
}

}  // namespace nearcached::config
