// A worker's loop: epoll, a mailbox, a tick.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "tiers/io/buffer.hpp"

struct epoll_event;

namespace nearcached::tiers::io {

// Gets the readiness of one descriptor.
class EventHandler {
 public:
  virtual ~EventHandler() = default;
  virtual void on_events(std::uint32_t events) = 0;  // EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
};

// One thread, level-triggered epoll. Why not Asio's io_context: it reads a socket once more after every read, to see EAGAIN,
// which on the path that this program exists for is one system call in four (docs/decisions/0002-event-loop.md).
//
// A turn is: wait, handle every ready descriptor, run what other threads posted, tick if due, then `turn_end` once, where
// everything that was written during the turn leaves in one system call per connection.
//
// Bad at: thousands of timers (there is one tick; owners keep their own deadlines), fairness within a turn.
// Threading: post() and stop() from any thread, everything else from the thread in run() (or before it).
class EventLoop {
 public:
  using Task = std::function<void()>;
  static constexpr std::size_t kScratchBytes = 128 * 1024;
  static constexpr int kTickMs = 10;

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void watch(int fd, EventHandler& handler, std::uint32_t events);
  void rewatch(int fd, EventHandler& handler, std::uint32_t events);
  // Also drops events of this handler that were already fetched.
  void unwatch(int fd, const EventHandler& handler);

  void post(Task task);
  void on_turn_end(Task task) { turn_end_ = std::move(task); }
  void on_tick(Task task) { tick_ = std::move(task); }  // every kTickMs, or a little later

  void run();
  void stop();

  [[nodiscard]] BufferPool& buffers() { return buffers_; }
  // Room for one read, shared by all connections of the loop.
  [[nodiscard]] char* scratch() { return scratch_.get(); }

 private:
  void drain_mailbox();
  void handle_ready(int count);

  static constexpr int kEventsMax = 256;

  int epoll_fd_;
  int wake_fd_;
  Task turn_end_;
  Task tick_;
  BufferPool buffers_;
  std::unique_ptr<char[]> scratch_;
  std::unique_ptr<epoll_event[]> ready_;
  int ready_next_ = 0;
  int ready_count_ = 0;
  std::atomic<bool> stopping_{false};

  std::mutex mailbox_mutex_;
  std::vector<Task> mailbox_;  // guarded by mailbox_mutex_
  std::vector<Task> running_;
};

}  // namespace nearcached::tiers::io
