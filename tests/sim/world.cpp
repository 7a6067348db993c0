#include "tests/sim/world.hpp"

#include <cstdlib>

namespace nearcached::sim {
namespace {

World* the_world = nullptr;

}  // namespace

World::World(std::uint64_t the_seed, const WorldOptions& the_options)
    : seed(the_seed), options(the_options), kernel(the_seed), cluster(kernel, options.model, the_seed) {
  the_world = this;
  for (int n = 0; n < cluster.nodes(); ++n) {
    Node& node = cluster.node(n);
    node.tracking_refused = options.tracking_refused;
    node.hello_lies = options.hello_lies;
    node.nested_pushes = options.nested_pushes;
    node.tracking_keys_max = options.tracking_keys_max;
  }
}

World::~World() { the_world = nullptr; }

World& World::current() {
  if (the_world == nullptr) std::abort();
  return *the_world;
}

}  // namespace nearcached::sim
