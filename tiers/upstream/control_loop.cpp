#include "tiers/upstream/control_loop.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace nearcached::tiers::upstream {

namespace asio = boost::asio;

struct ControlLoop::Impl {
  using WorkGuard = asio::executor_work_guard<asio::io_context::executor_type>;

  std::unique_ptr<asio::io_context> context = std::make_unique<asio::io_context>(1);
  std::optional<WorkGuard> work{asio::make_work_guard(*context)};
  std::thread thread;
  int lookups = 0;  // of the loop's thread, and of the owner once that has ended

  std::mutex mutex;
  std::deque<Function> queue;  // guarded by mutex
  bool closed = false;         // guarded by mutex

  void run_next() {
    Function function;
    {
      const std::lock_guard lock(mutex);
      if (queue.empty()) return;
      function = std::move(queue.front());
      queue.pop_front();
    }
    function();
  }
};

ControlLoop::ControlLoop() : impl_(std::make_unique<Impl>()) {}

ControlLoop::~ControlLoop() {
  stop();
  if (impl_->lookups == 0) return;
  impl_->work.reset();
  std::thread([context = std::move(impl_->context)]() mutable { context.reset(); }).detach();
}

void ControlLoop::start() {
  impl_->thread = std::thread([this] { impl_->context->run(); });
}

void ControlLoop::stop() {
  impl_->context->stop();
  if (impl_->thread.joinable()) impl_->thread.join();
  std::deque<Function> dropped;
  const std::lock_guard lock(impl_->mutex);
  impl_->closed = true;
  dropped.swap(impl_->queue);
}

void ControlLoop::post(Function function) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->closed) return;
    impl_->queue.push_back(std::move(function));
  }
  asio::post(*impl_->context, [impl = impl_.get()] { impl->run_next(); });
}

asio::io_context& ControlLoop::context() { return *impl_->context; }
void ControlLoop::lookup_started() { ++impl_->lookups; }
void ControlLoop::lookup_ended() { --impl_->lookups; }

struct ControlLoop::Timer::Impl {
  explicit Impl(asio::io_context& context) : timer(context) {}

  asio::steady_timer timer;
  std::uint64_t round = 0;  // an expiry that was already queued when the timer was cancelled carries an older one
  Function function;
};

ControlLoop::Timer::Timer(ControlLoop& loop) : impl_(std::make_shared<Impl>(loop.context())) {}

ControlLoop::Timer::~Timer() { cancel(); }

void ControlLoop::Timer::arm(std::chrono::steady_clock::duration delay, Function function) {
  cancel();
  impl_->function = std::move(function);
  impl_->timer.expires_after(delay);
  impl_->timer.async_wait([impl = impl_, round = impl_->round](const boost::system::error_code& error) {
    if (error || round != impl->round) return;
    const Function due = std::exchange(impl->function, nullptr);
    due();
  });
}

void ControlLoop::Timer::cancel() {
  ++impl_->round;
  impl_->function = nullptr;
  impl_->timer.cancel();
}

}  // namespace nearcached::tiers::upstream
