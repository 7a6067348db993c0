#include "loadtest/tracking_cache.hpp"

#include <stdexcept>

#include "loadtest/versioned_values.hpp"

namespace nearcached::loadtest {

namespace {

std::unique_ptr<FrameConnection> connect_fetching(const std::string& node, TrackingCache::Told told) {
  auto connection = std::make_unique<FrameConnection>(node);
  if (connection->call(command({"HELLO", "3"})).starts_with('-')) {
    throw std::runtime_error(node + " does not speak RESP3");
  }
  if (told == TrackingCache::Told::kByPushes && connection->call(command({"CLIENT", "TRACKING", "ON"})) != "+OK\r\n") {
    throw std::runtime_error(node + " refuses CLIENT TRACKING");
  }
  return connection;
}

}  // namespace

TrackingCache::TrackingCache(const Placement& placement, const Options& options)
    : placement_(placement),
      options_(options),
      nodes_(placement.nodes.size()),
      keys_(placement.owner.size()),
      observed_(placement.owner.size()) {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].connection = connect_fetching(placement.nodes[i], options.told);
  }
  for (std::uint32_t i = 0; i < keys_.size(); ++i) {
    const std::string name = key_name(i);
    keys_[i].fetch = command({"GET", name}) + (options.with_pttl ? command({"PTTL", name}) : "");
  }
}

void TrackingCache::poll(std::int64_t now) {
  for (std::uint32_t i = 0; i < keys_.size(); ++i) {
    Key& key = keys_[i];
    const std::uint64_t written = key.written.load(std::memory_order_acquire);
    if (key.state == State::kPresent && key.written_at_fetch == written) {
      observed_.saw(i, key.version, now, now);
    } else if (key.state != State::kFetching) {
      key.state = State::kFetching;
      key.written_at_fetch = written;
      nodes_[placement_.owner[i]].batch += key.fetch;
      ++fetches_;
    }
  }
  for (Node& node : nodes_) {
    if (!node.batch.empty() || node.connection->has_unsent()) {
      node.connection->send(node.batch);
      node.batch.clear();
    }
  }
}

void TrackingCache::receive(std::size_t node) {
  nodes_[node].connection->receive([] {}, [this](std::string_view frame) { take(frame); });
}

void TrackingCache::take(std::string_view frame) {
  if (frame.starts_with('>')) {
    ++pushes_;
    for_each_bulk(frame, [this](std::string_view text) {
      const auto key = parse_key(text);
      if (key && *key < keys_.size() && keys_[*key].state == State::kPresent) {
        keys_[*key].state = State::kAbsent;
      }
    });
  } else if (frame.starts_with('$')) {
    for_each_bulk(frame, [this](std::string_view text) {
      const auto value = parse_value(text);
      if (!value || value->key >= keys_.size()) {
        throw std::runtime_error("the bare client was given a value that nobody wrote: " + std::string(text));
      }
      keys_[value->key].state = State::kPresent;
      keys_[value->key].version = value->version;
    });
  } else if (!frame.starts_with(':')) {
    throw std::runtime_error("the bare client was told " + std::string(frame));
  }
}

}  // namespace nearcached::loadtest
