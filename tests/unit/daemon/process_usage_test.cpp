#include "daemon/process_usage.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <memory>
#include <string>

namespace nearcached::daemon {
namespace {

// The same number from another file, where the kernel counts in kB instead of pages.
std::uint64_t status_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

TEST_CASE("memory that is touched shows in the resident size") {
  constexpr std::size_t kBytes = 64u << 20;
  const std::uint64_t before = read_process_usage().resident_bytes;
  REQUIRE(before > 0);
  const std::unique_ptr<volatile char[]> memory(new volatile char[kBytes]);
  for (std::size_t i = 0; i < kBytes; i += 512) memory[i] = 1;
  const std::uint64_t after = read_process_usage().resident_bytes;
  CHECK(after >= before + kBytes * 9 / 10);
  CHECK(static_cast<double>(after) == Approx(static_cast<double>(status_resident_bytes())).epsilon(0.1));
}

TEST_CASE("a descriptor opened is a descriptor counted") {
  const std::uint64_t before = read_process_usage().open_fds;
  CHECK(before >= 3);
  const int fd = ::open("/dev/null", O_RDONLY);
  REQUIRE(fd >= 0);
  CHECK(read_process_usage().open_fds == before + 1);
  ::close(fd);
  CHECK(read_process_usage().open_fds == before);
}

TEST_CASE("CPU time grows by work") {
  const double before = read_process_usage().cpu_seconds;
  volatile std::uint64_t work = 0;
  int rounds = 0;
  for (; read_process_usage().cpu_seconds < before + 0.01 && rounds < 100'000; ++rounds) {
    for (int i = 0; i < 1000; ++i) work = work + 1;
  }
  CHECK(read_process_usage().cpu_seconds >= before + 0.01);
}

}  // namespace
}  // namespace nearcached::daemon
