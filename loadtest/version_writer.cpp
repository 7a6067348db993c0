#include "loadtest/version_writer.hpp"

#include <cmath>
#include <stdexcept>

#include "loadtest/connect.hpp"
#include "loadtest/readiness.hpp"
#include "loadtest/tracking_cache.hpp"
#include "loadtest/versioned_values.hpp"

namespace nearcached::loadtest {

namespace {

constexpr std::int64_t kSilenceMax = 5'000'000'000;  // nothing acknowledged for so long: the run is void

}  // namespace

Placement place_keys(const std::vector<std::string>& nodes, std::uint32_t keys, std::size_t value_bytes) {
  Placement placement{nodes, {}};
  std::vector<std::unique_ptr<FrameConnection>> connections;
  for (const std::string& node : nodes) {
    connections.push_back(std::make_unique<FrameConnection>(node));
  }
  for (std::uint32_t key = 0; key < keys; ++key) {
    const std::string set = command({"SET", key_name(key), value_text({key, 0}, value_bytes)});
    std::size_t node = 0;
    std::string reply;
    for (; node < nodes.size(); ++node) {
      reply = connections[node]->call(set);
      if (!reply.starts_with("-MOVED")) {
        break;
      }
    }
    if (reply != "+OK\r\n") {
      throw std::runtime_error("nobody takes " + key_name(key) + ": " + reply);
    }
    placement.owner.push_back(node);
  }
  return placement;
}

VersionWriter::VersionWriter(const Placement& placement, const Options& options)
    : placement_(placement),
      options_(options),
      random_(options.seed),
      nodes_(placement.nodes.size()),
      versions_(placement.owner.size()),
      acknowledged_(placement.owner.size()),
      total_(static_cast<std::uint64_t>(std::llround(options.rate * options.seconds))) {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].connection = std::make_unique<FrameConnection>(placement.nodes[i]);
  }
  for (std::vector<std::int64_t>& times : acknowledged_) {
    times.reserve(2 * total_ / acknowledged_.size() + 1);
  }
}

void VersionWriter::issue_due(std::int64_t now) {
  const double due = static_cast<double>(now - started_) * 1e-9 * options_.rate;
  std::uniform_int_distribution<std::uint32_t> any_key(0, static_cast<std::uint32_t>(versions_.size() - 1));
  while (issued_ < total_ && static_cast<double>(issued_) <= due && issued_ - writes_ < kInFlightMax) {
    const std::uint32_t key = any_key(random_);
    Node& node = nodes_[placement_.owner[key]];
    node.batch += command({"SET", key_name(key), value_text({key, ++versions_[key]}, options_.value_bytes)});
    node.in_flight.push_back(key);
    ++issued_;
  }
  for (Node& node : nodes_) {
    if (!node.batch.empty()) {
      node.connection->send(node.batch);
      node.batch.clear();
    } else {
      node.connection->flush();
    }
  }
}

void VersionWriter::receive(Node& node) {
  std::int64_t now = 0;
  node.connection->receive([&now] { now = monotonic_nanoseconds(); },
                           [&](std::string_view reply) {
                             if (reply != "+OK\r\n" || node.in_flight.empty()) {
                               throw std::runtime_error(node.connection->target() + ": " + std::string(reply));
                             }
                             const std::uint32_t key = node.in_flight.front();
                             node.in_flight.pop_front();
                             acknowledged_[key].push_back(now);
                             ++writes_;
                             ended_ = now;
                             for (TrackingCache* cache : options_.told) {
                               cache->drop(key);
                             }
                           });
}

void VersionWriter::run() {
  Readiness readiness;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    readiness.watch(nodes_[i].connection->fd(), i);
  }
  started_ = ended_ = monotonic_nanoseconds();
  while (writes_ < total_) {
    const std::int64_t now = monotonic_nanoseconds();
    if (now - ended_ > kSilenceMax) {
      throw std::runtime_error("the writer got no answer for 5 s");
    }
    issue_due(now);
    const auto next_due = started_ + static_cast<std::int64_t>(static_cast<double>(issued_) / options_.rate * 1e9);
    const bool can_issue = issued_ < total_ && issued_ - writes_ < kInFlightMax;
    readiness.wait(can_issue ? next_due : now + Readiness::kIdleWait, [this](std::size_t i) { receive(nodes_[i]); });
  }
}

}  // namespace nearcached::loadtest
