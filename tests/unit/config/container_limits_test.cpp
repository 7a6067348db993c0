#include "config/container_limits.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using Catch::Equals;

constexpr std::size_t kMiB = 1u << 20;

// A host of 8 CPUs and 16 GB with the files that a test writes.
class Host {
 public:
  void write(const std::string& name, const std::string& content) const {
    static_cast<void>(directory_.write(name, content));
  }
  [[nodiscard]] ContainerLimits limits() const {
    ContainerLimits host;
    host.cpus = 8;
    host.memory_bytes = 16384 * kMiB;
    host.cpus_source = "affinity";
    host.memory_source = "physical memory";
    return container_limits(directory_.path(""), host);
  }

 private:
  TempDir directory_;
};

TEST_CASE("without cgroups the host is the limit") {
  const Host host;
  CHECK(host.limits().cpus == 8);
  CHECK(host.limits().memory_bytes == 16384 * kMiB);
  CHECK(host.limits().memory_source == "physical memory");
}

TEST_CASE("version 2: the process's own group limits") {
  const Host host;
  host.write("proc/self/cgroup", "0::/kubepods/pod1/app\n");
  host.write("sys/fs/cgroup/kubepods/pod1/app/cpu.max", "150000 100000\n");
  host.write("sys/fs/cgroup/kubepods/pod1/app/memory.max", "268435456\n");
  CHECK(host.limits().cpus == 1.5);
  CHECK(host.limits().memory_bytes == 256 * kMiB);
  CHECK_THAT(host.limits().cpus_source, Contains("/kubepods/pod1/app/cpu.max"));
  CHECK_THAT(host.limits().memory_source, Contains("/kubepods/pod1/app/memory.max"));
}

TEST_CASE("version 2: the tightest of all groups up to the root wins, wherever it is") {
  const Host host;
  host.write("proc/self/cgroup", "0::/a/b/c\n");
  host.write("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000");
  host.write("sys/fs/cgroup/a/b/cpu.max", "max 100000");
  host.write("sys/fs/cgroup/a/cpu.max", "50000 100000");
  host.write("sys/fs/cgroup/a/b/c/memory.max", "max");
  host.write("sys/fs/cgroup/a/b/memory.max", "104857600");
  host.write("sys/fs/cgroup/a/memory.max", "209715200");
  CHECK(host.limits().cpus == 0.5);
  CHECK(host.limits().memory_bytes == 100 * kMiB);
}

TEST_CASE("version 2: in a container of its own namespace the mounted root limits") {
  const Host host;
  host.write("sys/fs/cgroup/cpu.max", "200000 100000");
  host.write("sys/fs/cgroup/memory.max", "134217728");
  for (const char* own : {"0::/\n", "0::/../../elsewhere\n", "0::/not/mounted/here\n"}) {
    CAPTURE(own);
    host.write("proc/self/cgroup", own);
    CHECK(host.limits().cpus == 2);
    CHECK(host.limits().memory_bytes == 128 * kMiB);
  }
}

TEST_CASE("version 1: quota, period and limit are files of their own, and parents count") {
  const Host host;
  host.write("proc/self/cgroup", "11:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n");
  host.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
  host.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  host.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "250000\n");
  host.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
  host.write("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n");
  host.write("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "536870912\n");
  CHECK(host.limits().cpus == 2.5);
  CHECK(host.limits().memory_bytes == 512 * kMiB);
}

TEST_CASE("version 1: a container that sees only its own group as the mount's root") {
  const Host host;
  host.write("proc/self/cgroup", "4:cpu:/docker/abc\n3:memory:/docker/abc\n");
  host.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000");
  host.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000");
  host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864");
  CHECK(host.limits().cpus == 2);
  CHECK(host.limits().memory_bytes == 64 * kMiB);
}

TEST_CASE("both versions side by side: the tighter one wins") {
  const Host host;
  host.write("proc/self/cgroup", "4:memory:/x\n0::/y\n");
  host.write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "536870912");
  host.write("sys/fs/cgroup/unified/y/memory.max", "268435456");
  CHECK(host.limits().memory_bytes == 256 * kMiB);
}

TEST_CASE("only the controller itself is read, not one whose name contains it") {
  const Host host;
  host.write("proc/self/cgroup", "2:cpuacct:/x\n3:cpuset:/x\n");
  host.write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000");
  host.write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000");
  CHECK(host.limits().cpus == 8);
}

TEST_CASE("nonsense in cgroup files limits nothing") {
  for (const char* text : {"", "\n", "max", "-1", "0", "x", "12x", "99999999999999999999", "1 2", " 5"}) {
    CAPTURE(text);
    const Host host;
    host.write("proc/self/cgroup", "0::/\n4:memory,cpu:/\n");
    host.write("sys/fs/cgroup/memory.max", text);
    host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", text);
    CHECK(host.limits().memory_bytes == 16384 * kMiB);
  }
  for (const char* text :
       {"", "max 100000", "100000", "100000 0", "0 100000", "-1 100000", "a b", "1 x", "100000  100000", "9999999999 1"}) {
    CAPTURE(text);
    const Host host;
    host.write("proc/self/cgroup", "0::/\n");
    host.write("sys/fs/cgroup/cpu.max", text);
    CHECK(host.limits().cpus == 8);
  }
}

TEST_CASE("a malformed list of groups, or an endless path, ends") {
  for (const std::string& groups :
       {std::string("::\n:\n\n0\n0:\n0::\n"), "0::" + std::string(3000, '/') + "\n", std::string("0::relative/x\n"),
        "0::" + std::string(10'000, 'x') + "\n", std::string("4:cpu,,:/\n")}) {
    const Host host;
    host.write("proc/self/cgroup", groups);
    CHECK(host.limits().cpus == 8);
  }
}

TEST_CASE("the machine that runs this has a CPU and memory") {
  CHECK(host_limits().cpus >= 1);
  CHECK(host_limits().memory_bytes >= 64 * kMiB);
  CHECK(container_limits().cpus > 0);
  CHECK(container_limits().cpus <= host_limits().cpus);
  CHECK(container_limits().memory_bytes <= host_limits().memory_bytes);
}

Settings resolved(Settings settings, double cpus, std::size_t memory_bytes) {
  ContainerLimits limits;
  limits.cpus = cpus;
  limits.memory_bytes = memory_bytes;
  resolve(settings, limits);
  return settings;
}

TEST_CASE("threads: auto is the quota rounded up, 1 to 4") {
  const auto threads = [](double cpus) { return resolved({}, cpus, 1024 * kMiB).threads; };
  CHECK(threads(0.1) == 1);
  CHECK(threads(1) == 1);
  CHECK(threads(1.5) == 2);
  CHECK(threads(4) == 4);
  CHECK(threads(64) == 4);
  Settings given;
  given.threads = 32;
  CHECK(resolved(given, 1, 1024 * kMiB).threads == 32);
}

TEST_CASE("l1.max_bytes: auto is a quarter of the memory") {
  Settings settings;
  settings.l1.store.max_bytes = 0;
  CHECK(resolved(settings, 1, 1024 * kMiB).l1.store.max_bytes == 256 * kMiB);
  settings.l1.store.max_bytes = 100 * kMiB;
  CHECK(resolved(settings, 1, 1024 * kMiB).l1.store.max_bytes == 100 * kMiB);
}

TEST_CASE("limits.buffer_bytes: auto is a quarter of the memory, 64MB to 1GB") {
  const auto buffers = [](std::size_t memory_bytes) { return resolved({}, 1, memory_bytes).limits.buffer_bytes; };
  CHECK(buffers(128 * kMiB) == 64 * kMiB);
  CHECK(buffers(256 * kMiB) == 64 * kMiB);
  CHECK(buffers(1024 * kMiB) == 256 * kMiB);
  CHECK(buffers(65536 * kMiB) == 1024 * kMiB);
}

TEST_CASE("resolving twice changes nothing more") {
  Settings settings;
  settings.l1.store.max_bytes = 0;
  const Settings once = resolved(settings, 2.5, 512 * kMiB);
  const Settings twice = resolved(once, 2.5, 512 * kMiB);
  CHECK(twice.threads == once.threads);
  CHECK(twice.l1.store.max_bytes == once.l1.store.max_bytes);
  CHECK(twice.limits.buffer_bytes == once.limits.buffer_bytes);
}

TEST_CASE("sizes that do not fit into the memory are refused where they were given") {
  ContainerLimits limits;
  limits.memory_bytes = 256 * kMiB;
  Settings settings;
  settings.l1.store.max_bytes = 193 * kMiB;
  const auto error = [&](const Origins& origins) {
    Settings copy = settings;
    return message_of<ConfigError>([&] { resolve(copy, limits, origins); });
  };
  CHECK_THAT(
      error({{"l1.max_bytes", {"n.yaml", 7}}}),
      Equals("n.yaml:7: l1.max_bytes: 193MB is more than three quarters of the memory limit of 256MB; allowed: at most "
             "192MB, or auto"));
  settings.l1.store.max_bytes = 192 * kMiB;
  CHECK(error({}).empty());
  settings.limits.buffer_bytes = 65 * kMiB;
  CHECK_THAT(
      error({{"limits.buffer_bytes", {"--set", 0}}}),
      Equals("--set: limits.buffer_bytes: 65MB and l1.max_bytes, 192MB, are more than the memory limit of 256MB; allowed: "
             "at most 64MB, or auto"));
  settings.limits.buffer_bytes = 64 * kMiB;
  CHECK(error({}).empty());
  settings.l1.store.max_bytes = 1024 * kMiB;
  settings.l1.enabled = false;
  CHECK(error({}).empty());
}

}  // namespace
}  // namespace nearcached::config
