// The control plane's thread and its timers.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace nearcached::tiers::upstream {

// One thread that runs an io_context. Kept behind a pointer so that only this file's source and control_link.cpp pay for
// Asio's headers.
//
// Functions handed to post() wait in a queue of the loop's own, not in the io_context: stop() can then destroy them at a
// known time and on a known thread, together with whatever they hold. The io_context itself may have to outlive the loop: a
// name lookup that hangs in the system's resolver can't be interrupted, and destroying its io_context would wait for it
// (seconds, with a dead name server). In that one case the destructor leaves the context to a thread of its own.
//
// post() may be called from any thread, at any time; all else belongs to the owner, Timer to the loop's thread.
class ControlLoop {
 public:
  using Function = std::function<void()>;

  ControlLoop();
  ~ControlLoop();  // stop()

  void start();
  // Waits for the function that runs, drops those that wait. Not from the loop's own thread. Nothing runs afterwards.
  void stop();
  void post(Function function);

  // One deadline at a time. Destroying or cancelling it guarantees that its function is not called, also when it was due.
  class Timer {
   public:
    explicit Timer(ControlLoop& loop);
    ~Timer();
    // Replaces what was armed before. A delay that is not positive: as soon as possible, but not from within this call.
    void arm(std::chrono::steady_clock::duration delay, Function function);
    void cancel();

   private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
  };

  // For control_link.cpp: where its sockets live, and its lookups in flight, which must be told.
  [[nodiscard]] boost::asio::io_context& context();
  void lookup_started();
  void lookup_ended();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nearcached::tiers::upstream
