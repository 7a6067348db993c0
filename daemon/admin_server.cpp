#include "daemon/admin_server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <cstring>
#include <exception>
#include <filesystem>
#include <list>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/log.hpp"

namespace nearcached::daemon {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;  // TCP and unix sockets alike
using Stream = beast::basic_stream<Protocol>;
using Acceptor = asio::basic_socket_acceptor<Protocol>;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

constexpr std::string_view kUnixPrefix = "unix:";
constexpr int kBacklog = 128;
constexpr std::chrono::milliseconds kAcceptPause{100};   // after a failed accept (no descriptors left): not a busy loop
constexpr std::chrono::milliseconds kDrainTimeout{500};  // for the rest of what a refused client sends
constexpr int kDrainReadsMax = 16;
constexpr std::size_t kReadBytes = 4096;

[[noreturn]] void throw_listen_error(const std::string& address, const error_code& error) {
  throw std::system_error(error.value(), std::system_category(), "admin: cannot listen on " + address);
}

// Splits "HOST:PORT" at its last colon; brackets around an IPv6 address are optional.
asio::ip::tcp::endpoint resolve(asio::io_context& io, const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) throw_listen_error(address, asio::error::invalid_argument);
  std::string_view host = std::string_view(address).substr(0, colon);
  const std::string_view port_text = std::string_view(address).substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::uint16_t port = 0;
  const auto parsed = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (parsed.ec != std::errc{} || parsed.ptr != port_text.data() + port_text.size()) {
    throw_listen_error(address, asio::error::invalid_argument);
  }
  error_code error;
  const auto literal = asio::ip::make_address(std::string(host), error);
  if (!error) return {literal, port};
  asio::ip::tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, "", asio::ip::resolver_base::passive, error);
  // Not `error` itself: resolver errors have a category of their own, and their numbers mean nothing to the system's.
  if (error || found.empty()) throw_listen_error(address, asio::error::address_family_not_supported);
  return {found.begin()->endpoint().address(), port};
}

// The file of a socket whose owner is gone would make bind() fail for ever.
void remove_stale_socket(asio::io_context& io, const asio::local::stream_protocol::endpoint& endpoint) {
  std::error_code ignored;
  if (!std::filesystem::is_socket(endpoint.path(), ignored)) return;  // someone's file: connect() would refuse it as well
  asio::local::stream_protocol::socket probe(io, endpoint.protocol());
  error_code error;
  probe.non_blocking(true, error);
  probe.connect(endpoint, error);
  if (error == asio::error::connection_refused) ::unlink(endpoint.path().c_str());
}

Protocol::endpoint endpoint_of(asio::io_context& io, const std::string& address) {
  if (address.rfind(kUnixPrefix, 0) != 0) return resolve(io, address);
  try {
    const asio::local::stream_protocol::endpoint endpoint(address.substr(kUnixPrefix.size()));
    remove_stale_socket(io, endpoint);
    return endpoint;
  } catch (const boost::system::system_error& e) {  // the path is too long
    throw_listen_error(address, e.code());
  }
}

Acceptor listen_on(asio::io_context& io, const std::string& address) {
  const Protocol::endpoint endpoint = endpoint_of(io, address);
  Acceptor acceptor(io);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (error) throw_listen_error(address, error);
  if (endpoint.protocol().family() != AF_UNIX) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(kBacklog, error);
  if (error) throw_listen_error(address, error);
  return acceptor;
}

asio::ip::tcp::endpoint tcp_endpoint(const Protocol::endpoint& endpoint) {
  asio::ip::tcp::endpoint tcp;
  std::memcpy(tcp.data(), endpoint.data(), endpoint.size());
  tcp.resize(endpoint.size());
  return tcp;
}

Response make_response(const AdminPage& page, unsigned version, bool head, bool keep_alive) {
  Response response(static_cast<http::status>(page.status), version);
  response.set(http::field::content_type, page.content_type);
  response.set(http::field::cache_control, "no-store");
  response.set("X-Content-Type-Options", "nosniff");
  response.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
  if (!page.allow.empty()) response.set(http::field::allow, page.allow);
  if (!page.authenticate.empty()) response.set(http::field::www_authenticate, page.authenticate);
  response.keep_alive(keep_alive);
  response.content_length(page.body.size());
  if (!head) response.body() = page.body;
  return response;
}

// What to tell a client whose request could not be read; none where it is gone, too slow, or has nothing to ask any more.
std::optional<AdminPage> page_for(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return AdminPages::error_page(431, "the header is too large");
  }
  if (error == http::error::body_limit) return AdminPages::error_page(413, "the body is too large");
  if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
  const error_code any_http_error = http::error::bad_method;
  if (error.category() == any_http_error.category()) return AdminPages::error_page(400, error.message());
  return std::nullopt;
}

}  // namespace

struct AdminServer::Impl {
  struct Connection {
    explicit Connection(Protocol::socket&& socket) : stream(std::move(socket)) {}
    Stream stream;
    beast::flat_buffer buffer;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;

  Impl(Options given, AdminHandlers handlers) : options(std::move(given)), pages(std::move(handlers)) {}

  asio::awaitable<void> accept_loop();
  asio::awaitable<void> serve(ConnectionPtr connection);
  asio::awaitable<bool> read(Connection& connection, Request& request);
  asio::awaitable<bool> answer(Connection& connection, const Request& request);
  asio::awaitable<bool> send(Connection& connection, Response& response);
  asio::awaitable<void> refuse(Connection& connection, const AdminPage& page);
  void admit(Protocol::socket&& socket);
  void run();

  const Options options;
  const AdminPages pages;
  std::string bound_address;
  std::uint16_t bound_port = 0;
  std::string unix_path;
  std::thread thread;
  std::unique_ptr<asio::io_context> io;  // one per start(); all below belong to its thread while that runs
  std::optional<Acceptor> acceptor;
  std::list<ConnectionPtr> connections;  // the one that has waited longest since its last answer first
};

asio::awaitable<void> AdminServer::Impl::accept_loop() {
  asio::steady_timer pause(*io);
  while (acceptor->is_open()) {
    error_code error;
    Protocol::socket socket(*io);
    co_await acceptor->async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (!acceptor->is_open()) break;  // stop() has closed what it knew; nothing may join now
    if (!error) {
      admit(std::move(socket));
    } else {
      log::write_limited(log::Level::kWarn, "admin_accept_failed", {}, {{"error", error.message()}});
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

void AdminServer::Impl::admit(Protocol::socket&& socket) {
  if (connections.size() >= options.connections_max) {
    connections.front()->stream.close();
    connections.pop_front();
  }
  const auto connection = std::make_shared<Connection>(std::move(socket));
  connections.push_back(connection);
  // A request that ends in an exception (no memory) costs its connection, not the server.
  asio::co_spawn(*io, serve(connection), [this, connection](const std::exception_ptr&) {
    connection->stream.close();
    connections.remove(connection);
  });
}

asio::awaitable<void> AdminServer::Impl::serve(ConnectionPtr connection) {
  connection->buffer.max_size(options.header_bytes_max + options.body_bytes_max + kReadBytes);
  bool open = true;
  while (open) {
    Request request;
    open = co_await read(*connection, request) && co_await answer(*connection, request);
    const auto at = std::find(connections.begin(), connections.end(), connection);
    if (at != connections.end()) connections.splice(connections.end(), connections, at);
  }
}

asio::awaitable<bool> AdminServer::Impl::read(Connection& connection, Request& request) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<std::uint32_t>(options.header_bytes_max));
  parser.body_limit(options.body_bytes_max);
  error_code error;
  connection.stream.expires_after(options.timeout);
  co_await http::async_read(connection.stream, connection.buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    if (const auto page = page_for(error)) co_await refuse(connection, *page);
    co_return false;
  }
  request = parser.release();
  if (request.version() >= 11 && request.count(http::field::host) != 1) {  // RFC 9112, section 3.2
    co_await refuse(connection, AdminPages::error_page(400, "one Host header is needed"));
    co_return false;
  }
  co_return true;
}

asio::awaitable<bool> AdminServer::Impl::answer(Connection& connection, const Request& request) {
  const auto method = request.method_string();
  const auto target = request.target();
  const auto authorization = request[http::field::authorization];
  const AdminPage page = pages.answer({method.data(), method.size()}, {target.data(), target.size()},
                                      {authorization.data(), authorization.size()});
  Response response = make_response(page, request.version(), request.method() == http::verb::head, request.keep_alive());
  const bool sent = co_await send(connection, response);
  co_return sent&& request.keep_alive();
}

asio::awaitable<bool> AdminServer::Impl::send(Connection& connection, Response& response) {
  error_code error;
  connection.stream.expires_after(options.timeout);
  co_await http::async_write(connection.stream, response, asio::redirect_error(asio::use_awaitable, error));
  co_return !error;
}

// Closing with unread bytes in the socket sends a reset, which may overtake the answer: so what is still coming is read,
// for a while.
asio::awaitable<void> AdminServer::Impl::refuse(Connection& connection, const AdminPage& page) {
  Response response = make_response(page, 11, false, false);
  if (!co_await send(connection, response)) co_return;
  error_code error;
  connection.stream.socket().shutdown(asio::socket_base::shutdown_send, error);
  connection.stream.expires_after(kDrainTimeout);
  connection.buffer.clear();
  for (int reads = 0; reads < kDrainReadsMax && !error; ++reads) {
    co_await connection.stream.async_read_some(connection.buffer.prepare(kReadBytes),
                                               asio::redirect_error(asio::use_awaitable, error));
  }
}

void AdminServer::Impl::run() {
  asio::co_spawn(*io, accept_loop(), asio::detached);
  io->run();
}

AdminServer::AdminServer(Options options, AdminHandlers handlers)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handlers))) {}

AdminServer::~AdminServer() { stop(); }

void AdminServer::start() {
  Impl& impl = *impl_;
  if (impl.thread.joinable()) return;
  impl.io = std::make_unique<asio::io_context>(1);
  impl.acceptor.emplace(listen_on(*impl.io, impl.options.listen));
  const Protocol::endpoint bound = impl.acceptor->local_endpoint();
  if (bound.protocol().family() == AF_UNIX) {
    impl.unix_path = impl.options.listen.substr(kUnixPrefix.size());
    impl.bound_address = impl.options.listen;
  } else {
    const asio::ip::tcp::endpoint tcp = tcp_endpoint(bound);
    impl.bound_port = tcp.port();
    impl.bound_address = tcp.address().is_v6() ? "[" + tcp.address().to_string() + "]" : tcp.address().to_string();
    impl.bound_address += ":" + std::to_string(tcp.port());
  }
  impl.thread = std::thread([&impl] { impl.run(); });
}

void AdminServer::stop() {
  Impl& impl = *impl_;
  if (!impl.thread.joinable()) return;
  asio::post(*impl.io, [&impl] {
    error_code ignored;
    impl.acceptor->close(ignored);
    for (const Impl::ConnectionPtr& connection : impl.connections) connection->stream.close();
  });
  impl.thread.join();  // the loop ends when its last connection has
  impl.connections.clear();
  impl.acceptor.reset();
  impl.io.reset();
  if (!impl.unix_path.empty()) ::unlink(impl.unix_path.c_str());
}

std::uint16_t AdminServer::port() const { return impl_->bound_port; }
std::string AdminServer::address() const { return impl_->bound_address; }

}  // namespace nearcached::daemon
