// The bare tracking client: as little cache as CLIENT TRACKING allows, beside which a sidecar is measured.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loadtest/frame_connection.hpp"
#include "loadtest/staleness.hpp"
#include "loadtest/version_writer.hpp"

namespace nearcached::loadtest {

// One RESP3 connection per node with CLIENT TRACKING ON: reads a key, keeps its version, drops it at the push. Looking a key
// up costs one load from memory, and pushes are taken by the very thread that looks keys up, so no wake-up stands between:
// what it serves stale is due to the server and the kernel. A sidecar can't be better than that, only close.
//
// The same without tracking (Told::kByWriter: the writer drops the key at its acknowledgement) puts the same reads on the
// server and no tracking, which is how the cost of tracking is told from that of the reads it causes.
//
// A key is absent, being fetched, or present with a version. Since replies and pushes come on one connection, and a pushed
// key is not tracked until it is read again, no push for a key can come between its fetch and the reply.
// Bad at: everything that makes a cache safe (it verifies nothing, bounds nothing).
// Threading: confined to one thread, except drop(), which any may call.
class TrackingCache {
 public:
  enum class Told : std::uint8_t { kByPushes, kByWriter };
  struct Options {
    Told told = Told::kByPushes;
    bool with_pttl = false;  // fetch as a sidecar does: GET and PTTL
  };

  // Connects to all nodes. Throws as FrameConnection does, and std::runtime_error where tracking is refused. `placement`
  // must outlive it.
  TrackingCache(const Placement& placement, const Options& options);

  // Looks every key up at `now`: notes the present ones as read, fetches the absent ones.
  void poll(std::int64_t now);
  // Takes replies and pushes of one node; call it when fd(node) is readable.
  void receive(std::size_t node);
  [[nodiscard]] std::size_t nodes() const { return nodes_.size(); }
  [[nodiscard]] int fd(std::size_t node) const { return nodes_[node].connection->fd(); }

  // kByWriter: the key has been written.
  void drop(std::uint32_t key) { keys_[key].written.fetch_add(1, std::memory_order_release); }

  [[nodiscard]] const Observations& observed() const { return observed_; }
  [[nodiscard]] std::uint64_t fetches() const { return fetches_; }
  [[nodiscard]] std::uint64_t pushes() const { return pushes_; }

 private:
  enum class State : std::uint8_t { kAbsent, kFetching, kPresent };
  struct Key {
    State state = State::kAbsent;
    std::uint64_t version = 0;
    std::string fetch;                      // the commands that fetch it
    std::uint64_t written_at_fetch = 0;     // what `written` was when the fetch left
    std::atomic<std::uint64_t> written{0};  // how often drop() was called
  };
  struct Node {
    std::unique_ptr<FrameConnection> connection;
    std::string batch;
  };

  void take(std::string_view frame);

  const Placement& placement_;
  Options options_;
  std::vector<Node> nodes_;
  std::vector<Key> keys_;
  Observations observed_;
  std::uint64_t fetches_ = 0;
  std::uint64_t pushes_ = 0;
};

}  // namespace nearcached::loadtest
