// invalidation_delay: how long after a foreign write's acknowledgement a cache still answers with what was there before.
//
// One thread writes versioned values straight to the upstream at a steady rate; one polls the keys through sidecars and, at
// the same instants, through bare tracking clients in this process. The delay of a write is the time
// from its acknowledgement to the sending of the last poll that was answered with an older version; 0 if there is none.
// loadtest/invalidation_delay.py starts the servers and repeats it.

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "loadtest/cache_poller.hpp"
#include "loadtest/connect.hpp"
#include "loadtest/process_cpu.hpp"
#include "loadtest/readiness.hpp"
#include "loadtest/staleness.hpp"
#include "loadtest/tracking_cache.hpp"
#include "loadtest/version_writer.hpp"

namespace {

using namespace nearcached::loadtest;  // NOLINT(google-build-using-namespace): the program of this folder

constexpr const char* kUsage =
    "usage: invalidation_delay --upstream HOST:PORT [--upstream ...] [--sidecar HOST:PORT ...] [options]\n"
    "  --bare N          bare tracking clients beside the sidecars (1)\n"
    "  --plain N         clients that read each written key again without tracking it (0)\n"
    "  --with-pttl 0|1   bare and plain clients send PTTL behind each GET, as a sidecar does (0)\n"
    "  --rate N          writes per second (10000)\n"
    "  --seconds S       how long is written (5)\n"
    "  --warmup S        acknowledgements of the first S seconds do not count (0.5)\n"
    "  --keys N          hot keys (32)\n"
    "  --connections N   per sidecar (2)\n"
    "  --interval-us N   how often every key is read (100)\n"
    "  --value-bytes N   (64)\n"
    "  --seed N          (1)\n"
    "  --pid N           a process whose CPU time per write is wanted; several are added up\n"
    "  --json PATH       the figures; - is standard output\n";

struct Options {
  std::vector<std::string> upstreams;
  std::vector<std::string> sidecars;
  std::uint32_t bare = 1;
  std::uint32_t plain = 0;
  std::uint32_t with_pttl = 0;
  double rate = 10'000;
  double seconds = 5;
  double warmup = 0.5;
  std::uint32_t keys = 32;
  std::uint32_t connections = 2;
  std::uint32_t interval_us = 100;
  std::uint32_t value_bytes = 64;
  std::uint32_t seed = 1;
  std::vector<std::uint32_t> pids;
  std::string json_path;
};

template <typename Number>
Number number(const std::string& name, const std::string& text, Number low, Number high) {
  Number value{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || !(value >= low && value <= high)) {
    throw std::invalid_argument(name + ": '" + text + "' is not a number from " + std::to_string(low) + " to " +
                                std::to_string(high));
  }
  return value;
}

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  const auto take = [](auto& field, auto low, auto high) {
    return [&field, low, high](const std::string& name, const std::string& text) { field = number(name, text, low, high); };
  };
  const std::map<std::string, std::function<void(const std::string&, const std::string&)>> known{
      {"--upstream", [&](const auto&, const auto& text) { options.upstreams.push_back(text); }},
      {"--sidecar", [&](const auto&, const auto& text) { options.sidecars.push_back(text); }},
      {"--pid", [&](const auto& name, const auto& text) { options.pids.push_back(number(name, text, 1u, 1u << 30)); }},
      {"--json", [&](const auto&, const auto& text) { options.json_path = text; }},
      {"--bare", take(options.bare, 0u, 64u)},
      {"--plain", take(options.plain, 0u, 64u)},
      {"--with-pttl", take(options.with_pttl, 0u, 1u)},
      {"--rate", take(options.rate, 1.0, 1e6)},
      {"--seconds", take(options.seconds, 0.01, 600.0)},
      {"--warmup", take(options.warmup, 0.0, 600.0)},
      {"--keys", take(options.keys, 1u, 100'000u)},
      {"--connections", take(options.connections, 1u, 1000u)},
      {"--interval-us", take(options.interval_us, 10u, 1'000'000u)},
      {"--value-bytes", take(options.value_bytes, 1u, 1u << 20)},
      {"--seed", take(options.seed, 0u, ~0u)},
  };
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const auto option = known.find(arguments[i]);
    if (option == known.end() || i + 1 == arguments.size()) {
      throw std::invalid_argument(arguments[i] + (option == known.end() ? ": no such option" : ": wants a value"));
    }
    option->second(arguments[i], arguments[i + 1]);
  }
  if (options.upstreams.empty()) {
    throw std::invalid_argument("--upstream is missing");
  }
  if (options.warmup >= options.seconds) {
    throw std::invalid_argument("--warmup leaves nothing of --seconds");
  }
  return options;
}

// Runs the poller in a thread of its own, until it goes out of scope at the latest.
class PollerThread {
 public:
  explicit PollerThread(CachePoller& poller)
      : thread_([this, &poller] {
          try {
            poller.run(stop_);
          } catch (const std::exception& error) {
            error_ = error.what();
          }
        }) {}
  ~PollerThread() { join(); }

  // Ends it; throws what made it end earlier.
  void finish() {
    join();
    if (!error_.empty()) {
      throw std::runtime_error(error_);
    }
  }

 private:
  void join() {
    stop_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  std::atomic<bool> stop_{false};
  std::string error_;  // the thread's until it has ended
  std::thread thread_;
};

double cpu_seconds(const std::vector<std::uint32_t>& pids) {
  double total = 0;
  for (const std::uint32_t pid : pids) {
    const auto used = process_cpu(static_cast<pid_t>(pid));
    if (!used) {
      throw std::runtime_error("--pid: no process " + std::to_string(pid));
    }
    total += used->user_seconds + used->system_seconds;
  }
  return total;
}

struct Observer {
  std::string name;
  const Observations* observed;
  const TrackingCache* cache;  // null: a sidecar
};

std::string percentiles(const HdrHistogram& histogram) {
  const auto us = [](std::uint64_t ns) { return std::to_string(static_cast<double>(ns) / 1000); };
  return R"({"p50":)" + us(histogram.percentile(50)) + R"(,"p90":)" + us(histogram.percentile(90)) + R"(,"p99":)" +
         us(histogram.percentile(99)) + R"(,"p999":)" + us(histogram.percentile(99.9)) + R"(,"max":)" + us(histogram.max()) +
         "}";
}

std::string as_json(const Observer& observer, const Delays& delay) {
  return R"({"name":")" + observer.name + R"(","reads":)" + std::to_string(observer.observed->reads()) + R"(,"writes":)" +
         std::to_string(delay.by_sent.count()) + R"(,"stale":)" + std::to_string(delay.stale) + R"(,"back_in_time":)" +
         std::to_string(observer.observed->back_in_time()) + R"(,"fetches":)" +
         std::to_string(observer.cache ? observer.cache->fetches() : 0) + R"(,"pushes":)" +
         std::to_string(observer.cache ? observer.cache->pushes() : 0) + R"(,"sent_us":)" + percentiles(delay.by_sent) +
         R"(,"received_us":)" + percentiles(delay.by_received) + "}";
}

void print(const Observer& observer, const Delays& delay) {
  const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1000; };
  std::printf(
      "%-12s %9.1f %9.1f %9.1f %9.1f | %9.1f %9.1f | %7.2f%% %10llu %4llu\n", observer.name.c_str(),
      us(delay.by_sent.percentile(50)), us(delay.by_sent.percentile(99)), us(delay.by_sent.percentile(99.9)),
      us(delay.by_sent.max()), us(delay.by_received.percentile(99)), us(delay.by_received.max()),
      100.0 * static_cast<double>(delay.stale) / static_cast<double>(std::max<std::uint64_t>(delay.by_sent.count(), 1)),
      static_cast<unsigned long long>(observer.observed->reads()),
      static_cast<unsigned long long>(observer.observed->back_in_time()));
}

void report(const Options& options, const VersionWriter& writer, const CachePoller& poller,
            const std::vector<Observer>& observers, double cpu) {
  const double seconds = static_cast<double>(writer.ended() - writer.started()) * 1e-9;
  const auto writes = static_cast<double>(writer.writes());
  std::string json = R"({"writes":)" + std::to_string(writer.writes()) + R"(,"writes_per_second":)" +
                     std::to_string(writes / seconds) + R"(,"polls":)" + std::to_string(poller.polls()) +
                     R"(,"polls_missed":)" + std::to_string(poller.polls_missed()) + R"(,"polls_refused":)" +
                     std::to_string(poller.polls_refused()) + R"(,"cpu_us_per_write":)" +
                     std::to_string(cpu / writes * 1e6) + R"(,"observers":[)";
  std::printf("%.0f writes/s acknowledged, %llu polls of %u keys, %llu missed, %llu refused; CPU of --pid %.2f us/write\n",
              writes / seconds, static_cast<unsigned long long>(poller.polls()), options.keys,
              static_cast<unsigned long long>(poller.polls_missed()),
              static_cast<unsigned long long>(poller.polls_refused()), cpu / writes * 1e6);
  std::printf("%-12s %9s %9s %9s %9s | %9s %9s | %8s %10s %4s\n", "delay, us", "p50", "p99", "p99.9", "max", "p99 recv",
              "max recv", "stale", "reads", "back");
  const std::int64_t from = writer.started() + static_cast<std::int64_t>(options.warmup * 1e9);
  for (const Observer& observer : observers) {
    const Delays delay = delays(writer.acknowledged(), *observer.observed, from);
    print(observer, delay);
    json += (json.ends_with('[') ? "" : ",") + as_json(observer, delay);
  }
  json += "]}\n";
  if (!options.json_path.empty()) {
    std::FILE* out = options.json_path == "-" ? stdout : std::fopen(options.json_path.c_str(), "w");
    if (out == nullptr || std::fputs(json.c_str(), out) < 0 || (out != stdout && std::fclose(out) != 0)) {
      throw std::runtime_error("cannot write " + options.json_path);
    }
  }
}

void measure(const Options& options) {
  const Placement placement = place_keys(options.upstreams, options.keys, options.value_bytes);
  std::vector<std::unique_ptr<TrackingCache>> caches;
  CachePoller::Options polling{options.sidecars, {}, options.keys, options.connections, options.interval_us * 1000};
  VersionWriter::Options writing{options.rate, options.seconds, options.value_bytes, options.seed, {}};
  for (std::uint32_t i = 0; i < options.bare + options.plain; ++i) {
    const auto told = i < options.bare ? TrackingCache::Told::kByPushes : TrackingCache::Told::kByWriter;
    caches.push_back(std::make_unique<TrackingCache>(placement, TrackingCache::Options{told, options.with_pttl != 0}));
    polling.caches.push_back(caches.back().get());
    if (told == TrackingCache::Told::kByWriter) {
      writing.told.push_back(caches.back().get());
    }
  }
  CachePoller poller(polling);
  VersionWriter writer(placement, writing);
  PollerThread reader(poller);
  const double cpu_before = cpu_seconds(options.pids);
  writer.run();
  const double cpu = cpu_seconds(options.pids) - cpu_before;
  Readiness().wait(monotonic_nanoseconds() + 100'000'000, [](std::size_t) {});  // the last writes' delays
  reader.finish();
  std::vector<Observer> observers;
  for (std::size_t i = 0; i < options.sidecars.size(); ++i) {
    observers.push_back({"sidecar " + std::to_string(i + 1), &poller.observed()[i], nullptr});
  }
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const bool is_bare = i < options.bare;
    observers.push_back({(is_bare ? "bare " : "plain ") + std::to_string(is_bare ? i + 1 : i - options.bare + 1),
                         &caches[i]->observed(), caches[i].get()});
  }
  report(options, writer, poller, observers, cpu);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    measure(parse(arguments));
    return 0;
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "invalidation_delay: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "invalidation_delay: %s\n", error.what());
    return 1;
  }
}
