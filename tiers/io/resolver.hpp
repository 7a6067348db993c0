// Name look-ups off the workers' threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tiers/io/socket.hpp"

namespace nearcached::tiers::io {

// One thread that asks the system's name service, because getaddrinfo blocks for seconds when a name server is away. Address
// literals never come here. Bounded: over kQueueMax waiting questions a new one is answered with no address at once.
// After stop() no answer is called any more; a look-up that hangs is left behind with the thread, which owns all it needs.
// Threading: look_up from any thread; the answer is called on the resolver's thread, must be short and only posts on.
class Resolver {
 public:
  using Answer = std::function<void(std::vector<SocketAddress>)>;
  static constexpr std::size_t kQueueMax = 1024;

  Resolver();
  ~Resolver() { stop(); }
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  void look_up(std::string host, std::uint16_t port, Answer answer);
  void stop();

 private:
  struct Question {
    std::string host;
    std::uint16_t port;
    Answer answer;
  };
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Question> questions;  // guarded by mutex
    bool stopping = false;           // guarded by mutex
  };
  static void run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace nearcached::tiers::io
