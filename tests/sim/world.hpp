// Everything of one schedule that its parts share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/kernel.hpp"
#include "tests/sim/model_cluster.hpp"
#include "tiers/coherence/fill_link.hpp"
#include "tiers/policies.hpp"

namespace nearcached::sim {

// How a schedule is set up; drawn from its seed (script.cpp).
struct WorldOptions {
  ModelOptions model;
  int sidecars = 2;
  int workers = 2;
  std::int64_t poll_us = 150'000;
  std::int64_t l1_ttl_us = 30'000'000;
  std::int64_t bound_us = 0;  // the promise, where it is not max_staleness: of foreign writes on the bus
  std::vector<tiers::coherence::ChangeSource> sources{tiers::coherence::ChangeSource::kTracking};
  tiers::Policy otherwise;
  std::vector<tiers::Policy> namespaces;
  bool swapdb_never = true;
  bool tracking_refused = false;
  bool hello_lies = false;
  bool nested_pushes = false;
  std::size_t tracking_keys_max = 1'000'000;
};

// Exactly one exists at a time.
struct World {
  World(std::uint64_t the_seed, const WorldOptions& the_options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  [[nodiscard]] static World& current();

  const std::uint64_t seed;
  const WorldOptions options;
  Kernel kernel;
  Cluster cluster;
  int building = -1;  // the sidecar that is being made
  // A fault is under way until then: entries of stale_ok may be older than max_staleness.
  std::int64_t stale_until_us = 0;
  // When databases were swapped last past all sidecars: nobody is told of it, until it is seen in the statistics.
  std::int64_t swapped_us = 0;
  std::string failure;  // the first thing that went wrong
};

}  // namespace nearcached::sim
