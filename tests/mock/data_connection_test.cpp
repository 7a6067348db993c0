// One pipelined connection against a server that is slow, rude or cut off.
#include "tiers/upstream/data_connection.hpp"

#include <catch2/catch.hpp>

#include "tests/mock/scripted_server.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers::upstream {
namespace {

using namespace nearcached::testing;
using protocol::RespVersion;

constexpr std::int64_t kTimeout = 100'000'000;  // far longer than a test takes: only ticks make it pass

struct Given {
  Credentials credentials;
  RespVersion version = RespVersion::kResp2;
  std::uint32_t database = 0;
  std::int64_t connect_timeout_us = kTimeout;
};

struct NotExecuted {
  std::uint64_t token = 0;
  std::string bytes, error;
};

// The connection and its owner, who remembers.
class Bench final : public DataConnectionOwner {
 public:
  explicit Bench(const Endpoint& endpoint, const Given& given = {}) {
    DataConnectionOptions options;
    options.endpoint = endpoint;
    options.identity = std::make_shared<const Identity>(1u, given.credentials, given.database);
    options.version = given.version;
    options.connect_timeout_us = given.connect_timeout_us;
    options.command_timeout_us = kTimeout;
    connection = std::make_unique<DataConnection>(thread.loop, resolver, counters, options, *this);
    thread.loop.on_turn_end([this] { connection->flush(); });
    thread.start();
  }
  ~Bench() { thread.stop(); }

  // `patience` is what is left of the request's time.
  void send(std::uint64_t token, const std::string& bytes, bool write = false, std::int64_t patience = kTimeout) {
    RequestMeta meta;
    meta.sink = &sink;
    meta.token = token;
    meta.write = write;
    const std::int64_t now_us = io::boot_us();
    meta.deadline_us = now_us + patience;
    thread.call([=, this] { connection->send(meta, bytes, now_us); });
  }
  void tick(std::int64_t later) {
    thread.call([=, this] { connection->tick(io::boot_us() + later); });
  }
  // Waits until the owner was told of trouble that many times.
  std::string wait_trouble(std::size_t times = 1) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return troubles_.size() >= times; });
    return troubles_.empty() ? std::string() : troubles_.back();
  }
  std::vector<NotExecuted> not_executed() {
    const std::lock_guard lock(mutex_);
    return not_executed_;
  }
  std::size_t redirected() {
    const std::lock_guard lock(mutex_);
    return redirected_;
  }

  LoopThread thread;
  io::Resolver resolver;
  insight::Counters counters;
  Recorder sink;
  std::unique_ptr<DataConnection> connection;

 private:
  void on_not_executed(DataConnection&, RequestMeta meta, std::string_view bytes, std::string_view error) override {
    const std::lock_guard lock(mutex_);
    not_executed_.push_back({meta.token, std::string(bytes), std::string(error)});
  }
  void on_asked_write(DataConnection&, RequestMeta, std::string_view) override {}
  void on_refused_announcement(DataConnection&, std::string_view) override {}
  void on_redirected(DataConnection&, RequestMeta, std::string_view, const Redirect&, std::string_view) override {
    const std::lock_guard lock(mutex_);
    ++redirected_;
  }
  void on_trouble(DataConnection&, std::string_view what) override {
    const std::lock_guard lock(mutex_);
    troubles_.emplace_back(what);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<NotExecuted> not_executed_;
  std::vector<std::string> troubles_;
  std::size_t redirected_ = 0;
};

const std::string kGet = command({"GET", "k"});
const std::string kSet = command({"SET", "k", "v"});
const std::string kOk = "+OK\r\n";

}  // namespace

TEST_CASE("not a byte of a request leaves before the node has accepted who asks", "[data_connection]") {
  struct Case {
    Given given;
    std::vector<std::string> greeting;
  };
  const Case cases[] = {
      {{{"", "pw"}, RespVersion::kResp2, 0}, {command({"AUTH", "pw"})}},
      {{{"alice", "pw"}, RespVersion::kResp2, 0}, {command({"AUTH", "alice", "pw"})}},
      {{{"alice", "pw"}, RespVersion::kResp2, 4}, {command({"AUTH", "alice", "pw"}), command({"SELECT", "4"})}},
      {{{}, RespVersion::kResp3, 0}, {command({"HELLO", "3"})}},
      {{{"", "pw"}, RespVersion::kResp3, 4}, {command({"HELLO", "3", "AUTH", "default", "pw"}), command({"SELECT", "4"})}},
      {{{"alice", "pw"}, RespVersion::kResp3, 0}, {command({"HELLO", "3", "AUTH", "alice", "pw"})}},
      {{{}, RespVersion::kResp2, 4}, {command({"SELECT", "4"})}},
  };
  for (const Case& c : cases) {
    ScriptedServer server;
    Bench bench(server.endpoint(), c.given);
    bench.send(1, kGet);
    Peer peer = server.accept();
    std::string whole;
    for (const std::string& line : c.greeting) whole += line;
    CAPTURE(whole);
    REQUIRE(peer.read_like(whole) == whole);
    bench.send(2, kSet, true);
    for (std::size_t accepted = 0; accepted < c.greeting.size(); ++accepted) {
      bench.thread.call([] {});
      CHECK(peer.quiet());
      peer.send("+O");
      bench.thread.call([] {});
      CHECK(peer.quiet());
      peer.send("K\r\n");
    }
    CHECK(peer.read_like(kGet + kSet) == kGet + kSet);
    peer.send("$1\r\nx\r\n+OK\r\n");
    CHECK(bench.sink.wait(1).bytes == "$1\r\nx\r\n");
    CHECK(bench.sink.wait(2).bytes == kOk);
  }
}

TEST_CASE("a refused identity is answered in the upstream's words, and its requests never leave", "[data_connection]") {
  const std::string refusal = "WRONGPASS invalid username-password pair or user is disabled.";
  ScriptedServer server;
  Bench bench(server.endpoint(), {{"alice", "wrong"}, RespVersion::kResp2, 3});
  bench.send(1, kGet);
  bench.send(2, kSet, true);
  Peer peer = server.accept();
  const std::string greeting = command({"AUTH", "alice", "wrong"}) + command({"SELECT", "3"});
  REQUIRE(peer.read_like(greeting) == greeting);
  peer.send("-" + refusal.substr(0, 7));
  peer.send(refusal.substr(7) + "\r\n");
  for (const std::uint64_t token : {1u, 2u}) {
    const Outcome outcome = bench.sink.wait(token);
    CHECK(outcome.error == refusal);
    CHECK_FALSE(outcome.broken);
  }
  CHECK(bench.wait_trouble() == refusal);
  CHECK(peer.closed());
  CHECK(bench.not_executed().empty());
  bench.thread.call([&] {
    CHECK_FALSE(bench.connection->ready());
    CHECK_FALSE(bench.connection->available(io::boot_us()));  // not again at once
  });
}

TEST_CASE("a database that can't be selected is a refusal too", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint(), {{"", "pw"}, RespVersion::kResp2, 99});
  bench.send(1, kSet, true);
  Peer peer = server.accept();
  const std::string greeting = command({"AUTH", "pw"}) + command({"SELECT", "99"});
  REQUIRE(peer.read_like(greeting) == greeting);
  peer.send("+OK\r\n-ERR DB index is out of range\r\n");
  CHECK(bench.sink.wait(1).error == "ERR DB index is out of range");
  CHECK(peer.closed());
}

TEST_CASE("replies are passed on as they come, whole at the end and in order, wherever they are cut", "[data_connection]") {
  const std::string replies[] = {"$5\r\na\r\n+b\r\n", "-ERR no\r\n", "*2\r\n$-1\r\n-ERR in it\r\n", ":1\r\n", "$0\r\n\r\n",
                                 "*-1\r\n",           "+\r\n"};
  std::string all;
  for (const std::string& reply : replies) all += reply;
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(9000, kGet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  peer.send(kOk);
  std::uint64_t token = 0;
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    CAPTURE(cut);
    const std::uint64_t first = token;
    for (std::size_t i = 0; i < std::size(replies); ++i) bench.send(++token, kGet);
    for (std::size_t i = 0; i < std::size(replies); ++i) REQUIRE(peer.read_like(kGet) == kGet);
    peer.send(all.substr(0, cut));
    bench.thread.call([] {});
    peer.send(all.substr(cut));
    for (std::size_t i = 0; i < std::size(replies); ++i) {
      const Outcome outcome = bench.sink.wait(first + 1 + i);
      REQUIRE(outcome.bytes == replies[i]);
      REQUIRE(outcome.ends == 1);
    }
  }
}

TEST_CASE("a large reply is not held until it is whole", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  const std::string reply = bulk(std::string(3u << 20, 'v'));
  peer.send(reply.substr(0, 1u << 20));
  const Outcome early = bench.sink.wait_until(1, [](const Outcome& outcome) { return outcome.bytes.size() == 1u << 20; });
  CHECK(early.bytes.size() == 1u << 20);
  CHECK(early.ends == 0);
  peer.send(reply.substr(1u << 20));
  CHECK(bench.sink.wait(1).bytes == reply);
}

TEST_CASE("a request that timed out keeps its place, and its late reply is dropped", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kSet, true, 1'000'000);
  bench.send(2, kGet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kSet + kGet) == kSet + kGet);
  bench.tick(kTimeout / 2);
  const Outcome late = bench.sink.wait(1);
  CHECK(late.error.find("timeout") != std::string::npos);
  CHECK(late.error.find("may still take effect") != std::string::npos);
  CHECK_FALSE(late.broken);
  CHECK(bench.sink.of(2).ends == 0);
  bench.tick(kTimeout / 2);  // told once
  SECTION("the late reply is a value") { peer.send("$4\r\nlate\r\n$5\r\nright\r\n"); }
  SECTION("the late reply is an error") { peer.send("-ERR late\r\n$5\r\nright\r\n"); }
  SECTION("the late reply sends it elsewhere: nobody waits, a write must not go again") {
    peer.send("-MOVED 0 127.0.0.1:1\r\n$5\r\nright\r\n");
  }
  CHECK(bench.sink.wait(2).bytes == "$5\r\nright\r\n");
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(bench.sink.of(1).bytes.empty());
  CHECK(bench.redirected() == 0);
  bench.send(3, kGet);
  REQUIRE(peer.read_like(kGet) == kGet);
  peer.send(":3\r\n");
  CHECK(bench.sink.wait(3).bytes == ":3\r\n");
}

TEST_CASE("a read that timed out is not said to take effect", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet, false, 1'000'000);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  bench.tick(kTimeout / 2);
  CHECK(bench.sink.wait(1).error.find("effect") == std::string::npos);
}

TEST_CASE("half a reply and then silence breaks that client's stream and no other's", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet, false, 1'000'000);
  bench.send(2, kGet, false, 2'000'000);
  bench.send(3, kGet, false, 10 * kTimeout);
  Peer peer = server.accept();
  REQUIRE(peer.read(3 * kGet.size()) == kGet + kGet + kGet);
  peer.send("$4\r\nha");
  REQUIRE(bench.sink.wait_until(1, [](const Outcome& o) { return o.bytes == "$4\r\nha"; }).bytes == "$4\r\nha");
  bench.tick(kTimeout / 2);  // bytes came not long ago: who waits behind them is given time as well
  CHECK(bench.sink.of(1).ends == 0);
  CHECK(bench.sink.of(2).ends == 0);
  bench.tick(kTimeout + 1'000'000);
  CHECK(bench.sink.wait(1).broken);
  CHECK_FALSE(bench.sink.wait(2).broken);
  peer.send("lf\r\n$4\r\nlate\r\n$5\r\nright\r\n");
  CHECK(bench.sink.wait(3).bytes == "$5\r\nright\r\n");
  CHECK(bench.sink.of(1).bytes == "$4\r\nha");
  CHECK(bench.sink.of(2).bytes.empty());
}

TEST_CASE("half a reply and then a lost connection breaks that client's stream, the others go again", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet);
  bench.send(2, kGet);
  bench.send(3, kSet, true);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kGet + kGet + kSet) == kGet + kGet + kSet);
    peer.send("$4\r\nha");
    REQUIRE(bench.sink.wait_until(1, [](const Outcome& o) { return o.bytes == "$4\r\nha"; }).bytes == "$4\r\nha");
  }
  const Outcome broken = bench.sink.wait(1);
  CHECK(broken.broken);
  CHECK(broken.ends == 1);
  const Outcome write = bench.sink.wait(3);
  CHECK(write.error.find("may have taken effect") != std::string::npos);
  CHECK_FALSE(write.broken);
  const std::vector<NotExecuted> again = bench.not_executed();
  REQUIRE(again.size() == 1);
  CHECK(again[0].token == 2);
  CHECK(again[0].bytes == kGet);
}

TEST_CASE("half an error line and then a lost connection: nothing was passed on, the read goes again", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kGet) == kGet);
    peer.send("-MOVED 0 127.0");
    bench.thread.call([] {});
  }
  bench.wait_trouble();
  REQUIRE(bench.not_executed().size() == 1);
  CHECK(bench.not_executed()[0].bytes == kGet);
  CHECK(bench.sink.of(1).ends == 0);
}

TEST_CASE("what was not sent before a failed greeting may go elsewhere, writes as well", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint(), {{"", "pw"}, RespVersion::kResp2, 0});
  bench.send(1, kSet, true);
  {
    Peer peer = server.accept();
    REQUIRE(peer.read_like(command({"AUTH", "pw"})) == command({"AUTH", "pw"}));
  }
  bench.wait_trouble();
  REQUIRE(bench.not_executed().size() == 1);
  CHECK(bench.not_executed()[0].token == 1);
  CHECK(bench.not_executed()[0].bytes == kSet);
  CHECK(bench.sink.of(1).ends == 0);
}

TEST_CASE("a node that does not finish the greeting is given up after the connect timeout", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint(), {{"", "pw"}, RespVersion::kResp2, 0});
  bench.send(1, kSet, true, 10 * kTimeout);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(command({"AUTH", "pw"})) == command({"AUTH", "pw"}));
  bench.tick(kTimeout / 2);
  CHECK(bench.not_executed().empty());
  bench.tick(kTimeout + 1'000'000);
  CHECK(bench.not_executed().size() == 1);
  CHECK(peer.closed());
}

TEST_CASE("a request's time runs while its node is still being greeted", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint(), {{"", "pw"}, RespVersion::kResp2, 0, 10 * kTimeout});
  bench.send(1, kSet, true, 1'000'000);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(command({"AUTH", "pw"})) == command({"AUTH", "pw"}));
  bench.tick(kTimeout / 2);
  // Told so, or given back to the router, who tells: anything but silence until the connect timeout.
  CHECK((bench.sink.of(1).ends == 1 || bench.not_executed().size() == 1));
}

TEST_CASE("a node that stays silent for several timeouts is given up", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.send(1, kGet);
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  bench.tick(kTimeout * DataConnection::kSilenceFactor - 10'000'000);
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(peer.quiet());
  bench.thread.call([&] { CHECK(bench.connection->ready()); });
  bench.tick(kTimeout * DataConnection::kSilenceFactor + 1'000'000);
  CHECK(peer.closed());
  CHECK(bench.sink.of(1).ends == 1);
}

TEST_CASE("a server that answers what nobody asked, or speaks no RESP, is given up", "[data_connection]") {
  for (const char* bytes : {"$-1\r\n+EXTRA\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "$-1\r\n-ERR extra\r\n"}) {
    CAPTURE(bytes);
    ScriptedServer server;
    Bench bench(server.endpoint());
    bench.send(1, kGet);
    Peer peer = server.accept();
    REQUIRE(peer.read_like(kGet) == kGet);
    peer.send(bytes);
    CHECK_FALSE(bench.wait_trouble().empty());
    CHECK(peer.closed());
  }
}

TEST_CASE("pushes between replies are nobody's reply", "[data_connection]") {
  for (const std::string push : {">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", "|1\r\n+a\r\n:1\r\n>2\r\n+invalidate\r\n_\r\n"}) {
    CAPTURE(push);
    ScriptedServer server;
    Bench bench(server.endpoint(), {{}, RespVersion::kResp3, 0});
    bench.send(1, kGet);
    bench.send(2, kGet);
    Peer peer = server.accept();
    REQUIRE(peer.read_like(command({"HELLO", "3"})) == command({"HELLO", "3"}));
    peer.send(push + "%1\r\n+proto\r\n:3\r\n");
    REQUIRE(peer.read_like(kGet + kGet) == kGet + kGet);
    peer.send("$1\r\na\r\n" + push + "$1\r\nb\r\n");
    CHECK(bench.sink.wait(1).bytes == "$1\r\na\r\n");
    CHECK(bench.sink.wait(2).bytes == "$1\r\nb\r\n");
  }
}

TEST_CASE("a port where nobody listens is trouble, and what waited was not executed", "[data_connection]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  server.shut();
  bench.send(1, kSet, true);
  CHECK_FALSE(bench.wait_trouble().empty());
  REQUIRE(bench.not_executed().size() == 1);
  CHECK(bench.not_executed()[0].error.find("no connection to") != std::string::npos);
  CHECK(bench.sink.of(1).ends == 0);
}

TEST_CASE("a name that does not resolve is trouble at the next tick", "[data_connection]") {
  Bench bench(Endpoint{"no-such-host.invalid", 6379});
  bench.send(1, kGet);
  for (int turn = 0; turn < 10'000 && bench.not_executed().empty(); ++turn) bench.tick(1'000'000);
  CHECK(bench.not_executed().size() == 1);
}

}  // namespace nearcached::tiers::upstream
