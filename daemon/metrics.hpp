// The page /metrics: one StatsSnapshot as Prometheus text. docs/metrics.md lists every family; a test compares the two.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "daemon/process_usage.hpp"
#include "daemon/stats_report.hpp"

namespace nearcached::daemon {

using MetricLabels = std::map<std::string, std::string>;  // name -> value

// The Content-Type of what Metrics prints.
inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// Turns snapshots into metric families at the moment of a scrape. There is no prometheus::Registry: its families and their
// atomics would be a second set of numbers, to be kept in step with the workers' single-writer counters by somebody; here
// the counters are the only truth and a scrape reads them. Bad at nothing that is asked of it, except that a node which left
// the topology takes its series with it, as Prometheus expects of a target's parts.
// Immutable after construction; scrape() may be called from any thread that may call the source.
class Metrics {
 public:
  // `labels` are put on every metric. Throws std::invalid_argument, naming the label, where a name is not one Prometheus
  // takes or is one that a metric uses itself.
  Metrics(StatsSource source, MetricLabels labels);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  [[nodiscard]] std::string scrape() const;

 private:
  class Collector;
  std::unique_ptr<const Collector> collector_;
};

// The same for a given snapshot: pure.
[[nodiscard]] std::string metrics_text(const StatsSnapshot& snapshot, const ProcessUsage& process,
                                       std::uint64_t log_lines_dropped, const MetricLabels& labels);

// Empty, or what is wrong with the labels.
[[nodiscard]] std::string metric_labels_error(const MetricLabels& labels);

}  // namespace nearcached::daemon
