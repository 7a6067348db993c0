// nearcached: a near-cache sidecar for Redis. Exit codes: 0, 1 failed at run time, 2 bad usage or configuration.
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "config/command_line.hpp"
#include "config/config_error.hpp"
#include "config/container_limits.hpp"
#include "config/print.hpp"
#include "daemon/access.hpp"
#include "daemon/app.hpp"
#include "daemon/certificates.hpp"
#include "daemon/log.hpp"

extern char** environ;

namespace {

using nearcached::config::Action;
using nearcached::config::CommandLine;

// Blocked before any thread exists, so that only the main loop's descriptor sees them.
void route_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

// Blocks of connections' buffers and large values go back to the system when they are freed. By default the allocator stops
// using mmap for what was freed once, and a burst of large values then stays in the heap for good.
void keep_memory_returnable() {
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

int serve(const CommandLine& line, const nearcached::config::ContainerLimits& limits) {
  namespace log = nearcached::daemon::log;
  route_signals();
  keep_memory_returnable();
  log::init(log::level_of(line.settings.log.level), log::format_of(line.settings.log.format));
  int code = 1;
  try {
    nearcached::daemon::App app(line.settings, limits);
    code = app.run();
  } catch (const nearcached::config::ConfigError&) {
    log::shutdown();
    throw;
  } catch (const std::exception& error) {
    log::error("failed", {{"error", error.what()}});
  }
  log::shutdown();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    CommandLine line = nearcached::config::parse_command_line(argc, argv, environ);
    if (line.action == Action::kHelp) {
      std::fputs(nearcached::config::help_text().c_str(), stdout);
      return 0;
    }
    if (line.action == Action::kVersion) {
      std::puts("nearcached " NEARCACHED_VERSION);
      return 0;
    }
    const auto limits = nearcached::config::container_limits();
    nearcached::config::resolve(line.settings, limits, line.origins);
    if (line.action == Action::kPrint) {
      std::fputs(nearcached::config::print_config(line.settings).c_str(), stdout);
      return 0;
    }
    if (line.action == Action::kCheck) {
      const nearcached::daemon::Certificates usable(line.settings);
      const nearcached::daemon::Access understood(line.settings);
      std::puts("configuration is valid");
      return 0;
    }
    return serve(line, limits);
  } catch (const nearcached::config::ConfigError& error) {
    std::fprintf(stderr, "nearcached: %s\n", error.what());
    return 2;
  }
}
