// The load generator's command line.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loadtest/key_distribution.hpp"
#include "loadtest/workload.hpp"

namespace nearcached::loadtest {

// Everything the command line can say. parse() checks ranges; a combination that can't run is refused there, not later.
struct Options {
  std::vector<std::string> targets;  // the same load goes to each, one after the other
  std::string populate_target;       // where --populate writes; empty: each target itself
  std::uint32_t clients = 50;        // 1..20000, over all threads
  std::uint32_t threads = 1;         // 1..64, at most `clients`
  std::uint32_t pipeline = 1;        // 1..100000 requests in flight per client
  std::uint64_t keys = 100'000;      // 1..10^12
  KeyShape shape = KeyShape::kUniform;
  double theta = 0.99;  // above 0
  RequestShape request;
  Mix mix{};                   // all GET unless said otherwise
  std::uint64_t requests = 0;  // 0: until `seconds`
  double seconds = 0;          // 0: until `requests`; both 0: 10 seconds
  double rate = 0;             // open loop, requests per second; 0: closed loop
  bool populate = false;
  bool warm = false;
  std::optional<pid_t> pid;
  std::string json_path;
  std::string trace_path;  // write the keys there in place of any load; needs `requests`, one thread
  std::uint64_t seed = 1;
};

// Throws std::invalid_argument with a message for the user. `--help` is the caller's.
[[nodiscard]] Options parse(std::span<const std::string> arguments);

// The text of --help.
[[nodiscard]] const char* usage();

}  // namespace nearcached::loadtest
