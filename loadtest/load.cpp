// nearcached_load: an independent RESP load generator. See usage() in options.cpp and loadtest/README.md.

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "loadtest/client_loop.hpp"
#include "loadtest/options.hpp"
#include "loadtest/process_cpu.hpp"
#include "loadtest/workload.hpp"

namespace {

using namespace nearcached::loadtest;

constexpr std::uint32_t kPreparationClients = 4;
constexpr std::uint32_t kPreparationPipeline = 64;
constexpr std::array kPlotted = {1.,  5.,  10., 20., 30., 40., 50., 60.,  70.,  75.,  80.,   85.,  88.,
                                 90., 92., 94., 96., 97., 98., 99., 99.5, 99.8, 99.9, 99.95, 99.99};

struct Result {
  std::string target;
  LoopStats stats;
  std::optional<CpuTime> cpu;

  [[nodiscard]] double throughput() const {
    return stats.seconds > 0 ? static_cast<double>(stats.replies) / stats.seconds : 0;
  }
  [[nodiscard]] bool failed() const { return stats.errors + stats.unanswered > 0 || stats.replies == 0; }
};

double microseconds_per_reply(double seconds, const Result& result) {
  return result.stats.replies == 0 ? 0 : seconds * 1e6 / static_cast<double>(result.stats.replies);
}

void touch_every_key(const Options& options, const std::string& target, Operation operation) {
  ClientLoop loop({target, kPreparationClients, kPreparationPipeline, 0, 0, 30});
  EveryKeyOnce requests(options.request, operation, options.keys);
  const LoopStats stats = loop.run(requests);
  if (stats.errors + stats.unanswered > 0 || stats.replies != options.keys) {
    throw std::runtime_error("preparing " + target + ": " + std::to_string(stats.replies) + " of " +
                             std::to_string(options.keys) + " keys answered, " + std::to_string(stats.errors) + " errors " +
                             stats.first_error);
  }
}

void prepare(const Options& options, const std::string& target) {
  const bool hashes = options.mix[static_cast<std::size_t>(Operation::kHget)] > 0;
  if (options.populate) {
    const std::string& through = options.populate_target.empty() ? target : options.populate_target;
    touch_every_key(options, through, Operation::kSet);
    if (hashes) {
      touch_every_key(options, through, Operation::kHset);
    }
  }
  if (options.warm) {
    touch_every_key(options, target, Operation::kGet);
    if (hashes) {
      touch_every_key(options, target, Operation::kHget);
    }
  }
}

// Splits `total` into `parts` that differ by at most one.
std::uint64_t share_of(std::uint64_t total, std::uint32_t parts, std::uint32_t index) {
  return total / parts + (index < total % parts ? 1 : 0);
}

struct Worker {
  std::unique_ptr<ClientLoop> loop;
  std::unique_ptr<MixedRequests> requests;
  LoopStats stats;
};

std::vector<Worker> make_workers(const Options& options, const std::string& target) {
  const KeyDistribution keys(options.shape, options.keys, options.theta);
  std::vector<Worker> workers(options.threads);
  for (std::uint32_t i = 0; i < options.threads; ++i) {
    ClientLoop::Options loop;
    loop.target = target;
    loop.clients = static_cast<std::uint32_t>(share_of(options.clients, options.threads, i));
    loop.pipeline = options.pipeline;
    loop.rate = options.rate / options.threads;
    loop.seconds = options.seconds;
    workers[i].loop = std::make_unique<ClientLoop>(loop);
    workers[i].requests = std::make_unique<MixedRequests>(
        options.request, options.mix, keys, share_of(options.requests, options.threads, i), options.seed * 1000 + i);
  }
  return workers;
}

Result measure(const Options& options, const std::string& target) {
  std::vector<Worker> workers = make_workers(options, target);
  const auto before = options.pid ? process_cpu(*options.pid) : std::nullopt;
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < workers.size(); ++i) {
    threads.emplace_back([&worker = workers[i]] { worker.stats = worker.loop->run(*worker.requests); });
  }
  workers[0].stats = workers[0].loop->run(*workers[0].requests);
  for (std::thread& thread : threads) {
    thread.join();
  }
  const auto after = options.pid ? process_cpu(*options.pid) : std::nullopt;

  Result result;
  result.target = target;
  for (const Worker& worker : workers) {
    result.stats.merge(worker.stats);
  }
  if (before && after) {
    result.cpu = *after - *before;
  }
  return result;
}

void print(const Result& result) {
  const LoopStats& stats = result.stats;
  const auto percentile = [&stats](double percent) { return static_cast<double>(stats.latency.percentile(percent)) / 1e3; };
  std::printf("%s: %.0f requests/s (%llu in %.2f s)\n", result.target.c_str(), result.throughput(),
              static_cast<unsigned long long>(stats.replies), stats.seconds);
  std::printf("  latency us: p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f  mean %.1f\n", percentile(50),
              percentile(90), percentile(99), percentile(99.9), static_cast<double>(stats.latency.max()) / 1e3,
              stats.latency.mean() / 1e3);
  std::printf("  nulls %llu  errors %llu  unanswered %llu  disconnects %llu%s%s\n",
              static_cast<unsigned long long>(stats.nulls), static_cast<unsigned long long>(stats.errors),
              static_cast<unsigned long long>(stats.unanswered), static_cast<unsigned long long>(stats.disconnects),
              stats.first_error.empty() ? "" : "  first error: ", stats.first_error.c_str());
  if (result.cpu) {
    const double user = microseconds_per_reply(result.cpu->user_seconds, result);
    const double system = microseconds_per_reply(result.cpu->system_seconds, result);
    std::printf("  server CPU us/op: %.3f (user %.3f, system %.3f)\n", user + system, user, system);
  }
}

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

std::string json(const Result& result) {
  const LoopStats& stats = result.stats;
  std::ostringstream out;
  out << "{\"target\": " << json_string(result.target) << ", \"throughput\": " << result.throughput()
      << ", \"replies\": " << stats.replies << ", \"seconds\": " << stats.seconds << ", \"nulls\": " << stats.nulls
      << ", \"errors\": " << stats.errors << ", \"unanswered\": " << stats.unanswered
      << ", \"disconnects\": " << stats.disconnects << ", \"first_error\": " << json_string(stats.first_error)
      << ", \"latency_us\": {\"p50\": " << static_cast<double>(stats.latency.percentile(50)) / 1e3
      << ", \"p90\": " << static_cast<double>(stats.latency.percentile(90)) / 1e3
      << ", \"p99\": " << static_cast<double>(stats.latency.percentile(99)) / 1e3
      << ", \"p999\": " << static_cast<double>(stats.latency.percentile(99.9)) / 1e3
      << ", \"max\": " << static_cast<double>(stats.latency.max()) / 1e3 << ", \"mean\": " << stats.latency.mean() / 1e3
      << "}, \"percentiles_us\": [";
  for (const double percent : kPlotted) {
    out << (percent == kPlotted.front() ? "[" : ", [") << percent << ", "
        << static_cast<double>(stats.latency.percentile(percent)) / 1e3 << "]";
  }
  out << "]";
  if (result.cpu) {
    out << ", \"cpu_us_per_op\": {\"user\": " << microseconds_per_reply(result.cpu->user_seconds, result)
        << ", \"system\": " << microseconds_per_reply(result.cpu->system_seconds, result) << "}";
  }
  out << "}";
  return out.str();
}

void write_json(const std::string& path, const std::vector<Result>& results) {
  std::ofstream file(path);
  file << "{\"results\": [";
  for (std::size_t i = 0; i < results.size(); ++i) {
    file << (i == 0 ? "\n  " : ",\n  ") << json(results[i]);
  }
  file << "\n]}\n";
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + path);
  }
}

// The keys of the GETs of the load's requests, in their order, as l1_replay reads them once zstd has packed them:
// "<index> <value bytes>" a line.
void write_trace(const Options& options) {
  constexpr std::size_t kKeyDigits = 12;
  constexpr std::string_view kGet = "*2\r\n$3\r\nGET\r\n";
  std::ofstream file(options.trace_path);
  const KeyDistribution keys(options.shape, options.keys, options.theta);
  MixedRequests requests(options.request, options.mix, keys, options.requests, options.seed * 1000);
  for (std::string request; requests.append(request); request.clear()) {
    if (request.starts_with(kGet)) {
      const std::string digits = request.substr(request.size() - kKeyDigits - 2, kKeyDigits);
      file << std::stoull(digits) << ' ' << options.request.value_bytes << '\n';
    }
  }
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + options.trace_path);
  }
}

int run(const Options& options) {
  if (!options.trace_path.empty()) {
    write_trace(options);
    return 0;
  }
  std::vector<Result> results;
  for (const std::string& target : options.targets) {
    prepare(options, target);
    results.push_back(measure(options, target));
    print(results.back());
  }
  if (!options.json_path.empty()) {
    write_json(options.json_path, results);
  }
  return std::any_of(results.begin(), results.end(), [](const Result& r) { return r.failed(); }) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
    std::cout << usage();
    return 0;
  }
  Options options;
  try {
    options = parse(arguments);
  } catch (const std::invalid_argument& error) {
    std::cerr << "nearcached_load: " << error.what() << " (--help shows all)\n";
    return 2;
  }
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::cerr << "nearcached_load: " << error.what() << "\n";
    return 1;
  }
}
