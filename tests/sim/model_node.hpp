// One Redis server of the model: its data, its tracking table, its view of the cluster, its connections.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/request_parser.hpp"
#include "tests/sim/history.hpp"
#include "tests/sim/kernel.hpp"

namespace nearcached::sim {

class Cluster;
class Node;

struct Item {
  Value value;
  std::int64_t expires_ms = 0;  // of the kernel's clock; 0: never
};

// A connection of a sidecar, as the server sees it.
class NodeConnection final : public Peer {
 public:
  NodeConnection(Node& node, SocketPtr socket, std::uint64_t id) : node_(node), socket_(std::move(socket)), id_(id) {}

  void on_bytes(std::string_view bytes) override;
  void on_closed() override;
  // What was written since the last time leaves.
  void flush();

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] Socket& socket() { return *socket_; }
  [[nodiscard]] const SocketPtr& socket_pointer() const { return socket_; }
  std::string out;
  std::vector<std::string> late;  // pushes that the running command caused for its own connection: behind its reply
  bool resp3 = false;
  bool tracking = false;
  bool asking = false;
  bool closed = false;
  std::set<std::string> channels;        // SUBSCRIBE
  std::set<std::string> shard_channels;  // SSUBSCRIBE

 private:
  Node& node_;
  SocketPtr socket_;
  const std::uint64_t id_;
  std::string in_;
  protocol::RequestParser parser_;
};

// Redis as far as caches can tell it apart: default-mode tracking (one-shot per key and connection, told before replies of
// later commands, table bounded), expiry by deadline and its signal later, slots with MIGRATING and IMPORTING, refusals.
// Commands are executed in no time when their last byte arrives.
class Node {
 public:
  Node(Cluster& cluster, int number) : number_(number), cluster_(cluster) {}

  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] Kernel& kernel() const;
  [[nodiscard]] Peer* accept(const SocketPtr& socket);
  void forget(NodeConnection& connection);
  void close_all();

  // For the connection, or for a writer that is no connection (nullptr). The reply goes to `out`.
  using Args = std::vector<std::string_view>;
  void execute(NodeConnection* connection, const Args& args, std::string& out);

  // Data. Reading sees no item whose time is over.
  [[nodiscard]] const Item* find(const std::string& key) const;
  void put(const std::string& key, Item item);  // signalled, replicated
  void remove(const std::string& key);          // the same
  void expire(const std::string& key);          // what is over is removed and signalled
  void signal_all();                            // the null invalidation
  void replace_data(std::map<std::string, Item> data) { data_ = std::move(data); }
  [[nodiscard]] const std::map<std::string, Item>& data() const { return data_; }
  void drop_slot_silently(std::uint16_t slot);
  void swap_databases();
  void forget_tracking() { tracked_.clear(); }

  // The view of the cluster.
  void learn(std::uint16_t slot, int owner);
  [[nodiscard]] int owner_seen(std::uint16_t slot) const;
  [[nodiscard]] const std::map<std::uint16_t, int>& view() const { return view_; }
  std::map<std::uint16_t, int> migrating;  // slot -> where to
  std::map<std::uint16_t, int> importing;  // slot -> where from
  std::uint64_t epoch_seen = 1;
  bool replica = false;
  bool link_down = false;  // of a replica: it serves no data
  bool failing = false;    // cluster_state:fail
  bool muted = false;      // its data are what another server has: changes are not signalled here

  // What it refuses and how it is set up.
  std::int64_t loses_messages_until_us = 0;  // of those that are published
  bool tracking_refused = false;
  bool probes_refused = false;
  bool hello_lies = false;     // a proxy in front of it says role: master
  bool nested_pushes = false;  // redis#8935
  std::size_t tracking_keys_max = 1'000'000;

 private:
  friend class Commands;

  void signal(const std::string& key);
  void remember(NodeConnection& connection, const std::string& key);
  void push(NodeConnection& connection, const std::string& bytes);
  void unsubscribe(std::uint16_t slot);

  const int number_;
  Cluster& cluster_;
  std::map<std::string, Item> data_;
  std::map<std::string, Item> other_database_;
  std::map<std::string, std::vector<std::uint64_t>> tracked_;  // key -> connections
  std::map<std::uint64_t, std::unique_ptr<NodeConnection>> connections_;
  std::vector<std::unique_ptr<NodeConnection>> gone_;  // closed, perhaps still on the stack
  std::map<std::uint16_t, int> view_;
  NodeConnection* executing_ = nullptr;
  std::uint64_t next_id_ = 1;
  std::uint64_t swapdb_calls_ = 0;
  std::uint64_t info_calls_ = 0;
};

}  // namespace nearcached::sim
