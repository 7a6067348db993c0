// The examples that are written by hand: full.yaml is checked by reference_test.cpp.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "config/container_limits.hpp"
#include "config/environment.hpp"
#include "config/loader.hpp"
#include "config/policies.hpp"
#include "config/validate.hpp"
#include "tests/unit/config/environment_list.hpp"

namespace nearcached::config {
namespace {

const std::string kExamples = std::string(NEARCACHED_SOURCE_DIR) + "/config/examples/";

TEST_CASE("every example is a valid configuration of a small container") {
  int examples = 0;
  for (const auto& file : std::filesystem::directory_iterator(kExamples)) {
    CAPTURE(file.path());
    Configuration configuration;
    load_file(configuration, file.path());
    validate(configuration);
    ContainerLimits limits;
    limits.cpus = 0.5;
    limits.memory_bytes = 256u << 20;
    CHECK_NOTHROW(resolve(configuration.settings, limits, configuration.origins));
    ++examples;
  }
  CHECK(examples == 5);
}

TEST_CASE("minimal.yaml sets the upstream and nothing else") {
  Configuration configuration;
  load_file(configuration, kExamples + "minimal.yaml");
  CHECK(configuration.origins.size() == 1);
  CHECK(configuration.origins.count("upstream.url") == 1);
}

TEST_CASE("namespaces.yaml shows every level, and the longest prefix counts") {
  Configuration configuration;
  load_file(configuration, kExamples + "namespaces.yaml");
  const tiers::Policies policies = make_policies(configuration.settings);
  CHECK(policies.of("lock:1").consistency == tiers::Consistency::kStrict);
  CHECK(policies.of("job:1").consistency == tiers::Consistency::kCausal);
  CHECK(policies.of("price:1").consistency == tiers::Consistency::kBounded);
  CHECK(policies.of("price:1").max_staleness_us == 250'000);
  CHECK(policies.of("catalogue:1").consistency == tiers::Consistency::kStaleOk);
  CHECK(policies.of("catalogue:1").max_stale_us == 600'000'000);
  CHECK(policies.of("catalogue:stock:1").consistency == tiers::Consistency::kBounded);
  CHECK(policies.of("catalogue:stock:1").l1_ttl_us == 5'000'000);
  CHECK(policies.of("other").max_staleness_us == 1'000'000);
}

TEST_CASE("kubernetes.yaml is reached by probes and scrapes, takes its password from the environment, and holds none") {
  Configuration configuration;
  load_file(configuration, kExamples + "kubernetes.yaml");
  CHECK(configuration.settings.admin.listen.host == "0.0.0.0");
  CHECK(configuration.settings.upstream.password.empty());
  CHECK(configuration.settings.upstream.url.credentials.empty());
  apply_environment(configuration,
                    StringList({"NEARCACHED_UPSTREAM__PASSWORD=x", "NEARCACHED_PORT=tcp://10.0.0.1:6380"}).data());
  validate(configuration);
  CHECK(configuration.settings.upstream.password == "x");
}

}  // namespace
}  // namespace nearcached::config
