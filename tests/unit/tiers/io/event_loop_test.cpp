#include "tiers/io/event_loop.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "tests/unit/tiers/io/loop_script.hpp"

namespace nearcached::tiers::io {
namespace {

using testing::LoopScript;

// An eventfd that is readable from the beginning, and what to do about it.
class Watched final : public EventHandler {
 public:
  Watched() : fd(eventfd(1, EFD_NONBLOCK)) {}
  ~Watched() override { close(fd); }
  void on_events(std::uint32_t events) override {
    last_events = events;
    ++calls;
    if (when_ready) when_ready();
  }

  int fd;
  int calls = 0;
  std::uint32_t last_events = 0;
  std::function<void()> when_ready;
};

}  // namespace

TEST_CASE("posted tasks run in their order, those posted by tasks in a later turn", "[event_loop]") {
  EventLoop loop;
  std::string order;
  loop.on_turn_end([&] { order += '|'; });
  loop.post([&] {
    order += 'a';
    loop.post([&] {
      order += 'c';
      loop.stop();
    });
  });
  loop.post([&] { order += 'b'; });
  loop.run();
  CHECK(order.substr(0, 5) == "ab|c|");
}

TEST_CASE("no task posted from other threads is lost", "[event_loop]") {
  EventLoop loop;
  constexpr int kEach = 20'000;
  int ran = 0;
  const auto post_all = [&] {
    for (int i = 0; i < kEach; ++i) {
      loop.post([&] {
        if (++ran == 3 * kEach) loop.stop();
      });
    }
  };
  std::thread one(post_all), two(post_all), three(post_all);
  loop.run();
  one.join();
  two.join();
  three.join();
  CHECK(ran == 3 * kEach);
}

TEST_CASE("a loop that was stopped before it runs does not run", "[event_loop]") {
  EventLoop loop;
  loop.stop();
  loop.run();
  SUCCEED();
}

TEST_CASE("readiness is level-triggered and goes to its handler until it is unwatched", "[event_loop]") {
  EventLoop loop;
  Watched watched;
  loop.watch(watched.fd, watched, EPOLLIN);
  LoopScript(loop)
      .until([&] { return watched.calls >= 3; })
      .then([&] {
        CHECK((watched.last_events & EPOLLIN) != 0);
        loop.rewatch(watched.fd, watched, EPOLLOUT);
        watched.calls = 0;
      })
      .until([&] { return watched.calls >= 2; })
      .then([&] {
        CHECK(watched.last_events == EPOLLOUT);
        loop.unwatch(watched.fd, watched);
        watched.calls = 0;
      })
      .turns(5)
      .run();
  CHECK(watched.calls == 0);
}

TEST_CASE("a handler unwatched by another one of the same turn is not called any more", "[event_loop]") {
  EventLoop loop;
  Watched one, two;
  const auto end = [&](Watched& other) { loop.unwatch(other.fd, other); };
  one.when_ready = [&] { end(two); };
  two.when_ready = [&] { end(one); };
  loop.watch(one.fd, one, EPOLLIN);
  loop.watch(two.fd, two, EPOLLIN);
  LoopScript(loop).turns(5).run();
  // Whoever came first silenced the other, although its event was fetched already.
  CHECK(((one.calls == 0) != (two.calls == 0)));
}

TEST_CASE("the tick comes though nothing else happens", "[event_loop]") {
  EventLoop loop;
  int ticks = 0;
  loop.on_tick([&] {
    if (++ticks == 3) loop.stop();
  });
  loop.run();
  CHECK(ticks == 3);
}

}  // namespace nearcached::tiers::io
