// A server that follows a script, for tests of the load's clients.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace nearcached::loadtest {

// Serves one connection with `script`, which gets the socket, and closes it when the script returns.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<void(int)> script) {
    std::string directory = "/tmp/nearcached-loadtest-XXXXXX";
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    directory_ = directory;
    path_ = directory + "/server.sock";
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    REQUIRE(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
    thread_ = std::thread([this, run = std::move(script)] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      run(fd);
      ::close(fd);
    });
  }
  ~ScriptedServer() {
    thread_.join();
    ::close(listener_);
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  [[nodiscard]] std::string target() const { return "unix:" + path_; }

 private:
  std::string directory_;
  std::string path_;
  int listener_ = -1;
  std::thread thread_;
};

// Reads until `commands` more have come or the client has closed; returns how many came (every command has one '*').
inline std::size_t read_commands(int fd, std::size_t commands) {
  std::size_t seen = 0;
  char chunk[4096];
  while (seen < commands) {
    const ssize_t received = ::recv(fd, chunk, sizeof chunk, 0);
    if (received <= 0) {
      break;
    }
    seen += static_cast<std::size_t>(std::count(chunk, chunk + received, '*'));
  }
  return seen;
}

// Runs on the server's thread, where Catch can't be called: what is not sent shows as unanswered.
inline void answer(int fd, std::string_view reply, std::size_t times) {
  for (std::size_t i = 0; i < times; ++i) {
    static_cast<void>(::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL));
  }
}

}  // namespace nearcached::loadtest
