#include "daemon/metrics.hpp"

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/log.hpp"
#include "daemon/text_escape.hpp"

namespace nearcached::daemon {
namespace {

namespace insight = tiers::insight;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

// Labels that metrics carry themselves: a constant label of that name would make a scrape invalid.
constexpr std::array<std::string_view, 15> kOwnLabels = {"class",  "state", "reason",    "source", "result",
                                                         "node",   "kind",  "direction", "side",   "mode",
                                                         "worker", "le",    "version",   "build",  "quantile"};

// Collects families; a sample goes to the family opened last.
class FamilyList {
 public:
  explicit FamilyList(const MetricLabels& labels) {
    for (const auto& [name, value] : labels) constant_.push_back({name, printable(value)});
  }

  FamilyList& counter(std::string name, std::string help) {
    return open(std::move(name), std::move(help), MetricType::Counter);
  }
  FamilyList& gauge(std::string name, std::string help) { return open(std::move(name), std::move(help), MetricType::Gauge); }

  FamilyList& sample(double value, std::vector<Label> labels = {}) {
    ClientMetric metric;
    metric.label = with_constant(std::move(labels));
    MetricFamily& family = families_.back();
    if (family.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family.metric.push_back(std::move(metric));
    return *this;
  }
  FamilyList& sample(std::uint64_t value, std::vector<Label> labels = {}) {
    return sample(static_cast<double>(value), std::move(labels));
  }

  // One sample per name.
  template <std::size_t N, typename Values>
  FamilyList& samples(const char* label, const std::array<std::string_view, N>& names, const Values& values) {
    for (std::size_t i = 0; i < N; ++i) sample(values[i], {{label, std::string(names[i])}});
    return *this;
  }

  void histogram(std::string name, std::string help, const insight::HistogramTotals& totals) {
    open(std::move(name), std::move(help), MetricType::Histogram);
    ClientMetric metric;
    metric.label = with_constant({});
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < totals.buckets.size(); ++i) {
      cumulative += totals.buckets[i];
      const bool last = i == insight::Histogram::kBoundsUs.size();
      const double bound = last ? std::numeric_limits<double>::infinity() : insight::Histogram::kBoundsUs[i] / 1e6;
      metric.histogram.bucket.push_back({cumulative, bound});
    }
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = static_cast<double>(totals.sum_us) / 1e6;
    families_.back().metric.push_back(std::move(metric));
  }

  // Of `count` things in groups, by their number in a group.
  void sizes(std::string name, std::string help, const tiers::write_behind::SizeHistogram& groups, std::uint64_t count) {
    open(std::move(name), std::move(help), MetricType::Histogram);
    ClientMetric metric;
    metric.label = with_constant({});
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      cumulative += groups[i];
      const bool last = i + 1 == groups.size();
      const double bound = last ? std::numeric_limits<double>::infinity() : static_cast<double>((1u << i) - 1);
      metric.histogram.bucket.push_back({cumulative, bound});
    }
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = static_cast<double>(count);
    families_.back().metric.push_back(std::move(metric));
  }

  [[nodiscard]] std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  FamilyList& open(std::string name, std::string help, MetricType type) {
    families_.push_back({std::move(name), std::move(help), type, {}});
    return *this;
  }
  [[nodiscard]] std::vector<Label> with_constant(std::vector<Label> labels) const {
    labels.insert(labels.end(), constant_.begin(), constant_.end());
    return labels;
  }

  std::vector<Label> constant_;
  std::vector<MetricFamily> families_;
};

double seconds_of_ms(std::int64_t ms) { return static_cast<double>(ms) / 1000; }

void add_commands(FamilyList& out, const insight::Totals& t) {
  out.counter("nearcached_commands_total", "Commands received from clients, by how they were handled.")
      .samples("class", insight::kCommandClassNames, t.commands);
  out.counter("nearcached_protocol_errors_total", "Clients closed because of what they sent.").sample(t.protocol_errors);
}

void add_l1(FamilyList& out, const StatsSnapshot& s) {
  out.counter("nearcached_l1_hits_total", "Reads answered from L1.").sample(s.totals.l1_hits);
  out.counter("nearcached_l1_stale_hits_total", "Those of the hits whose proof had run out, in stale_ok namespaces.")
      .sample(s.totals.l1_stale_hits);
  out.counter("nearcached_l1_misses_total", "Cacheable reads not answered from L1, by reason.")
      .samples("reason", insight::kMissReasonNames, s.totals.l1_misses);
  out.gauge("nearcached_l1_bytes", "Bytes held for L1: entries, index, ghosts and slack.").sample(s.l1.bytes);
  out.gauge("nearcached_l1_max_bytes", "Budget of L1; 0 where it is disabled.").sample(s.l1_max_bytes);
  out.gauge("nearcached_l1_items", "Entries in L1.").sample(s.l1.items);
  out.counter("nearcached_l1_installs_total", "Entries put into L1.").sample(s.l1.installs);
  out.counter("nearcached_l1_refused_total", "Entries not put into L1, by reason.")
      .sample(s.l1.too_large, {{"reason", "too_large"}})
      .sample(s.l1.refused, {{"reason", "no_room"}});
  out.counter("nearcached_l1_removals_total", "Entries that left L1, by reason.")
      .samples("reason", kRemovalNames, s.l1.removals);
}

void add_compression(FamilyList& out, const StatsSnapshot& s) {
  out.counter("nearcached_l1_compressed_total", "Replies that were put into L1 compressed.").sample(s.compression.values);
  out.counter("nearcached_l1_compressed_bytes_total", "Bytes of these replies, before and after they were compressed.")
      .sample(s.compression.bytes_before, {{"state", "before"}})
      .sample(s.compression.bytes_after, {{"state", "after"}});
  out.counter("nearcached_l1_kept_plain_total", "Replies that were to be compressed and did not shrink by an eighth.")
      .sample(s.compression.kept_plain);
  out.counter("nearcached_l1_decompressed_total", "Compressed replies that clients' reads took out of L1.")
      .sample(s.totals.l1_unpacked);
  out.counter("nearcached_l1_decompression_failures_total",
              "Those of them that could not be decompressed, which were misses.")
      .sample(s.totals.l1_unreadable);
  out.counter("nearcached_l1_dictionaries_total", "Dictionaries trained from what was put into L1, and used since.")
      .sample(s.compression.dictionaries);
  out.gauge("nearcached_l1_dictionary_bytes", "Bytes of nearcached_l1_bytes that dictionaries and their samples hold.")
      .sample(s.compression.bytes);
}

void add_audit(FamilyList& out, const insight::Totals& t) {
  out.counter("nearcached_audit_checked_total", "Hits compared with the upstream.").sample(t.audit_checked);
  out.counter("nearcached_audit_stale_total", "Audited hits that were untrue although no change had been heard of.")
      .sample(t.audit_stale);
  out.histogram("nearcached_audit_staleness_seconds",
                "From an audited hit to finding its value replaced, also where the change was heard of in between.",
                t.audit_staleness);
}

void add_write_behind(FamilyList& out, const StatsSnapshot& s) {
  const WriteBehindRow& row = s.write_behind;
  out.gauge("nearcached_write_behind_mode",
            "1 for the mode in force: off, log, memory (eventual only), through (the disk fails, writes wait for the "
            "upstream).")
      .sample(1.0, {{"mode", printable(row.mode)}});
  out.gauge("nearcached_write_behind_records", "Keys whose newest value is not upstream yet.").sample(row.queue.records);
  out.gauge("nearcached_write_behind_bytes", "Bytes of their keys and values.").sample(row.queue.bytes);
  out.gauge("nearcached_write_behind_in_flight", "Those of them that are on their way.").sample(row.queue.in_flight);
  out.gauge("nearcached_write_behind_oldest_age_seconds", "How long the oldest of them has waited; 0: none waits.")
      .sample(static_cast<double>(row.oldest_age_ms) / 1000);
  out.counter("nearcached_write_behind_accepted_total", "Writes answered before the upstream had them.")
      .sample(row.queue.accepted);
  out.counter("nearcached_write_behind_coalesced_total",
              "Those of them that a later one of the key replaced before they left.")
      .sample(row.queue.coalesced);
  out.counter("nearcached_write_behind_flushed_total", "Writes that the upstream has applied.").sample(row.queue.flushed);
  out.counter("nearcached_write_behind_retries_total", "Writes sent again.").sample(row.queue.retries);
  out.counter("nearcached_write_behind_dead_letters_total", "Writes that the upstream refused for good.")
      .sample(row.queue.dead);
  out.counter("nearcached_write_behind_dropped_total",
              "Accepted writes that are neither waiting, nor replaced, nor upstream, nor a dead letter: 0, or a defect.")
      .sample(static_cast<double>(row.queue.dropped()));
  out.counter("nearcached_write_behind_full_total", "Writes that found the queue full: they waited, or went through.")
      .sample(row.queue.full);
  out.counter("nearcached_write_behind_log_full_total", "Records that found the log full: the same.")
      .sample(row.log.refused_full);
  out.counter("nearcached_write_behind_reads_total", "Reads answered from a write that was not upstream yet.")
      .sample(s.totals.pending_reads);
  out.sizes("nearcached_write_behind_batch_records", "Writes that left for a node together.", row.queue.batches,
            row.queue.sent);
  out.counter("nearcached_write_behind_replayed_total", "Writes that the start found in the log.").sample(row.replayed);
  out.histogram("nearcached_write_behind_flush_seconds", "From sending a write to the upstream to its answer.",
                s.totals.flush_latency);
  out.gauge("nearcached_write_behind_log_bytes", "Bytes of the log's files, preallocation included.").sample(row.log.bytes);
  out.gauge("nearcached_write_behind_log_segments", "The log's files.").sample(row.log.segments);
  out.sizes("nearcached_write_behind_log_group_records", "Records that were made durable together.", row.log.group_records,
            row.log.records);
  out.counter("nearcached_write_behind_log_failures_total", "Writes and syncs of the log that failed.")
      .sample(row.log.failures);
  out.histogram("nearcached_write_behind_log_sync_seconds", "fdatasync of a group.", row.log.sync_latency);
}

void add_fills(FamilyList& out, const insight::Totals& t) {
  out.counter("nearcached_fills_started_total", "Reads sent on a fill connection.").sample(t.fills_started);
  out.counter("nearcached_fills_joined_total", "Misses answered by a fill that was already under way.")
      .sample(t.fills_joined);
  out.counter("nearcached_fills_total",
              "Fills ended, by result: installed, discarded (no longer current) or forwarded (not cached).")
      .sample(t.fills_installed, {{"result", "installed"}})
      .sample(t.fills_discarded, {{"result", "discarded"}})
      .sample(t.fills_forwarded, {{"result", "forwarded"}});
  out.histogram("nearcached_fill_latency_seconds", "From asking for a fill to answering the client.", t.fill_latency);
}

void add_coherence(FamilyList& out, const StatsSnapshot& s) {
  const insight::Totals& t = s.totals;
  out.gauge("nearcached_coherence_mode",
            "1 for the mode in force; mode=\"off\": nothing is served from L1, save by stale_ok.")
      .sample(1.0, {{"mode", printable(s.coherence_mode)}});
  out.counter("nearcached_invalidations_total", "Invalidations of L1, by what caused them.")
      .samples("source", insight::kInvalidationSourceNames, t.invalidations);
  out.counter("nearcached_invalidations_unexplained_total",
              "Invalidations after which the key had the value that had been dropped.")
      .sample(t.invalidations_unexplained);
  out.histogram("nearcached_invalidation_delay_seconds",
                "From the acknowledgement of an own write to the invalidation it causes; 0 where that came first.",
                t.invalidation_delay);
  add_audit(out, t);
  out.counter("nearcached_bus_published_total", "Messages to other sidecars that a node has acknowledged.")
      .sample(t.bus_published);
  out.counter("nearcached_bus_publish_failures_total", "Messages to other sidecars that a node did not take.")
      .sample(t.bus_publish_failures);
  out.counter("nearcached_bus_gaps_total",
              "Times that messages of other sidecars were missing or late; what they cover was unverified at once.")
      .sample(t.bus_gaps);
  add_fills(out, t);
}

// One family of per-node samples.
template <typename Member>
void add_nodes(FamilyList& family, const std::vector<NodeRow>& nodes, Member member) {
  for (const NodeRow& node : nodes) family.sample(node.*member, {{"node", printable(node.endpoint)}});
}

void add_nodes(FamilyList& out, const std::vector<NodeRow>& nodes) {
  out.counter("nearcached_upstream_requests_total", "Requests sent to a node.");
  add_nodes(out, nodes, &NodeRow::requests);
  out.counter("nearcached_upstream_errors_total", "Connections to a node refused or lost, and requests to it timed out.");
  add_nodes(out, nodes, &NodeRow::errors);
  out.gauge("nearcached_upstream_connections", "Open connections to a node.");
  add_nodes(out, nodes, &NodeRow::connections);
  out.gauge("nearcached_upstream_pending", "Requests to a node that wait for their reply.");
  add_nodes(out, nodes, &NodeRow::pending);
  out.counter("nearcached_upstream_invalidations_total", "Invalidation pushes received from a node.");
  add_nodes(out, nodes, &NodeRow::invalidations);
  out.gauge("nearcached_upstream_verified_age_seconds",
            "Age of the proof that a node's invalidations arrive; absent where there is none.");
  for (const NodeRow& node : nodes) {
    if (node.verified_age_ms >= 0) out.sample(seconds_of_ms(node.verified_age_ms), {{"node", printable(node.endpoint)}});
  }
}

// Who tells of a node's changes, and the reads for L1 that it answers.
void add_node_coherence(FamilyList& out, const std::vector<NodeRow>& nodes) {
  out.gauge("nearcached_node_coherence_mode",
            "1 for the mode in force at a node: tracking, bus, ttl (nobody tells) or off.");
  for (const NodeRow& node : nodes) {
    out.sample(1.0, {{"node", printable(node.endpoint)}, {"mode", printable(node.coherence)}});
  }
  out.gauge("nearcached_fills_in_flight", "Reads for L1 that a node has not answered yet.");
  add_nodes(out, nodes, &NodeRow::fills_in_flight);
  out.gauge("nearcached_fills_waiting", "Reads for L1 that wait for their turn or for the connection to a node.");
  add_nodes(out, nodes, &NodeRow::fills_waiting);
}

void add_upstream(FamilyList& out, const StatsSnapshot& s) {
  add_nodes(out, s.nodes);
  add_node_coherence(out, s.nodes);
  out.counter("nearcached_upstream_redirects_total", "Redirections answered by nodes, by kind.")
      .sample(s.totals.redirects_moved, {{"kind", "moved"}})
      .sample(s.totals.redirects_ask, {{"kind", "ask"}});
  out.counter("nearcached_upstream_retries_total", "Requests sent again.").sample(s.totals.retries);
  out.counter("nearcached_upstream_timeouts_total", "Requests whose deadline passed.").sample(s.totals.timeouts);
  out.histogram("nearcached_upstream_latency_seconds", "From a request written to its reply complete, on data connections.",
                s.totals.upstream_latency);
  out.gauge("nearcached_topology_version", "Version of the topology in use.").sample(s.topology_version);
  out.gauge("nearcached_topology_age_seconds", "Time since the last good topology answer; absent before the first.");
  if (s.topology_age_ms >= 0) out.sample(seconds_of_ms(s.topology_age_ms));
}

void add_clients(FamilyList& out, const StatsSnapshot& s) {
  const insight::Totals& t = s.totals;
  out.gauge("nearcached_clients", "Clients connected.").sample(s.clients);
  out.gauge("nearcached_clients_max", "Limit of clients connected.").sample(s.clients_max);
  out.gauge("nearcached_identities", "Users, times the databases each has selected, that have upstream connections.")
      .sample(s.identities);
  out.gauge("nearcached_identities_max", "Limit of those (limits.identities).").sample(s.identities_max);
  out.counter("nearcached_clients_accepted_total", "Client connections accepted.").sample(t.clients_accepted);
  out.counter("nearcached_clients_refused_total", "Client connections refused at a limit.").sample(t.clients_refused);
  out.counter("nearcached_clients_closed_total", "Clients closed by nearcached, by reason.")
      .sample(t.clients_closed_idle, {{"reason", "idle"}})
      .sample(t.clients_closed_output, {{"reason", "output"}});
  out.gauge("nearcached_pinned_connections", "Upstream connections that a client has for itself, or that wait for one.")
      .sample(s.pinned.in_use, {{"state", "in_use"}})
      .sample(s.pinned.idle, {{"state", "idle"}});
  out.gauge("nearcached_pinned_connections_max", "Limit of these.").sample(s.pinned.max);
  out.gauge("nearcached_pinned_waiting", "Clients that wait for such a connection.").sample(s.pinned.waiting);
  out.counter("nearcached_pinned_acquired_total", "Times that a client got one.").sample(s.pinned.acquired);
  out.counter("nearcached_pinned_opened_total", "Such connections opened.").sample(s.pinned.opened);
  out.counter("nearcached_pinned_timeouts_total", "Clients that waited for one in vain.").sample(s.pinned.timeouts);
  out.gauge("nearcached_buffer_bytes", "Bytes in all client and upstream buffers.").sample(s.buffer_bytes);
  out.gauge("nearcached_buffer_limit_bytes", "Limit of bytes in buffers.").sample(s.buffer_limit_bytes);
  out.counter("nearcached_bytes_total", "Bytes received (in) and sent (out), with clients and with the upstream.")
      .sample(t.bytes_in, {{"direction", "in"}, {"side", "client"}})
      .sample(t.bytes_out, {{"direction", "out"}, {"side", "client"}})
      .sample(t.upstream_bytes_in, {{"direction", "in"}, {"side", "upstream"}})
      .sample(t.upstream_bytes_out, {{"direction", "out"}, {"side", "upstream"}});
}

void add_workers(FamilyList& out, const std::vector<WorkerRow>& workers) {
  const auto label = [](std::size_t i) { return std::vector<Label>{{"worker", std::to_string(i)}}; };
  out.gauge("nearcached_worker_clients", "Clients of a worker.");
  for (std::size_t i = 0; i < workers.size(); ++i) out.sample(workers[i].clients, label(i));
  out.counter("nearcached_worker_commands_total", "Commands received by a worker.");
  for (std::size_t i = 0; i < workers.size(); ++i) out.sample(workers[i].commands, label(i));
  out.gauge("nearcached_worker_loop_age_seconds", "Time since a worker's loop turned; absent before its first turn.");
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].loop_age_ms >= 0) out.sample(seconds_of_ms(workers[i].loop_age_ms), label(i));
  }
}

void add_process(FamilyList& out, const StatsSnapshot& s, const ProcessUsage& process, std::uint64_t log_lines_dropped) {
  out.gauge("nearcached_build_info", "1, with what was built as labels.")
      .sample(1.0, {{"version", printable(s.version)}, {"build", printable(s.build)}});
  out.gauge("nearcached_start_time_seconds", "When the process started, seconds since 1970.")
      .sample(seconds_of_ms(s.start_time_unix_ms));
  out.gauge("nearcached_threads", "Worker threads.").sample(std::uint64_t{s.threads});
  out.counter("nearcached_log_lines_dropped_total", "Log lines lost because stderr did not take them.")
      .sample(log_lines_dropped);
  out.gauge("process_resident_memory_bytes", "Resident memory of the process.").sample(process.resident_bytes);
  out.counter("process_cpu_seconds_total", "User and system CPU time of the process.").sample(process.cpu_seconds);
  out.gauge("process_open_fds", "Open file descriptors of the process.").sample(process.open_fds);
}

std::vector<MetricFamily> families(const StatsSnapshot& snapshot, const ProcessUsage& process,
                                   std::uint64_t log_lines_dropped, const MetricLabels& labels) {
  FamilyList out(labels);
  add_commands(out, snapshot.totals);
  add_l1(out, snapshot);
  add_compression(out, snapshot);
  add_coherence(out, snapshot);
  add_write_behind(out, snapshot);
  add_upstream(out, snapshot);
  add_clients(out, snapshot);
  add_workers(out, snapshot.workers);
  add_process(out, snapshot, process, log_lines_dropped);
  return out.take();
}

bool is_label_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (name.empty() || !letter(name.front()) || name.substr(0, 2) == "__") return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c); });
}

}  // namespace

class Metrics::Collector : public prometheus::Collectable {
 public:
  Collector(StatsSource source, MetricLabels labels) : source_(std::move(source)), labels_(std::move(labels)) {}
  [[nodiscard]] std::vector<MetricFamily> Collect() const override {
    return families(source_(), read_process_usage(), log::dropped_lines(), labels_);
  }

 private:
  const StatsSource source_;
  const MetricLabels labels_;
};

Metrics::Metrics(StatsSource source, MetricLabels labels) {
  if (const std::string error = metric_labels_error(labels); !error.empty()) throw std::invalid_argument(error);
  collector_ = std::make_unique<const Collector>(std::move(source), std::move(labels));
}

Metrics::~Metrics() = default;

std::string Metrics::scrape() const { return prometheus::TextSerializer().Serialize(collector_->Collect()); }

std::string metrics_text(const StatsSnapshot& snapshot, const ProcessUsage& process, std::uint64_t log_lines_dropped,
                         const MetricLabels& labels) {
  return prometheus::TextSerializer().Serialize(families(snapshot, process, log_lines_dropped, labels));
}

std::string metric_labels_error(const MetricLabels& labels) {
  for (const auto& [name, value] : labels) {
    if (!is_label_name(name))
      return "metrics.labels: '" + printable(name) + "' is not a label name ([a-zA-Z_][a-zA-Z0-9_]*)";
    if (std::find(kOwnLabels.begin(), kOwnLabels.end(), name) != kOwnLabels.end()) {
      return "metrics.labels: '" + name + "' is a label that nearcached uses itself";
    }
  }
  return {};
}

}  // namespace nearcached::daemon
