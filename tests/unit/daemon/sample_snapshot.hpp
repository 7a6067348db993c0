// A snapshot in which every number is different, so that a report that mixes two up is found out.
#pragma once

#include "daemon/stats_report.hpp"

namespace nearcached::daemon::testing {

inline tiers::insight::Totals sample_totals() {
  tiers::insight::Totals t;
  for (std::size_t i = 0; i < t.commands.size(); ++i) t.commands[i] = 100 + i;
  t.l1_hits = 110;
  t.l1_stale_hits = 111;
  t.l1_unpacked = 112;
  t.l1_unreadable = 113;
  t.pending_reads = 114;
  for (std::size_t i = 0; i < t.l1_misses.size(); ++i) t.l1_misses[i] = 120 + i;
  for (std::size_t i = 0; i < t.invalidations.size(); ++i) t.invalidations[i] = 130 + i;
  t.fills_started = 140;
  t.fills_joined = 141;
  t.fills_installed = 142;
  t.fills_discarded = 143;
  t.fills_forwarded = 144;
  t.invalidations_unexplained = 145;
  t.bus_published = 146;
  t.bus_publish_failures = 147;
  t.bus_gaps = 148;
  t.audit_checked = 180;
  t.audit_stale = 181;
  t.redirects_moved = 150;
  t.redirects_ask = 151;
  t.retries = 152;
  t.timeouts = 153;
  t.upstream_errors = 154;
  t.clients_accepted = 160;
  t.clients_refused = 161;
  t.clients_closed_idle = 162;
  t.clients_closed_output = 163;
  t.protocol_errors = 164;
  t.clients = 165;
  t.bytes_in = 170;
  t.bytes_out = 171;
  t.buffer_bytes = 172;
  t.upstream_bytes_in = 173;
  t.upstream_bytes_out = 174;
  for (std::size_t i = 0; i < t.upstream_latency.buckets.size(); ++i) t.upstream_latency.buckets[i] = i + 1;
  t.upstream_latency.sum_us = 2'500'000;
  t.fill_latency.buckets[3] = 7;
  t.fill_latency.sum_us = 3500;
  t.invalidation_delay.buckets[0] = 9;
  t.invalidation_delay.sum_us = 360;
  t.audit_staleness.buckets[4] = 11;
  t.audit_staleness.sum_us = 8800;
  return t;
}

inline StatsSnapshot sample_snapshot() {
  StatsSnapshot s;
  s.version = "9.8.7";
  s.build = "g++ 12, release";
  s.start_time_unix_ms = 1'795'000'000'250;
  s.uptime_ms = 61'999;
  s.threads = 2;
  s.coherence_mode = "off";
  s.coherence_reason = "upstream refuses CLIENT TRACKING";
  s.l1.bytes = 201;
  s.l1_max_bytes = 202;
  s.l1.items = 203;
  s.l1.installs = 204;
  s.l1.refused = 205;
  s.l1.too_large = 206;
  for (int i = 0; i < tiers::l1::kRemovals; ++i) s.l1.removals[i] = 210 + static_cast<std::uint64_t>(i);
  s.compression = {
      .values = 220, .bytes_before = 221, .bytes_after = 222, .kept_plain = 223, .dictionaries = 224, .bytes = 225};
  s.write_behind.mode = "log";
  s.write_behind.queue = {.records = 230,
                          .bytes = 231,
                          .in_flight = 232,
                          .oldest_us = 1,
                          .accepted = 1184,
                          .coalesced = 234,
                          .flushed = 235,
                          .retries = 236,
                          .dead = 237,
                          .full = 246,
                          .behind = 243,
                          .sent = 7,
                          .batches = {0, 1, 3}};
  s.write_behind.log.bytes = 238;
  s.write_behind.log.segments = 239;
  s.write_behind.log.group_records = {240, 2};
  s.write_behind.log.records = 2;
  s.write_behind.log.refused_full = 247;
  s.write_behind.log.failures = 241;
  s.write_behind.oldest_age_ms = 1500;
  s.write_behind.replayed = 242;
  s.totals = sample_totals();
  s.workers = {{.clients = 301, .commands = 302, .loop_age_ms = 3}, {.clients = 303, .commands = 304, .loop_age_ms = -1}};
  NodeRow known;
  known.endpoint = "10.0.0.1:7000";
  known.state = "tracking";
  known.coherence = "tracking";
  known.connections = 401;
  known.requests = 402;
  known.errors = 403;
  known.pending = 404;
  known.verified_age_ms = 405;
  known.invalidations = 406;
  known.fills_in_flight = 407;
  known.fills_waiting = 408;
  NodeRow unknown;
  unknown.endpoint = "10.0.0.2:7000";
  unknown.state = "greeting";
  unknown.coherence_reason = "NOPERM no, \"CLIENT\"";
  s.nodes = {known, unknown};
  s.topology_version = 501;
  s.topology_age_ms = 502;
  s.clients = 601;
  s.clients_max = 602;
  s.identities = 605;
  s.identities_max = 606;
  s.buffer_bytes = 603;
  s.buffer_limit_bytes = 604;
  return s;
}

}  // namespace nearcached::daemon::testing
