#include "loadtest/options.hpp"

#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace nearcached::loadtest {

namespace {

constexpr double kDefaultSeconds = 10;

template <typename Number>
Number number(const std::string& name, std::string_view text, Number low, Number high) {
  Number value{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || !(value >= low && value <= high)) {
    throw std::invalid_argument(name + ": '" + std::string(text) + "' is not a number from " + std::to_string(low) + " to " +
                                std::to_string(high));
  }
  return value;
}

// "get=90,set=10"; names of RequestSource's operations, HSET excepted: hashes are only read.
Mix parse_mix(std::string_view text) {
  static const std::map<std::string_view, Operation> kNames{{"get", Operation::kGet},
                                                            {"set", Operation::kSet},
                                                            {"mget", Operation::kMget},
                                                            {"incr", Operation::kIncr},
                                                            {"hget", Operation::kHget}};
  Mix mix{};
  double total = 0;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const std::size_t equals = part.find('=');
    const auto found = kNames.find(part.substr(0, equals));
    if (equals == std::string_view::npos || found == kNames.end()) {
      throw std::invalid_argument("--mix: '" + std::string(part) + "' is not get=N, set=N, mget=N, incr=N or hget=N");
    }
    const double share = number<double>("--mix", part.substr(equals + 1), 0, 1e9);
    mix[static_cast<std::size_t>(found->second)] = share;
    total += share;
  }
  if (total <= 0) {
    throw std::invalid_argument("--mix: the shares add up to nothing");
  }
  return mix;
}

KeyShape parse_shape(const std::string& text) {
  if (text == "uniform") {
    return KeyShape::kUniform;
  }
  if (text == "zipf") {
    return KeyShape::kZipf;
  }
  throw std::invalid_argument("--distribution: '" + text + "' is neither uniform nor zipf");
}

using Setter = std::function<void(Options&, const std::string&)>;

const std::map<std::string, Setter>& setters() {
  constexpr std::uint64_t kMany = 1'000'000'000'000;
  static const std::map<std::string, Setter> kSetters{
      {"--target", [](Options& o, const std::string& v) { o.targets.push_back(v); }},
      {"--cluster-populate",
       [](Options& o, const std::string& v) {
         o.populate_target = v;
         o.populate = true;
       }},
      {"--clients", [](Options& o, const std::string& v) { o.clients = number<std::uint32_t>("--clients", v, 1, 20'000); }},
      {"--threads", [](Options& o, const std::string& v) { o.threads = number<std::uint32_t>("--threads", v, 1, 64); }},
      {"--pipeline",
       [](Options& o, const std::string& v) { o.pipeline = number<std::uint32_t>("--pipeline", v, 1, 100'000); }},
      {"--keys", [](Options& o, const std::string& v) { o.keys = number<std::uint64_t>("--keys", v, 1, kMany); }},
      {"--distribution", [](Options& o, const std::string& v) { o.shape = parse_shape(v); }},
      {"--theta", [](Options& o, const std::string& v) { o.theta = number<double>("--theta", v, 0.01, 10); }},
      {"--value-bytes",
       [](Options& o, const std::string& v) {
         o.request.value_bytes = number<std::size_t>("--value-bytes", v, 0, std::size_t{512} << 20);
       }},
      {"--mget-keys",
       [](Options& o, const std::string& v) { o.request.mget_keys = number<std::size_t>("--mget-keys", v, 1, 10'000); }},
      {"--mix", [](Options& o, const std::string& v) { o.mix = parse_mix(v); }},
      {"--requests",
       [](Options& o, const std::string& v) { o.requests = number<std::uint64_t>("--requests", v, 1, kMany); }},
      {"--seconds", [](Options& o, const std::string& v) { o.seconds = number<double>("--seconds", v, 0.01, 1e6); }},
      {"--open-loop", [](Options& o, const std::string& v) { o.rate = number<double>("--open-loop", v, 0.01, 1e9); }},
      {"--pid",
       [](Options& o, const std::string& v) { o.pid = number<pid_t>("--pid", v, 1, std::numeric_limits<pid_t>::max()); }},
      {"--json", [](Options& o, const std::string& v) { o.json_path = v; }},
      {"--trace", [](Options& o, const std::string& v) { o.trace_path = v; }},
      {"--prefix", [](Options& o, const std::string& v) { o.request.prefix = v; }},
      {"--seed", [](Options& o, const std::string& v) { o.seed = number<std::uint64_t>("--seed", v, 0, kMany); }}};
  return kSetters;
}

void check(Options& options) {
  if (!options.trace_path.empty()) {
    if (options.requests == 0 || options.threads > 1) {
      throw std::invalid_argument("--trace: needs --requests, and one thread");
    }
    return;
  }
  if (options.targets.empty()) {
    throw std::invalid_argument("--target is required");
  }
  if (options.threads > options.clients) {
    throw std::invalid_argument("--threads: no more than --clients");
  }
  if (options.requests == 0 && options.seconds <= 0) {
    options.seconds = kDefaultSeconds;
  }
}

}  // namespace

Options parse(std::span<const std::string> arguments) {
  Options options;
  options.mix[static_cast<std::size_t>(Operation::kGet)] = 1;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--populate") {
      options.populate = true;
      continue;
    }
    if (name == "--warm") {
      options.warm = true;
      continue;
    }
    const auto found = setters().find(name);
    if (found == setters().end()) {
      throw std::invalid_argument("unknown option '" + name + "'");
    }
    if (i + 1 == arguments.size()) {
      throw std::invalid_argument(name + ": a value is missing");
    }
    found->second(options, arguments[++i]);
  }
  check(options);
  return options;
}

const char* usage() {
  return R"(nearcached_load: load for anything that speaks RESP, with latencies and the server's CPU per operation

  --target ADDR        host:port or unix:path; repeat it to put the same load on several, one after the other
  --clients N          connections (50)              --threads N      threads they are spread over (1)
  --pipeline N         requests in flight per connection (1)
  --keys N             number of keys (100000)       --prefix TEXT    what keys start with ("key:")
  --distribution D     uniform (default) or zipf     --theta T        Zipf's exponent (0.99)
  --value-bytes N      size of values (64)           --mget-keys N    keys per MGET (10)
  --mix get=90,set=10  shares of get, set, mget, incr, hget (get=1)
  --requests N | --seconds S                         how long (10 seconds)
  --open-loop RATE     send RATE requests per second whatever the server does; latency runs from the intended send time
  --populate           first SET every key once, through the target (HSET too, where the mix has hget)
  --cluster-populate ADDR   the same, but through ADDR (one that routes: a proxy or sidecar before the same data)
  --warm               then read every key once, through the target
  --pid PID            the server process: prints its CPU, user and system, per operation
  --trace FILE         send nothing; write the keys of the GETs of these --requests there, "<index> <value bytes>" a line
  --json FILE          also write the results as JSON
  --seed N             seed of keys and operations (1)

Exit code: 0; 1 when a request failed or went unanswered, or a target can't be reached; 2 for a wrong command line.
)";
}

}  // namespace nearcached::loadtest
