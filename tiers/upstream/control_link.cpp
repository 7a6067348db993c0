#include "tiers/upstream/control_link.hpp"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Stream = asio::generic::stream_protocol;
using TlsStream = asio::ssl::stream<Stream::socket&>;

// hiredis's reader with object functions that place every element straight into a ControlReply. Two reasons beside saving
// a copy: hiredis believes any element count, here there is a bound; and the tree stays ours when the reader gives up.
class ReplyReader {
 public:
  ReplyReader() : reader_(redisReaderCreateWithFunctions(object_functions()), &redisReaderFree) { reader_->privdata = this; }

  // False: over the bound, or out of memory.
  bool feed(const char* bytes, std::size_t size) {
    fed_bytes_ += size;
    return fed_bytes_ <= ControlLink::kReplyBytesMax && redisReaderFeed(reader_.get(), bytes, size) == REDIS_OK;
  }

  // kOk and true: `reply` is whole. kOk and false: more bytes are needed.
  LinkStatus next(ControlReply& reply, bool& whole) {
    void* built = nullptr;
    if (redisReaderGetReply(reader_.get(), &built) == REDIS_OK) {
      whole = built != nullptr;
      if (whole) {
        reply = std::move(*root_);
        fed_bytes_ = elements_ = 0;
      }
      return LinkStatus::kOk;
    }
    if (std::string_view(reader_->errstr).find("nested") == std::string_view::npos) return LinkStatus::kMalformed;
    if (root_) reply = std::move(*root_);
    return LinkStatus::kTooDeep;
  }

  [[nodiscard]] std::string error() const { return reader_->errstr; }

 private:
  static ControlReply* place(const redisReadTask* task, ControlReply::Type type) {
    auto* self = static_cast<ReplyReader*>(task->privdata);
    ControlReply* reply = nullptr;
    if (task->parent == nullptr) {
      self->root_ = std::make_unique<ControlReply>();
      reply = self->root_.get();
    } else {
      reply = &static_cast<ControlReply*>(task->parent->obj)->elements[static_cast<std::size_t>(task->idx)];
    }
    reply->type = type;
    return reply;
  }

  static ControlReply::Type type_of_text(const redisReadTask* task) {
    if (task->type == REDIS_REPLY_ERROR) return ControlReply::Type::kError;
    return task->type == REDIS_REPLY_STATUS ? ControlReply::Type::kStatus : ControlReply::Type::kString;
  }

  static void* create_string(const redisReadTask* task, char* text, std::size_t size) {
    ControlReply* reply = place(task, type_of_text(task));
    reply->text.assign(text, size);
    return reply;
  }

  // A null pointer makes the reader fail with "out of memory".
  static void* create_array(const redisReadTask* task, std::size_t count) {
    auto* self = static_cast<ReplyReader*>(task->privdata);
    if (count > ControlLink::kReplyElementsMax - self->elements_) return nullptr;
    self->elements_ += count;
    ControlReply* reply = place(task, ControlReply::Type::kArray);
    reply->elements.resize(count);
    return reply;
  }

  static redisReplyObjectFunctions* object_functions() {
    static redisReplyObjectFunctions functions = [] {
      redisReplyObjectFunctions table{};
      table.createString = &create_string;
      // The count is an int in hiredis 0.14 and a size_t in 1.x; it is never negative.
      table.createArray = [](const redisReadTask* task, auto count) {
        return create_array(task, static_cast<std::size_t>(count));
      };
      table.createInteger = [](const redisReadTask* task, long long value) -> void* {
        ControlReply* reply = place(task, ControlReply::Type::kInteger);
        reply->integer = value;
        return reply;
      };
      table.createNil = [](const redisReadTask* task) -> void* { return place(task, ControlReply::Type::kNil); };
      table.freeObject = [](void*) {};  // root_ owns the tree
      return table;
    }();
    return &functions;
  }

  std::unique_ptr<ControlReply> root_;
  std::size_t fed_bytes_ = 0;
  std::size_t elements_ = 0;
  std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader_;
};

void append_command(std::string& out, const std::vector<std::string>& arguments) {
  out += '*' + std::to_string(arguments.size()) + "\r\n";
  for (const std::string& argument : arguments) {
    out += '$' + std::to_string(argument.size()) + "\r\n";
    out += argument;
    out += "\r\n";
  }
}

}  // namespace

// Lives until the last Asio operation has let go of it, closed or not; the link only holds it. `closed_` is what every
// completion looks at first.
class ControlLink::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(ControlLoop& loop, Options options)
      : loop_(loop), options_(std::move(options)), socket_(loop.context()), resolver_(loop.context()), timer_(loop) {}

  void start();
  void close();
  void request(const std::vector<std::string>& arguments, Handler handler);
  [[nodiscard]] bool dead() const { return closed_; }
  [[nodiscard]] const Endpoint& endpoint() const { return options_.endpoint; }

 private:
  struct Pending {
    Handler handler;
    Clock::time_point deadline;
  };

  void resolve();
  void connect_next(error_code last_error);
  void on_connected(error_code error);
  void shake_hands();
  void on_up();
  void write();
  void read();
  bool deliver_replies();
  void arm_for_front();
  void fail(LinkStatus status, std::string why, ControlReply partial = {});

  ControlLoop& loop_;  // not to be used once closed_
  Options options_;
  Stream::socket socket_;
  std::optional<asio::ssl::context> tls_context_;
  std::optional<TlsStream> tls_;  // over socket_; none: plain
  tcp::resolver resolver_;
  ControlLoop::Timer timer_;  // of the address tried, then of the oldest request
  std::deque<Stream::endpoint> addresses_;
  Clock::time_point connect_deadline_;
  bool up_ = false;
  bool closed_ = false;
  bool abandoned_ = false;  // the link was destroyed
  bool writing_ = false;
  std::string outgoing_;  // waits for the write under way
  std::string written_;   // being written
  std::array<char, 4096> chunk_;
  ReplyReader reader_;
  std::deque<Pending> pending_;  // oldest first
};

void ControlLink::Impl::start() {
  connect_deadline_ = Clock::now() + options_.connect_timeout;
  if (options_.endpoint.is_unix()) {
    // A longer path would throw.
    if (options_.endpoint.host.size() < sizeof(sockaddr_un::sun_path)) {
      addresses_.emplace_back(asio::local::stream_protocol::endpoint(options_.endpoint.host));
    }
  } else {
    error_code not_numeric;
    const auto address = asio::ip::make_address(options_.endpoint.host, not_numeric);
    if (not_numeric) return resolve();
    addresses_.emplace_back(tcp::endpoint(address, options_.endpoint.port));
  }
  // Not at once: a failure would reach the owner before it has made its first request.
  timer_.arm(Clock::duration::zero(), [this] { connect_next(asio::error::invalid_argument); });
}

void ControlLink::Impl::resolve() {
  timer_.arm(options_.connect_timeout, [this] { fail(LinkStatus::kConnectFailed, "name lookup timed out"); });
  loop_.lookup_started();
  resolver_.async_resolve(options_.endpoint.host, std::to_string(options_.endpoint.port), tcp::resolver::numeric_service,
                          [self = shared_from_this()](error_code error, const tcp::resolver::results_type& results) {
                            self->loop_.lookup_ended();
                            if (self->closed_) return;
                            for (const auto& result : results) {
                              if (self->addresses_.size() < kAddressesMax) self->addresses_.emplace_back(result.endpoint());
                            }
                            self->connect_next(error);
                          });
}

void ControlLink::Impl::connect_next(error_code last_error) {
  if (addresses_.empty()) return fail(LinkStatus::kConnectFailed, last_error.message());
  const auto left = std::max(connect_deadline_ - Clock::now(), Clock::duration::zero());
  const auto share = left / static_cast<Clock::rep>(addresses_.size());
  const Stream::endpoint address = addresses_.front();
  addresses_.pop_front();

  error_code ignored;
  socket_.close(ignored);
  timer_.arm(share, [this] {
    // Cancels the attempt; its completion goes on to the next address.
    error_code unused;
    socket_.close(unused);
  });
  socket_.async_connect(address, [self = shared_from_this()](error_code error) {
    if (!self->closed_) self->on_connected(error);
  });
}

void ControlLink::Impl::on_connected(error_code error) {
  // Connected just as its time ran out: the socket is closed already.
  if (!error && !socket_.is_open()) error = asio::error::operation_aborted;
  if (error) return connect_next(error == asio::error::operation_aborted ? error_code(asio::error::timed_out) : error);
  if (!options_.endpoint.is_unix()) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    if (options_.tls != nullptr) return shake_hands();
  }
  on_up();
}

void ControlLink::Impl::shake_hands() {
  ssl_ctx_st* const context = options_.tls->shared();
  if (context == nullptr) return fail(LinkStatus::kConnectFailed, "TLS: no certificates");
  tls_context_.emplace(context);
  tls_.emplace(socket_, *tls_context_);
  options_.tls->name_peer(tls_->native_handle(), options_.endpoint.host);
  timer_.arm(std::max(connect_deadline_ - Clock::now(), Clock::duration::zero()),
             [this] { fail(LinkStatus::kConnectFailed, "TLS: no answer in time"); });
  tls_->async_handshake(TlsStream::client, [self = shared_from_this()](error_code error) {
    if (self->closed_) return;
    if (!error) return self->on_up();
    self->fail(LinkStatus::kConnectFailed,
               "TLS: " + io::tls_handshake_failure(self->tls_->native_handle(), error.message()));
  });
}

void ControlLink::Impl::on_up() {
  up_ = true;
  const auto deadline = Clock::now() + options_.command_timeout;
  for (Pending& request : pending_) request.deadline = deadline;
  arm_for_front();
  read();
  write();
}

void ControlLink::Impl::request(const std::vector<std::string>& arguments, Handler handler) {
  if (closed_ || pending_.size() >= kRequestsMax) {
    loop_.post([handler = std::move(handler), self = shared_from_this()] {
      if (!self->abandoned_) handler({LinkStatus::kLost, {}, "the connection is closed or overloaded"});
    });
    return;
  }
  append_command(outgoing_, arguments);
  pending_.push_back({std::move(handler), Clock::now() + options_.command_timeout});
  if (!up_) return;
  if (pending_.size() == 1) arm_for_front();
  write();
}

void ControlLink::Impl::write() {
  if (writing_ || outgoing_.empty()) return;
  writing_ = true;
  written_ = std::exchange(outgoing_, {});
  auto written = [self = shared_from_this()](error_code error, std::size_t) {
    if (self->closed_) return;
    self->writing_ = false;
    // Not failed here: a server that refuses writes its reason and closes, and the reason may still be unread.
    if (!error) self->write();
  };
  if (tls_) {
    asio::async_write(*tls_, asio::buffer(written_), std::move(written));
  } else {
    asio::async_write(socket_, asio::buffer(written_), std::move(written));
  }
}

void ControlLink::Impl::read() {
  auto got = [self = shared_from_this()](error_code error, std::size_t size) {
    if (self->closed_) return;
    if (error) return self->fail(LinkStatus::kLost, (self->tls_ ? "TLS: " : "") + error.message());
    if (!self->reader_.feed(self->chunk_.data(), size)) return self->fail(LinkStatus::kMalformed, "the reply is too long");
    if (self->deliver_replies()) self->read();
  };
  if (tls_) {
    tls_->async_read_some(asio::buffer(chunk_), std::move(got));
  } else {
    socket_.async_read_some(asio::buffer(chunk_), std::move(got));
  }
}

// False: the link is closed.
bool ControlLink::Impl::deliver_replies() {
  while (true) {
    LinkResult result;
    bool whole = false;
    result.status = reader_.next(result.reply, whole);
    if (result.status != LinkStatus::kOk) {
      fail(result.status, reader_.error(), std::move(result.reply));
      return false;
    }
    if (!whole) return true;
    if (pending_.empty() && options_.on_push) {
      options_.on_push(result.reply);
      if (closed_) return false;
      continue;
    }
    if (pending_.empty()) {
      fail(LinkStatus::kMalformed, "a reply that nobody asked for");
      return false;
    }
    const Handler handler = std::move(pending_.front().handler);
    pending_.pop_front();
    arm_for_front();
    handler(std::move(result));
    if (closed_) return false;
  }
}

void ControlLink::Impl::arm_for_front() {
  if (pending_.empty()) return timer_.cancel();
  timer_.arm(pending_.front().deadline - Clock::now(), [this] { fail(LinkStatus::kTimedOut, "no answer in time"); });
}

// The handlers may destroy the link, which empties pending_.
void ControlLink::Impl::fail(LinkStatus status, std::string why, ControlReply partial) {
  const auto keep_alive = shared_from_this();
  closed_ = true;
  timer_.cancel();
  resolver_.cancel();
  error_code ignored;
  socket_.close(ignored);
  while (!pending_.empty()) {
    const Handler handler = std::move(pending_.front().handler);
    pending_.pop_front();
    handler({status, std::exchange(partial, {}), why});
  }
}

void ControlLink::Impl::close() {
  abandoned_ = true;
  pending_.clear();
  if (!closed_) fail(LinkStatus::kLost, {});
}

ControlLink::ControlLink(ControlLoop& loop, Options options) : impl_(std::make_shared<Impl>(loop, std::move(options))) {
  impl_->start();
}

ControlLink::~ControlLink() { impl_->close(); }

void ControlLink::request(const std::vector<std::string>& arguments, Handler handler) {
  impl_->request(arguments, std::move(handler));
}

bool ControlLink::dead() const { return impl_->dead(); }
const Endpoint& ControlLink::endpoint() const { return impl_->endpoint(); }

}  // namespace nearcached::tiers::upstream
