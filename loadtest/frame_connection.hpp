// A connection that takes bytes and gives whole replies.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace nearcached::loadtest {

// A connection that sends what it is given and hands out complete frames.
//
// call() waits and is for the time before the run; send() and receive() never block, their caller waits on fd(). Sending and
// receiving share nothing but the socket, so one thread may send while another receives; each of the two is confined to one
// thread. Whatever goes wrong (the peer closes, what it says is no RESP, it does not take what is sent) is thrown as
// std::runtime_error that names the target: a measurement with a lost connection is void.
class FrameConnection {
 public:
  static constexpr std::size_t kUnsentMax = 64u << 20;     // a peer that lets more lie is stuck
  static constexpr std::size_t kReceiveBytes = 64u << 10;  // what one receive() takes

  explicit FrameConnection(const std::string& target);
  ~FrameConnection();
  FrameConnection(const FrameConnection&) = delete;
  FrameConnection& operator=(const FrameConnection&) = delete;

  // Sends one command and waits for its reply, at most kCallSeconds.
  static constexpr int kCallSeconds = 5;
  [[nodiscard]] std::string call(std::string_view bytes);

  void send(std::string_view bytes);
  // Sends what send() could not; call it now and then while has_unsent().
  void flush();
  [[nodiscard]] bool has_unsent() const { return !unsent_.empty(); }

  // Reads once and gives every complete frame to `take`; `started` runs before the first one, when the bytes are there.
  void receive(const std::function<void()>& started, const std::function<void(std::string_view)>& take);

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& target() const { return target_; }

 private:
  [[noreturn]] void fail(const std::string& what) const;

  std::string target_;
  int fd_;
  std::string unsent_;    // sender's
  std::string unparsed_;  // receiver's: the start of a frame
  std::string chunk_;     // receiver's
};

}  // namespace nearcached::loadtest
