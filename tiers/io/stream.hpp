// A non-blocking byte stream on an event loop: a client's connection, or one to the upstream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tiers/io/event_loop.hpp"
#include "tiers/io/socket.hpp"
#include "tiers/io/tls.hpp"

namespace nearcached::tiers::io {

// What the owner of a stream is told. Called on the loop's thread.
class StreamOwner {
 public:
  virtual void on_connected() {}
  // All unconsumed bytes, oldest first. Returns how many were consumed; the rest comes again with more behind it, or on
  // resume(). Valid during the call only.
  virtual std::size_t on_data(std::string_view bytes) = 0;
  // The kernel took more of what it had refused before.
  virtual void on_writable() {}
  // The peer sends no more, but may still read. True: the owner has replies to write and closes the stream itself later.
  [[nodiscard]] virtual bool on_end_of_input() { return false; }
  // The stream is dead: closed by the peer (error 0), or failed (errno). Called once, never from inside another call to the
  // owner or from close().
  virtual void on_closed(int error) = 0;

 protected:
  ~StreamOwner() = default;
};

// Reads go into the loop's scratch room and are parsed there; only what was left unconsumed is copied. Writes collect in
// out() and leave with flush(), once per turn. Level-triggered: one read per readiness, no read that finds nothing.
//
// With a TlsSession the same bytes travel encrypted: the owner sees no difference but why() when the handshake fails. What
// is decrypted already is delivered before the socket is asked again.
//
// Invariant: while reading is paused nothing is read, so the peer's window closes (backpressure).
// Threading: confined to the loop's thread.
class Stream final : public EventHandler {
 public:
  Stream(EventLoop& loop, StreamOwner& owner) : loop_(loop), owner_(owner), in_(loop.buffers()), out_(loop.buffers()) {}
  ~Stream() override { close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Takes over a connected socket.
  void adopt(int fd, std::unique_ptr<TlsSession> tls = nullptr);
  // Starts to connect: on_connected(), behind the handshake if there is one, or on_closed() follows. False (errno) if it
  // failed at once: then neither follows.
  [[nodiscard]] bool connect(const SocketAddress& address, std::unique_ptr<TlsSession> tls = nullptr);
  void close();
  [[nodiscard]] StreamOwner& owner() { return owner_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  [[nodiscard]] bool connected() const { return fd_ >= 0 && !connecting_; }
  // Of on_closed()'s error, for people.
  [[nodiscard]] std::string why(int error) const;
  // Its certificate has been asked for and is not here yet.
  [[nodiscard]] bool handshaking() const { return handshaking_; }

  [[nodiscard]] Buffer& out() { return out_; }
  // From now on what was sent stays in out() until acknowledge(n) drops the oldest n bytes: a request may have to be sent
  // again elsewhere, and needs no second copy for that. It also stays after the stream is closed, until the owner clears it.
  void retain_sent() { retain_ = true; }
  void acknowledge(std::size_t n);
  [[nodiscard]] std::size_t sent() const { return sent_; }  // bytes of out() that left, with retain_sent()
  [[nodiscard]] std::size_t unread_bytes() const { return in_.size(); }
  // Writes what is in out(), as far as the kernel takes it. False if the stream failed: the owner must close it (on_closed
  // is not called).
  [[nodiscard]] bool flush();

  void pause();
  // Hands unconsumed bytes to the owner again, then reads on.
  void resume();
  [[nodiscard]] bool paused() const { return paused_; }
  // While it is paused the peer's end of input is not seen. With this it is, and the stream is closed: for owners that wait
  // for something that may never come. The end stands behind all that was sent before, so up to bytes_max are read ahead;
  // more ends the stream with ENOBUFS. 0: the end is not looked for.
  void mind_hangup(std::size_t bytes_max);
  // At once, of small messages: bounds how long one turn may take where each costs work. Up to EventLoop::kScratchBytes.
  void read_at_most(std::size_t bytes) { read_max_ = bytes; }
  // Sized ahead for one large message.
  void expect(std::size_t bytes) { expected_ = bytes; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t bytes_in() const { return bytes_in_; }
  [[nodiscard]] std::uint64_t bytes_out() const { return bytes_out_; }

 private:
  void on_events(std::uint32_t events) override;
  void read_once();
  void deliver();
  void update_interest();
  void finish_connect();
  void shake_hands();
  void fail(int error);
  void drain_decrypted();
  [[nodiscard]] bool reads() const { return !paused_ || (read_ahead_ != 0 && !ended_); }
  [[nodiscard]] ssize_t receive(char* room, std::size_t n);
  [[nodiscard]] ssize_t transmit(std::string_view bytes);

  EventLoop& loop_;
  StreamOwner& owner_;
  int fd_ = -1;
  std::uint32_t interest_ = 0;
  bool connecting_ = false;  // or shaking hands
  bool handshaking_ = false;
  bool accepted_ = false;  // by adopt()
  bool paused_ = false;
  bool want_write_ = false;
  bool delivering_ = false;
  bool ended_ = false;
  std::size_t read_ahead_ = 0;  // bytes, while paused
  bool retain_ = false;
  std::size_t sent_ = 0;
  std::size_t expected_ = 0;
  std::size_t read_max_ = EventLoop::kScratchBytes;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  std::unique_ptr<TlsSession> tls_;  // nullptr: plain
  std::string failure_;              // of the last session
  Buffer in_;
  Buffer out_;
};

}  // namespace nearcached::tiers::io
