#include "tiers/io/stream.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/unit/tiers/io/loop_script.hpp"

namespace nearcached::tiers::io {
namespace {

using testing::LoopScript;

// A stream on one end of a socket pair; the test has the other, non-blocking.
class Bench final : public StreamOwner {
 public:
  explicit Bench(bool with_pair = true) : stream(loop, *this), script(loop) {
    if (!with_pair) return;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    stream.adopt(fds[0]);
    peer = fds[1];
  }
  ~Bench() {
    stream.close();
    if (peer >= 0) ::close(peer);
  }

  void peer_sends(const std::string& bytes) {
    REQUIRE(send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  // What lies at the peer now.
  std::string peer_reads() {
    std::string got;
    char chunk[65536];
    ssize_t n;
    while ((n = recv(peer, chunk, sizeof chunk, 0)) > 0) got.append(chunk, static_cast<std::size_t>(n));
    return got;
  }
  void peer_closes() { ::close(std::exchange(peer, -1)); }

  EventLoop loop;
  Stream stream;
  LoopScript script;
  int peer = -1;

  std::function<std::size_t(std::string_view)> take = [](std::string_view bytes) { return bytes.size(); };
  std::string seen;  // bytes consumed
  int data_calls = 0;
  int connected = 0, writable = 0;
  int closed = 0, close_error = -1;
  bool lingers = false;  // what on_end_of_input answers
  int ends = 0;

 private:
  void on_connected() override { ++connected; }
  std::size_t on_data(std::string_view bytes) override {
    ++data_calls;
    const std::size_t n = take(bytes);
    seen += bytes.substr(0, n);
    return n;
  }
  void on_writable() override { ++writable; }
  bool on_end_of_input() override {
    ++ends;
    return lingers;
  }
  void on_closed(int error) override {
    ++closed;
    close_error = error;
  }
};

// Messages of a length byte and that many letters.
std::size_t whole_messages(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t length = 1 + static_cast<std::size_t>(bytes[at] - 'A');
    if (bytes.size() - at < length) break;
    at += length;
  }
  return at;
}

}  // namespace

TEST_CASE("what is not consumed comes again with more behind it, wherever the bytes are cut", "[stream]") {
  const std::string message = "DxyzAFhellobX";
  for (std::size_t cut = 1; cut < message.size(); ++cut) {
    Bench b;
    b.take = whole_messages;
    const std::size_t whole = whole_messages(message);
    b.peer_sends(message.substr(0, cut));
    b.script.until([&] { return b.data_calls == 1; })
        .then([&] {
          CHECK(b.seen.size() == whole_messages(message.substr(0, cut)));
          CHECK(b.stream.unread_bytes() == cut - b.seen.size());
          b.peer_sends(message.substr(cut));
        })
        .until([&] { return b.data_calls == 2; })
        .run();
    CAPTURE(cut);
    CHECK(b.seen == message.substr(0, whole));
    CHECK(b.stream.bytes_in() == message.size());
  }
}

TEST_CASE("while a stream is paused nothing is read, and nothing is lost", "[stream]") {
  Bench b;
  b.stream.pause();
  b.peer_sends("first");
  b.script.turns(5)
      .then([&] {
        CHECK(b.data_calls == 0);
        CHECK(b.stream.bytes_in() == 0);
        b.stream.resume();
      })
      .until([&] { return b.seen == "first"; })
      .run();
  CHECK(b.closed == 0);
}

TEST_CASE("a stream paused from inside its data keeps the rest for resume", "[stream]") {
  Bench b;
  b.take = [&](std::string_view) {
    b.stream.pause();
    return std::size_t{2};
  };
  b.peer_sends("123456");
  b.script.until([&] { return b.data_calls == 1; })
      .then([&] { b.peer_sends("78"); })
      .turns(5)
      .then([&] {
        CHECK(b.seen == "12");
        b.stream.resume();
        CHECK(b.seen == "1234");  // handed over again at once
        CHECK(b.stream.paused());
        b.take = [](std::string_view bytes) { return bytes.size(); };
        b.stream.resume();
        CHECK(b.seen == "123456");
      })
      .until([&] { return b.seen == "12345678"; })
      .run();
}

TEST_CASE("a peer that closes is told once, with what it sent before", "[stream]") {
  Bench b;
  b.peer_sends("last words");
  b.peer_closes();
  b.script.until([&] { return b.closed == 1; }).turns(5).run();
  CHECK(b.seen == "last words");
  CHECK(b.closed == 1);
  CHECK(b.close_error == 0);
  CHECK_FALSE(b.stream.is_open());
}

TEST_CASE("a peer that only ends its sending still gets its replies", "[stream]") {
  Bench b;
  b.lingers = true;
  b.peer_sends("ask");
  shutdown(b.peer, SHUT_WR);
  b.script.until([&] { return b.ends == 1; })
      .turns(5)
      .then([&] {
        CHECK(b.ends == 1);  // and not again at every turn
        CHECK(b.closed == 0);
        b.stream.out().append("answer");
        REQUIRE(b.stream.flush());
      })
      .until([&] { return b.peer_reads() == "answer"; })
      .then([&] { b.peer_closes(); })
      .until([&] { return b.closed == 1; })
      .run();
}

TEST_CASE("a stream closed from inside its data reports nothing more", "[stream]") {
  Bench b;
  b.take = [&](std::string_view bytes) {
    b.stream.close();
    return bytes.size() / 2;
  };
  b.peer_sends("123456");
  b.script.until([&] { return b.data_calls == 1; }).then([&] { CHECK(recv(b.peer, nullptr, 0, 0) == 0); }).turns(5).run();
  CHECK(b.closed == 0);
  CHECK(b.data_calls == 1);
  CHECK(b.stream.unread_bytes() == 0);
  CHECK(b.loop.buffers().bytes_out() == 0);
}

TEST_CASE("a stream paused for backpressure still notices that its peer is gone", "[stream]") {
  Bench b;
  b.stream.pause();
  b.peer_closes();
  b.script.until([&] { return b.closed == 1; }).turns(5).run();
  CHECK(b.closed == 1);
}

TEST_CASE("a paused stream that minds its peer's going reads what stands before it, and gives it out when resumed",
          "[stream]") {
  Bench b;
  b.stream.pause();
  b.stream.mind_hangup(100'000);
  b.peer_sends(std::string(60'000, 'x'));
  b.script.until([&] { return b.stream.unread_bytes() == 60'000; })
      .then([&] {
        CHECK(b.data_calls == 0);
        b.stream.mind_hangup(0);
        b.stream.resume();
        CHECK(b.seen.size() == 60'000);
        b.stream.pause();
        b.stream.mind_hangup(100'000);
        b.peer_sends(std::string(60'000, 'y'));
        b.peer_closes();
      })
      .until([&] { return b.closed == 1; })
      .run();
  CHECK(b.close_error == 0);
  CHECK(b.seen.size() == 60'000);
  CHECK(b.loop.buffers().bytes_out() == 0);
}

TEST_CASE("a paused stream reads ahead so far and no further", "[stream]") {
  Bench b;
  b.stream.pause();
  b.stream.mind_hangup(100'000);
  b.peer_sends(std::string(60'000, 'x'));
  b.script.until([&] { return b.stream.unread_bytes() == 60'000; })
      .then([&] { b.peer_sends(std::string(60'000, 'x')); })
      .until([&] { return b.closed == 1; })
      .run();
  CHECK(b.close_error == ENOBUFS);
  CHECK(b.data_calls == 0);
}

TEST_CASE("what the kernel does not take leaves when it does, in order, and the owner is told", "[stream]") {
  Bench b;
  std::string sent;
  for (int i = 0; sent.size() < 3'000'000; ++i) sent += std::to_string(i) + ",";
  b.stream.out().append(sent);
  REQUIRE(b.stream.flush());
  CHECK_FALSE(b.stream.out().empty());
  std::string got;
  b.script
      .until([&] {
        got += b.peer_reads();
        return got.size() >= sent.size();
      })
      .until([&] { return b.stream.out().empty(); })
      .run();
  CHECK(got == sent);
  CHECK(b.writable > 0);
  CHECK(b.stream.bytes_out() == sent.size());
}

TEST_CASE("a large message is received whole, announced or not", "[stream]") {
  for (const bool announced : {false, true}) {
    Bench b;
    std::string sent;
    for (int i = 0; sent.size() < 2'500'000; ++i) sent += std::to_string(i) + ",";
    b.take = [&](std::string_view bytes) {
      if (announced) b.stream.expect(sent.size());
      return bytes.size() < sent.size() ? 0 : bytes.size();
    };
    std::size_t at = 0;
    b.script
        .until([&] {
          const ssize_t n = send(b.peer, sent.data() + at, sent.size() - at, MSG_NOSIGNAL);
          if (n > 0) at += static_cast<std::size_t>(n);
          return at == sent.size();
        })
        .until([&] { return !b.seen.empty(); })
        .run();
    CHECK(b.seen == sent);
    CHECK(b.loop.buffers().bytes_out() == 0);
  }
}

TEST_CASE("an announced size takes no memory before its bytes come", "[stream]") {
  Bench b;
  b.take = [&](std::string_view) {
    b.stream.expect(std::size_t{512} << 20);
    return std::size_t{0};
  };
  b.peer_sends("x");
  b.script.until([&] { return b.data_calls == 1; })
      .then([&] { b.peer_sends("y"); })
      .until([&] { return b.data_calls == 2; })
      .run();
  CHECK(b.loop.buffers().bytes_out() <= (4u << 20));
}

TEST_CASE("sent bytes are retained until they are acknowledged, and survive the close", "[stream]") {
  Bench b;
  b.stream.retain_sent();
  b.stream.out().append("onetwo");
  REQUIRE(b.stream.flush());
  CHECK(b.stream.sent() == 6);
  CHECK(b.stream.out().view() == "onetwo");
  b.stream.acknowledge(3);
  CHECK(b.stream.sent() == 3);
  CHECK(b.stream.out().view() == "two");
  b.stream.out().append("three");
  REQUIRE(b.stream.flush());
  CHECK(b.peer_reads() == "onetwothree");  // nothing twice
  b.stream.out().append("unsent");
  b.stream.close();
  CHECK(b.stream.out().view() == "twothreeunsent");
  CHECK(b.stream.sent() == 8);
}

TEST_CASE("a write to a peer that is gone fails, and does not kill the process", "[stream]") {
  Bench b;
  b.peer_closes();
  b.stream.out().append("x");
  CHECK_FALSE(b.stream.flush());
  CHECK((errno == EPIPE || errno == ECONNRESET));
  CHECK(b.closed == 0);
}

TEST_CASE("a connect is told when it is through, and sends what waited", "[stream]") {
  Bench b(false);
  const int listener = listen_tcp("127.0.0.1", 0);
  REQUIRE(b.stream.connect(literal_address("127.0.0.1", local_port(listener))));
  CHECK_FALSE(b.stream.connected());
  b.stream.out().append("hello");
  REQUIRE(b.stream.flush());  // too early, no harm
  b.script.until([&] { return b.connected == 1; })
      .then([&] {
        CHECK(b.stream.connected());
        pollfd ready{listener, POLLIN, 0};
        REQUIRE(poll(&ready, 1, 20'000) == 1);
        b.peer = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
        REQUIRE(b.peer >= 0);
        REQUIRE(b.stream.flush());
      })
      .until([&, got = std::string()]() mutable { return (got += b.peer_reads()) == "hello"; })
      .then([&] { b.peer_sends("hi"); })
      .until([&] { return b.seen == "hi"; })
      .run();
  CHECK(b.connected == 1);
  close(listener);
}

TEST_CASE("a refused connect is told as an error, once", "[stream]") {
  Bench b(false);
  const int listener = listen_tcp("127.0.0.1", 0);
  const SocketAddress address = literal_address("127.0.0.1", local_port(listener));
  close(listener);
  REQUIRE(b.stream.connect(address));
  b.script.until([&] { return b.closed == 1; }).turns(5).run();
  CHECK(b.close_error == ECONNREFUSED);
  CHECK(b.connected == 0);
  CHECK(b.closed == 1);
}

TEST_CASE("a stream can be connected again after it was closed", "[stream]") {
  Bench b;
  b.stream.pause();
  b.stream.out().append("never sent");
  b.stream.close();
  CHECK(b.stream.out().empty());
  int fds[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  ::close(std::exchange(b.peer, fds[1]));
  b.stream.adopt(fds[0]);
  b.peer_sends("x");
  b.script.until([&] { return b.seen == "x"; }).run();
  CHECK_FALSE(b.stream.paused());
}

}  // namespace nearcached::tiers::io
