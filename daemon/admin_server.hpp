// HTTP/1.1 for people, probes and Prometheus.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "daemon/admin_pages.hpp"

namespace nearcached::daemon {

// Serves AdminPages on one TCP or unix address, on a thread and io_context of its own, so that neither a scrape nor a
// stuck reader of one ever costs a worker anything, and so that /livez answers (503) when a worker stands still.
// All is bounded: connections, header and body size, the time for a request to arrive and for an answer to be taken. A
// newcomer above the connection limit takes the place of the connection that has waited longest for its next request,
// instead of being refused: else 64 idle connections would keep the liveness probe out and get the pod restarted.
// Bad at: many concurrent slow pages; they are made one after another.
// No TLS, so a token is seen on the way: listen on loopback or a unix socket.
//
// start() and stop() belong to one thread, the owner's.
class AdminServer {
 public:
  struct Options {
    std::string listen = "127.0.0.1:9180";  // "HOST:PORT", "[::1]:PORT", "unix:PATH"; port 0: any free one
    std::size_t connections_max = 64;       // 1..4096
    // For a whole request to arrive, idle time before it included; and for an answer to go.
    std::chrono::milliseconds timeout{5000};
    std::size_t header_bytes_max = 8192;
    std::size_t body_bytes_max = 1024;  // of a request; it is ignored
  };

  // Throws std::invalid_argument where the handlers' labels are wrong.
  AdminServer(Options options, AdminHandlers handlers);
  ~AdminServer();  // stop()
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Listens and starts the thread. Throws std::system_error whose text names the address ("admin: cannot listen on
  // 127.0.0.1:9180: Address already in use"). The file of a unix socket nobody listens on any more is replaced.
  void start();
  // Closes the listener and all connections, joins the thread, removes the unix socket's file. Idempotent.
  void stop();

  // After start(): where it listens, with the actual port.
  [[nodiscard]] std::uint16_t port() const;   // 0 for a unix socket
  [[nodiscard]] std::string address() const;  // "127.0.0.1:9180", "unix:/run/x.sock"

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nearcached::daemon
