// Scripts that clients have loaded, for nodes that have not got them yet.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::tiers::upstream {

// SCRIPT LOAD is not replicated (Redis 7.0 and newer): after a failover, a restart or with a node that joins, EVALSHA would
// be answered with NOSCRIPT although the client has loaded its script. What was loaded through this process is loaded again
// at the beginning of every connection to a node, before any request on it, so that no request changes its place for it.
//
// Bounds: kScriptsMax and kBytesMax, the oldest goes first; its EVALSHA then gets NOSCRIPT, on which clients load it again.
// What it is bad at: scripts that only EVAL has brought, or that were loaded past this process; and many scripts, since all
// are sent with each connection.
//
// Threading: any thread. What commands() returns is immutable.
class ScriptBook {
 public:
  static constexpr std::size_t kScriptsMax = 500;
  static constexpr std::size_t kBytesMax = 2u << 20;

  // A script loaded twice is the newest again. One longer than kBytesMax is not kept.
  void remember(std::string_view script);
  // SCRIPT FLUSH.
  void clear();
  // SCRIPT LOAD of each, oldest first, as requests.
  [[nodiscard]] std::vector<std::shared_ptr<const std::string>> commands() const;

 private:
  struct Page {
    std::string script;
    std::shared_ptr<const std::string> command;
  };

  mutable std::mutex mutex_;
  std::deque<Page> pages_;
  std::size_t bytes_ = 0;
};

}  // namespace nearcached::tiers::upstream
