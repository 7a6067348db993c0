#include "tests/redis/control_servers.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>

namespace nearcached::test {

using namespace tiers::upstream;

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

int listen_on(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(fd, 512) == 0) return fd;
  ::close(fd);
  return -1;
}

bool is_free(std::uint16_t port) {
  const int fd = listen_on(port);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

// Asked of a server that is starting: to bind the port instead would now and then take it from under that server.
bool is_listened_on(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return connected;
}

// Against other tests on this machine, those of tests/support/servers.py too: a lock that ends with this process.
bool reserve(std::uint16_t port) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("nearcached-test-ports-" + std::to_string(::getuid()));
  std::filesystem::create_directories(folder);
  const int lock = ::open((folder / std::to_string(port)).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (lock >= 0 && ::flock(lock, LOCK_EX | LOCK_NB) == 0) return true;
  ::close(lock);
  return false;
}

// Below the ephemeral range, and so that port + 10000 is one too: the cluster bus listens there.
std::uint16_t free_port() {
  static std::mt19937 engine(std::random_device{}());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const auto port = static_cast<std::uint16_t>(12000 + engine() % 10000);
    if (reserve(port) && is_free(port) && is_free(static_cast<std::uint16_t>(port + 10000))) return port;
  }
  throw std::runtime_error("no free port");
}

// Takes one whole command, an array of bulk strings, off the front of `input`; empty if it is not whole yet.
std::vector<std::string> take_command(std::string& input) {
  std::size_t at = 0;
  const auto number = [&](char mark) -> long {
    const std::size_t end = input.find("\r\n", at);
    if (end == std::string::npos || input[at] != mark) return -1;
    const long value = std::strtol(input.c_str() + at + 1, nullptr, 10);
    at = end + 2;
    return value;
  };
  const long count = number('*');
  std::vector<std::string> command;
  for (long i = 0; i < count; ++i) {
    const long size = number('$');
    if (size < 0 || input.size() < at + static_cast<std::size_t>(size) + 2) return {};
    command.push_back(input.substr(at, static_cast<std::size_t>(size)));
    at += static_cast<std::size_t>(size) + 2;
  }
  if (count > 0) input.erase(0, at);
  return command;
}

template <typename Value, typename Ask>
Value awaited(Ask ask) {
  auto promise = std::make_shared<std::promise<Value>>();
  auto future = promise->get_future();
  ask([promise](Value value) { promise->set_value(std::move(value)); });
  if (future.wait_for(Observer::kPatience) != std::future_status::ready) throw std::runtime_error("no answer at all");
  return future.get();
}

}  // namespace

bool redis_installed() {
  if (std::system("command -v redis-server redis-cli >/dev/null") == 0) return true;
  if (std::getenv("CI") != nullptr) FAIL("redis-server and redis-cli are needed");
  WARN("skipped: redis-server and redis-cli are needed");
  return false;
}

std::string shell(const std::string& command) {
  std::string output;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen((command + " 2>&1").c_str(), "r"), &::pclose);
  std::array<char, 4096> chunk;
  while (const std::size_t size = std::fread(chunk.data(), 1, chunk.size(), pipe.get())) output.append(chunk.data(), size);
  while (output.ends_with('\n') || output.ends_with('\r')) output.pop_back();
  return output;
}

RedisServer::RedisServer(std::vector<std::string> arguments) : arguments_(std::move(arguments)), port_(free_port()) {
  std::string pattern = "/tmp/nearcached-control-XXXXXX";
  directory_ = ::mkdtemp(pattern.data());
  launch();
}

RedisServer::RedisServer(RedisServer&& other) noexcept
    : arguments_(std::move(other.arguments_)),
      directory_(std::exchange(other.directory_, {})),
      port_(other.port_),
      pid_(std::exchange(other.pid_, -1)) {}

RedisServer::~RedisServer() {
  kill();
  if (!directory_.empty()) std::filesystem::remove_all(directory_);
}

void RedisServer::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

void RedisServer::restart() {
  kill();
  launch();
}

void RedisServer::launch() {
  std::vector<std::string> line{"redis-server",
                                "--port",
                                std::to_string(port_),
                                "--bind",
                                "127.0.0.1",
                                "--save",
                                "",
                                "--dir",
                                directory_,
                                "--unixsocket",
                                unix_path(),
                                "--logfile",
                                directory_ + "/log",
                                "--repl-diskless-sync-delay",
                                "0"};
  line.insert(line.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  for (std::string& word : line) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + Observer::kPatience;
  while (!is_listened_on(port_)) {
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("redis-server does not listen");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::string RedisServer::cli(const std::string& arguments) const {
  return shell("redis-cli -p " + std::to_string(port_) + " " + arguments);
}

ScriptedServer::ScriptedServer(Script script) : script_(std::move(script)), port_(free_port()) {
  listener_ = listen_on(port_);
  threads_.emplace_back([this] { run(); });
}

ScriptedServer::~ScriptedServer() {
  ended_ = true;
  for (std::thread& thread : threads_) thread.join();
  ::close(listener_);
}

void ScriptedServer::run() {
  std::vector<std::thread> serving;
  while (!ended_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 10) != 1) continue;
    const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    ++connections_;
    if (++open_ > most_open_) most_open_ = open_.load();
    serving.emplace_back([this, connection] { serve(connection); });
  }
  for (std::thread& thread : serving) thread.join();
}

void ScriptedServer::serve(int connection) {
  std::string input;
  std::array<char, 4096> chunk;
  while (!ended_) {
    pollfd waiting{connection, POLLIN, 0};
    if (::poll(&waiting, 1, 10) != 1) continue;
    const ssize_t size = ::read(connection, chunk.data(), chunk.size());
    if (size <= 0) break;
    input.append(chunk.data(), static_cast<std::size_t>(size));
    for (auto command = take_command(input); !command.empty(); command = take_command(input)) {
      const std::string answer = script_(command);
      if (::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
  }
  ::close(connection);
  --open_;
}

ControlPlane::TopologyHandler Observer::attach(ControlPlaneOptions& options) {
  options.on_event = [this](const ControlEvent& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  };
  return [this](TopologyPtr topology) {
    const std::lock_guard lock(mutex_);
    topology_ = std::move(topology);
    ++snapshots_;
    changed_.notify_all();
  };
}

bool Observer::wait_topology(const std::function<bool(const Topology&)>& fits) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return topology_ && fits(*topology_); });
}

bool Observer::wait_event(ControlEvent::Kind kind, const std::string& part) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] {
    for (const ControlEvent& event : events_) {
      if (event.kind == kind && event.text.find(part) != std::string::npos) return true;
    }
    return false;
  });
}

TopologyPtr Observer::topology() {
  const std::lock_guard lock(mutex_);
  return topology_;
}

std::vector<ControlEvent> Observer::events() {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::size_t Observer::snapshots() {
  const std::lock_guard lock(mutex_);
  return snapshots_;
}

std::string auth(ControlPlane& plane, const Credentials& credentials) {
  return awaited<std::string>([&](auto done) { plane.check_auth(credentials, done); });
}

std::string select(ControlPlane& plane, const Credentials& credentials, const std::string& database) {
  return awaited<std::string>([&](auto done) { plane.check_select(credentials, database, done); });
}

InfoAnswer command_info(ControlPlane& plane, const std::string& name) {
  return awaited<InfoAnswer>([&](auto done) {
    plane.command_info(name, [done](bool reached, CommandInfo info) { done({reached, std::move(info)}); });
  });
}

}  // namespace nearcached::test
