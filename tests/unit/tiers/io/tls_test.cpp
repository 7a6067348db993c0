// Files into contexts, and streams under TLS. Certificates are made here; both ends run on one loop.
#include "tiers/io/tls.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <functional>

#include "tests/unit/tiers/io/loop_script.hpp"
#include "tests/unit/tiers/io/tls_files.hpp"
#include "tiers/io/stream.hpp"

namespace nearcached::tiers::io {
namespace {

using Catch::Contains;
using testing::LoopScript;
using testing::TlsFiles;

// One end of a connection and what it was told.
class End final : public StreamOwner {
 public:
  explicit End(EventLoop& loop) : stream(loop, *this) {}

  Stream stream;
  std::function<std::size_t(std::string_view)> take = [](std::string_view bytes) { return bytes.size(); };
  std::string seen;
  int connected = 0, closed = 0, error = -1, data_calls = 0, ends = 0;
  bool lingers = false;

 private:
  void on_connected() override { ++connected; }
  std::size_t on_data(std::string_view bytes) override {
    ++data_calls;
    const std::size_t n = take(bytes);
    seen += bytes.substr(0, n);
    return n;
  }
  bool on_end_of_input() override {
    ++ends;
    return lingers;
  }
  void on_closed(int with) override {
    ++closed;
    error = with;
  }
};

// A client that connects to a listening socket, and the server's end of it. Either end may be plain.
class Bench {
 public:
  explicit Bench(int socket_buffer_bytes = 0) : client(loop), server(loop), script(loop) {
    std::signal(SIGPIPE, SIG_IGN);
    listener_ = listen_tcp("127.0.0.1", 0);
    if (socket_buffer_bytes > 0) {
      setsockopt(listener_, SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
      setsockopt(listener_, SOL_SOCKET, SO_RCVBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
    }
  }
  ~Bench() {
    client.stream.close();
    server.stream.close();
    ::close(listener_);
  }
  void meet(const Tls* of_client, const Tls* of_server, const std::string& host = "127.0.0.1") {
    const SocketAddress address = literal_address("127.0.0.1", local_port(listener_));
    REQUIRE(client.stream.connect(address, of_client == nullptr ? nullptr : of_client->session(host)));
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    REQUIRE(fd >= 0);
    server.stream.adopt(fd, of_server == nullptr ? nullptr : of_server->session({}));
  }
  // Both have finished the handshake.
  [[nodiscard]] bool met() const { return client.connected == 1 && server.stream.connected(); }
  void run_until_closed() {
    script.until([this] { return client.closed == 1 || server.closed == 1; }).turns(20).run();
  }

  EventLoop loop;
  End client, server;
  LoopScript script;

 private:
  int listener_;
};

struct Sides {
  explicit Sides(const TlsFiles& files, TlsOptions of_client = {}, TlsOptions of_server = {}) {
    if (of_client.ca.empty()) of_client.ca = files.ca();
    if (of_server.cert.empty()) {
      const TlsFiles::Pair pair = files.issue("server");
      of_server.cert = pair.cert;
      of_server.key = pair.key;
    }
    client = std::make_unique<Tls>(Tls::Side::kClient, of_client);
    server = std::make_unique<Tls>(Tls::Side::kServer, of_server);
    REQUIRE(client->load() == "");
    REQUIRE(server->load() == "");
  }
  std::unique_ptr<Tls> client, server;
};

TlsOptions shows(const TlsFiles::Pair& pair) {
  TlsOptions options;
  options.cert = pair.cert;
  options.key = pair.key;
  return options;
}

void say(End& end, const std::string& bytes) {
  end.stream.out().append(bytes);
  REQUIRE(end.stream.flush());
}

std::string letters(std::size_t bytes, unsigned seed) {
  std::string text(bytes, ' ');
  for (char& c : text) c = static_cast<char>('a' + (seed = seed * 1664525 + 1013904223) % 26);
  return text;
}

}  // namespace

TEST_CASE("bytes arrive in both directions, and on_connected comes behind the handshake", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.meet(sides.client.get(), sides.server.get());
  CHECK_FALSE(b.client.stream.connected());
  b.script.until([&] { return b.met(); })
      .then([&] {
        say(b.client, "ask");
        say(b.server, "answer");
      })
      .until([&] { return b.server.seen == "ask" && b.client.seen == "answer"; })
      .run();
  CHECK(b.server.connected == 0);
  CHECK(b.client.stream.bytes_in() == 6);
  CHECK(b.client.stream.bytes_out() == 3);
}

TEST_CASE("what is written before the handshake is done leaves behind it", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.meet(sides.client.get(), sides.server.get());
  say(b.server, "greeting");
  CHECK(b.server.stream.out().size() == 8);
  b.script.until([&] { return b.client.seen == "greeting"; }).run();
  CHECK(b.server.stream.out().empty());
}

TEST_CASE("megabytes cross through small socket buffers, both ways at once", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b(4096);
  const std::string there = letters(3'000'000, 1), back = letters(2'500'000, 2);
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] {
        say(b.client, there);
        say(b.server, back);
        CHECK(b.client.stream.out().size() > 0);
      })
      .until([&] { return b.server.seen.size() >= there.size() && b.client.seen.size() >= back.size(); })
      .run();
  CHECK((b.server.seen == there));
  CHECK((b.client.seen == back));
}

TEST_CASE("what was sent stays until it is acknowledged, under TLS too", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.client.stream.retain_sent();
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] { say(b.client, "one two"); })
      .until([&] { return b.server.seen == "one two"; })
      .run();
  CHECK(b.client.stream.sent() == 7);
  b.client.stream.acknowledge(4);
  CHECK(b.client.stream.out().view() == "two");
  CHECK(b.client.stream.sent() == 3);
}

TEST_CASE("while a stream is paused nothing is delivered; then all of it, also what was decrypted before", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  const std::string bytes = letters(40'000, 3);
  int allowed = 1;
  b.server.take = [&](std::string_view some) -> std::size_t {
    if (allowed-- == 0) {
      b.server.stream.pause();
      return 0;
    }
    return std::min<std::size_t>(some.size(), 10);
  };
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] { say(b.client, bytes); })
      .until([&] { return b.server.stream.paused(); })
      .turns(20)
      .then([&] {
        CHECK(b.server.seen.size() == 10);
        b.server.take = [](std::string_view some) { return some.size(); };
        b.server.stream.resume();
      })
      .until([&] { return b.server.seen.size() >= bytes.size(); })
      .run();
  CHECK((b.server.seen == bytes));
}

TEST_CASE("a record of full size behind unconsumed bytes is delivered without another readiness", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  const std::string bytes = letters(16 * 1024, 4);
  b.server.take = [&](std::string_view some) { return some.size() >= 3 + bytes.size() ? some.size() : 0; };
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] { say(b.client, "abc"); })
      .until([&] { return b.server.data_calls == 1; })
      .then([&] { say(b.client, bytes); })
      .until([&] { return b.server.seen.size() == 3 + bytes.size(); })
      .run();
  CHECK((b.server.seen == "abc" + bytes));
}

TEST_CASE("closing says goodbye: the other end is told of an end and not of an error", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.server.lingers = true;
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] {
        say(b.client, "last words");
        b.client.stream.close();
      })
      .until([&] { return b.server.ends == 1; })
      .run();
  CHECK(b.server.seen == "last words");
  CHECK(b.server.closed == 0);
  CHECK(b.client.closed == 0);
}

TEST_CASE("an end without goodbye is an end as well", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.meet(sides.client.get(), sides.server.get());
  b.script.until([&] { return b.met(); })
      .then([&] { shutdown(b.client.stream.fd(), SHUT_RDWR); })
      .until([&] { return b.server.closed == 1; })
      .run();
  CHECK(b.server.error == 0);
  CHECK(b.server.stream.why(b.server.error) == "closed by the other side");
}

TEST_CASE("a server that is not believed: the client says why, and so does the server", "[tls]") {
  const TlsFiles files, strangers;
  TlsOptions believes_strangers;
  believes_strangers.ca = strangers.ca();
  struct Case {
    std::string names;
    long seconds;
    TlsOptions client;
    const char* why;
  };
  TlsOptions elsewhere;
  elsewhere.server_name = "elsewhere.example";
  const std::vector<Case> cases{{"IP:127.0.0.1", TlsFiles::kHour, believes_strangers, "unable to get local issuer"},
                                {"IP:127.0.0.1", -TlsFiles::kHour, {}, "certificate has expired"},
                                {"DNS:other.example", TlsFiles::kHour, {}, "IP address mismatch"},
                                {"IP:127.0.0.1", TlsFiles::kHour, elsewhere, "ostname mismatch"}};
  for (const Case& row : cases) {
    CAPTURE(row.why);
    const Sides sides(files, row.client, shows(files.issue("case", row.names, row.seconds)));
    Bench b;
    b.meet(sides.client.get(), sides.server.get());
    b.script.until([&] { return b.client.closed == 1 && b.server.closed == 1; }).run();
    CHECK(b.client.connected == 0);
    CHECK(b.client.error == EPROTO);
    CHECK_THAT(b.client.stream.why(EPROTO), Contains("TLS: the certificate was not accepted") && Contains(row.why));
    CHECK(b.server.error == EPROTO);
    CHECK_THAT(b.server.stream.why(EPROTO), Contains("TLS: ") && Contains("alert"));
  }
}

TEST_CASE("how much is verified is a choice", "[tls]") {
  const TlsFiles files, strangers;
  TlsOptions by_authority, by_name, anything;
  by_authority.verify = TlsVerify::kCa;
  by_name.server_name = "other.example";
  anything.verify = TlsVerify::kNone;
  anything.ca = strangers.ca();
  for (const TlsOptions& options : {by_authority, by_name, anything}) {
    const Sides sides(files, options, shows(files.issue("named", "DNS:other.example")));
    Bench b;
    b.meet(sides.client.get(), sides.server.get());
    b.script.until([&] { return b.met(); }).run();
    CHECK(b.client.closed == 0);
  }
}

TEST_CASE("a name is verified as a name, not as an address", "[tls]") {
  const TlsFiles files;
  for (const auto& [host, good] : std::vector<std::pair<std::string, bool>>{
           {"cache.example", true}, {"a.wild.example", true}, {"a.b.wild.example", false}, {"wild.example", false}}) {
    CAPTURE(host);
    const Sides sides(files, {}, shows(files.issue("names", "DNS:cache.example,DNS:*.wild.example")));
    Bench b;
    b.meet(sides.client.get(), sides.server.get(), host);
    b.script.until([&] { return b.client.connected + b.client.closed == 1; }).run();
    CHECK((b.client.connected == 1) == good);
  }
}

TEST_CASE("a client without the certificate that is required hears of it, although its handshake was done", "[tls]") {
  const TlsFiles files, strangers;
  for (const TlsClientAuth auth : {TlsClientAuth::kRequired, TlsClientAuth::kOptional}) {
    TlsOptions server = shows(files.issue("server"));
    server.ca = files.ca();
    server.client_auth = auth;
    const bool required = auth == TlsClientAuth::kRequired;
    {
      const Sides sides(files, {}, server);
      Bench b;
      b.meet(sides.client.get(), sides.server.get());
      if (required) {
        b.script.until([&] { return b.client.closed == 1 && b.server.closed == 1; }).run();
        CHECK_THAT(b.client.stream.why(b.client.error), Contains("certificate required"));
        CHECK_THAT(b.server.stream.why(b.server.error), Contains("did not return a certificate"));
      } else {
        b.script.until([&] { return b.met(); }).run();
      }
    }
    for (const bool known : {true, false}) {
      TlsOptions client = shows((known ? files : strangers).issue("client"));
      const Sides sides(files, client, server);
      Bench b;
      b.meet(sides.client.get(), sides.server.get());
      b.script.until([&] { return b.server.closed == 1 || (b.met() && known); }).run();
      CHECK((b.server.closed == 0) == known);
    }
  }
}

TEST_CASE("who does not speak TLS is an error with words, on either side", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  for (const char* text :
       {"*1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff........................"}) {
    Bench b;
    b.meet(nullptr, sides.server.get());
    b.script.until([&] { return b.client.connected == 1; }).then([&] { say(b.client, text); });
    b.run_until_closed();
    CHECK(b.server.error == EPROTO);
    CHECK_THAT(b.server.stream.why(EPROTO), Contains("TLS: "));
  }
  Bench b;
  b.meet(sides.client.get(), nullptr);
  b.script.until([&] { return !b.server.seen.empty(); }).then([&] { say(b.server, "-ERR unknown command\r\n"); });
  b.run_until_closed();
  CHECK(b.client.error == EPROTO);
  CHECK_THAT(b.client.stream.why(EPROTO), Contains("TLS: wrong version number"));
}

TEST_CASE("who goes away during the handshake is a lost connection and no fault of the protocol", "[tls]") {
  const TlsFiles files;
  const Sides sides(files);
  Bench b;
  b.meet(nullptr, sides.server.get());
  b.script.until([&] { return b.client.connected == 1; }).then([&] { b.client.stream.close(); });
  b.run_until_closed();
  CHECK(b.server.error == ECONNRESET);
  CHECK(b.server.stream.why(ECONNRESET) == "TLS: closed by the other side during the handshake");
  // Whose next connection is plain has nothing of that left.
  End& again = b.server;
  const SocketAddress nobody = literal_address("127.0.0.1", 1);
  static_cast<void>(again.stream.connect(nobody));
  CHECK(again.stream.why(0) == "closed by the other side");
}

TEST_CASE("files that can't be used are named with what is wrong with them", "[tls]") {
  const TlsFiles files;
  const TlsFiles::Pair one = files.issue("one"), other = files.issue("other");
  files.encrypt_key(one, files.path("encrypted.key"));
  TlsFiles::write(files.path("text"), "nothing of that kind\n");
  struct Case {
    std::string cert, key, ca;
    std::vector<std::string> said;
  };
  for (const Case& row : std::vector<Case>{{"/nonexistent", one.key, "", {"/nonexistent", "No such file"}},
                                           {one.cert, "/nonexistent", "", {"the key", "/nonexistent", "No such file"}},
                                           {one.cert, other.key, "", {other.key, "mismatch"}},
                                           {one.cert, files.path("encrypted.key"), "", {"encrypted.key"}},
                                           {files.path("text"), one.key, "", {"/text"}},
                                           {one.cert, files.path("text"), "", {"/text"}},
                                           {one.cert, one.key, files.path("text"), {"/text"}},
                                           {one.cert, one.key, "/nonexistent", {"/nonexistent"}}}) {
    TlsOptions options;
    options.cert = row.cert;
    options.key = row.key;
    options.ca = row.ca;
    Tls tls(Tls::Side::kServer, options);
    const std::string problem = tls.load();
    for (const std::string& said : row.said) CHECK_THAT(problem, Contains(said));
    CHECK(tls.session({}) == nullptr);
  }
}

TEST_CASE("changed files are read once, and broken ones leave the old in force", "[tls]") {
  const TlsFiles files;
  const TlsFiles::Pair pair = files.issue("renewed");
  Tls tls(Tls::Side::kServer, shows(pair));
  REQUIRE(tls.load() == "");
  CHECK_FALSE(tls.reload_if_changed());
  TlsFiles::write(pair.cert, "cut off");
  const auto problem = tls.reload_if_changed();
  REQUIRE(problem);
  CHECK_THAT(*problem, Contains(pair.cert));
  CHECK_FALSE(tls.reload_if_changed());
  CHECK(tls.session({}) != nullptr);
  static_cast<void>(files.issue("renewed"));
  CHECK(tls.reload_if_changed() == std::string());
  CHECK_FALSE(tls.reload_if_changed());
}

}  // namespace nearcached::tiers::io
