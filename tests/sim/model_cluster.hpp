// The servers together: who truly owns what, and what happens to them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/history.hpp"
#include "tests/sim/kernel.hpp"
#include "tests/sim/model_node.hpp"

namespace nearcached::sim {

struct ModelOptions {
  bool cluster = true;
  int primaries = 2;  // nodes 0..primaries-1; node `primaries` is the replica of node 0
  std::vector<std::string> keys;
};

// The truth: an owner per slot, and while a slot migrates the key is where it is. Everything that changes what a client
// would be told by the right node at this instant goes through truth_changed(), which writes the history.
class Cluster {
 public:
  Cluster(Kernel& kernel, const ModelOptions& options, std::uint64_t seed);

  [[nodiscard]] Kernel& kernel() { return kernel_; }
  [[nodiscard]] History& history() { return history_; }
  [[nodiscard]] const ModelOptions& options() const { return options_; }
  [[nodiscard]] Node& node(int number) { return *nodes_[static_cast<std::size_t>(number)]; }
  [[nodiscard]] int nodes() const { return static_cast<int>(nodes_.size()); }
  [[nodiscard]] std::uint16_t slot_of(std::string_view key) const;
  [[nodiscard]] int owner(std::uint16_t slot) const;
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] std::int64_t now_ms() const { return kernel_.now_us() / 1000; }

  void truth_changed(const std::string& key);
  void all_truth_changed();
  // A node executed a write of this text: every version is written once.
  void note_written(const std::string& text);
  [[nodiscard]] const std::string& written_twice() const { return written_twice_; }

  // Of the node's changes: to its replica, and to those whose time will be over.
  void replicate(int from, const std::string& key);
  void watch_expiry(int node, const std::string& key, const Item& item);

  // A client that is no sidecar's, at the true owner. False: it can't be reached.
  bool write_directly(const std::vector<std::string>& args);

  // What happens to the servers. Each takes its time, all are over by end_faults() + a moment.
  void migrate(std::uint16_t slot, int to, Rng& rng);
  void take_over(std::uint16_t slot, int to);  // at once, what the old owner had of it is gone without a signal
  void fail_over(bool with_lost_tail, std::uint64_t split_sidecars, Rng& rng);
  void restart(int node, std::int64_t down_us);
  void flush_all();
  void swap_databases();
  void demote_server(std::int64_t for_us);  // without cluster: a replica of nobody reachable for a while
  void set_failing(int node, std::int64_t for_us);

  // Who can't reach whom among the servers and the direct writers.
  [[nodiscard]] bool isolated(int node) const {
    return isolated_until_us_[static_cast<std::size_t>(node)] > kernel_.now_us();
  }
  [[nodiscard]] bool busy() const { return busy_until_us_ > kernel_.now_us(); }

 private:
  void migrate_next(std::uint16_t slot, int from, int to, std::uint64_t seed);
  void finish_migration(std::uint16_t slot, int from, int to, Rng& rng);
  void own(std::uint16_t slot, int owner);
  void promote(int from, int to);
  void rejoin(int from, int to);

  Kernel& kernel_;
  const ModelOptions options_;
  History history_;
  Rng rng_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<std::uint16_t, int> owner_;
  std::map<std::uint16_t, int> moving_to_;  // slots that migrate
  std::uint64_t epoch_ = 1;
  std::array<int, 2> pair_{-1, -1};  // the primary that has a replica, and that replica
  std::uint64_t replication_ = 0;    // grows when what is on its way to the replica is lost
  std::int64_t replicated_us_ = 0;
  std::int64_t busy_until_us_ = 0;
  std::vector<std::int64_t> isolated_until_us_;
  std::set<std::string> written_;
  std::string written_twice_;
};

}  // namespace nearcached::sim
