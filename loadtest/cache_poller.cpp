#include "loadtest/cache_poller.hpp"

#include <algorithm>
#include <stdexcept>

#include "loadtest/connect.hpp"
#include "loadtest/readiness.hpp"
#include "loadtest/tracking_cache.hpp"
#include "loadtest/versioned_values.hpp"

namespace nearcached::loadtest {

namespace {

constexpr std::int64_t kDrain = 1'000'000'000;

}  // namespace

CachePoller::CachePoller(const Options& options)
    : options_(options), observed_(options.sidecars.size(), Observations(options.keys)) {
  for (std::size_t sidecar = 0; sidecar < options.sidecars.size(); ++sidecar) {
    for (std::uint32_t i = 0; i < options.connections; ++i) {
      Connection connection;
      connection.stream = std::make_unique<FrameConnection>(options.sidecars[sidecar]);
      connection.sidecar = sidecar;
      for (std::uint32_t key = i; key < options.keys; key += options.connections) {
        connection.keys.push_back(key);
        connection.request += command({"GET", key_name(key)});
      }
      if (!connection.keys.empty()) {
        connections_.push_back(std::move(connection));
      }
    }
  }
}

void CachePoller::poll(std::int64_t now) {
  ++polls_;
  for (TrackingCache* cache : options_.caches) {
    cache->poll(now);
  }
  for (Connection& connection : connections_) {
    if (connection.sent.size() >= kPollsInFlightMax) {
      ++polls_refused_;
      connection.stream->flush();
      continue;
    }
    connection.sent.push_back(now);
    connection.stream->send(connection.request);
  }
}

void CachePoller::receive(Connection& connection) {
  std::int64_t now = 0;
  connection.stream->receive(
      [&now] { now = monotonic_nanoseconds(); },
      [&](std::string_view reply) {
        std::optional<VersionedValue> value;
        if (reply.starts_with('$')) {
          for_each_bulk(reply, [&value](std::string_view text) { value = parse_value(text); });
        }
        if (connection.sent.empty() || !value || value->key != connection.keys[connection.answered]) {
          throw std::runtime_error(connection.stream->target() + ": unexpected " + std::string(reply.substr(0, 100)));
        }
        observed_[connection.sidecar].saw(value->key, value->version, connection.sent.front(), now);
        if (++connection.answered == connection.keys.size()) {
          connection.answered = 0;
          connection.sent.pop_front();
        }
      });
}

bool CachePoller::answered() const {
  return std::all_of(connections_.begin(), connections_.end(),
                     [](const Connection& connection) { return connection.sent.empty(); });
}

void CachePoller::receive_from(std::size_t source) {
  if (source < connections_.size()) {
    receive(connections_[source]);
    return;
  }
  source -= connections_.size();
  for (TrackingCache* cache : options_.caches) {
    if (source < cache->nodes()) {
      cache->receive(source);
      return;
    }
    source -= cache->nodes();
  }
}

void CachePoller::watch_all(Readiness& readiness) const {
  std::size_t source = 0;
  for (const Connection& connection : connections_) {
    readiness.watch(connection.stream->fd(), source++);
  }
  for (const TrackingCache* cache : options_.caches) {
    for (std::size_t node = 0; node < cache->nodes(); ++node) {
      readiness.watch(cache->fd(node), source++);
    }
  }
}

void CachePoller::run(const std::atomic<bool>& stop) {
  Readiness readiness;
  watch_all(readiness);
  const auto receive_from = [this](std::size_t source) { this->receive_from(source); };
  std::int64_t due = monotonic_nanoseconds();
  while (!stop.load(std::memory_order_relaxed)) {
    const std::int64_t now = monotonic_nanoseconds();
    if (now >= due) {
      const std::int64_t late = (now - due) / options_.interval_ns;
      polls_missed_ += static_cast<std::uint64_t>(late);
      due += (late + 1) * options_.interval_ns;
      poll(now);
    }
    readiness.wait(due, receive_from);
  }
  for (const std::int64_t end = monotonic_nanoseconds() + kDrain; !answered() && monotonic_nanoseconds() < end;) {
    readiness.wait(end, receive_from);
  }
  if (!answered()) {
    throw std::runtime_error("a sidecar did not answer its last polls within a second");
  }
}

}  // namespace nearcached::loadtest
