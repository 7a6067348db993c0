// Servers for the control plane's tests, real and scripted, and an observer of what the control plane tells.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tiers/upstream/control_plane.hpp"

namespace nearcached::test {

// False, with a warning on a laptop and a failure where CI is set: no redis-server to test with.
bool redis_installed();

// Runs a shell command; its output, without the last newline.
std::string shell(const std::string& command);

// A redis-server of this test, on a free port, in a directory of its own; both are gone at the end.
class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> arguments = {});
  ~RedisServer();
  RedisServer(RedisServer&&) noexcept;
  RedisServer(const RedisServer&) = delete;

  [[nodiscard]] tiers::upstream::Endpoint endpoint() const { return {"127.0.0.1", port_}; }
  [[nodiscard]] std::string unix_path() const { return directory_ + "/s"; }
  // The output of redis-cli with these arguments.
  std::string cli(const std::string& arguments) const;
  void kill();     // SIGKILL, and waits for its end
  void restart();  // with the same port and directory

 private:
  void launch();

  std::vector<std::string> arguments_;
  std::string directory_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
};

// A server that answers each command of one connection with what `script` says, sent as it is. It returns an empty string to
// say nothing.
class ScriptedServer {
 public:
  using Script = std::function<std::string(const std::vector<std::string>& command)>;

  explicit ScriptedServer(Script script);
  ~ScriptedServer();

  [[nodiscard]] tiers::upstream::Endpoint endpoint() const { return {"127.0.0.1", port_}; }
  [[nodiscard]] int connections() const { return connections_; }
  [[nodiscard]] int most_open() const { return most_open_; }

 private:
  void run();
  void serve(int connection);

  Script script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::atomic<int> open_{0};
  std::atomic<int> most_open_{0};
  std::atomic<bool> ended_{false};
  std::vector<std::thread> threads_;  // of run(); it joins those of serve()
};

// Remembers snapshots and events, and waits for them.
class Observer {
 public:
  static constexpr std::chrono::seconds kPatience{20};

  // Sets on_event; the result is the handler for the constructor.
  tiers::upstream::ControlPlane::TopologyHandler attach(tiers::upstream::ControlPlaneOptions& options);

  // True: a snapshot that fits has come, or comes within kPatience; topology() gives it.
  bool wait_topology(const std::function<bool(const tiers::upstream::Topology&)>& fits);
  bool wait_event(tiers::upstream::ControlEvent::Kind kind, const std::string& part);
  [[nodiscard]] tiers::upstream::TopologyPtr topology();
  [[nodiscard]] std::vector<tiers::upstream::ControlEvent> events();
  [[nodiscard]] std::size_t snapshots();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  tiers::upstream::TopologyPtr topology_;
  std::size_t snapshots_ = 0;
  std::vector<tiers::upstream::ControlEvent> events_;
};

// check_auth(), check_select() and command_info(), awaited.
std::string auth(tiers::upstream::ControlPlane& plane, const tiers::upstream::Credentials& credentials);
std::string select(tiers::upstream::ControlPlane& plane, const tiers::upstream::Credentials& credentials,
                   const std::string& database);
struct InfoAnswer {
  bool reached = false;
  tiers::upstream::CommandInfo info;
};
InfoAnswer command_info(tiers::upstream::ControlPlane& plane, const std::string& name);

}  // namespace nearcached::test
