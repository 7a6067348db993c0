// What stands under the sidecars instead of an operating system: the clock, the events to come, sockets and loops.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/rng.hpp"

namespace nearcached::tiers::io {
class EventLoop;
class EventHandler;
}  // namespace nearcached::tiers::io

namespace nearcached::sim {

inline constexpr int kSidecarsMax = 4;
inline constexpr int kNodesMax = 4;
inline constexpr int kNoNode = -1;  // the other end of the socket is a client
inline constexpr std::int64_t kNeverUs = INT64_MAX;

// The end of a connection that is not a sidecar's: a node of the model, a client.
class Peer {
 public:
  virtual void on_bytes(std::string_view bytes) = 0;
  // The sidecar closed, or the connection was cut. The peer is not called again.
  virtual void on_closed() = 0;
  // The sidecar has read so many bytes of this connection in all.
  virtual void on_read(std::uint64_t) {}

 protected:
  ~Peer() = default;
};

enum class Direction : std::uint8_t { kOut, kIn };  // as the sidecar sees it

// One direction of a connection: bytes on their way, in order.
struct Wire {
  struct Chunk {
    std::int64_t at_us = 0;
    std::string bytes;
    bool end = false;  // the sender has closed behind them
  };
  explicit Wire(Rng r) : rng(r) {}
  std::deque<Chunk> chunks;
  std::int64_t last_us = 0;
  bool armed = false;
  Rng rng;
};

struct Socket {
  Socket(int number, int of_sidecar, int to_node, Rng out_rng, Rng in_rng)
      : fd(number), sidecar(of_sidecar), node(to_node), out(out_rng), in(in_rng) {}
  const int fd;
  const int sidecar;
  const int node;
  int loop = -1;
  tiers::io::EventHandler* handler = nullptr;
  std::uint32_t interest = 0;
  bool open = true;  // the sidecar has not closed it
  bool connecting = false;
  bool ended = false;  // the peer sends no more
  int error = 0;
  std::int64_t takes_again_us = 0;  // before that the sidecar's sends are refused: the buffer is full
  std::string inbox;                // arrived, not yet read by the sidecar
  std::uint64_t read = 0;
  Peer* peer = nullptr;
  Wire out;
  Wire in;
};
using SocketPtr = std::shared_ptr<Socket>;

// Discrete events in the order of their time, on one thread: bytes arrive, loops turn, clients and faults act. Time stands
// still within an event. A loop turns a random moment after it has got something to do, and every 10 ms; bytes take random
// times and are cut at random places, in order per direction of a connection. The sidecars' own code runs inside turn(): it
// sees sockets through the wrapped system calls (seams_socket.cpp) and its loop (seams_event_loop.cpp).
//
// Exactly one exists at a time: see current(). Bad at: real parallelism. Two workers never run at the same instant, so data
// races are for the thread sanitizer, not for this.
class Kernel {
 public:
  static constexpr std::int64_t kStartUs = 1'000'000'000;
  static constexpr std::int64_t kTickUs = 10'000;
  static constexpr std::uint16_t kFirstPort = 7000;  // node n listens on kFirstPort + n
  static constexpr int kFirstFd = 1 << 20;           // no descriptor of the real process

  explicit Kernel(std::uint64_t seed);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  [[nodiscard]] static Kernel& current();

  [[nodiscard]] std::int64_t now_us() const { return now_us_; }
  void at(std::int64_t when_us, std::function<void()> what);
  void after(std::int64_t delay_us, std::function<void()> what) { at(now_us_ + delay_us, std::move(what)); }
  void run_until(std::int64_t when_us);
  [[nodiscard]] std::uint64_t events() const { return events_done_; }

  // The trace: a hash always, lines only on demand.
  void note(std::uint64_t what) { hash_ = (hash_ ^ what) * 0x100000001B3u; }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  void set_tracing(bool on) { tracing_ = on; }
  [[nodiscard]] bool tracing() const { return tracing_; }
  void trace(const std::string& line);
  [[nodiscard]] const std::deque<std::string>& lines() const { return lines_; }

  // Faults.
  void pause_sidecar(int sidecar, std::int64_t until_us);
  [[nodiscard]] std::int64_t sidecar_paused_until(int sidecar) const { return paused_until_[index(sidecar)]; }
  void pause_node(int node, std::int64_t until_us) { node_paused_until_[index(node)] = until_us; }
  [[nodiscard]] bool node_paused(int node) const { return node_paused_until_[index(node)] > now_us_; }
  // Nothing passes until then; what was sent arrives afterwards.
  void hold(int sidecar, int node, Direction direction, std::int64_t until_us);
  [[nodiscard]] bool held(int sidecar, int node) const;
  // Every chunk takes 20 ms to `longest_us`; on every connection, or (`which` 1 or 2) on about every other one.
  void slow(int sidecar, int node, std::int64_t until_us, std::uint64_t which, std::int64_t longest_us) {
    link(sidecar, node).slow_until_us = until_us;
    link(sidecar, node).slow_longest_us = longest_us;
    link(sidecar, node).slow_which = which;
  }
  // Resets connections between them: each with this probability.
  void reset(int sidecar, int node, unsigned percent);
  // The next send of several commands is cut between two of them, and the sidecar stands still for so long.
  void cut_between(int sidecar, int node, std::int64_t pause_us) { link(sidecar, node).cut_pause_us = pause_us; }
  void set_down(int node, bool down) { down_[index(node)] = down; }
  [[nodiscard]] bool down(int node) const { return down_[index(node)]; }
  void end_faults();

  // Nodes: who answers a connect, by node.
  std::function<Peer*(int node, const SocketPtr&)> accept;
  void send_to_sidecar(const SocketPtr& socket, std::string bytes);
  void close_by_peer(const SocketPtr& socket);
  void cut(Socket& socket);
  // A client's connection: its descriptor for Worker::adopt.
  [[nodiscard]] SocketPtr connect_client(int sidecar, Peer& peer);

  // Loops, seen from EventLoop.
  [[nodiscard]] int add_loop(tiers::io::EventLoop& loop);
  void remove_loop(int loop);
  void set_building(int sidecar) { building_ = sidecar; }  // loops that are made now belong to it
  void wake(int loop);
  [[nodiscard]] int poll(int loop, epoll_event* ready, int ready_max, bool mailbox);
  [[nodiscard]] bool tick_due(int loop);
  void watch(int loop, int fd, tiers::io::EventHandler* handler, std::uint32_t interest);
  [[nodiscard]] int running_sidecar() const { return running_ < 0 ? -1 : loops_[index(running_)].sidecar; }

  // System calls of the sidecars.
  [[nodiscard]] int sys_socket();
  [[nodiscard]] int sys_connect(int fd, std::uint16_t port);
  [[nodiscard]] long sys_send(int fd, std::string_view bytes);
  [[nodiscard]] long sys_recv(int fd, char* room, std::size_t bytes);
  [[nodiscard]] int sys_error(int fd);
  void sys_close(int fd);

 private:
  struct Event {
    std::int64_t at_us;
    std::uint64_t number;
    std::function<void()> what;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at_us != b.at_us ? a.at_us > b.at_us : a.number > b.number;
    }
  };
  struct Loop {
    tiers::io::EventLoop* loop = nullptr;
    int sidecar = -1;
    std::int64_t turn_at_us = kNeverUs;
    std::uint64_t turn_number = 0;
    std::int64_t next_tick_us = 0;
    std::vector<SocketPtr> sockets;
    Rng rng{0};
  };
  struct Link {
    std::array<std::int64_t, 2> held_until_us{};
    std::int64_t slow_until_us = 0;
    std::int64_t slow_longest_us = 0;
    std::uint64_t slow_which = 0;
    std::int64_t cut_pause_us = 0;
  };

  static std::size_t index(int n) { return static_cast<std::size_t>(n); }
  [[nodiscard]] Link& link(int sidecar, int node) { return links_[index(sidecar)][index(node)]; }
  [[nodiscard]] SocketPtr find(int fd) const;
  [[nodiscard]] SocketPtr add_socket(int sidecar, int node);
  [[nodiscard]] Wire& wire(Socket& socket, Direction direction) const {
    return direction == Direction::kOut ? socket.out : socket.in;
  }
  void transmit(const SocketPtr& socket, Direction direction, std::string bytes, bool end);
  [[nodiscard]] bool is_slow(const Socket& socket);
  [[nodiscard]] std::int64_t latency(Socket& socket, Direction direction);
  [[nodiscard]] std::int64_t blocked_until(const Socket& socket, Direction direction);
  [[nodiscard]] bool cut_between_commands(const SocketPtr& socket, std::string_view bytes);
  void arm(const SocketPtr& socket, Direction direction);
  void deliver(const SocketPtr& socket, Direction direction);
  void finish_connect(const SocketPtr& socket);
  [[nodiscard]] std::uint32_t readiness(const Socket& socket) const;
  void ready(const Socket& socket);
  void schedule_turn(int loop, std::int64_t at_us);
  void turn(int loop);

  const std::uint64_t seed_;
  std::int64_t now_us_ = kStartUs;
  std::uint64_t next_event_ = 0;
  std::uint64_t events_done_ = 0;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  std::uint64_t hash_ = 0xCBF29CE484222325u;
  bool tracing_ = false;
  std::deque<std::string> lines_;
  std::vector<SocketPtr> sockets_;  // by fd - kFirstFd; null once both ends have closed
  std::vector<Loop> loops_;
  int running_ = -1;
  int building_ = -1;
  std::array<std::array<Link, kNodesMax>, kSidecarsMax> links_{};
  std::array<std::int64_t, kSidecarsMax> paused_until_{};
  std::array<std::int64_t, kNodesMax> node_paused_until_{};
  std::array<bool, kNodesMax> down_{};
};

}  // namespace nearcached::sim
