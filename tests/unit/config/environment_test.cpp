#include "config/environment.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/config/environment_list.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Equals;
using Catch::StartsWith;
using std::chrono::milliseconds;
using tiers::upstream::Endpoint;

Configuration applied(const std::vector<std::string>& variables) {
  Configuration configuration;
  apply_environment(configuration, StringList(variables).data());
  return configuration;
}

std::string error_of(const std::vector<std::string>& variables) {
  return message_of<ConfigError>([&] { applied(variables); });
}

TEST_CASE("every key has a variable of its own") {
  const Configuration configuration = applied({
      "PATH=/bin",
      "NEARCACHED_THREADS=2",
      "NEARCACHED_L1__MAX_BYTES=200MB",
      "NEARCACHED_UPSTREAM__PASSWORD=a=b,c",
      "NEARCACHED_UPSTREAM__URL=redis+cluster://a,b",
      "NEARCACHED_LISTEN=127.0.0.1:1,unix:/run/n.sock",
      "NEARCACHED_METRICS__LABELS=service=api,zone=a=b",
      "NEARCACHED_ADMIN__LISTEN=off",
      "NEARCACHED_COHERENCE__BUS__TYPE=redis",
      "NEARCACHED_NAMESPACES=[{\"prefix\":\"a:\",\"consistency\":\"strict\"}, {prefix: 'b,', l1_ttl: 5s}]",
  });
  const Settings& settings = configuration.settings;
  CHECK(settings.threads == 2);
  CHECK(settings.l1.store.max_bytes == 200u << 20);
  CHECK(settings.upstream.password == "a=b,c");
  CHECK(settings.upstream.url.endpoints.size() == 2);
  CHECK(settings.listen == std::vector<Endpoint>{{"127.0.0.1", 1}, {"/run/n.sock", 0}});
  CHECK(settings.metrics.labels == std::map<std::string, std::string>{{"service", "api"}, {"zone", "a=b"}});
  CHECK_FALSE(settings.admin.enabled);
  CHECK(settings.coherence.bus.type == BusType::kRedis);
  REQUIRE(settings.namespaces.size() == 2);
  CHECK(settings.namespaces[0].prefix == "a:");
  CHECK(settings.namespaces[0].consistency == tiers::Consistency::kStrict);
  CHECK(settings.namespaces[1].prefix == "b,");
  CHECK(settings.namespaces[1].l1_ttl == milliseconds{5000});
  CHECK(configuration.origins.at("threads").text() == "NEARCACHED_THREADS");
}

TEST_CASE("every key of the schema can be set by its variable to what it prints") {
  for (const Key& key : schema()) {
    CAPTURE(key.path);
    const Value printed = key.print(Settings{});
    if (printed.kind != Value::Kind::kScalar || printed.text.empty()) continue;
    CHECK(error_of({key.environment() + "=" + printed.text}).empty());
  }
}

TEST_CASE("a wrong value names the variable, the key and what is allowed") {
  CHECK_THAT(
      error_of({"NEARCACHED_THREADS=many"}),
      Equals("NEARCACHED_THREADS: threads: \"many\" is not a whole number; allowed: a whole number or auto, from 1 to 64"));
  CHECK_THAT(error_of({"NEARCACHED_THREADS="}), StartsWith("NEARCACHED_THREADS: threads: \"\" is not a whole number"));
  CHECK_THAT(error_of({"NEARCACHED_LISTEN="}), StartsWith("NEARCACHED_LISTEN: listen: the list is empty"));
  CHECK_THAT(error_of({"NEARCACHED_LISTEN=a:1,"}), StartsWith("NEARCACHED_LISTEN: listen: \"\" is not an address"));
  CHECK_THAT(error_of({"NEARCACHED_METRICS__LABELS=api"}),
             StartsWith("NEARCACHED_METRICS__LABELS: metrics.labels: \"api\" is not a map of labels"));
  CHECK_THAT(error_of({"NEARCACHED_METRICS__LABELS=a=1,a=2"}),
             StartsWith("NEARCACHED_METRICS__LABELS: metrics.labels: label a is given twice"));
}

TEST_CASE("variables of write-behind reach its settings, each its own") {
  const WriteBehind behind =
      applied({"NEARCACHED_WRITE_BEHIND__ENABLED=true", "NEARCACHED_WRITE_BEHIND__DURABILITY=deferred",
               "NEARCACHED_WRITE_BEHIND__PRIORITY=low", "NEARCACHED_WRITE_BEHIND__LOG_DIR=/l",
               "NEARCACHED_WRITE_BEHIND__SEGMENT_BYTES=8KB", "NEARCACHED_WRITE_BEHIND__LOG_MAX_BYTES=1MB",
               "NEARCACHED_WRITE_BEHIND__BATCH_RECORDS=11", "NEARCACHED_WRITE_BEHIND__BATCH_INTERVAL=12ms",
               "NEARCACHED_WRITE_BEHIND__IN_FLIGHT=13", "NEARCACHED_WRITE_BEHIND__MAX_RECORDS=14",
               "NEARCACHED_WRITE_BEHIND__MAX_BYTES=128KB", "NEARCACHED_WRITE_BEHIND__MAX_AGE=16s",
               "NEARCACHED_WRITE_BEHIND__MAX_REPLAY_AGE=0s"})
          .settings.write_behind;
  CHECK(behind.enabled);
  CHECK(behind.durability == tiers::Durability::kDeferred);
  CHECK(behind.priority == tiers::write_behind::Priority::kLow);
  CHECK(behind.log_dir == "/l");
  CHECK(behind.segment_bytes == 8192);
  CHECK(behind.log_max_bytes == 1 << 20);
  CHECK(behind.batch_records == 11);
  CHECK(behind.batch_interval == milliseconds{12});
  CHECK(behind.in_flight == 13);
  CHECK(behind.max_records == 14);
  CHECK(behind.max_bytes == 128 << 10);
  CHECK(behind.max_age == milliseconds{16'000});
  CHECK(behind.max_replay_age == milliseconds{0});
}

TEST_CASE("wrong namespaces name the variable, the entry and what is allowed, and no line") {
  CHECK_THAT(error_of({"NEARCACHED_NAMESPACES=\n- prefix: a\n  l1_ttl: 5\n"}),
             StartsWith("NEARCACHED_NAMESPACES: namespaces[0].l1_ttl: \"5\" has no unit; allowed: a number with its unit"));
  CHECK_THAT(error_of({"NEARCACHED_NAMESPACES=[{prefix: a}, {prefix: a}]"}),
             StartsWith("NEARCACHED_NAMESPACES: namespaces[1].prefix: \"a\" is given twice, before in namespaces[0]"));
  CHECK_THAT(error_of({"NEARCACHED_NAMESPACES=a:,b:"}),
             StartsWith("NEARCACHED_NAMESPACES: namespaces: a map is not a list of maps"));
  CHECK_THAT(error_of({"NEARCACHED_NAMESPACES=[{prefix: a"}),
             StartsWith("NEARCACHED_NAMESPACES: namespaces: a key is a list, or a bracket is not closed"));
  CHECK(applied({"NEARCACHED_NAMESPACES="}).settings.namespaces.empty());
}

TEST_CASE("an unknown variable is an error that names the nearest one") {
  CHECK_THAT(
      error_of({"NEARCACHED_L1__MAX_BYTE=1MB"}),
      Equals("NEARCACHED_L1__MAX_BYTE: unknown environment variable; the nearest known one is NEARCACHED_L1__MAX_BYTES"));
  CHECK_THAT(
      error_of({"NEARCACHED_L1_MAX_BYTES=1MB"}),
      Equals("NEARCACHED_L1_MAX_BYTES: unknown environment variable; the nearest known one is NEARCACHED_L1__MAX_BYTES"));
  CHECK_THAT(error_of({"NEARCACHED_THREAD"}), StartsWith("NEARCACHED_THREAD: unknown environment variable"));
  for (const char* variable :
       {"NEARCACHED_=1", "NEARCACHED_L1=x", "NEARCACHED_threads=1", "NEARCACHED_UPSTREAM__SERVICE_HOST=a",
        "NEARCACHED_CONFIG=/etc/n.yaml", "NEARCACHED_PORTS=1", "NEARCACHED_ADMIN_PORT=9180", "NEARCACHED_PORT_6380=1",
        "NEARCACHED_PORT_X_TCP=1", "NEARCACHED_PORT_6380_HTTP=1", "NEARCACHED_PORT_6380_TCP_HOST=1"}) {
    CAPTURE(variable);
    CHECK_THAT(error_of({variable}), Catch::Contains("unknown environment variable"));
  }
}

TEST_CASE("variables without the prefix do not matter") {
  CHECK(applied({"nearcached_threads=x", "XNEARCACHED_THREADS=x", "NEARCACHED=x", "REDIS_URL=x", "", "="}).origins.empty());
  Configuration configuration;
  apply_environment(configuration, nullptr);
  CHECK(configuration.origins.empty());
}

TEST_CASE("what Kubernetes injects for a Service called nearcached is ignored") {
  CHECK(applied({
                    "NEARCACHED_SERVICE_HOST=10.0.0.1",
                    "NEARCACHED_SERVICE_PORT=6380",
                    "NEARCACHED_SERVICE_PORT_REDIS=6380",
                    "NEARCACHED_PORT=tcp://10.0.0.1:6380",
                    "NEARCACHED_PORT_6380_TCP=tcp://10.0.0.1:6380",
                    "NEARCACHED_PORT_6380_TCP_PROTO=tcp",
                    "NEARCACHED_PORT_6380_TCP_PORT=6380",
                    "NEARCACHED_PORT_6380_TCP_ADDR=10.0.0.1",
                    "NEARCACHED_PORT_53_UDP=udp://10.0.0.1:53",
                    "NEARCACHED_ADMIN_SERVICE_HOST=10.0.0.2",
                    "NEARCACHED_ADMIN_SERVICE_PORT=9180",
                    "NEARCACHED_ADMIN_PORT=tcp://10.0.0.2:9180",
                    "NEARCACHED_ADMIN_PORT_9180_TCP_ADDR=10.0.0.2",
                    "NEARCACHED_PORT_PORT_1_TCP=tcp://10.0.0.2:1",
                })
            .origins.empty());
}

}  // namespace
}  // namespace nearcached::config
