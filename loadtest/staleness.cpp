#include "loadtest/staleness.hpp"

#include <algorithm>

namespace nearcached::loadtest {

void Observations::saw(std::size_t key, std::uint64_t version, std::int64_t sent, std::int64_t received) {
  if (key >= keys_.size() || version > kVersionsMax) {
    ++unusable_;
    return;
  }
  Key& seen = keys_[key];
  ++reads_;
  back_in_time_ += version < seen.newest;
  seen.newest = std::max(seen.newest, version);
  if (version >= seen.last.size()) {
    seen.last.resize(version + 1);
  }
  seen.last[version] = {sent, received};
}

Delays delays(const Acknowledgements& acknowledged, const Observations& observed, std::int64_t from) {
  Delays found;
  for (std::size_t key = 0; key < acknowledged.size() && key < observed.keys(); ++key) {
    const std::vector<Observations::LastRead>& last = observed.of(key);
    Observations::LastRead older;  // the last read of any version below the one looked at
    for (std::size_t i = 0; i < acknowledged[key].size(); ++i) {
      if (i < last.size() && last[i].sent > older.sent) {
        older = last[i];
      }
      const std::int64_t written = acknowledged[key][i];
      if (written < from) {
        continue;
      }
      const bool is_stale = older.sent > written;
      found.stale += is_stale;
      found.by_sent.record(is_stale ? static_cast<std::uint64_t>(older.sent - written) : 0);
      found.by_received.record(is_stale ? static_cast<std::uint64_t>(older.received - written) : 0);
    }
  }
  return found;
}

}  // namespace nearcached::loadtest
