// What goes over the wire with a write that others are to be told of, and who hears what when the wire breaks.
#include <atomic>
#include <catch2/catch.hpp>

#include "tests/mock/scripted_server.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/upstream/data_connection.hpp"
#include "tiers/upstream/router.hpp"

namespace nearcached::tiers::upstream {
namespace {

using namespace nearcached::testing;
using protocol::RespVersion;

constexpr std::int64_t kTimeout = 100'000'000;  // far longer than a test takes: only ticks make it pass

std::string said(std::string_view what) { return command({"PUBLISH", "c", what}); }

// Says "open" ahead of a connection's first write, and its bytes behind each.
class Crier final : public Announcer {
 public:
  struct Switches {
    std::atomic<bool> able{true};
    std::atomic<bool> beats{false};
    std::atomic<bool> moved{false};  // by the node's own view
    std::atomic<int> messages{1};    // behind each write
  };
  explicit Crier(Switches& switches) : switches_(switches) {}

  [[nodiscard]] bool able() const override { return switches_.able; }
  void before_write(Messages& out, std::int64_t) override {
    if (!std::exchange(open_, true)) say(out, "open", false);
  }
  [[nodiscard]] bool behind_write(Messages& out, std::string_view request, std::int64_t) override {
    if (request.find("WHAT") != std::string_view::npos) return false;
    for (int i = 0; i < switches_.messages; ++i) say(out, std::string(request), true);
    return true;
  }
  void behind_reply(Messages& out, std::string_view, std::string_view error, std::int64_t) override {
    if (!error.starts_with("ERR unknown")) say(out, "everything", true);
  }
  void unanswered() override {
    owes_ = true;
    owed_.emplace_back("everything");
  }
  void tick(Messages& out, std::int64_t) override {
    if (switches_.beats) say(out, "beat", false);
  }
  void farewell(Messages& out, std::int64_t) override {
    if (open_) say(out, "bye", false);
  }
  void acknowledged() override {
    if (skipped_ != 0) {
      --skipped_;
    } else {
      unsaid_.erase(unsaid_.begin());
    }
  }
  [[nodiscard]] bool refused() override {
    if (skipped_ != 0) {
      --skipped_;
      return false;
    }
    skipped_ = unsaid_.size() - 1;
    take();
    return true;
  }
  [[nodiscard]] bool set_topology(const Topology& topology, std::int64_t) override {
    return topology.version >= 2 && move();
  }
  [[nodiscard]] bool moved() override { return switches_.moved.exchange(false) && move(); }
  void lost() override {
    skipped_ = 0;
    take();
  }
  [[nodiscard]] bool owes() const override { return owes_; }
  void again(Messages& out, std::int64_t) override {
    if (!able()) return;
    owes_ = false;
    say(out, "again", false);
    for (const std::string& what : std::exchange(owed_, {})) say(out, what, true);
  }

 private:
  void say(Messages& out, const std::string& what, bool matters) {
    out.push_back(said(what));
    unsaid_.push_back(matters ? what : std::string());
  }
  bool move() {
    skipped_ += unsaid_.size();
    take();
    return true;
  }
  void take() {
    open_ = false;
    owes_ = owes_ || !unsaid_.empty();
    for (const std::string& what : std::exchange(unsaid_, {})) {
      if (!what.empty()) owed_.push_back(what);
    }
  }

  Switches& switches_;
  bool open_ = false;
  bool owes_ = false;
  std::size_t skipped_ = 0;
  std::vector<std::string> unsaid_;  // on their way; empty: nothing to be said again
  std::vector<std::string> owed_;
};

// A connection with a crier, and an owner who remembers.
class Bench final : public DataConnectionOwner {
 public:
  explicit Bench(const Endpoint& endpoint) {
    DataConnectionOptions options;
    options.endpoint = endpoint;
    options.identity = std::make_shared<const Identity>(1u, Credentials{});
    options.connect_timeout_us = options.command_timeout_us = kTimeout;
    connection =
        std::make_unique<DataConnection>(thread.loop, resolver, counters, options, *this, std::make_unique<Crier>(switches));
    thread.loop.on_turn_end([this] { connection->flush(); });
    thread.start();
  }
  ~Bench() { thread.stop(); }

  void write(std::uint64_t token, const std::string& bytes, std::int64_t patience = kTimeout, bool asking = false) {
    RequestMeta meta = meta_of(token);
    meta.asking = asking;
    meta.deadline_us = io::boot_us() + patience;
    thread.call([=, this] { connection->send(meta, bytes, io::boot_us()); });
  }
  void tick(std::int64_t later = 0) {
    thread.call([=, this] { connection->tick(io::boot_us() + later); });
  }
  bool takes() {
    bool takes = false;
    thread.call([&, this] { takes = connection->takes(meta_of(0)); });
    return takes;
  }
  RequestMeta meta_of(std::uint64_t token) {
    RequestMeta meta;
    meta.sink = &sink;
    meta.token = token;
    meta.write = meta.announce = true;
    return meta;
  }

  LoopThread thread;
  io::Resolver resolver;
  insight::Counters counters;
  Recorder sink;
  Crier::Switches switches;
  std::atomic<int> not_executed{0}, redirected{0}, refused{0};
  std::vector<std::uint64_t> asked;  // on the loop's thread
  std::unique_ptr<DataConnection> connection;

 private:
  void on_not_executed(DataConnection&, RequestMeta, std::string_view, std::string_view) override { ++not_executed; }
  void on_redirected(DataConnection&, RequestMeta, std::string_view, const Redirect&, std::string_view) override {
    ++redirected;
  }
  void on_asked_write(DataConnection&, RequestMeta meta, std::string_view) override { asked.push_back(meta.token); }
  void on_refused_announcement(DataConnection&, std::string_view) override { ++refused; }
  void on_trouble(DataConnection&, std::string_view) override {}
};

const std::string kSet = command({"SET", "k", "v"});
const std::string kIncr = command({"INCR", "n"});
const std::string kOpened = said("open") + kSet + said(kSet);

}  // namespace

TEST_CASE("a write leaves with its announcement right behind it, and is published when both are answered", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  peer.send(":1\r\n+OK\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  CHECK(bench.sink.of(1).published == 0);
  bench.write(2, kIncr);
  REQUIRE(peer.read_like(kIncr + said(kIncr)) == kIncr + said(kIncr));  // opened once
  peer.send(":1\r\n");
  CHECK(bench.sink.wait_published(1).told);
  CHECK(bench.sink.of(2).ends == 0);
  peer.send(":7\r\n:0\r\n");  // that nobody listens is no error
  CHECK(bench.sink.wait_published(2).told);
  CHECK(bench.sink.of(2).bytes == ":7\r\n");
  CHECK(bench.sink.of(1).published == 1);
  CHECK(bench.counters.bus_published.value() == 3);
}

TEST_CASE("requests that are not announced go as they are", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  RequestMeta meta = bench.meta_of(1);
  meta.announce = false;
  meta.deadline_us = io::boot_us() + kTimeout;
  bench.thread.call([&] { bench.connection->send(meta, kSet, io::boot_us()); });
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kSet) == kSet);
  peer.send("+OK\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  bench.thread.call([] {});
  CHECK(peer.quiet());
  CHECK(bench.sink.of(1).published == 0);
}

TEST_CASE("a write of several announcements is published with the last", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.switches.messages = 3;
  bench.write(1, kSet);
  Peer peer = server.accept();
  const std::string all = kOpened + said(kSet) + said(kSet);
  REQUIRE(peer.read_like(all) == all);
  peer.send(":1\r\n+OK\r\n:1\r\n:1\r\n");
  bench.thread.call([] {});
  CHECK(bench.sink.wait(1).published == 0);
  SECTION("good") {
    peer.send(":1\r\n");
    CHECK(bench.sink.wait_published(1).told);
  }
  SECTION("refused") {
    peer.send("-NOPERM no\r\n");
    bench.thread.call([] {});
    CHECK(bench.sink.of(1).published == 0);
    bench.tick(1'000'000);
    const std::string again = said("again") + said(kSet);
    REQUIRE(peer.read_like(again) == again);
    peer.send(":1\r\n:1\r\n");
    CHECK(bench.sink.wait_published(1).told);
  }
}

TEST_CASE("a refused announcement is made again, and no write is taken until it is through", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  bench.write(2, kIncr);
  Peer peer = server.accept();
  const std::string all = kOpened + kIncr + said(kIncr);
  REQUIRE(peer.read_like(all) == all);
  CHECK(bench.takes());
  peer.send(":1\r\n+OK\r\n-MOVED 7 127.0.0.1:1\r\n:1\r\n");
  CHECK(bench.sink.wait(2).bytes == ":1\r\n");
  CHECK(bench.refused == 1);
  CHECK_FALSE(bench.takes());
  bench.thread.call([&] { CHECK(bench.connection->why_not().find("MOVED 7") != std::string::npos); });
  peer.send(":1\r\n");  // of the second write's: whoever listens at the wrong place has heard it
  bench.thread.call([] {});
  CHECK(bench.sink.of(2).published == 0);
  bench.tick();
  CHECK(peer.quiet());  // not at once
  bench.tick(1'000'000);
  const std::string again = said("again") + said(kSet) + said(kIncr);
  REQUIRE(peer.read_like(again) == again);
  peer.send(":1\r\n:1\r\n");
  bench.thread.call([] {});
  CHECK_FALSE(bench.takes());
  CHECK(bench.sink.of(1).published == 0);
  peer.send(":1\r\n");
  CHECK(bench.sink.wait_published(1).told);
  CHECK(bench.sink.wait_published(2).told);
  CHECK(bench.takes());
  CHECK(bench.sink.of(1).published == 1);
}

TEST_CASE("what stays refused until the request's deadline is an error, in the node's words, and made again all the same",
          "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet, 10'000'000);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  peer.send(":1\r\n+OK\r\n-NOPERM no channel\r\n");
  bench.thread.call([] {});
  for (int i = 0; i < 3; ++i) {
    bench.tick(1'000'000);
    REQUIRE(peer.read_like(said("again") + said(kSet)) == said("again") + said(kSet));
    peer.send("-NOPERM no channel\r\n-NOPERM no channel\r\n");
    bench.thread.call([] {});
    CHECK(bench.sink.of(1).published == 0);
  }
  bench.tick(11'000'000);
  const Outcome outcome = bench.sink.wait_published(1);
  CHECK_FALSE(outcome.told);
  CHECK(outcome.untold_why == "NOPERM no channel");
  REQUIRE(peer.read_like(said("again") + said(kSet)) == said("again") + said(kSet));
  peer.send(":1\r\n:1\r\n");
  bench.thread.call([] {});
  CHECK(bench.takes());
  CHECK(bench.sink.of(1).published == 1);
}

TEST_CASE("an announcement that is lost behind its write is made on the next connection, ahead of everything",
          "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kOpened) == kOpened);
    peer.send(":1\r\n+OK\r\n");
    CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  }
  bench.thread.call([] {});
  bench.tick();
  bench.write(2, kIncr);
  Peer peer = server.accept();
  const std::string all = said("again") + said(kSet) + said("open") + kIncr + said(kIncr);
  REQUIRE(peer.read_like(all) == all);
  CHECK(bench.sink.of(1).published == 0);
  peer.send(":1\r\n:1\r\n");
  CHECK(bench.sink.wait_published(1).told);
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(bench.sink.of(1).unknown.empty());
  CHECK(bench.sink.of(2).ends == 0);
}

TEST_CASE("if the node does not come back in time, the write's client hears of it", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kOpened) == kOpened);
    peer.send(":1\r\n+OK\r\n");
    CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
    server.shut();
  }
  bench.thread.call([] {});
  bench.tick(kTimeout + 1);
  const Outcome outcome = bench.sink.wait_published(1);
  CHECK_FALSE(outcome.told);
  CHECK(outcome.untold_why.find("lost") != std::string::npos);
}

TEST_CASE("a write that is lost before its reply may have been executed: its announcement is made again", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kOpened) == kOpened);
  }
  const Outcome outcome = bench.sink.wait(1);
  CHECK(outcome.error.find("may have taken effect") != std::string::npos);
  CHECK(outcome.unknown == kSet);
  bench.tick();
  Peer peer = server.accept();
  const std::string again = said("again") + said(kSet);
  REQUIRE(peer.read_like(again) == again);
  peer.send(":1\r\n:1\r\n");
  bench.thread.call([] {});
  CHECK(bench.sink.of(1).published == 0);
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(bench.not_executed == 0);
}

TEST_CASE("a write that timed out is unknown, and its late announcement is nobody's", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kIncr);
  bench.write(2, kSet, 1'000'000);
  Peer peer = server.accept();
  const std::string all = said("open") + kIncr + said(kIncr) + kSet + said(kSet);
  REQUIRE(peer.read_like(all) == all);
  bench.tick(kTimeout - 10'000'000);  // the first one's time is not over, so that of nobody behind it is looked at
  CHECK(bench.sink.of(2).ends == 0);
  bench.tick(kTimeout + 1'000'000);
  CHECK(bench.sink.wait(1).unknown == kIncr);
  CHECK(bench.sink.wait(2).unknown == kSet);
  peer.send(":1\r\n:7\r\n:1\r\n+OK\r\n:1\r\n");
  bench.thread.call([] {});
  for (const std::uint64_t token : {1u, 2u}) {
    CHECK(bench.sink.of(token).ends == 1);
    CHECK(bench.sink.of(token).published == 0);
    CHECK(bench.sink.of(token).bytes.empty());
  }
}

TEST_CASE("an announcement that is not answered in time is an error for the write that is done", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  peer.send(":1\r\n+OK\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  bench.tick(kTimeout * 2 + 1'000'000);
  const Outcome outcome = bench.sink.wait_published(1);
  CHECK_FALSE(outcome.told);
  CHECK(outcome.untold_why.find("timeout") != std::string::npos);
  CHECK(outcome.unknown.empty());
  peer.send(":1\r\n");
  bench.thread.call([] {});
  CHECK(bench.sink.of(1).published == 1);
}

TEST_CASE("a redirected write is not published by the node that did not execute it", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  SECTION("the node takes the announcement") { peer.send(":1\r\n-MOVED 0 127.0.0.1:1\r\n:1\r\n"); }
  SECTION("the node refuses it too") { peer.send(":1\r\n-MOVED 0 127.0.0.1:1\r\n-MOVED 0 127.0.0.1:1\r\n"); }
  SECTION("an announcement was refused before") {
    peer.send("-MOVED 0 127.0.0.1:1\r\n-MOVED 0 127.0.0.1:1\r\n:1\r\n");
    bench.thread.call([] {});
    bench.tick(1'000'000);
    REQUIRE(peer.read_like(said("again") + said(kSet)) == said("again") + said(kSet));
    peer.send(":1\r\n:1\r\n");
  }
  bench.thread.call([] {});
  CHECK(bench.redirected == 1);
  CHECK(bench.sink.of(1).published == 0);
}

TEST_CASE("when the channel moves, what was on its way is announced again", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  Topology moved;
  moved.version = 2;
  bench.thread.call([&] { bench.connection->set_topology(moved); });
  bench.tick();
  const std::string again = said("again") + said(kSet);
  REQUIRE(peer.read_like(again) == again);
  peer.send(":1\r\n+OK\r\n:1\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  CHECK(bench.sink.of(1).published == 0);
  peer.send(":1\r\n:1\r\n");
  CHECK(bench.sink.wait_published(1).told);
}

TEST_CASE("when the node says that its channel has moved, the very next write opens a stream there", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  bench.switches.moved = true;
  SECTION("with a write") {
    bench.write(2, kIncr);
    const std::string opened = said("open") + kIncr + said(kIncr);
    REQUIRE(peer.read_like(opened) == opened);
  }
  SECTION("without") {}
  bench.tick();
  const std::string again = said("again") + said(kSet);
  REQUIRE(peer.read_like(again) == again);
  CHECK(bench.sink.of(1).published == 0);
}

TEST_CASE("a write behind ASKING is handed to the slot's owner to be announced, when it is done", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bool able = true;
  SECTION("the importing node has a channel: it is announced there too") {}
  SECTION("it has none") { able = false; }
  bench.switches.able = able;
  bench.write(1, kSet, kTimeout, true);
  Peer peer = server.accept();
  const std::string asking = command({"ASKING"});
  const std::string all = able ? said("open") + asking + kSet + said(kSet) : asking + kSet;
  REQUIRE(peer.read_like(all) == all);
  bench.thread.call([&] { CHECK(bench.asked.empty()); });
  peer.send(able ? ":1\r\n+OK\r\n+OK\r\n:1\r\n" : "+OK\r\n+OK\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  bench.thread.call([&] { CHECK(bench.asked == std::vector<std::uint64_t>{1}); });
  CHECK(bench.sink.of(1).published == 0);
}

TEST_CASE("what a command nobody knows did shows in its reply, and is announced then", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  const std::string what = command({"WHAT", "k"});
  bench.write(1, what);
  bench.write(2, kSet);
  Peer peer = server.accept();
  const std::string all = said("open") + what + kSet + said(kSet);
  REQUIRE(peer.read_like(all) == all);
  SECTION("nothing") {
    peer.send(":1\r\n-ERR unknown command 'WHAT'\r\n+OK\r\n:1\r\n");
    CHECK(bench.sink.wait(1).bytes == "-ERR unknown command 'WHAT'\r\n");
    CHECK(bench.sink.wait_published(1).told);
    CHECK(bench.sink.wait_published(2).told);
    CHECK(peer.quiet());
  }
  SECTION("something") {
    const bool error = GENERATE(false, true);
    peer.send(error ? ":1\r\n-ERR halfway\r\n+OK\r\n:1\r\n" : ":1\r\n$2\r\nno\r\n+OK\r\n:1\r\n");
    REQUIRE(peer.read_like(said("everything")) == said("everything"));
    CHECK(bench.sink.of(1).ends == 1);
    CHECK(bench.sink.of(1).published == 0);
    peer.send(":1\r\n");
    CHECK(bench.sink.wait_published(1).told);
  }
  SECTION("that is not to be had any more: everything, on the next connection") {
    peer.send(":1\r\n");
    bench.thread.call([] {});
    { const Peer closed = std::move(peer); }
    CHECK(bench.sink.wait(1).unknown == what);
    bench.tick();
    Peer next = server.accept();
    const std::string again = said("again") + said("everything") + said(kSet);
    CHECK(next.read_like(again) == again);
  }
  SECTION("after its time was over") {
    bench.tick(kTimeout + 1'000'000);
    CHECK(bench.sink.wait(1).unknown == what);
    peer.send(":1\r\n+OK\r\n");
    REQUIRE(peer.read_like(said("everything")) == said("everything"));
    peer.send("+OK\r\n:1\r\n:1\r\n");
    bench.thread.call([] {});
    CHECK(bench.sink.of(1).published == 0);
  }
  SECTION("while the node refuses announcements: owed") {
    peer.send("-NOPERM no channel\r\n+OK\r\n+OK\r\n:1\r\n");
    CHECK(bench.sink.wait(2).bytes == "+OK\r\n");
    bench.tick(1'000'000);
    const std::string again = said("again") + said(kSet) + said("everything");
    REQUIRE(peer.read_like(again) == again);
    CHECK(bench.sink.of(1).published == 0);
    peer.send(":1\r\n:1\r\n:1\r\n");
    CHECK(bench.sink.wait_published(1).told);
  }
}

TEST_CASE("no farewell while a reply may leave something to say", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  const std::string what = command({"WHAT"});
  bench.write(1, what);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(said("open") + what) == said("open") + what);
  bench.thread.call([&] { bench.connection->farewell(io::boot_us()); });
  CHECK(peer.quiet());
  peer.send(":1\r\n-ERR unknown command 'WHAT'\r\n");
  CHECK(bench.sink.wait_published(1).told);
  bench.thread.call([&] { bench.connection->farewell(io::boot_us()); });
  CHECK(peer.read_like(said("bye")) == said("bye"));
}

TEST_CASE("heartbeats go at ticks, and the farewell before the end", "[announce]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.write(1, kSet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kOpened) == kOpened);
  bench.switches.beats = true;
  bench.tick();
  REQUIRE(peer.read_like(said("beat")) == said("beat"));
  bench.thread.call([&] { bench.connection->farewell(io::boot_us()); });
  CHECK(peer.read_like(said("bye")) == said("bye"));
}

// The router over two nodes; slot n belongs to servers[n].
namespace {

struct RouterBench {
  explicit RouterBench(std::vector<Endpoint> all) : nodes(std::move(all)) {
    RouterOptions options;
    options.seeds = nodes;
    options.cluster = true;
    options.command_timeout_us = options.connect_timeout_us = kTimeout;
    options.request_refresh = [this] { ++refreshes; };
    options.on_trouble = [](const Endpoint&, std::string_view) {};
    options.make_announcer = [this](const Endpoint&) { return std::make_unique<Crier>(switches); };
    router = std::make_unique<Router>(thread.loop, resolver, counters, options);
    auto topology = std::make_shared<Topology>();
    topology->cluster = true;
    topology->version = 1;
    topology->primaries = nodes;
    topology->owner.fill(Topology::kNoNode);
    for (std::uint16_t i = 0; i < nodes.size(); ++i) topology->owner[i] = i;
    router->set_topology(topology);
    thread.loop.on_turn_end([this] { router->flush(); });
    lane = &router->attach(std::make_shared<const Identity>(1u, Credentials{}), RespVersion::kResp2);
    thread.start();
  }
  ~RouterBench() { thread.stop(); }

  void write(std::uint64_t token, const std::string& bytes) {
    RequestMeta meta;
    meta.sink = &sink;
    meta.token = token;
    meta.slot = 0;
    meta.write = meta.announce = true;
    thread.call([=, this] { router->send(*lane, meta, bytes, io::boot_us()); });
  }
  void tick(std::int64_t later) {
    thread.call([=, this] { router->tick(io::boot_us() + later); });
  }

  std::vector<Endpoint> nodes;
  LoopThread thread;
  io::Resolver resolver;
  insight::Counters counters;
  Recorder sink;
  Crier::Switches switches;
  std::atomic<int> refreshes{0};
  std::unique_ptr<Router> router;
  Router::Lane* lane = nullptr;
};

}  // namespace

TEST_CASE("a write that moved is announced behind itself where it is executed", "[announce][router]") {
  ScriptedServer a, b;
  RouterBench bench({a.endpoint(), b.endpoint()});
  bench.write(1, kSet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kOpened) == kOpened);
  at_a.send(":1\r\n-MOVED 0 " + b.address() + "\r\n:1\r\n");
  Peer at_b = b.accept();
  REQUIRE(at_b.read_like(kOpened) == kOpened);
  CHECK(bench.sink.of(1).published == 0);
  at_b.send(":1\r\n+OK\r\n:1\r\n");
  CHECK(bench.sink.wait_published(1).told);
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(bench.sink.of(1).published == 1);
}

TEST_CASE("a write behind ASKING is published by the slot's owner, after it is done", "[announce][router]") {
  ScriptedServer a, b;
  RouterBench bench({a.endpoint(), b.endpoint()});
  bench.write(1, kSet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kOpened) == kOpened);
  at_a.send(":1\r\n-ASK 0 " + b.address() + "\r\n:1\r\n");
  Peer at_b = b.accept();
  const std::string asked = said("open") + command({"ASKING"}) + kSet + said(kSet);
  REQUIRE(at_b.read_like(asked) == asked);
  bench.thread.call([] {});
  CHECK(at_a.quiet());
  at_b.send(":1\r\n+OK\r\n+OK\r\n:1\r\n");
  REQUIRE(at_a.read_like(said(kSet)) == said(kSet));
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  CHECK(bench.sink.of(1).published == 0);
  at_a.send(":1\r\n");
  CHECK(bench.sink.wait_published(1).told);
  CHECK(bench.sink.of(1).published == 1);
}

TEST_CASE("a node whose channel is not known gets no write, and the topology is asked for", "[announce][router]") {
  ScriptedServer a;
  RouterBench bench({a.endpoint()});
  bench.switches.able = false;
  bench.write(1, kSet);
  Peer at_a = a.accept();
  bench.thread.call([] {});
  CHECK(at_a.quiet());
  bench.tick(1'000'000);
  CHECK(at_a.quiet());
  CHECK(bench.refreshes > 0);
  SECTION("it becomes known") {
    bench.switches.able = true;
    bench.tick(2'000'000);
    REQUIRE(at_a.read_like(kOpened) == kOpened);
    at_a.send(":1\r\n+OK\r\n:1\r\n");
    CHECK(bench.sink.wait_published(1).told);
  }
  SECTION("it does not") {
    bench.tick(kTimeout + 1);
    const Outcome outcome = bench.sink.wait(1);
    CHECK(outcome.error.find("not written") != std::string::npos);
    CHECK(outcome.published == 0);
    CHECK(at_a.quiet());
  }
}

}  // namespace nearcached::tiers::upstream
