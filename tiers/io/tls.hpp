// TLS by OpenSSL: what certificates a side shows and asks for, and one connection's cipher state.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

struct ssl_ctx_st;
struct ssl_st;

namespace nearcached::tiers::io {

// Of a listener: whether clients show certificates.
enum class TlsClientAuth : std::uint8_t { kNone, kOptional, kRequired };
// Of a connection to the upstream: kFull, a certificate of a known authority for the name that was asked for; kCa, for any
// name; kNone, any certificate (encrypted, but with nobody in particular).
enum class TlsVerify : std::uint8_t { kFull, kCa, kNone };

struct TlsOptions {
  std::string cert;  // PEM, the chain behind it; with `key`, or neither
  std::string key;   // PEM
  std::string ca;    // PEM; empty: of a client the system's authorities
  TlsClientAuth client_auth = TlsClientAuth::kNone;
  TlsVerify verify = TlsVerify::kFull;
  std::string server_name;  // to be verified and sent as SNI, whatever host is connected to; empty: the host
};

// One connection. In place of recv() and send(), over a non-blocking socket that stays its owner's.
//
// TLS 1.2 and newer, no renegotiation, no compression. Not for several threads at once.
class TlsSession {
 public:
  enum class Step : std::uint8_t { kDone, kWantRead, kWantWrite, kClosed, kFailed };

  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  void attach(int fd);
  [[nodiscard]] Step handshake();
  // As recv() and send(): -1 with EAGAIN when the socket has to be ready first, 0 at the end of input, EPROTO when the
  // protocol failed, which failure() puts into words.
  [[nodiscard]] ssize_t read(char* room, std::size_t n);
  [[nodiscard]] ssize_t write(const char* bytes, std::size_t n);
  // Decrypted bytes that wait here: the socket does not become readable for them, and read() will succeed.
  [[nodiscard]] bool holds_input() const;
  // What read() needs is that the socket becomes writable.
  [[nodiscard]] bool read_wants_write() const { return read_wants_write_; }
  // Says goodbye, as far as the socket takes it.
  void close();
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  ssize_t failed(int result);
  void hear_why();

  ssl_st* ssl_;
  bool established_ = false;
  bool read_wants_write_ = false;
  std::string failure_;
};

// The certificates of a side, read from files, and again when these change: connections that begin after that use the new
// ones, those that are there keep theirs.
//
// Threading: session() and shared() from any thread, the rest from one.
class Tls {
 public:
  enum class Side : std::uint8_t { kClient, kServer };

  Tls(Side side, TlsOptions options);
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // Reads the files. Empty: done; else what is wrong with which file, and what was read before stays in force.
  [[nodiscard]] std::string load();
  // load(), if a file is not the one that was read last. Nothing: they are.
  [[nodiscard]] std::optional<std::string> reload_if_changed();

  // `host`: what a client connects to. nullptr: out of memory, or nothing was ever loaded.
  [[nodiscard]] std::unique_ptr<TlsSession> session(std::string_view host) const;
  // For a library that brings its own sessions: a reference that the caller gives back with SSL_CTX_free().
  [[nodiscard]] ssl_ctx_st* shared() const;
  // Makes the name to be verified, and asked for, that of `host`, as session() does.
  void name_peer(ssl_st* ssl, std::string_view host) const;

 private:
  using Context = std::shared_ptr<ssl_ctx_st>;

  [[nodiscard]] std::string configure(ssl_ctx_st* context) const;
  [[nodiscard]] std::string state_of_files() const;
  [[nodiscard]] Context current() const;

  const Side side_;
  const TlsOptions options_;
  std::string seen_;  // of the files, when they were read
  mutable std::mutex mutex_;
  Context context_;
};

// Why a handshake failed: what is wrong with the other side's certificate, if it is that; else `otherwise`. For people.
[[nodiscard]] std::string tls_handshake_failure(ssl_st* ssl, std::string_view otherwise);

// What the thread's oldest OpenSSL error says, without its numbers; the others are dropped. For people.
[[nodiscard]] std::string tls_error_text();

}  // namespace nearcached::tiers::io
