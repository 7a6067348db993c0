#include "daemon/stats_report.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <string_view>
#include <utility>

#include "daemon/text_escape.hpp"

namespace nearcached::daemon {
namespace {

namespace insight = tiers::insight;

// Writes one JSON document; knows where commas go, nothing else. The caller closes what it opens.
class JsonWriter {
 public:
  void open(std::string_view name = {}) { begin(name), out_ += '{', first_ = true; }
  void close() { out_ += '}', first_ = false; }
  void open_array(std::string_view name) { begin(name), out_ += '[', first_ = true; }
  void close_array() { out_ += ']', first_ = false; }
  void field(std::string_view name, std::string_view value) { begin(name), append_json_string(out_, value); }
  void field(std::string_view name, std::integral auto value) { begin(name), out_ += std::to_string(value); }
  void field(std::string_view name, bool value) { begin(name), out_ += value ? "true" : "false"; }

  template <std::size_t N, typename Values>
  void fields(std::string_view name, const std::array<std::string_view, N>& names, const Values& values) {
    open(name);
    for (std::size_t i = 0; i < N; ++i) field(names[i], values[i]);
    close();
  }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  void begin(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    if (name.empty()) return;
    append_json_string(out_, name);
    out_ += ':';
  }

  std::string out_;
  bool first_ = true;
};

void write_l1(JsonWriter& json, const StatsSnapshot& s) {
  json.open("l1");
  json.field("enabled", s.l1_max_bytes != 0);
  json.field("bytes", s.l1.bytes);
  json.field("max_bytes", s.l1_max_bytes);
  json.field("items", s.l1.items);
  json.field("hits", s.totals.l1_hits);
  json.field("stale_hits", s.totals.l1_stale_hits);
  json.fields("misses", insight::kMissReasonNames, s.totals.l1_misses);
  json.field("installs", s.l1.installs);
  json.field("refused_no_room", s.l1.refused);
  json.field("refused_too_large", s.l1.too_large);
  json.fields("removals", kRemovalNames, s.l1.removals);
  json.open("compression");
  json.field("values", s.compression.values);
  json.field("bytes_before", s.compression.bytes_before);
  json.field("bytes_after", s.compression.bytes_after);
  json.field("kept_plain", s.compression.kept_plain);
  json.field("decompressed", s.totals.l1_unpacked);
  json.field("decompression_failures", s.totals.l1_unreadable);
  json.field("dictionaries", s.compression.dictionaries);
  json.field("dictionary_bytes", s.compression.bytes);
  json.close();
  json.close();
}

void write_traffic(JsonWriter& json, const insight::Totals& t) {
  json.fields("commands", insight::kCommandClassNames, t.commands);
  json.fields("invalidations", insight::kInvalidationSourceNames, t.invalidations);
  json.open("fills");
  json.field("started", t.fills_started);
  json.field("joined", t.fills_joined);
  json.field("installed", t.fills_installed);
  json.field("discarded", t.fills_discarded);
  json.field("forwarded", t.fills_forwarded);
  json.close();
  json.open("bytes");
  json.field("client_in", t.bytes_in);
  json.field("client_out", t.bytes_out);
  json.field("upstream_in", t.upstream_bytes_in);
  json.field("upstream_out", t.upstream_bytes_out);
  json.close();
}

void write_histogram(JsonWriter& json, std::string_view name, const insight::HistogramTotals& histogram) {
  json.open(name);
  json.field("count", histogram.count());
  json.field("sum_us", histogram.sum_us);
  json.open("buckets_up_to_us");
  for (std::size_t i = 0; i < insight::Histogram::kBoundsUs.size(); ++i) {
    json.field(std::to_string(insight::Histogram::kBoundsUs[i]), histogram.buckets[i]);
  }
  json.field("inf", histogram.buckets.back());
  json.close();
  json.close();
}

void write_coherence(JsonWriter& json, const StatsSnapshot& s) {
  const insight::Totals& t = s.totals;
  json.open("coherence");
  json.field("mode", s.coherence_mode);
  json.field("reason", s.coherence_reason);
  json.field("bound", coherence_bound(s));
  json.field("invalidations_unexplained", t.invalidations_unexplained);
  write_histogram(json, "invalidation_delay", t.invalidation_delay);
  json.open("audit");
  json.field("checked", t.audit_checked);
  json.field("stale", t.audit_stale);
  write_histogram(json, "staleness", t.audit_staleness);
  json.close();
  json.open("bus");
  json.field("published", t.bus_published);
  json.field("publish_failures", t.bus_publish_failures);
  json.field("gaps", t.bus_gaps);
  json.close();
  json.close();
}

void write_write_behind(JsonWriter& json, const StatsSnapshot& s) {
  const WriteBehindRow& row = s.write_behind;
  json.open("write_behind");
  json.field("mode", row.mode);
  json.field("records", row.queue.records);
  json.field("bytes", row.queue.bytes);
  json.field("in_flight", row.queue.in_flight);
  json.field("oldest_age_ms", row.oldest_age_ms);
  json.field("accepted", row.queue.accepted);
  json.field("coalesced", row.queue.coalesced);
  json.field("flushed", row.queue.flushed);
  json.field("retries", row.queue.retries);
  json.field("dead", row.queue.dead);
  json.field("dropped", row.queue.dropped());
  json.field("full", row.queue.full);
  json.field("reads", s.totals.pending_reads);
  json.field("replayed", row.replayed);
  write_histogram(json, "flush_latency", s.totals.flush_latency);
  json.open("log");
  json.field("bytes", row.log.bytes);
  json.field("segments", row.log.segments);
  json.field("appended", row.log.appended);
  json.field("durable", row.log.durable);
  json.field("checkpoint", row.log.checkpoint);
  json.field("groups", row.log.groups);
  json.field("failures", row.log.failures);
  write_histogram(json, "sync_latency", row.log.sync_latency);
  json.close();
  json.close();
}

void write_clients(JsonWriter& json, const StatsSnapshot& s) {
  json.open("clients");
  json.field("connected", s.clients);
  json.field("max", s.clients_max);
  json.field("identities", s.identities);
  json.field("identities_max", s.identities_max);
  json.field("accepted", s.totals.clients_accepted);
  json.field("refused", s.totals.clients_refused);
  json.field("closed_idle", s.totals.clients_closed_idle);
  json.field("closed_output", s.totals.clients_closed_output);
  json.field("protocol_errors", s.totals.protocol_errors);
  json.close();
  json.open("buffers");
  json.field("bytes", s.buffer_bytes);
  json.field("limit_bytes", s.buffer_limit_bytes);
  json.close();
  json.open("pinned");
  json.field("in_use", s.pinned.in_use);
  json.field("idle", s.pinned.idle);
  json.field("waiting", s.pinned.waiting);
  json.field("max", s.pinned.max);
  json.field("acquired", s.pinned.acquired);
  json.field("opened", s.pinned.opened);
  json.field("timeouts", s.pinned.timeouts);
  json.close();
}

void write_upstream(JsonWriter& json, const StatsSnapshot& s) {
  json.open("upstream");
  json.field("errors", s.totals.upstream_errors);
  json.field("timeouts", s.totals.timeouts);
  json.field("retries", s.totals.retries);
  json.field("redirects_moved", s.totals.redirects_moved);
  json.field("redirects_ask", s.totals.redirects_ask);
  json.field("topology_version", s.topology_version);
  json.field("topology_age_ms", s.topology_age_ms);
  write_histogram(json, "latency", s.totals.upstream_latency);
  write_histogram(json, "fill_latency", s.totals.fill_latency);
  json.open_array("nodes");
  for (const NodeRow& node : s.nodes) {
    json.open();
    json.field("endpoint", node.endpoint);
    json.field("state", node.state);
    json.field("coherence", node.coherence);
    json.field("coherence_reason", node.coherence_reason);
    json.field("connections", node.connections);
    json.field("requests", node.requests);
    json.field("errors", node.errors);
    json.field("pending", node.pending);
    json.field("verified_age_ms", node.verified_age_ms);
    json.field("invalidations", node.invalidations);
    json.field("fills_in_flight", node.fills_in_flight);
    json.field("fills_waiting", node.fills_waiting);
    json.close();
  }
  json.close_array();
  json.close();
}

void write_workers(JsonWriter& json, const StatsSnapshot& s) {
  json.open_array("workers");
  for (const WorkerRow& worker : s.workers) {
    json.open();
    json.field("clients", worker.clients);
    json.field("commands", worker.commands);
    json.field("loop_age_ms", worker.loop_age_ms);
    json.close();
  }
  json.close_array();
}

// Lines of an INFO section.
class InfoWriter {
 public:
  void line(std::string_view name, std::string_view value) {
    out_ += name;
    out_ += ':';
    out_ += printable(value);
    out_ += "\r\n";
  }
  void line(std::string_view name, std::integral auto value) { line(name, std::string_view(std::to_string(value))); }

  template <std::size_t N, typename Values>
  void lines(std::string_view prefix, const std::array<std::string_view, N>& names, const Values& values) {
    for (std::size_t i = 0; i < N; ++i) line(std::string(prefix).append(names[i]), values[i]);
  }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string out_ = "# nearcached\r\n";
};

void write_info_coherence(InfoWriter& info, const StatsSnapshot& s) {
  info.line("nearcached_coherence_mode", s.coherence_mode);
  info.line("nearcached_coherence_reason", s.coherence_reason);
  info.line("nearcached_coherence_bound", coherence_bound(s));
  info.line("nearcached_audit_checked", s.totals.audit_checked);
  info.line("nearcached_audit_stale", s.totals.audit_stale);
  info.line("nearcached_bus_published", s.totals.bus_published);
  info.line("nearcached_bus_publish_failures", s.totals.bus_publish_failures);
  info.line("nearcached_bus_gaps", s.totals.bus_gaps);
}

void write_info_write_behind(InfoWriter& info, const StatsSnapshot& s) {
  info.line("nearcached_write_behind_mode", s.write_behind.mode);
  info.line("nearcached_write_behind_records", s.write_behind.queue.records);
  info.line("nearcached_write_behind_oldest_age_ms", s.write_behind.oldest_age_ms);
  info.line("nearcached_write_behind_dead_letters", s.write_behind.queue.dead);
}

void write_info_l1(InfoWriter& info, const StatsSnapshot& s) {
  info.line("nearcached_l1_bytes", s.l1.bytes);
  info.line("nearcached_l1_max_bytes", s.l1_max_bytes);
  info.line("nearcached_l1_items", s.l1.items);
  info.line("nearcached_l1_hits", s.totals.l1_hits);
  info.line("nearcached_l1_stale_hits", s.totals.l1_stale_hits);
  info.line("nearcached_l1_misses", s.totals.l1_misses_total());
  info.line("nearcached_l1_installs", s.l1.installs);
  info.line("nearcached_l1_refused", s.l1.refused + s.l1.too_large);
  info.lines("nearcached_l1_", kRemovalNames, s.l1.removals);
  info.line("nearcached_l1_compressed", s.compression.values);
  info.line("nearcached_l1_compressed_bytes_before", s.compression.bytes_before);
  info.line("nearcached_l1_compressed_bytes_after", s.compression.bytes_after);
  info.line("nearcached_l1_decompressed", s.totals.l1_unpacked);
  info.lines("nearcached_invalidations_", insight::kInvalidationSourceNames, s.totals.invalidations);
  info.line("nearcached_invalidations_unexplained", s.totals.invalidations_unexplained);
}

// A value among the name=value pairs of one line: a comma of its own would end it.
std::string pair_value(std::string_view text) {
  std::string value = printable(text);
  std::replace(value.begin(), value.end(), ',', ';');
  return value;
}

void write_info_nodes(InfoWriter& info, const StatsSnapshot& s) {
  info.line("nearcached_nodes", s.nodes.size());
  for (std::size_t i = 0; i < s.nodes.size(); ++i) {
    const NodeRow& node = s.nodes[i];
    std::string row = "endpoint=" + pair_value(node.endpoint) + ",state=" + pair_value(node.state);
    row += ",coherence=" + pair_value(node.coherence);
    if (!node.coherence_reason.empty()) row += ",coherence_reason=" + pair_value(node.coherence_reason);
    row += ",connections=" + std::to_string(node.connections) + ",requests=" + std::to_string(node.requests);
    row += ",errors=" + std::to_string(node.errors) + ",pending=" + std::to_string(node.pending);
    row += ",verified_age_ms=" + std::to_string(node.verified_age_ms);
    row += ",invalidations=" + std::to_string(node.invalidations);
    row += ",fills_in_flight=" + std::to_string(node.fills_in_flight);
    row += ",fills_waiting=" + std::to_string(node.fills_waiting);
    info.line("nearcached_node" + std::to_string(i), row);
  }
}

struct Bound {
  std::string_view mode, text;
};
constexpr std::array<Bound, 3> kBounds = {{
    {"tracking", "max_staleness"},
    {"bus", "max_staleness for writes through sidecars of this bus; the TTL (l1.ttl) for all others: nobody tells of them"},
    {"ttl", "the TTL: nobody tells of changes; l1.ttl, or max_staleness where auto found nothing better"},
}};
constexpr std::string_view kOffBound = "none needed: nothing is served from L1, save what stale_ok keeps through an outage";

}  // namespace

std::string coherence_bound(const StatsSnapshot& snapshot) {
  std::string mixed;
  for (const auto& [mode, text] : kBounds) {
    if (snapshot.coherence_mode == mode) return std::string(text);
    const bool present = std::any_of(snapshot.nodes.begin(), snapshot.nodes.end(),
                                     [mode = mode](const NodeRow& node) { return node.coherence == mode; });
    if (!present) continue;
    if (!mixed.empty()) mixed += "; ";
    mixed.append(mode).append(" nodes: ").append(text);
  }
  return snapshot.coherence_mode == "mixed" && !mixed.empty() ? mixed : std::string(kOffBound);
}

std::string stats_json(const StatsSnapshot& snapshot) {
  JsonWriter json;
  json.open();
  json.field("version", snapshot.version);
  json.field("build", snapshot.build);
  json.field("start_time_unix_ms", snapshot.start_time_unix_ms);
  json.field("uptime_ms", snapshot.uptime_ms);
  json.field("threads", snapshot.threads);
  write_coherence(json, snapshot);
  write_l1(json, snapshot);
  write_traffic(json, snapshot.totals);
  write_write_behind(json, snapshot);
  write_clients(json, snapshot);
  write_upstream(json, snapshot);
  write_workers(json, snapshot);
  json.close();
  return json.take() + "\n";
}

std::string stats_info_section(const StatsSnapshot& snapshot) {
  InfoWriter info;
  info.line("nearcached_version", snapshot.version);
  info.line("nearcached_uptime_in_seconds", snapshot.uptime_ms / 1000);
  info.line("nearcached_threads", snapshot.threads);
  write_info_coherence(info, snapshot);
  write_info_l1(info, snapshot);
  write_info_write_behind(info, snapshot);
  info.lines("nearcached_commands_", insight::kCommandClassNames, snapshot.totals.commands);
  info.line("nearcached_clients", snapshot.clients);
  info.line("nearcached_clients_max", snapshot.clients_max);
  info.line("nearcached_identities", snapshot.identities);
  info.line("nearcached_identities_max", snapshot.identities_max);
  info.line("nearcached_clients_accepted", snapshot.totals.clients_accepted);
  info.line("nearcached_clients_refused", snapshot.totals.clients_refused);
  info.line("nearcached_protocol_errors", snapshot.totals.protocol_errors);
  info.line("nearcached_buffer_bytes", snapshot.buffer_bytes);
  info.line("nearcached_buffer_limit_bytes", snapshot.buffer_limit_bytes);
  info.line("nearcached_upstream_errors", snapshot.totals.upstream_errors);
  info.line("nearcached_upstream_timeouts", snapshot.totals.timeouts);
  info.line("nearcached_upstream_retries", snapshot.totals.retries);
  info.line("nearcached_topology_version", snapshot.topology_version);
  info.line("nearcached_topology_age_ms", snapshot.topology_age_ms);
  write_info_nodes(info, snapshot);
  return info.take();
}

}  // namespace nearcached::daemon
