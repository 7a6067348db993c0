#include "daemon/admin_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "daemon/process_usage.hpp"
#include "tests/unit/daemon/sample_snapshot.hpp"
#include "tests/unit/daemon/strict_json.hpp"
#include "tests/unit/daemon/strict_prometheus.hpp"

namespace nearcached::daemon {
namespace {

using std::chrono::milliseconds;

constexpr int kPatienceMs = 10'000;  // for what must happen; a test that waits so long has failed

struct Reply {
  unsigned status = 0;
  std::string head;  // status line and headers, as received
  std::string body;
  [[nodiscard]] std::optional<std::string> header(const std::string& name) const {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return std::nullopt;
    const std::size_t start = at + name.size() + 4;
    return head.substr(start, head.find("\r\n", start) - start);
  }
};

// A client that knows nothing of Beast: bytes out, bytes in.
class Client {
 public:
  explicit Client(const AdminServer& server) {
    const std::string address = server.address();
    if (address.rfind("unix:", 0) == 0) {
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      address.substr(5).copy(to.sun_path, sizeof to.sun_path - 1);
      open(AF_UNIX, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    } else {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(server.port());
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      open(AF_INET, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    }
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { ::close(fd_); }

  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // refused in the middle: what the server says to it is read next
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void shutdown_send() const { ::shutdown(fd_, SHUT_WR); }

  // One reply; nothing where the connection ended before it was whole.
  std::optional<Reply> read_reply(bool has_body = true) {
    std::size_t head_end = std::string::npos;
    while ((head_end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return std::nullopt;
    }
    Reply reply;
    reply.head = received_.substr(0, head_end + 2);
    received_.erase(0, head_end + 4);
    REQUIRE(reply.head.rfind("HTTP/1.", 0) == 0);
    reply.status = static_cast<unsigned>(std::stoul(reply.head.substr(9, 3)));
    const std::size_t length = has_body ? std::stoul(reply.header("Content-Length").value()) : 0;
    while (received_.size() < length) {
      if (!receive()) return std::nullopt;
    }
    reply.body = received_.substr(0, length);
    received_.erase(0, length);
    return reply;
  }

  Reply get(const std::string& target, const std::string& method = "GET") {
    send(method + " " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
    auto reply = read_reply(method != "HEAD");
    REQUIRE(reply);
    return *reply;
  }

  // True once the server has closed; false where it sends more, or keeps the connection open too long.
  bool closed() {
    if (!received_.empty()) return false;
    return !receive() && !timed_out_;
  }

 private:
  void open(int family, const sockaddr* to, socklen_t size) {
    fd_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd_ >= 0);
    REQUIRE(::connect(fd_, to, size) == 0);
  }
  bool receive() {
    pollfd waited{fd_, POLLIN, 0};
    timed_out_ = ::poll(&waited, 1, kPatienceMs) != 1;
    if (timed_out_) return false;
    std::array<char, 65536> chunk{};
    const ssize_t n = ::recv(fd_, chunk.data(), chunk.size(), 0);
    if (n <= 0) return false;
    received_.append(chunk.data(), static_cast<std::size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool timed_out_ = false;
  std::string received_;
};

AdminHandlers sample_handlers() {
  return {.stats = testing::sample_snapshot,
          .live = [](std::string&) { return true; },
          .ready = [](std::string& why) { return why = "no upstream", false; },
          .config = [] { return std::string(); },
          .purge = [] {},
          .flush = [] { return std::size_t{0}; },
          .labels = {},
          .is_token = {}};
}

AdminServer::Options local_options() {
  AdminServer::Options options;
  options.listen = "127.0.0.1:0";
  return options;
}

// A started server.
struct Running {
  explicit Running(AdminServer::Options options = local_options(), AdminHandlers handlers = sample_handlers())
      : server(std::move(options), std::move(handlers)) {
    server.start();
  }
  AdminServer server;
};

struct TempDir {
  TempDir() {
    std::string pattern = "/tmp/admin_server_test_XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

std::string listen_error(const std::string& address) {
  AdminServer::Options options;
  options.listen = address;
  AdminServer server(options, sample_handlers());
  try {
    server.start();
  } catch (const std::system_error& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("all pages are served over one connection that is kept") {
  Running running;
  Client client(running.server);
  const Reply metrics = client.get("/metrics");
  CHECK(metrics.status == 200);
  CHECK(metrics.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  CHECK_NOTHROW(testing::StrictPrometheus::parse(metrics.body));
  const Reply stats = client.get("/stats");
  CHECK(testing::StrictJson::parse(stats.body));
  CHECK(client.get("/livez").body == "ok\n");
  const Reply ready = client.get("/readyz");
  CHECK(ready.status == 503);
  CHECK(ready.body == "no upstream\n");
  CHECK(client.get("/").header("Content-Type") == "text/html; charset=utf-8");
  CHECK(client.get("/nothing").status == 404);
}

TEST_CASE("a token is taken from its header, and who has none is told how") {
  AdminHandlers handlers = sample_handlers();
  handlers.is_token = [](std::string_view given) { return given == "t0ken"; };
  Running running(local_options(), handlers);
  Client client(running.server);
  const Reply refused = client.get("/stats");
  CHECK(refused.status == 401);
  CHECK(refused.header("WWW-Authenticate") == "Bearer");
  CHECK(client.get("/livez").status == 200);
  client.send("POST /purge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken\r\nContent-Length: 0\r\n\r\n");
  const auto purged = client.read_reply();
  REQUIRE(purged);
  CHECK(purged->status == 200);
}

TEST_CASE("HEAD answers GET's headers and no body") {
  Running running;
  Client client(running.server);
  const Reply get = client.get("/stats");
  const Reply head = client.get("/stats", "HEAD");
  CHECK(head.status == 200);
  CHECK(head.header("Content-Length") == get.header("Content-Length"));
  CHECK(head.header("Content-Type") == get.header("Content-Type"));
  CHECK(client.get("/livez").body == "ok\n");  // nothing was left behind the head
}

TEST_CASE("a method that is not allowed is told which are, and the connection goes on") {
  Running running;
  Client client(running.server);
  client.send("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
  const auto reply = client.read_reply();
  REQUIRE(reply);
  CHECK(reply->status == 405);
  CHECK(reply->header("Allow") == "GET, HEAD");
  CHECK(client.get("/livez").status == 200);
}

TEST_CASE("a request may arrive byte by byte, and several in one piece") {
  Running running;
  Client client(running.server);
  const std::string request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const char c : request) client.send({&c, 1});
  CHECK(client.read_reply()->body == "ok\n");
  client.send(request + "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" + request);
  CHECK(client.read_reply()->status == 200);
  CHECK(client.read_reply()->status == 503);
  CHECK(client.read_reply()->status == 200);
}

TEST_CASE("the connection is closed where the client asks for it, and for HTTP/1.0 unless it asks to keep it") {
  Running running;
  Client closing(running.server);
  closing.send("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const auto reply = closing.read_reply();
  REQUIRE(reply);
  CHECK(reply->header("Connection") == "close");
  CHECK(closing.closed());
  Client old(running.server);
  old.send("GET /livez HTTP/1.0\r\n\r\n");
  CHECK(old.read_reply()->head.rfind("HTTP/1.0 200", 0) == 0);
  CHECK(old.closed());
  Client kept(running.server);
  kept.send("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(kept.read_reply()->header("Connection") == "keep-alive");
  kept.send("GET /livez HTTP/1.0\r\n\r\n");
  CHECK(kept.read_reply()->status == 200);
}

TEST_CASE("what is not HTTP is answered 400 and closed") {
  Running running;
  const std::vector<std::string> malformed = {
      "*1\r\n$4\r\nPING\r\n\r\n",
      "PING\r\n\r\n",
      "GET /livez\r\n\r\n",
      "GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
      "GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost x\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
      "GET /livez HTTP/1.1\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      std::string("\0\0\0\0\r\n\r\n", 8),
      "\x16\x03\x01\x02\x00\x01\r\n\r\n",
  };
  for (const std::string& bytes : malformed) {
    INFO(bytes);
    Client client(running.server);
    client.send(bytes);
    const auto reply = client.read_reply();
    REQUIRE(reply);
    CHECK(reply->status == 400);
    CHECK(reply->header("Connection") == "close");
    CHECK(client.closed());
  }
  CHECK(Client(running.server).get("/livez").status == 200);
}

TEST_CASE("headers and bodies past their limits are refused while they are still being sent") {
  Running running;
  Client header(running.server);
  header.send("GET /livez HTTP/1.1\r\nHost: x\r\nX: " + std::string(10'000, 'a'));
  const auto too_large_header = header.read_reply();
  REQUIRE(too_large_header);
  CHECK(too_large_header->status == 431);
  header.shutdown_send();
  CHECK(header.closed());
  Client target(running.server);
  target.send("GET /" + std::string(20'000, 'a'));
  CHECK(target.read_reply()->status == 431);
  Client many(running.server);
  std::string lines = "GET /livez HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 1000; ++i) lines += "a" + std::to_string(i) + ": b\r\n";
  many.send(lines);
  CHECK(many.read_reply()->status == 431);
  for (const std::string framing : {"Content-Length: 1025\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100000\r\n"}) {
    Client body(running.server);
    body.send("POST /livez HTTP/1.1\r\nHost: x\r\n" + framing + std::string(8192, 'b'));
    const auto too_large_body = body.read_reply();
    REQUIRE(too_large_body);
    CHECK(too_large_body->status == 413);
  }
  CHECK(Client(running.server).get("/livez").status == 200);
}

TEST_CASE("a client that goes away in the middle of a request is answered nothing and forgotten") {
  Running running;
  Client client(running.server);
  client.send("GET /liv");
  client.shutdown_send();
  CHECK(client.closed());
  CHECK(Client(running.server).get("/livez").status == 200);
}

TEST_CASE("a client that sends nothing, half a request, or one byte now and then is closed in time") {
  AdminServer::Options options = local_options();
  options.timeout = milliseconds(50);
  Running running(options);
  Client silent(running.server);
  Client half(running.server);
  half.send("GET /livez HTTP/1.1\r\n");
  Client kept(running.server);
  const Reply first = kept.get("/livez");
  CHECK(first.status == 200);
  CHECK(silent.closed());
  CHECK(half.closed());
  CHECK(kept.closed());
}

// Waits, bounded, for what another thread does.
template <typename Condition>
bool eventually(Condition condition) {
  constexpr int kStepMs = 5;
  for (int waited = 0; waited < kPatienceMs; waited += kStepMs) {
    if (condition()) return true;
    ::poll(nullptr, 0, kStepMs);
  }
  return false;
}

TEST_CASE("a client that takes no answers is closed and holds up nobody") {
  AdminServer::Options options = local_options();
  options.timeout = milliseconds(200);
  AdminHandlers handlers = sample_handlers();
  handlers.stats = [] {
    StatsSnapshot s;
    s.coherence_reason = std::string(24u << 20, 'x');  // far more than socket buffers take
    return s;
  };
  Running running(options, handlers);
  const std::uint64_t fds_without_clients = read_process_usage().open_fds;
  Client stuck(running.server);
  stuck.send("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(Client(running.server).get("/livez").status == 200);
  CHECK(Client(running.server).get("/livez").status == 200);
  CHECK(eventually([&] { return read_process_usage().open_fds == fds_without_clients + 1; }));  // our end alone
  CHECK_FALSE(stuck.read_reply());
}

TEST_CASE("connections are bounded: a newcomer takes the place of the one idle for longest, and is served") {
  AdminServer::Options options = local_options();
  options.connections_max = 4;
  options.timeout = milliseconds(60'000);
  Running running(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(running.server));
    CHECK(clients.back()->get("/livez").status == 200);
  }
  CHECK(clients[0]->get("/livez").status == 200);  // now clients[1] has waited longest
  Client newcomer(running.server);
  CHECK(newcomer.get("/livez").status == 200);
  CHECK(clients[1]->closed());
  for (const std::size_t i : {0u, 2u, 3u}) CHECK(clients[i]->get("/livez").status == 200);
}

TEST_CASE("a flood of silent connections never keeps a probe out") {
  AdminServer::Options options = local_options();
  options.connections_max = 8;
  options.timeout = milliseconds(60'000);
  Running running(options);
  std::vector<std::unique_ptr<Client>> flood;
  for (int i = 0; i < 200; ++i) flood.push_back(std::make_unique<Client>(running.server));
  CHECK(Client(running.server).get("/livez").status == 200);
}

TEST_CASE("an address that is taken is named in the error") {
  Running running;
  const std::string address = running.server.address();
  CHECK(listen_error(address) == "admin: cannot listen on " + address + ": Address already in use");
}

TEST_CASE("an address that is none is named in the error") {
  for (const std::string address : {"", "9180", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
                                    "127.0.0.1:1 ", "192.0.2.1:1", "unix:/no/such/folder/a.sock"}) {
    INFO(address);
    CHECK(listen_error(address).find("admin: cannot listen on " + address + ": ") == 0);
  }
  const std::string long_path = "unix:/tmp/" + std::string(200, 'a');
  CHECK(listen_error(long_path).find("admin: cannot listen on " + long_path + ": ") == 0);
}

TEST_CASE("a server whose start failed may be started again, and one stopped too") {
  Running blocker;
  AdminServer::Options options;
  options.listen = blocker.server.address();
  AdminServer server(options, sample_handlers());
  CHECK_THROWS_AS(server.start(), std::system_error);
  blocker.server.stop();
  server.start();
  CHECK(Client(server).get("/livez").status == 200);
  server.stop();
  server.stop();
  server.start();
  CHECK(Client(server).get("/livez").status == 200);
}

TEST_CASE("IPv6 addresses are taken with brackets") {
  AdminServer::Options options;
  options.listen = "[::1]:0";
  AdminServer server(options, sample_handlers());
  try {
    server.start();
  } catch (const std::system_error& e) {
    WARN("no IPv6 here: " << e.what());
    return;
  }
  CHECK(server.address() == "[::1]:" + std::to_string(server.port()));
}

TEST_CASE("stop ends idle and half-sent connections at once and closes the port") {
  auto running = std::make_unique<Running>();
  Client idle(running->server);
  CHECK(idle.get("/livez").status == 200);
  Client half(running->server);
  half.send("GET /");
  const std::string address = running->server.address();
  running->server.stop();
  CHECK(idle.closed());
  CHECK(half.closed());
  CHECK(listen_error(address).empty());  // free again
}

TEST_CASE("a unix socket is served and its file removed at the end") {
  const TempDir dir;
  AdminServer::Options options;
  options.listen = "unix:" + dir.path + "/admin.sock";
  {
    Running running(options);
    CHECK(running.server.address() == options.listen);
    CHECK(running.server.port() == 0);
    CHECK(Client(running.server).get("/livez").body == "ok\n");
    CHECK(listen_error(options.listen) == "admin: cannot listen on " + options.listen + ": Address already in use");
    CHECK(Client(running.server).get("/livez").body == "ok\n");
  }
  CHECK_FALSE(std::filesystem::exists(dir.path + "/admin.sock"));
}

TEST_CASE("the socket file of a dead process is replaced, a file that is no socket is not") {
  const TempDir dir;
  const std::string path = dir.path + "/admin.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  ::close(fd);
  AdminServer::Options options;
  options.listen = "unix:" + path;
  {
    Running running(options);
    CHECK(Client(running.server).get("/livez").status == 200);
  }
  std::ofstream(path) << "precious";
  CHECK_FALSE(listen_error(options.listen).empty());
  CHECK(std::filesystem::file_size(path) == 8);
}

}  // namespace
}  // namespace nearcached::daemon
