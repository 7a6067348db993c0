// tiers/io/event_loop.hpp over the simulator's kernel: run() is one turn, and returns.
#include <sys/epoll.h>

#include <utility>

#include "tests/sim/kernel.hpp"
#include "tiers/io/event_loop.hpp"

namespace nearcached::tiers::io {

using sim::Kernel;

EventLoop::EventLoop()
    : epoll_fd_(Kernel::current().add_loop(*this)),
      wake_fd_(-1),
      scratch_(new char[kScratchBytes]),
      ready_(new epoll_event[kEventsMax]) {}

EventLoop::~EventLoop() { Kernel::current().remove_loop(epoll_fd_); }

void EventLoop::watch(int fd, EventHandler& handler, std::uint32_t events) {
  Kernel::current().watch(epoll_fd_, fd, &handler, events);
}

void EventLoop::rewatch(int fd, EventHandler& handler, std::uint32_t events) {
  Kernel::current().watch(epoll_fd_, fd, &handler, events);
}

void EventLoop::unwatch(int fd, const EventHandler& handler) {
  Kernel::current().watch(epoll_fd_, fd, nullptr, 0);
  for (int i = ready_next_; i < ready_count_; ++i) {
    if (ready_[static_cast<std::size_t>(i)].data.ptr == &handler) ready_[static_cast<std::size_t>(i)].events = 0;
  }
}

void EventLoop::post(Task task) {
  const bool wake = mailbox_.empty();
  mailbox_.push_back(std::move(task));
  if (wake) Kernel::current().wake(epoll_fd_);
}

void EventLoop::stop() { stopping_.store(true, std::memory_order_release); }

void EventLoop::drain_mailbox() {
  running_.swap(mailbox_);
  for (Task& task : running_) task();
  running_.clear();
}

void EventLoop::handle_ready(int count) {
  ready_count_ = count;
  for (ready_next_ = 0; ready_next_ < ready_count_;) {
    const epoll_event event = ready_[static_cast<std::size_t>(ready_next_++)];
    if (event.data.ptr == nullptr) {
      drain_mailbox();
    } else if (event.events != 0) {
      static_cast<EventHandler*>(event.data.ptr)->on_events(event.events);
    }
  }
  ready_next_ = ready_count_ = 0;
}

void EventLoop::run() {
  const int count = Kernel::current().poll(epoll_fd_, ready_.get(), kEventsMax, !mailbox_.empty());
  if (count > 0) handle_ready(count);
  if (Kernel::current().tick_due(epoll_fd_) && tick_) tick_();
  if (turn_end_) turn_end_();
}

}  // namespace nearcached::tiers::io
