#include "config/policies.hpp"

#include <utility>
#include <vector>

namespace nearcached::config {
namespace {

std::int64_t microseconds_of(milliseconds duration) { return duration.count() * 1000; }

}  // namespace

tiers::Policies make_policies(const Settings& settings) {
  const Coherence& coherence = settings.coherence;
  const tiers::Policy otherwise{{},
                                coherence.consistency,
                                microseconds_of(coherence.max_staleness),
                                microseconds_of(coherence.max_stale),
                                microseconds_of(settings.l1.ttl)};
  std::vector<tiers::Policy> namespaces;
  namespaces.reserve(settings.namespaces.size());
  for (const Namespace& own : settings.namespaces) {
    namespaces.push_back({own.prefix, own.consistency.value_or(coherence.consistency),
                          microseconds_of(own.max_staleness.value_or(coherence.max_staleness)),
                          microseconds_of(own.max_stale.value_or(coherence.max_stale)),
                          microseconds_of(own.l1_ttl.value_or(settings.l1.ttl))});
  }
  return tiers::Policies(otherwise, std::move(namespaces));
}

}  // namespace nearcached::config
