#include "daemon/stats_report.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/daemon/sample_snapshot.hpp"
#include "tests/unit/daemon/strict_json.hpp"

namespace nearcached::daemon {
namespace {

std::map<std::string, std::string> parsed_json(const StatsSnapshot& snapshot) {
  const std::string text = stats_json(snapshot);
  INFO(text);
  const auto values = testing::StrictJson::parse(text);
  REQUIRE(values);
  return *values;
}

// INFO's lines as clients split them: at CR LF, then at the first colon.
std::map<std::string, std::string> parsed_info(const StatsSnapshot& snapshot) {
  std::string_view text;
  const std::string owned = stats_info_section(snapshot);
  text = owned;
  const std::string_view head = "# nearcached\r\n";
  REQUIRE(text.substr(0, head.size()) == head);
  text.remove_prefix(head.size());
  std::map<std::string, std::string> lines;
  while (!text.empty()) {
    const std::size_t end = text.find("\r\n");
    REQUIRE(end != std::string_view::npos);
    const std::string_view line = text.substr(0, end);
    const std::size_t colon = line.find(':');
    REQUIRE(colon != std::string_view::npos);
    REQUIRE(line.find_first_of("\r\n") == std::string_view::npos);
    REQUIRE(lines.emplace(line.substr(0, colon), line.substr(colon + 1)).second);
    text.remove_prefix(end + 2);
  }
  return lines;
}

const std::map<std::string, std::string> kExpectedJson = {
    {"version", "9.8.7"},
    {"build", "g++ 12, release"},
    {"start_time_unix_ms", "1795000000250"},
    {"uptime_ms", "61999"},
    {"threads", "2"},
    {"coherence.mode", "off"},
    {"coherence.reason", "upstream refuses CLIENT TRACKING"},
    {"coherence.bound", "none needed: nothing is served from L1, save what stale_ok keeps through an outage"},
    {"coherence.invalidations_unexplained", "145"},
    {"coherence.invalidation_delay.count", "9"},
    {"coherence.invalidation_delay.sum_us", "360"},
    {"coherence.audit.checked", "180"},
    {"coherence.audit.stale", "181"},
    {"coherence.audit.staleness.count", "11"},
    {"coherence.audit.staleness.buckets_up_to_us.1000", "11"},
    {"coherence.bus.published", "146"},
    {"coherence.bus.publish_failures", "147"},
    {"coherence.bus.gaps", "148"},
    {"l1.enabled", "true"},
    {"l1.bytes", "201"},
    {"l1.max_bytes", "202"},
    {"l1.items", "203"},
    {"l1.hits", "110"},
    {"l1.stale_hits", "111"},
    {"l1.compression.values", "220"},
    {"l1.compression.bytes_before", "221"},
    {"l1.compression.bytes_after", "222"},
    {"l1.compression.kept_plain", "223"},
    {"l1.compression.decompressed", "112"},
    {"l1.compression.decompression_failures", "113"},
    {"l1.compression.dictionaries", "224"},
    {"l1.compression.dictionary_bytes", "225"},
    {"l1.misses.absent", "120"},
    {"l1.misses.unacknowledged", "123"},
    {"l1.misses.strict", "125"},
    {"l1.installs", "204"},
    {"l1.refused_no_room", "205"},
    {"l1.refused_too_large", "206"},
    {"l1.removals.evicted", "210"},
    {"l1.removals.expired", "211"},
    {"l1.removals.invalidated", "212"},
    {"l1.removals.purged", "213"},
    {"l1.removals.replaced", "214"},
    {"commands.local", "100"},
    {"commands.pinned", "106"},
    {"commands.unknown", "108"},
    {"invalidations.tracking", "130"},
    {"invalidations.bus", "131"},
    {"invalidations.slot_moved", "136"},
    {"fills.started", "140"},
    {"fills.joined", "141"},
    {"fills.installed", "142"},
    {"fills.discarded", "143"},
    {"fills.forwarded", "144"},
    {"bytes.client_in", "170"},
    {"bytes.client_out", "171"},
    {"bytes.upstream_in", "173"},
    {"bytes.upstream_out", "174"},
    {"clients.connected", "601"},
    {"clients.max", "602"},
    {"clients.identities", "605"},
    {"clients.identities_max", "606"},
    {"clients.accepted", "160"},
    {"clients.refused", "161"},
    {"clients.closed_idle", "162"},
    {"clients.closed_output", "163"},
    {"clients.protocol_errors", "164"},
    {"buffers.bytes", "603"},
    {"buffers.limit_bytes", "604"},
    {"upstream.errors", "154"},
    {"upstream.timeouts", "153"},
    {"upstream.retries", "152"},
    {"upstream.redirects_moved", "150"},
    {"upstream.redirects_ask", "151"},
    {"upstream.topology_version", "501"},
    {"upstream.topology_age_ms", "502"},
    {"upstream.latency.count", "120"},
    {"upstream.latency.sum_us", "2500000"},
    {"upstream.latency.buckets_up_to_us.50", "1"},
    {"upstream.latency.buckets_up_to_us.inf", "15"},
    {"upstream.fill_latency.count", "7"},
    {"upstream.nodes[0].endpoint", "10.0.0.1:7000"},
    {"upstream.nodes[0].state", "tracking"},
    {"upstream.nodes[0].coherence", "tracking"},
    {"upstream.nodes[0].coherence_reason", ""},
    {"upstream.nodes[0].fills_in_flight", "407"},
    {"upstream.nodes[0].fills_waiting", "408"},
    {"upstream.nodes[1].coherence", "off"},
    {"upstream.nodes[1].coherence_reason", "NOPERM no, \"CLIENT\""},
    {"upstream.nodes[0].connections", "401"},
    {"upstream.nodes[0].requests", "402"},
    {"upstream.nodes[0].errors", "403"},
    {"upstream.nodes[0].pending", "404"},
    {"upstream.nodes[0].verified_age_ms", "405"},
    {"upstream.nodes[0].invalidations", "406"},
    {"upstream.nodes[1].verified_age_ms", "-1"},
    {"workers[0].clients", "301"},
    {"workers[1].commands", "304"},
    {"workers[1].loop_age_ms", "-1"},
};

TEST_CASE("/stats names every number of the snapshot under one path") {
  const auto json = parsed_json(testing::sample_snapshot());
  for (const auto& [path, value] : kExpectedJson) {
    INFO(path);
    REQUIRE(json.count(path) == 1);
    CHECK(json.at(path) == value);
  }
}

TEST_CASE("/stats of an empty snapshot is valid, with empty lists and L1 shown as disabled") {
  const auto json = parsed_json(StatsSnapshot{});
  CHECK(json.at("l1.enabled") == "false");
  CHECK(json.at("upstream.topology_age_ms") == "-1");
  CHECK(json.count("upstream.nodes[0].endpoint") == 0);
}

TEST_CASE("/stats keeps 64-bit counters exact") {
  StatsSnapshot s;
  s.totals.l1_hits = ~std::uint64_t{0};
  CHECK(parsed_json(s).at("l1.hits") == "18446744073709551615");
}

TEST_CASE("INFO has the numbers people look for") {
  const auto info = parsed_info(testing::sample_snapshot());
  CHECK(info.at("nearcached_version") == "9.8.7");
  CHECK(info.at("nearcached_uptime_in_seconds") == "61");
  CHECK(info.at("nearcached_coherence_mode") == "off");
  CHECK(info.at("nearcached_coherence_reason") == "upstream refuses CLIENT TRACKING");
  CHECK(info.at("nearcached_l1_hits") == "110");
  CHECK(info.at("nearcached_l1_stale_hits") == "111");
  CHECK(info.at("nearcached_l1_compressed") == "220");
  CHECK(info.at("nearcached_l1_compressed_bytes_before") == "221");
  CHECK(info.at("nearcached_l1_compressed_bytes_after") == "222");
  CHECK(info.at("nearcached_l1_decompressed") == "112");
  CHECK(info.at("nearcached_l1_misses") == "735");
  CHECK(info.at("nearcached_l1_refused") == "411");
  CHECK(info.at("nearcached_l1_invalidated") == "212");
  CHECK(info.at("nearcached_invalidations_bus") == "131");
  CHECK(info.at("nearcached_invalidations_own_write") == "132");
  CHECK(info.at("nearcached_invalidations_unexplained") == "145");
  CHECK(info.at("nearcached_audit_checked") == "180");
  CHECK(info.at("nearcached_audit_stale") == "181");
  CHECK(info.at("nearcached_bus_published") == "146");
  CHECK(info.at("nearcached_bus_publish_failures") == "147");
  CHECK(info.at("nearcached_bus_gaps") == "148");
  CHECK(info.at("nearcached_commands_cached_read") == "101");
  CHECK(info.at("nearcached_clients") == "601");
  CHECK(info.at("nearcached_nodes") == "2");
  CHECK(info.at("nearcached_node0") ==
        "endpoint=10.0.0.1:7000,state=tracking,coherence=tracking,connections=401,requests=402,errors=403,"
        "pending=404,verified_age_ms=405,invalidations=406,fills_in_flight=407,fills_waiting=408");
}

TEST_CASE("ttl mode says plainly that the bound is the TTL, in INFO and /stats") {
  StatsSnapshot s = testing::sample_snapshot();
  s.coherence_mode = "ttl";
  CHECK(parsed_info(s).at("nearcached_coherence_bound").rfind("the TTL: nobody tells of changes", 0) == 0);
  CHECK(parsed_json(s).at("coherence.bound") == coherence_bound(s));
}

TEST_CASE("a bound by verification does not speak of the TTL, one that has an exception does") {
  StatsSnapshot s = testing::sample_snapshot();
  s.coherence_mode = "tracking";
  CHECK(coherence_bound(s) == "max_staleness");
  s.coherence_mode = "bus";
  CHECK(coherence_bound(s).rfind("max_staleness", 0) == 0);
  CHECK(coherence_bound(s).find("the TTL (l1.ttl) for all others") != std::string::npos);
}

TEST_CASE("where nodes differ, the bound of each mode in force is told, and of no other") {
  StatsSnapshot s = testing::sample_snapshot();
  s.coherence_mode = "mixed";
  s.nodes[1].coherence = "ttl";
  CHECK(coherence_bound(s).rfind("tracking nodes: max_staleness; ttl nodes: the TTL", 0) == 0);
  CHECK(coherence_bound(s).find("bus nodes") == std::string::npos);
  s.nodes[0].coherence = "bus";
  CHECK(coherence_bound(s).rfind("bus nodes: max_staleness", 0) == 0);
  CHECK(coherence_bound(s).find("tracking nodes") == std::string::npos);
}

TEST_CASE("a row of nodes is told apart at its commas, whatever the node said") {
  StatsSnapshot s = testing::sample_snapshot();
  CHECK(
      parsed_info(s)
          .at("nearcached_node1")
          .rfind("endpoint=10.0.0.2:7000,state=greeting,coherence=off,coherence_reason=NOPERM no; \"CLIENT\",connections=0,",
                 0) == 0);
  const auto commas = [](const std::string& row) { return std::count(row.begin(), row.end(), ','); };
  const auto plain = commas(parsed_info(s).at("nearcached_node1"));
  s.nodes[1].endpoint = s.nodes[1].state = s.nodes[1].coherence = s.nodes[1].coherence_reason = "x,errors=9\r\n";
  CHECK(commas(parsed_info(s).at("nearcached_node1")) == plain);
}

TEST_CASE("INFO's names can't be taken for the upstream's own") {
  for (const auto& [name, value] : parsed_info(testing::sample_snapshot())) CHECK(name.rfind("nearcached_", 0) == 0);
}

TEST_CASE("text from outside can't add a line to INFO nor break /stats") {
  StatsSnapshot s = testing::sample_snapshot();
  s.coherence_reason = "ERR no\r\nrole:master\r\n# Forged\r\n\xff\"";
  s.nodes[0].endpoint = "evil\r\nnearcached_version:0";
  const auto info = parsed_info(s);
  CHECK(info.at("nearcached_version") == "9.8.7");
  CHECK(info.count("role") == 0);
  CHECK(info.at("nearcached_coherence_reason") == "ERR no??role:master??# Forged???\"");
  CHECK(parsed_json(s).at("coherence.reason") == "ERR no\r\nrole:master\r\n# Forged\r\n\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace nearcached::daemon
