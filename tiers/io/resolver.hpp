// Name look-ups off the workers' threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tiers/io/socket.hpp"

namespace nearcached::tiers::io {

// One thread that asks the system's name service, because getaddrinfo blocks for seconds when a name server is away. Address
// literals never come here. Bounded: over kQueueMax waiting questions a new one is answered with no address at once.
// Threading: look_up from any thread; the answer is called on the resolver's thread and only posts on.
class Resolver {
 public:
  using Answer = std::function<void(std::vector<SocketAddress>)>;
  static constexpr std::size_t kQueueMax = 1024;

  Resolver();
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  void look_up(std::string host, std::uint16_t port, Answer answer);

 private:
  struct Question {
    std::string host;
    std::uint16_t port;
    Answer answer;
  };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Question> questions_;  // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace nearcached::tiers::io
