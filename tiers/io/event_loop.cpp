#include "tiers/io/event_loop.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "tiers/io/clock.hpp"

namespace nearcached::tiers::io {
namespace {

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

EventLoop::EventLoop()
    : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      scratch_(new char[kScratchBytes]),
      ready_(new epoll_event[kEventsMax]) {
  if (epoll_fd_ < 0) fail("epoll_create1");
  if (wake_fd_ < 0) fail("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // the mailbox
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) fail("epoll_ctl");
}

EventLoop::~EventLoop() {
  close(wake_fd_);
  close(epoll_fd_);
}

void EventLoop::watch(int fd, EventHandler& handler, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

void EventLoop::rewatch(int fd, EventHandler& handler, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0) fail("epoll_ctl");
}

void EventLoop::unwatch(int fd, const EventHandler& handler) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  for (int i = ready_next_; i < ready_count_; ++i) {
    if (ready_[i].data.ptr == &handler) ready_[i].events = 0;
  }
}

void EventLoop::post(Task task) {
  bool wake = false;
  {
    const std::lock_guard lock(mailbox_mutex_);
    wake = mailbox_.empty();
    mailbox_.push_back(std::move(task));
  }
  if (wake) {
    const std::uint64_t one = 1;
    // The counter can't overflow: it is written once per emptied mailbox.
    [[maybe_unused]] const auto written = write(wake_fd_, &one, sizeof one);
  }
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  post([] {});
}

void EventLoop::drain_mailbox() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = read(wake_fd_, &count, sizeof count);
  {
    const std::lock_guard lock(mailbox_mutex_);
    running_.swap(mailbox_);
  }
  for (Task& task : running_) task();
  running_.clear();
}

void EventLoop::handle_ready(int count) {
  ready_count_ = count;
  for (ready_next_ = 0; ready_next_ < ready_count_;) {
    const epoll_event event = ready_[ready_next_++];
    if (event.data.ptr == nullptr) {
      drain_mailbox();
    } else if (event.events != 0) {
      static_cast<EventHandler*>(event.data.ptr)->on_events(event.events);
    }
  }
  ready_next_ = ready_count_ = 0;
}

void EventLoop::run() {
  std::int64_t next_tick_us = boot_us();
  while (!stopping_.load(std::memory_order_acquire)) {
    const int count = epoll_wait(epoll_fd_, ready_.get(), kEventsMax, kTickMs);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    if (count > 0) handle_ready(count);
    const std::int64_t now_us = boot_us();
    if (now_us >= next_tick_us) {
      next_tick_us = now_us + kTickMs * 1000;
      if (tick_) tick_();
    }
    if (turn_end_) turn_end_();
  }
}

}  // namespace nearcached::tiers::io
