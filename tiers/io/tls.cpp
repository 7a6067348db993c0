#include "tiers/io/tls.hpp"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace nearcached::tiers::io {
namespace {

bool is_literal_address(const std::string& host) {
  unsigned char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), address) == 1 || inet_pton(AF_INET6, host.c_str(), address) == 1;
}

std::string unusable(std::string_view what, const std::string& path) {
  return std::string(what) + " \"" + path + "\": " + tls_error_text();
}

}  // namespace

std::string tls_error_text() {
  const unsigned long code = ERR_get_error();
  const char* reason = ERR_reason_error_string(code);
  std::string text = reason != nullptr ? reason : "failed";
  if (ERR_GET_LIB(code) == ERR_LIB_SYS) text = std::strerror(static_cast<int>(ERR_GET_REASON(code)));
  ERR_clear_error();
  return text;
}

std::string tls_handshake_failure(ssl_st* ssl, std::string_view otherwise) {
  const long verdict = SSL_get_verify_result(ssl);
  if (verdict == X509_V_OK || SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE) return std::string(otherwise);
  return std::string("the certificate was not accepted: ") + X509_verify_cert_error_string(verdict);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

void TlsSession::attach(int fd) { SSL_set_fd(ssl_, fd); }

TlsSession::Step TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    established_ = true;
    return Step::kDone;
  }
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ: return Step::kWantRead;
    case SSL_ERROR_WANT_WRITE: return Step::kWantWrite;
    default: break;
  }
  if (ERR_peek_error() == 0) {
    failure_ = "closed by the other side during the handshake";
    return Step::kClosed;
  }
  failure_ = tls_handshake_failure(ssl_, tls_error_text());
  return Step::kFailed;
}

ssize_t TlsSession::failed(int result) {
  const int error = SSL_get_error(ssl_, result);
  switch (error) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_SYSCALL:
      if (ERR_peek_error() == 0) {
        established_ = false;
        if (errno == 0) errno = ECONNRESET;
        return -1;
      }
      [[fallthrough]];
    default: break;
  }
  established_ = false;  // after a fatal error there is nothing to say goodbye to
  failure_ = tls_error_text();
  errno = EPROTO;
  return -1;
}

ssize_t TlsSession::read(char* room, std::size_t n) {
  ERR_clear_error();
  errno = 0;
  const int got = SSL_read(ssl_, room, static_cast<int>(std::min<std::size_t>(n, INT_MAX)));
  read_wants_write_ = got <= 0 && SSL_get_error(ssl_, got) == SSL_ERROR_WANT_WRITE;
  return got > 0 ? got : failed(got);
}

ssize_t TlsSession::write(const char* bytes, std::size_t n) {
  ERR_clear_error();
  errno = 0;
  const int sent = SSL_write(ssl_, bytes, static_cast<int>(std::min<std::size_t>(n, INT_MAX)));
  if (sent > 0) return sent;
  const ssize_t result = failed(sent);
  if (result == 0) errno = EPIPE;
  if (result == 0 || errno != EAGAIN) hear_why();
  return -1;
}

// The other side may have said why it closed: in TLS 1.3 a client hears only behind its handshake that its certificate is
// not accepted, and by then its first bytes are on their way, which the kernel at the other end answers with a reset.
void TlsSession::hear_why() {
  if (!failure_.empty()) return;
  const int error = errno;
  char byte = 0;
  ERR_clear_error();
  if (SSL_peek(ssl_, &byte, 1) <= 0 && ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL) {
    failure_ = tls_error_text();
  }
  ERR_clear_error();
  errno = failure_.empty() ? error : EPROTO;
}

bool TlsSession::holds_input() const { return SSL_pending(ssl_) > 0; }

void TlsSession::close() {
  if (!established_) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

Tls::Tls(Side side, TlsOptions options) : side_(side), options_(std::move(options)) {}

Tls::~Tls() = default;

std::string Tls::state_of_files() const {
  std::string state;
  for (const std::string& path : {options_.cert, options_.key, options_.ca}) {
    struct stat file {};
    if (path.empty() || ::stat(path.c_str(), &file) != 0) continue;
    state += std::to_string(file.st_ino) + "/" + std::to_string(file.st_size) + "/" + std::to_string(file.st_mtim.tv_sec) +
             "." + std::to_string(file.st_mtim.tv_nsec) + " ";
  }
  return state;
}

std::string Tls::configure(SSL_CTX* context) const {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  // What a client may resume is in its ticket and not in our memory.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // A key with a passphrase is refused; OpenSSL would ask for it on the terminal.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return -1; });
  if (!options_.cert.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context, options_.cert.c_str()) != 1) {
      return unusable("the certificate", options_.cert);
    }
    if (SSL_CTX_use_PrivateKey_file(context, options_.key.c_str(), SSL_FILETYPE_PEM) != 1) {
      return unusable("the key", options_.key);
    }
  }
  if (!options_.ca.empty()) {
    if (SSL_CTX_load_verify_locations(context, options_.ca.c_str(), nullptr) != 1) {
      return unusable("the authority's certificate", options_.ca);
    }
  } else if (side_ == Side::kClient) {
    SSL_CTX_set_default_verify_paths(context);
  }
  int verify = SSL_VERIFY_NONE;
  if (side_ == Side::kClient) {
    verify = options_.verify == TlsVerify::kNone ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
  } else if (options_.client_auth != TlsClientAuth::kNone) {
    verify = SSL_VERIFY_PEER;
    if (options_.client_auth == TlsClientAuth::kRequired) verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(options_.ca.c_str()));
  }
  SSL_CTX_set_verify(context, verify, nullptr);
  constexpr unsigned char kSessions[] = "nearcached";
  SSL_CTX_set_session_id_context(context, kSessions, sizeof kSessions - 1);
  return {};
}

std::string Tls::load() {
  seen_ = state_of_files();
  const Context fresh(SSL_CTX_new(side_ == Side::kServer ? TLS_server_method() : TLS_client_method()), &SSL_CTX_free);
  if (!fresh) return "out of memory";
  if (std::string problem = configure(fresh.get()); !problem.empty()) return problem;
  const std::lock_guard lock(mutex_);
  context_ = fresh;
  return {};
}

std::optional<std::string> Tls::reload_if_changed() {
  if (state_of_files() == seen_) return std::nullopt;
  return load();
}

Tls::Context Tls::current() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

SSL_CTX* Tls::shared() const {
  const Context context = current();
  if (context) SSL_CTX_up_ref(context.get());
  return context.get();
}

std::unique_ptr<TlsSession> Tls::session(std::string_view host) const {
  const Context context = current();
  SSL* ssl = context ? SSL_new(context.get()) : nullptr;
  if (ssl == nullptr) return nullptr;
  if (side_ == Side::kServer) {
    SSL_set_accept_state(ssl);
  } else {
    SSL_set_connect_state(ssl);
    name_peer(ssl, host);
  }
  return std::make_unique<TlsSession>(ssl);
}

void Tls::name_peer(SSL* ssl, std::string_view host) const {
  const std::string name = options_.server_name.empty() ? std::string(host) : options_.server_name;
  const bool address = is_literal_address(name);
  if (!address) {
    // SSL_set_tlsext_host_name() without its C cast; the name is copied.
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(name.c_str()));
  }
  if (options_.verify != TlsVerify::kFull) return;
  if (address) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str());
  } else {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set1_host(ssl, name.c_str());
  }
}

}  // namespace nearcached::tiers::io
