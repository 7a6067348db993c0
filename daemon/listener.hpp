// Where clients come in.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "config/settings.hpp"
#include "tiers/io/event_loop.hpp"

namespace nearcached::daemon {

// One listening socket. Accepts on the loop it was made on, and hands each connection to `on_client`, which owns it then.
// When the process is out of descriptors it stops accepting until the next resume(), instead of spinning on a listener that
// stays readable. Threading: confined to its loop.
class Listener final : public tiers::io::EventHandler {
 public:
  // Throws std::system_error that names the address.
  Listener(tiers::io::EventLoop& loop, const config::ListenAddress& address, std::function<void(int)> on_client);
  ~Listener() override;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void resume();
  void close();
  // "127.0.0.1:6380", with the port that the kernel gave if 0 was asked for; "unix:/path".
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void on_events(std::uint32_t events) override;

  tiers::io::EventLoop& loop_;
  const config::ListenAddress address_;
  const std::function<void(int)> on_client_;
  std::string name_;
  int fd_ = -1;
  bool watched_ = false;
};

}  // namespace nearcached::daemon
