#include "config/policies.hpp"

#include <utility>
#include <vector>

namespace nearcached::config {
namespace {

std::int64_t microseconds_of(milliseconds duration) { return duration.count() * 1000; }

tiers::l1::CompressionPolicy compression_of(const Settings& settings, const Namespace& own) {
  const tiers::l1::CompressionPolicy& otherwise = settings.l1.compression;
  return {own.compression.value_or(otherwise.algorithm), own.compression_min_bytes.value_or(otherwise.min_bytes),
          own.compression_dictionary.value_or(otherwise.dictionary)};
}

}  // namespace

tiers::Policies make_policies(const Settings& settings) {
  const Coherence& coherence = settings.coherence;
  const tiers::Policy otherwise{{},
                                coherence.consistency,
                                microseconds_of(coherence.max_staleness),
                                microseconds_of(coherence.max_stale),
                                microseconds_of(settings.l1.ttl),
                                settings.l1.compression,
                                settings.write_behind.durability,
                                settings.write_behind.priority};
  std::vector<tiers::Policy> namespaces;
  namespaces.reserve(settings.namespaces.size());
  for (const Namespace& own : settings.namespaces) {
    namespaces.push_back({own.prefix, own.consistency.value_or(coherence.consistency),
                          microseconds_of(own.max_staleness.value_or(coherence.max_staleness)),
                          microseconds_of(own.max_stale.value_or(coherence.max_stale)),
                          microseconds_of(own.l1_ttl.value_or(settings.l1.ttl)), compression_of(settings, own),
                          own.durability.value_or(settings.write_behind.durability),
                          own.write_priority.value_or(settings.write_behind.priority)});
  }
  return tiers::Policies(otherwise, std::move(namespaces));
}

}  // namespace nearcached::config
