#include "daemon/metrics.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/daemon/sample_snapshot.hpp"
#include "tests/unit/daemon/strict_prometheus.hpp"

namespace nearcached::daemon {
namespace {

using Families = std::map<std::string, testing::PrometheusFamily>;

const ProcessUsage kProcess{.resident_bytes = 701, .cpu_seconds = 7.25, .open_fds = 703};

Families parsed(const StatsSnapshot& snapshot, const MetricLabels& labels = {}) {
  return testing::StrictPrometheus::parse(metrics_text(snapshot, kProcess, 704, labels));
}

double value(const Families& families, const std::string& sample) {
  std::string name = sample.substr(0, sample.find('{'));
  for (const std::string suffix : {"_bucket", "_sum", "_count"}) {
    const bool ends = name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix;
    if (ends && families.count(name) == 0) name.resize(name.size() - suffix.size());
  }
  INFO(sample);
  REQUIRE(families.count(name) == 1);
  REQUIRE(families.at(name).samples.count(sample) == 1);
  return families.at(name).samples.at(sample);
}

TEST_CASE("the format checker of these tests refuses what Prometheus or its linter would") {
  const std::string good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\n";
  CHECK(testing::StrictPrometheus::parse(good).at("a_total").samples.at("a_total{b=\"c\"}") == 1);
  const std::string head = "# HELP a_total x\n# TYPE a_total counter\n";
  for (const std::string& bad :
       {good + good, good + "a_total{b=\"c\"} 2\n", head + "a_total -1\n", head + "a_total{b=\"c\",b=\"d\"} 1\n",
        head + "b_total 1\n", head + "a_total 1", head + "a_total 1x\n", head + "a_total{b=\"\\x\"} 1\n",
        head + "a_total{1b=\"c\"} 1\n", std::string("# HELP a x\n# TYPE a counter\n"),
        std::string("# HELP a_total x\n# TYPE a_total gauge\n"), std::string("a 1\n"),
        std::string("# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"),
        std::string("# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n")}) {
    INFO(bad);
    CHECK_THROWS_AS(testing::StrictPrometheus::parse(bad), std::runtime_error);
  }
}

const std::map<std::string, double> kExpectedSamples = {
    {"nearcached_commands_total{class=\"local\"}", 100},
    {"nearcached_commands_total{class=\"pinned\"}", 106},
    {"nearcached_commands_total{class=\"unknown\"}", 108},
    {"nearcached_protocol_errors_total", 164},
    {"nearcached_l1_hits_total", 110},
    {"nearcached_l1_stale_hits_total", 111},
    {"nearcached_l1_misses_total{reason=\"absent\"}", 120},
    {"nearcached_l1_misses_total{reason=\"unacknowledged\"}", 123},
    {"nearcached_l1_misses_total{reason=\"unproven\"}", 124},
    {"nearcached_l1_misses_total{reason=\"strict\"}", 125},
    {"nearcached_l1_bytes", 201},
    {"nearcached_l1_max_bytes", 202},
    {"nearcached_l1_items", 203},
    {"nearcached_l1_installs_total", 204},
    {"nearcached_l1_refused_total{reason=\"no_room\"}", 205},
    {"nearcached_l1_refused_total{reason=\"too_large\"}", 206},
    {"nearcached_l1_removals_total{reason=\"evicted\"}", 210},
    {"nearcached_l1_removals_total{reason=\"expired\"}", 211},
    {"nearcached_l1_removals_total{reason=\"invalidated\"}", 212},
    {"nearcached_l1_removals_total{reason=\"purged\"}", 213},
    {"nearcached_l1_removals_total{reason=\"replaced\"}", 214},
    {"nearcached_l1_compressed_total", 220},
    {"nearcached_l1_compressed_bytes_total{state=\"before\"}", 221},
    {"nearcached_l1_compressed_bytes_total{state=\"after\"}", 222},
    {"nearcached_l1_kept_plain_total", 223},
    {"nearcached_l1_decompressed_total", 112},
    {"nearcached_l1_decompression_failures_total", 113},
    {"nearcached_l1_dictionaries_total", 224},
    {"nearcached_l1_dictionary_bytes", 225},
    {"nearcached_write_behind_mode{mode=\"log\"}", 1},
    {"nearcached_write_behind_records", 230},
    {"nearcached_write_behind_bytes", 231},
    {"nearcached_write_behind_in_flight", 232},
    {"nearcached_write_behind_oldest_age_seconds", 1.5},
    {"nearcached_write_behind_accepted_total", 1184},
    {"nearcached_write_behind_coalesced_total", 234},
    {"nearcached_write_behind_flushed_total", 235},
    {"nearcached_write_behind_retries_total", 236},
    {"nearcached_write_behind_dead_letters_total", 237},
    {"nearcached_write_behind_log_bytes", 238},
    {"nearcached_write_behind_log_segments", 239},
    {"nearcached_write_behind_log_group_records_bucket{le=\"0\"}", 240},
    {"nearcached_write_behind_log_group_records_bucket{le=\"1\"}", 242},
    {"nearcached_write_behind_log_group_records_count", 242},
    {"nearcached_write_behind_log_group_records_sum", 2},
    {"nearcached_write_behind_batch_records_bucket{le=\"3\"}", 4},
    {"nearcached_write_behind_batch_records_bucket{le=\"+Inf\"}", 4},
    {"nearcached_write_behind_batch_records_sum", 7},
    {"nearcached_write_behind_dropped_total", 5},
    {"nearcached_write_behind_full_total", 246},
    {"nearcached_write_behind_log_full_total", 247},
    {"nearcached_write_behind_reads_total", 114},
    {"nearcached_write_behind_log_failures_total", 241},
    {"nearcached_write_behind_replayed_total", 242},
    {"nearcached_coherence_mode{mode=\"off\"}", 1},
    {"nearcached_invalidations_total{source=\"tracking\"}", 130},
    {"nearcached_invalidations_total{source=\"bus\"}", 131},
    {"nearcached_invalidations_total{source=\"slot_moved\"}", 136},
    {"nearcached_invalidations_unexplained_total", 145},
    {"nearcached_audit_checked_total", 180},
    {"nearcached_audit_stale_total", 181},
    {"nearcached_bus_published_total", 146},
    {"nearcached_bus_publish_failures_total", 147},
    {"nearcached_bus_gaps_total", 148},
    {"nearcached_node_coherence_mode{mode=\"tracking\",node=\"10.0.0.1:7000\"}", 1},
    {"nearcached_node_coherence_mode{mode=\"off\",node=\"10.0.0.2:7000\"}", 1},
    {"nearcached_fills_in_flight{node=\"10.0.0.1:7000\"}", 407},
    {"nearcached_fills_waiting{node=\"10.0.0.1:7000\"}", 408},
    {"nearcached_fills_waiting{node=\"10.0.0.2:7000\"}", 0},
    {"nearcached_fills_started_total", 140},
    {"nearcached_fills_joined_total", 141},
    {"nearcached_fills_total{result=\"installed\"}", 142},
    {"nearcached_fills_total{result=\"discarded\"}", 143},
    {"nearcached_fills_total{result=\"forwarded\"}", 144},
    {"nearcached_upstream_redirects_total{kind=\"moved\"}", 150},
    {"nearcached_upstream_redirects_total{kind=\"ask\"}", 151},
    {"nearcached_upstream_retries_total", 152},
    {"nearcached_upstream_timeouts_total", 153},
    {"nearcached_upstream_connections{node=\"10.0.0.1:7000\"}", 401},
    {"nearcached_upstream_requests_total{node=\"10.0.0.1:7000\"}", 402},
    {"nearcached_upstream_errors_total{node=\"10.0.0.1:7000\"}", 403},
    {"nearcached_upstream_pending{node=\"10.0.0.1:7000\"}", 404},
    {"nearcached_upstream_verified_age_seconds{node=\"10.0.0.1:7000\"}", 0.405},
    {"nearcached_upstream_invalidations_total{node=\"10.0.0.1:7000\"}", 406},
    {"nearcached_upstream_connections{node=\"10.0.0.2:7000\"}", 0},
    {"nearcached_topology_version", 501},
    {"nearcached_topology_age_seconds", 0.502},
    {"nearcached_clients", 601},
    {"nearcached_clients_max", 602},
    {"nearcached_identities", 605},
    {"nearcached_identities_max", 606},
    {"nearcached_clients_accepted_total", 160},
    {"nearcached_clients_refused_total", 161},
    {"nearcached_clients_closed_total{reason=\"idle\"}", 162},
    {"nearcached_clients_closed_total{reason=\"output\"}", 163},
    {"nearcached_buffer_bytes", 603},
    {"nearcached_buffer_limit_bytes", 604},
    {"nearcached_bytes_total{direction=\"in\",side=\"client\"}", 170},
    {"nearcached_bytes_total{direction=\"out\",side=\"client\"}", 171},
    {"nearcached_bytes_total{direction=\"in\",side=\"upstream\"}", 173},
    {"nearcached_bytes_total{direction=\"out\",side=\"upstream\"}", 174},
    {"nearcached_worker_clients{worker=\"0\"}", 301},
    {"nearcached_worker_commands_total{worker=\"1\"}", 304},
    {"nearcached_worker_loop_age_seconds{worker=\"0\"}", 0.003},
    {"nearcached_build_info{build=\"g++ 12, release\",version=\"9.8.7\"}", 1},
    {"nearcached_start_time_seconds", 1'795'000'000.25},
    {"nearcached_threads", 2},
    {"nearcached_log_lines_dropped_total", 704},
    {"process_resident_memory_bytes", 701},
    {"process_cpu_seconds_total", 7.25},
    {"process_open_fds", 703},
};

TEST_CASE("every number of the snapshot arrives in its metric") {
  const Families f = parsed(testing::sample_snapshot());
  for (const auto& [sample, number] : kExpectedSamples) CHECK(value(f, sample) == Approx(number).epsilon(1e-12));
}

TEST_CASE("histograms are cumulative, in seconds, and end with all observations") {
  const Families f = parsed(testing::sample_snapshot());
  CHECK(value(f, "nearcached_upstream_latency_seconds_bucket{le=\"5e-05\"}") == 1);
  CHECK(value(f, "nearcached_upstream_latency_seconds_bucket{le=\"0.0001\"}") == 3);
  CHECK(value(f, "nearcached_upstream_latency_seconds_bucket{le=\"1\"}") == 105);
  CHECK(value(f, "nearcached_upstream_latency_seconds_bucket{le=\"+Inf\"}") == 120);
  CHECK(value(f, "nearcached_upstream_latency_seconds_count") == 120);
  CHECK(value(f, "nearcached_upstream_latency_seconds_sum") == Approx(2.5));
  CHECK(value(f, "nearcached_fill_latency_seconds_bucket{le=\"0.00025\"}") == 0);
  CHECK(value(f, "nearcached_fill_latency_seconds_bucket{le=\"0.0005\"}") == 7);
  CHECK(value(f, "nearcached_fill_latency_seconds_sum") == Approx(0.0035));
  CHECK(value(f, "nearcached_invalidation_delay_seconds_bucket{le=\"5e-05\"}") == 9);
  CHECK(value(f, "nearcached_invalidation_delay_seconds_count") == 9);
  CHECK(value(f, "nearcached_invalidation_delay_seconds_sum") == Approx(0.00036));
  CHECK(value(f, "nearcached_audit_staleness_seconds_bucket{le=\"0.0005\"}") == 0);
  CHECK(value(f, "nearcached_audit_staleness_seconds_bucket{le=\"0.001\"}") == 11);
  CHECK(value(f, "nearcached_audit_staleness_seconds_sum") == Approx(0.0088));
}

TEST_CASE("what is not known has no sample rather than a false one") {
  StatsSnapshot s = testing::sample_snapshot();
  s.topology_age_ms = -1;
  const Families f = parsed(s);
  CHECK(f.at("nearcached_topology_age_seconds").samples.empty());
  CHECK(f.at("nearcached_upstream_verified_age_seconds").samples.size() == 1);
  CHECK(f.at("nearcached_worker_loop_age_seconds").samples.size() == 1);
}

TEST_CASE("a node has one mode at a time") {
  StatsSnapshot s = testing::sample_snapshot();
  for (const std::string mode : {"tracking", "bus", "ttl", "off"}) {
    s.nodes[0].coherence = mode;
    const Families f = parsed(s);
    CHECK(f.at("nearcached_node_coherence_mode").samples.size() == s.nodes.size());
    CHECK(value(f, "nearcached_node_coherence_mode{mode=\"" + mode + "\",node=\"10.0.0.1:7000\"}") == 1);
  }
}

TEST_CASE("an empty snapshot is a valid scrape") { CHECK_FALSE(parsed(StatsSnapshot{}).empty()); }

TEST_CASE("constant labels are on every sample") {
  const Families f = parsed(testing::sample_snapshot(), {{"service", "api"}, {"zone", "a \"b\"\\c\nd\xff"}});
  std::size_t samples = 0;
  for (const auto& [name, family] : f) {
    for (const auto& [sample, number] : family.samples) {
      INFO(sample);
      CHECK(sample.find("service=\"api\"") != std::string::npos);
      CHECK(sample.find(R"(zone="a \"b\"\\c?d?")") != std::string::npos);
      ++samples;
    }
  }
  CHECK(samples > 80);
}

TEST_CASE("text from outside can't break a scrape") {
  StatsSnapshot s = testing::sample_snapshot();
  s.nodes[0].endpoint = "a\"} 1\nforged_total 9\n\\\xff";
  s.nodes[0].coherence = "ttl\"} 1\nforged_total 9\n\xff";
  s.coherence_mode = "x\"\n";
  const Families f = parsed(s);
  CHECK(f.count("forged_total") == 0);
  CHECK(value(f, R"(nearcached_node_coherence_mode{mode="ttl\"} 1?forged_total 9??",node="a\"} 1?forged_total 9?\\?"})") ==
        1);
  CHECK(value(f, R"(nearcached_upstream_connections{node="a\"} 1?forged_total 9?\\?"})") == 401);
}

TEST_CASE("a constant label that no scrape could carry is refused by name") {
  for (const std::string name : {"", "1a", "a-b", "a b", "__reserved", "\xc3\xa4", "le", "node", "version", "a\n"}) {
    INFO(name);
    CHECK_FALSE(metric_labels_error({{"ok", "1"}, {name, "x"}}).empty());
    CHECK_THROWS_AS(Metrics([] { return StatsSnapshot{}; }, {{name, "x"}}), std::invalid_argument);
  }
  CHECK(metric_labels_error({{"service", "x"}, {"_a1", ""}, {"A", "\xff"}}).empty());
}

TEST_CASE("no label that metrics use themselves may be a constant one") {
  for (const auto& [name, family] : parsed(testing::sample_snapshot())) {
    for (const std::string& label : family.label_names) {
      INFO(name << " " << label);
      CHECK_FALSE(metric_labels_error({{label, "x"}}).empty());
    }
  }
}

TEST_CASE("a scrape asks its source each time") {
  std::uint64_t hits = 0;
  const Metrics metrics(
      [&hits] {
        StatsSnapshot s;
        s.totals.l1_hits = ++hits;
        return s;
      },
      {{"service", "api"}});
  const std::string sample = "nearcached_l1_hits_total{service=\"api\"}";
  CHECK(value(testing::StrictPrometheus::parse(metrics.scrape()), sample) == 1);
  const Families f = testing::StrictPrometheus::parse(metrics.scrape());
  CHECK(value(f, sample) == 2);
  CHECK(value(f, "process_resident_memory_bytes{service=\"api\"}") > 0);
}

// A row of docs/metrics.md: | `name` | type | labels | meaning |
struct DocRow {
  std::string type, labels, meaning;
  friend bool operator==(const DocRow&, const DocRow&) = default;
};

std::map<std::string, DocRow> documented() {
  std::ifstream file(NEARCACHED_METRICS_DOC);
  REQUIRE(file);
  std::map<std::string, DocRow> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    std::vector<std::string> cells;
    std::istringstream cut(line);
    for (std::string cell; std::getline(cut, cell, '|');) {
      const std::size_t first = cell.find_first_not_of(" `");
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, cell.find_last_not_of(" `") - first + 1));
    }
    INFO(line);
    REQUIRE(cells.size() == 5);
    REQUIRE(rows.emplace(cells[1], DocRow{cells[2], cells[3], cells[4]}).second);
  }
  return rows;
}

TEST_CASE("docs/metrics.md lists exactly the metrics there are, with their types, labels and meanings") {
  const auto rows = documented();
  std::set<std::string> exported;
  for (const auto& [name, family] : parsed(testing::sample_snapshot())) {
    exported.insert(name);
    INFO(name);
    REQUIRE(rows.count(name) == 1);
    std::string labels;
    for (const std::string& label : family.label_names) labels += (labels.empty() ? "" : ", ") + label;
    CHECK(rows.at(name).type == family.type);
    CHECK(rows.at(name).labels == labels);
    CHECK(rows.at(name).meaning == family.help);
  }
  for (const auto& [name, row] : rows) {
    INFO(name);
    CHECK(exported.count(name) == 1);
  }
}

// The row `label` of the page's table of label values: what stands between commas, remarks in parentheses left out.
std::set<std::string> documented_values(const std::string& label) {
  std::ifstream file(NEARCACHED_METRICS_DOC);
  REQUIRE(file);
  const std::string head = "| " + label + " | ";
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(head, 0) != 0) continue;
    std::string plain;
    int depth = 0;
    for (const char c : line.substr(head.size(), line.rfind('|') - head.size())) {
      depth += c == '(' ? 1 : 0;
      if (depth == 0 && c != ' ') plain += c;
      depth -= c == ')' ? 1 : 0;
    }
    std::set<std::string> values;
    std::istringstream cut(plain);
    for (std::string value; std::getline(cut, value, ',');) values.insert(value);
    return values;
  }
  FAIL("no row of values for " << label);
  return {};
}

std::set<std::string> exported_values(const testing::PrometheusFamily& family, const std::string& label) {
  const std::string head = label + "=\"";
  std::set<std::string> values;
  for (const auto& [sample, number] : family.samples) {
    const std::size_t start = sample.find(head);
    REQUIRE(start != std::string::npos);
    values.insert(sample.substr(start + head.size(), sample.find('"', start + head.size()) - start - head.size()));
  }
  return values;
}

TEST_CASE("docs/metrics.md lists exactly the values that labels take") {
  const Families f = parsed(testing::sample_snapshot());
  CHECK(documented_values("class") == exported_values(f.at("nearcached_commands_total"), "class"));
  CHECK(documented_values("source") == exported_values(f.at("nearcached_invalidations_total"), "source"));
  CHECK(documented_values("result") == exported_values(f.at("nearcached_fills_total"), "result"));
  CHECK(documented_values("kind") == exported_values(f.at("nearcached_upstream_redirects_total"), "kind"));
  for (const std::string name : {"nearcached_l1_misses_total", "nearcached_l1_refused_total", "nearcached_l1_removals_total",
                                 "nearcached_clients_closed_total"}) {
    INFO(name);
    CHECK(documented_values("reason of `" + name + "`") == exported_values(f.at(name), "reason"));
  }
}

}  // namespace
}  // namespace nearcached::daemon
