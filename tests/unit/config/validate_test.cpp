#include "config/validate.hpp"

#include <catch2/catch.hpp>

#include "config/loader.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using Catch::Equals;
using Catch::StartsWith;

// The error of a file that names an upstream in its first line.
std::string error_of(const std::string& text) {
  Configuration configuration;
  load_text(configuration, "upstream: { url: 'redis://h' }\n" + text, "n.yaml");
  return message_of<ConfigError>([&] { validate(configuration); });
}

std::string error_of_upstream(const std::string& upstream) {
  Configuration configuration;
  load_text(configuration, "upstream:\n  url: 'redis://h'\n" + upstream, "n.yaml");
  return message_of<ConfigError>([&] { validate(configuration); });
}

TEST_CASE("defaults with an upstream are valid") { CHECK(error_of("").empty()); }

TEST_CASE("there must be an upstream") {
  CHECK_THAT(message_of<ConfigError>([] { validate({}); }), StartsWith("upstream.url: is not given; allowed: "));
}

TEST_CASE("password and password_file exclude each other") {
  const TempDir directory;
  const std::string file = directory.write("pw", "x\n");
  CHECK_THAT(error_of_upstream("  password_file: '" + file + "'\n  password: x\n"),
             Equals("n.yaml:4: upstream.password: is given together with upstream.password_file; allowed: one of them"));
  CHECK(error_of_upstream("  password_file: '" + file + "'\n").empty());
  CHECK(error_of_upstream("  password: x\n").empty());
}

TEST_CASE("an unusable password file is found before anything runs") {
  CHECK_THAT(error_of_upstream("  password_file: /does/not/exist\n"),
             StartsWith("n.yaml:3: upstream.password_file: \"/does/not/exist\" can't be read; allowed: "));
}

TEST_CASE("a client is paused before it is closed") {
  CHECK_THAT(
      error_of("limits:\n  output_bytes: 2MB\n  output_pause_bytes: 3MB\n"),
      Equals("n.yaml:4: limits.output_pause_bytes: 3MB is more than limits.output_bytes, 2MB; allowed: at most that"));
  CHECK_THAT(error_of("limits:\n  output_bytes: 512KB\n"),
             StartsWith("n.yaml:3: limits.output_pause_bytes: 1MB is more than limits.output_bytes, 512KB"));
  CHECK(error_of("limits: { output_bytes: 2MB, output_pause_bytes: 2MB }").empty());
}

TEST_CASE("mode bus says which bus") {
  CHECK_THAT(error_of("coherence:\n  mode: bus\n"), StartsWith("n.yaml:3: coherence.bus.type: is none"));
  CHECK_THAT(error_of("coherence:\n  mode: bus\n  bus:\n    type: none\n"),
             StartsWith("n.yaml:5: coherence.bus.type: is none"));
  CHECK(error_of("coherence: { mode: bus, bus: { type: redis } }").empty());
  CHECK(error_of("coherence: { mode: auto }").empty());
}

TEST_CASE("an entry is not larger than L1") {
  CHECK_THAT(error_of("l1:\n  max_bytes: 10MB\n  max_item_bytes: 11MB\n"),
             StartsWith("n.yaml:4: l1.max_item_bytes: 11MB is more than l1.max_bytes, 10MB"));
  CHECK(error_of("l1: { max_bytes: auto, max_item_bytes: 100MB }").empty());
  CHECK(error_of("l1: { enabled: false, max_bytes: 10MB, max_item_bytes: 11MB }").empty());
}

TEST_CASE("every mode goes with every ttl, and but for bus with a bus or none") {
  for (const char* mode : {"auto", "tracking", "bus", "ttl"}) {
    for (const char* type : {"none", "redis"}) {
      CAPTURE(mode, type);
      const bool lacking = std::string(mode) + type == "busnone";
      CHECK(error_of("coherence: { mode: " + std::string(mode) + ", bus: { type: " + type + " } }\nl1: { ttl: 1ms }\n")
                .empty() != lacking);
    }
  }
}

TEST_CASE("what TLS needs is given together") {
  CHECK_THAT(error_of("listen: 'rediss://a:1'"), StartsWith("n.yaml:2: listen: rediss:// needs tls.cert and tls.key"));
  CHECK_THAT(error_of("tls: { cert: /c }"), StartsWith("n.yaml:2: tls.cert: is given without tls.key"));
  CHECK_THAT(error_of("tls: { key: /k }"), StartsWith("n.yaml:2: tls.key: is given without tls.cert"));
  CHECK_THAT(error_of("tls: { client_auth: optional }"), StartsWith("n.yaml:2: tls.client_auth: needs tls.ca"));
  CHECK(error_of("listen: 'rediss://a:1'\ntls: { cert: /c, key: /k, ca: /a, client_auth: required }").empty());
  CHECK_THAT(error_of("listen: 'rediss://127.0.0.1:9180'\ntls: { cert: /c, key: /k }"),
             StartsWith("n.yaml:2: admin.listen: "));
}

TEST_CASE("TLS that was meant for the upstream is not left out in silence") {
  for (const char* given : {"ca: /a", "server_name: h", "cert: /c, key: /k"}) {
    CAPTURE(given);
    const std::string tls = "  tls: { " + std::string(given) + " }\n";
    CHECK_THAT(error_of_upstream(tls), StartsWith("n.yaml:2: upstream.tls: is given, but upstream.url is not one of TLS"));
    Configuration configuration;
    load_text(configuration, "upstream:\n  url: 'rediss://h'\n" + tls, "n.yaml");
    CHECK_NOTHROW(validate(configuration));
  }
}

TEST_CASE("what is deferred needs write-behind and a log") {
  CHECK_THAT(error_of("write_behind: { durability: eventual }"),
             Contains("durability: is not immediate, but write_behind.enabled is false"));
  CHECK_THAT(error_of("namespaces: [ { prefix: a, durability: eventual } ]"), Contains("write_behind.enabled is false"));
  CHECK_THAT(error_of("write_behind: { enabled: true, durability: deferred }"),
             Contains("write_behind.log_dir is not given"));
  CHECK_THAT(error_of("write_behind: { enabled: true }\nnamespaces: [ { prefix: a, durability: deferred } ]"),
             Contains("write_behind.log_dir is not given"));
  CHECK(error_of("write_behind: { enabled: true, durability: eventual }").empty());
  CHECK(
      error_of("write_behind: { enabled: true, log_dir: /l }\nnamespaces: [ { prefix: a, durability: deferred } ]").empty());
  CHECK_THAT(error_of("write_behind: { segment_bytes: 1MB, log_max_bytes: 1MB }"),
             StartsWith("n.yaml:2: write_behind.log_max_bytes: 1MB is less than two of write_behind.segment_bytes, 1MB"));
  CHECK_THAT(error_of("write_behind: { in_flight: 99 }"),
             StartsWith("n.yaml:2: write_behind.in_flight: 99 is less than write_behind.batch_records, 100"));
}

TEST_CASE("a durability that can't be had is reported with its key and place, whatever else is given") {
  const std::string namespaces = "namespaces: [ { prefix: a }, { prefix: b, durability: deferred } ]\n";
  CHECK_THAT(error_of("write_behind: { durability: immediate }\n" + namespaces),
             Equals("n.yaml:3: namespaces[1].durability: is not immediate, but write_behind.enabled is false; allowed: "
                    "write_behind.enabled: true, or immediate"));
  CHECK_THAT(error_of("write_behind: { enabled: true, durability: eventual }\n" + namespaces),
             Equals("n.yaml:3: namespaces[1].durability: is deferred, but write_behind.log_dir is not given; allowed: a "
                    "directory there, or eventual"));
  CHECK_THAT(error_of(namespaces + "write_behind:\n  enabled: true\n  durability: deferred\n"),
             StartsWith("n.yaml:5: write_behind.durability: is deferred, but write_behind.log_dir is not given"));
}

TEST_CASE("write-behind may be on with nothing deferred, and exactly at the limits between its keys") {
  CHECK(error_of("write_behind: { enabled: true }").empty());
  CHECK(error_of("write_behind: { segment_bytes: 1MB, log_max_bytes: 2MB }").empty());
  CHECK_FALSE(error_of("write_behind: { segment_bytes: 1MB, log_max_bytes: 2097151 }").empty());
  CHECK(error_of("write_behind: { batch_records: 7, in_flight: 7 }").empty());
  CHECK_THAT(error_of("write_behind: { batch_records: 1001 }"),
             StartsWith("n.yaml:2: write_behind.in_flight: 1000 is less than write_behind.batch_records, 1001"));
  CHECK_THAT(error_of("write_behind: { segment_bytes: 1GB }"),
             StartsWith("n.yaml:2: write_behind.log_max_bytes: 1GB is less than two of write_behind.segment_bytes, 1GB"));
}

TEST_CASE("clients and admin have addresses of their own") {
  CHECK_THAT(error_of("listen: [ 'a:1', '[::1]:9180' ]\nadmin:\n  listen: '[::1]:9180'\n"),
             Equals("n.yaml:4: admin.listen: \"[::1]:9180\" is in listen too; allowed: an address of its own, or off"));
  CHECK_THAT(error_of("listen: [ '127.0.0.1:9180' ]"), StartsWith("n.yaml:2: admin.listen: "));
  CHECK(error_of("listen: [ '127.0.0.1:9180' ]\nadmin: { listen: off }").empty());
}

}  // namespace
}  // namespace nearcached::config
