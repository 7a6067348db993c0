// From a name to a connected stream: what is told, when, and that it is told once.
#include "tiers/upstream/connector.hpp"

#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/mock/scripted_server.hpp"

namespace nearcached::tiers::upstream {
namespace {

using namespace nearcached::testing;

class Bench final : public io::StreamOwner {
 public:
  explicit Bench(const Endpoint& endpoint) : stream(thread.loop, *this), connector(thread.loop, resolver, stream, endpoint) {
    thread.start();
  }
  ~Bench() { thread.stop(); }

  // True if the owner was told something before open() came back.
  bool open(std::uint32_t attempt) {
    bool at_once = false;
    thread.call([&] {
      connector.open(attempt);
      at_once = connects + static_cast<int>(errors.size()) != 0;
    });
    return at_once;
  }
  int wait_error() {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, kPatience, [&] { return !errors.empty(); });
    return errors.empty() ? -1 : errors.front();
  }
  bool wait_connected() {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, kPatience, [&] { return connects != 0; });
  }

  LoopThread thread;
  io::Resolver resolver;
  io::Stream stream;
  Connector connector;
  std::mutex mutex;
  std::condition_variable changed;
  int connects = 0;
  std::vector<int> errors;

 private:
  void on_connected() override {
    const std::lock_guard lock(mutex);
    ++connects;
    changed.notify_all();
  }
  std::size_t on_data(std::string_view bytes) override { return bytes.size(); }
  void on_closed(int error) override {
    const std::lock_guard lock(mutex);
    errors.push_back(error);
    changed.notify_all();
  }
};

TEST_CASE("a literal address and a name of this host both lead to the server") {
  ScriptedServer server;
  for (const char* host : {"127.0.0.1", "localhost"}) {
    Bench bench({host, server.endpoint().port});
    // One name may have addresses of which only one is listened on: an attempt takes the next.
    bench.open(0);
    if (std::string(host) == "localhost") {
      std::unique_lock lock(bench.mutex);
      bench.changed.wait_for(lock, kPatience, [&] { return bench.connects != 0 || !bench.errors.empty(); });
      const bool refused = bench.connects == 0;
      lock.unlock();
      if (refused) bench.open(1);
    }
    CHECK(bench.wait_connected());
    Peer peer = server.accept();
  }
}

TEST_CASE("a failure at once is told later, once, and says what it is") {
  Bench bench({"/nonexistent/directory/of.sock", 0});
  CHECK_FALSE(bench.open(0));
  CHECK(bench.wait_error() == ENOENT);
  CHECK(bench.connector.error_text(ENOENT) == "No such file or directory");
  bench.thread.call([] {});
  CHECK(bench.errors.size() == 1);
}

TEST_CASE("a path that is too long for a socket address is an error and not another path") {
  Bench bench({"/" + std::string(300, 'x'), 0});
  CHECK_FALSE(bench.open(0));
  CHECK(bench.wait_error() == ENAMETOOLONG);
}

TEST_CASE("a name without an address is named") {
  Bench bench({"no-such-host.invalid", 6379});
  CHECK_FALSE(bench.open(0));
  CHECK(bench.connector.error_text(bench.wait_error()) == "the name no-such-host.invalid has no address");
}

TEST_CASE("who cancels is told nothing any more, whatever comes of it") {
  Bench failing({"/nonexistent/directory/of.sock", 0});
  failing.thread.call([&] {
    failing.connector.open(0);
    failing.connector.cancel();
  });
  failing.thread.call([] {});
  CHECK(failing.errors.empty());

  ScriptedServer server;
  Bench looking({"localhost", server.endpoint().port});
  looking.thread.call([&] {
    looking.connector.open(0);
    looking.connector.cancel();
  });
  // The resolver answers in order: behind this answer the cancelled one has been posted.
  std::promise<void> answered;
  looking.resolver.look_up("localhost", 1, [&](const auto&) { answered.set_value(); });
  REQUIRE(answered.get_future().wait_for(kPatience) == std::future_status::ready);
  looking.thread.call([] {});
  CHECK(looking.connects == 0);
  CHECK(looking.errors.empty());
  CHECK(server.nobody_waits());
}

}  // namespace
}  // namespace nearcached::tiers::upstream
