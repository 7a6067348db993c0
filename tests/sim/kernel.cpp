#include "tests/sim/kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "tiers/io/event_loop.hpp"

namespace nearcached::sim {
namespace {

Kernel* the_kernel = nullptr;

constexpr std::size_t kLinesMax = 4000;
constexpr std::size_t kReadMax = 64 * 1024;

std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

std::string printable(std::string_view bytes) {
  std::string text;
  for (const char c : bytes.substr(0, 400)) {
    if (c == '\r') continue;
    text += c == '\n' ? '|' : c;
  }
  return text;
}

}  // namespace

Kernel::Kernel(std::uint64_t seed) : seed_(seed) { the_kernel = this; }

Kernel::~Kernel() { the_kernel = nullptr; }

Kernel& Kernel::current() {
  if (the_kernel == nullptr) std::abort();
  return *the_kernel;
}

void Kernel::trace(const std::string& line) {
  if (!tracing_) return;
  char time[32];
  std::snprintf(time, sizeof time, "%10.3f ms  ", static_cast<double>(now_us_ - kStartUs) / 1000.0);
  lines_.push_back(time + line);
  if (lines_.size() > kLinesMax) lines_.pop_front();
}

// ---- events

void Kernel::at(std::int64_t when_us, std::function<void()> what) {
  events_.push({std::max(when_us, now_us_), next_event_++, std::move(what)});
}

void Kernel::run_until(std::int64_t when_us) {
  while (!events_.empty() && events_.top().at_us <= when_us) {
    now_us_ = events_.top().at_us;
    const std::function<void()> what = std::move(const_cast<Event&>(events_.top()).what);
    events_.pop();
    ++events_done_;
    what();
  }
  now_us_ = std::max(now_us_, when_us);
}

// ---- faults

void Kernel::pause_sidecar(int sidecar, std::int64_t until_us) {
  paused_until_[index(sidecar)] = std::max(paused_until_[index(sidecar)], until_us);
}

void Kernel::hold(int sidecar, int node, Direction direction, std::int64_t until_us) {
  link(sidecar, node).held_until_us[static_cast<std::size_t>(direction)] = until_us;
}

bool Kernel::held(int sidecar, int node) const {
  const Link& l = links_[index(sidecar)][index(node)];
  return std::max(l.held_until_us[0], l.held_until_us[1]) > now_us_;
}

void Kernel::reset(int sidecar, int node, unsigned percent) {
  for (const SocketPtr& socket : std::vector<SocketPtr>(sockets_)) {
    if (!socket || socket->sidecar != sidecar || socket->node != node || !socket->open) continue;
    if (socket->in.rng.percent(percent)) cut(*socket);
  }
}

void Kernel::end_faults() {
  for (auto& row : links_) {
    for (Link& l : row) {
      for (std::int64_t& until : l.held_until_us) until = std::min(until, now_us_);
      l.slow_until_us = std::min(l.slow_until_us, now_us_);
      l.cut_pause_us = 0;
    }
  }
  for (std::int64_t& until : paused_until_) until = std::min(until, now_us_);
  for (std::int64_t& until : node_paused_until_) until = std::min(until, now_us_);
}

void Kernel::cut(Socket& socket) {
  note(0xC07);
  if (tracing_) trace("connection " + std::to_string(socket.fd - kFirstFd) + " is reset");
  socket.out.chunks.clear();
  socket.in.chunks.clear();
  if (socket.in.rng.percent(50)) socket.inbox.clear();  // what has arrived may still be read
  socket.ended = true;
  socket.error = ECONNRESET;
  if (Peer* peer = std::exchange(socket.peer, nullptr)) peer->on_closed();
  ready(socket);
}

// ---- wires

bool Kernel::is_slow(const Socket& socket) {
  if (socket.node == kNoNode) return false;
  const Link& of = link(socket.sidecar, socket.node);
  if (of.slow_until_us <= now_us_) return false;
  return of.slow_which == 0 || of.slow_which == 1 + static_cast<std::uint64_t>(socket.fd) % 2;
}

std::int64_t Kernel::latency(Socket& socket, Direction direction) {
  Rng& rng = wire(socket, direction).rng;
  if (is_slow(socket)) return rng.range(20'000, link(socket.sidecar, socket.node).slow_longest_us);
  const std::uint64_t kind = rng.below(100);
  if (kind < 80) return rng.range(50, 400);
  if (kind < 96) return rng.range(400, 4'000);
  return rng.range(4'000, 25'000);
}

std::int64_t Kernel::blocked_until(const Socket& socket, Direction direction) {
  if (socket.node == kNoNode) return 0;
  const std::int64_t held = link(socket.sidecar, socket.node).held_until_us[static_cast<std::size_t>(direction)];
  return direction == Direction::kOut ? std::max(held, node_paused_until_[index(socket.node)]) : held;
}

void Kernel::transmit(const SocketPtr& socket, Direction direction, std::string bytes, bool end) {
  Wire& to = wire(*socket, direction);
  std::size_t from = 0;
  while (from < bytes.size() || end) {
    std::size_t size = bytes.size() - from;
    if (size > 1 && to.rng.percent(15)) {
      size = 1 + to.rng.below(size - 1);
      // Between two commands is where most depends on it.
      const std::size_t next = to.rng.percent(50) ? bytes.find("\r\n*", from + size) : std::string::npos;
      if (next != std::string::npos) size = next + 2 - from;
    }
    to.last_us = std::max(to.last_us, now_us_ + latency(*socket, direction));
    const bool last = from + size == bytes.size();
    to.chunks.push_back({to.last_us, bytes.substr(from, size), end && last});
    from += size;
    if (last) break;
  }
  arm(socket, direction);
}

void Kernel::arm(const SocketPtr& socket, Direction direction) {
  Wire& of = wire(*socket, direction);
  if (of.armed || of.chunks.empty()) return;
  of.armed = true;
  at(std::max(of.chunks.front().at_us, blocked_until(*socket, direction)), [this, socket, direction] {
    wire(*socket, direction).armed = false;
    deliver(socket, direction);
  });
}

void Kernel::deliver(const SocketPtr& socket, Direction direction) {
  Wire& of = wire(*socket, direction);
  while (!of.chunks.empty() && of.chunks.front().at_us <= now_us_ && blocked_until(*socket, direction) <= now_us_) {
    const Wire::Chunk chunk = std::move(of.chunks.front());
    of.chunks.pop_front();
    note(hash_of(chunk.bytes) ^ static_cast<std::uint64_t>(socket->fd) ^ static_cast<std::uint64_t>(now_us_));
    if (tracing_ && !chunk.bytes.empty()) {
      const std::string who = socket->node == kNoNode ? "client" : "node " + std::to_string(socket->node);
      const std::string arrow = direction == Direction::kOut ? " -> " : " <- ";
      trace("sidecar " + std::to_string(socket->sidecar) + arrow + who + " #" + std::to_string(socket->fd - kFirstFd) +
            ": " + printable(chunk.bytes));
    }
    if (direction == Direction::kIn) {
      if (!socket->open) continue;
      socket->inbox += chunk.bytes;
      socket->ended = socket->ended || chunk.end;
      ready(*socket);
    } else if (socket->peer != nullptr) {
      if (!chunk.bytes.empty()) socket->peer->on_bytes(chunk.bytes);
      if (chunk.end && socket->peer != nullptr) std::exchange(socket->peer, nullptr)->on_closed();
    }
  }
  arm(socket, direction);
}

void Kernel::send_to_sidecar(const SocketPtr& socket, std::string bytes) {
  if (!bytes.empty() && socket->open && socket->error == 0) transmit(socket, Direction::kIn, std::move(bytes), false);
}

void Kernel::close_by_peer(const SocketPtr& socket) {
  socket->peer = nullptr;
  if (socket->open && socket->error == 0) transmit(socket, Direction::kIn, {}, true);
}

// ---- loops

int Kernel::add_loop(tiers::io::EventLoop& loop) {
  Loop& added = loops_.emplace_back();
  added.loop = &loop;
  added.sidecar = building_;
  added.rng = Rng(seed_, 0x100 + loops_.size());
  const int number = static_cast<int>(loops_.size()) - 1;
  if (building_ >= 0) schedule_turn(number, now_us_ + added.rng.range(1, kTickUs));
  return number;
}

void Kernel::remove_loop(int loop) { loops_[index(loop)].loop = nullptr; }

void Kernel::wake(int loop) {
  Loop& woken = loops_[index(loop)];
  const std::int64_t delay_us = woken.rng.percent(90) ? woken.rng.range(5, 150) : woken.rng.range(150, 3'000);
  schedule_turn(loop, now_us_ + delay_us);
}

void Kernel::schedule_turn(int loop, std::int64_t at_us) {
  Loop& turning = loops_[index(loop)];
  if (turning.turn_at_us <= at_us) return;
  turning.turn_at_us = at_us;
  const std::uint64_t number = ++turning.turn_number;
  at(at_us, [this, loop, number] {
    if (loops_[index(loop)].turn_number == number) turn(loop);
  });
}

void Kernel::turn(int loop) {
  loops_[index(loop)].turn_at_us = kNeverUs;
  if (loops_[index(loop)].loop == nullptr) return;
  const std::int64_t paused_until_us = paused_until_[index(loops_[index(loop)].sidecar)];
  if (paused_until_us > now_us_) {
    schedule_turn(loop, paused_until_us);
    return;
  }
  note(static_cast<std::uint64_t>(loop) ^ static_cast<std::uint64_t>(now_us_));
  running_ = loop;
  loops_[index(loop)].loop->run();
  running_ = -1;
  Loop& turned = loops_[index(loop)];
  const bool more = std::any_of(turned.sockets.begin(), turned.sockets.end(), [this](const SocketPtr& s) {
    return (readiness(*s) & (s->interest | EPOLLERR | EPOLLHUP)) != 0;
  });
  if (more) wake(loop);
  schedule_turn(loop, std::max(turned.next_tick_us, now_us_ + 1));
}

bool Kernel::tick_due(int loop) {
  Loop& ticking = loops_[index(loop)];
  if (now_us_ < ticking.next_tick_us) return false;
  ticking.next_tick_us = now_us_ + kTickUs + ticking.rng.range(0, 2'000);
  return true;
}

void Kernel::watch(int loop, int fd, tiers::io::EventHandler* handler, std::uint32_t interest) {
  const SocketPtr socket = find(fd);
  if (!socket) return;
  Loop& watching = loops_[index(loop)];
  if (handler == nullptr) {
    std::erase(watching.sockets, socket);
    socket->handler = nullptr;
    return;
  }
  if (socket->handler == nullptr) watching.sockets.push_back(socket);
  socket->loop = loop;
  socket->handler = handler;
  socket->interest = interest;
  ready(*socket);
}

std::uint32_t Kernel::readiness(const Socket& socket) const {
  if (socket.error != 0) return EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP;
  if (socket.connecting) return 0;
  std::uint32_t events = 0;
  if (!socket.inbox.empty() || socket.ended) events |= EPOLLIN;
  if (socket.takes_again_us <= now_us_) events |= EPOLLOUT;
  return events;
}

void Kernel::ready(const Socket& socket) {
  if (socket.loop < 0 || socket.handler == nullptr) return;
  if ((readiness(socket) & (socket.interest | EPOLLERR | EPOLLHUP)) != 0) wake(socket.loop);
}

// The mailbox is the entry without a handler; in which order descriptors are reported is anybody's guess.
int Kernel::poll(int loop, epoll_event* ready_events, int ready_max, bool mailbox) {
  Loop& polling = loops_[index(loop)];
  int count = 0;
  const auto report = [&](tiers::io::EventHandler* handler, std::uint32_t events) {
    if (count == ready_max) return;
    ready_events[count].events = events;
    ready_events[count].data.ptr = handler;
    ++count;
  };
  for (const SocketPtr& socket : polling.sockets) {
    const std::uint32_t events = readiness(*socket) & (socket->interest | EPOLLERR | EPOLLHUP);
    if (events != 0) report(socket->handler, events);
  }
  if (mailbox) report(nullptr, EPOLLIN);
  for (int i = count - 1; i > 0; --i) {
    std::swap(ready_events[i], ready_events[polling.rng.below(static_cast<std::uint64_t>(i) + 1)]);
  }
  return count;
}

// ---- sockets and system calls

SocketPtr Kernel::find(int fd) const {
  const std::size_t at = index(fd - kFirstFd);
  return fd >= kFirstFd && at < sockets_.size() ? sockets_[at] : nullptr;
}

SocketPtr Kernel::add_socket(int sidecar, int node) {
  const std::uint64_t number = sockets_.size();
  const auto socket = std::make_shared<Socket>(kFirstFd + static_cast<int>(number), sidecar, node,
                                               Rng(seed_, 0x10000 + 2 * number), Rng(seed_, 0x10001 + 2 * number));
  sockets_.push_back(socket);
  return socket;
}

SocketPtr Kernel::connect_client(int sidecar, Peer& peer) {
  const SocketPtr socket = add_socket(sidecar, kNoNode);
  socket->peer = &peer;
  return socket;
}

int Kernel::sys_socket() {
  // The node is not known before connect: the socket is made there, under this number.
  sockets_.push_back(nullptr);
  return kFirstFd + static_cast<int>(sockets_.size()) - 1;
}

int Kernel::sys_connect(int fd, std::uint16_t port) {
  const std::uint64_t number = static_cast<std::uint64_t>(fd - kFirstFd);
  const auto socket = std::make_shared<Socket>(fd, running_sidecar(), port - kFirstPort, Rng(seed_, 0x10000 + 2 * number),
                                               Rng(seed_, 0x10001 + 2 * number));
  sockets_[number] = socket;
  socket->connecting = true;
  after(2 * latency(*socket, Direction::kOut), [this, socket] { finish_connect(socket); });
  errno = EINPROGRESS;
  return -1;
}

void Kernel::finish_connect(const SocketPtr& socket) {
  if (!socket->open || socket->error != 0) return;
  const std::int64_t until_us =
      std::max(link(socket->sidecar, socket->node).held_until_us[0], link(socket->sidecar, socket->node).held_until_us[1]);
  if (until_us > now_us_) {
    at(until_us, [this, socket] { finish_connect(socket); });
    return;
  }
  socket->connecting = false;
  if (down(socket->node)) {
    socket->error = ECONNREFUSED;
  } else {
    socket->peer = accept(socket->node, socket);
  }
  if (tracing_) {
    trace("sidecar " + std::to_string(socket->sidecar) + (socket->error != 0 ? " is refused by" : " is connected to") +
          " node " + std::to_string(socket->node) + " #" + std::to_string(socket->fd - kFirstFd));
  }
  ready(*socket);
}

bool Kernel::cut_between_commands(const SocketPtr& socket, std::string_view bytes) {
  if (socket->node == kNoNode || link(socket->sidecar, socket->node).cut_pause_us == 0) return false;
  std::vector<std::size_t> ends;
  for (std::size_t at = bytes.find("\r\n*"); at != std::string_view::npos; at = bytes.find("\r\n*", at + 1)) {
    ends.push_back(at + 2);
  }
  if (ends.empty()) return false;
  pause_sidecar(socket->sidecar, now_us_ + std::exchange(link(socket->sidecar, socket->node).cut_pause_us, 0));
  transmit(socket, Direction::kOut, std::string(bytes.substr(0, ends[socket->out.rng.below(ends.size())])), false);
  at(std::max(socket->out.last_us, blocked_until(*socket, Direction::kOut)) + 1, [this, socket] { cut(*socket); });
  return true;
}

long Kernel::sys_send(int fd, std::string_view bytes) {
  const SocketPtr socket = find(fd);
  if (socket->error != 0 || socket->connecting) {
    errno = socket->error != 0 ? socket->error : EAGAIN;
    return -1;
  }
  if (socket->takes_again_us > now_us_) {
    errno = EAGAIN;
    return -1;
  }
  if (cut_between_commands(socket, bytes)) return static_cast<long>(bytes.size());
  std::size_t taken = bytes.size();
  if (taken > 1 && socket->out.rng.below(100) == 0) {
    taken = 1 + socket->out.rng.below(taken - 1);
    socket->takes_again_us = now_us_ + socket->out.rng.range(50, 5'000);
    at(socket->takes_again_us, [this, socket] { ready(*socket); });
  }
  transmit(socket, Direction::kOut, std::string(bytes.substr(0, taken)), false);
  return static_cast<long>(taken);
}

long Kernel::sys_recv(int fd, char* room, std::size_t bytes) {
  const SocketPtr socket = find(fd);
  if (socket->inbox.empty()) {
    if (socket->error == 0 && socket->ended) return 0;
    errno = socket->error != 0 ? socket->error : EAGAIN;
    return -1;
  }
  const std::size_t got = socket->inbox.copy(room, std::min({bytes, socket->inbox.size(), kReadMax}));
  socket->inbox.erase(0, got);
  socket->read += got;
  if (socket->peer != nullptr) socket->peer->on_read(socket->read);
  return static_cast<long>(got);
}

int Kernel::sys_error(int fd) { return find(fd)->error; }

void Kernel::sys_close(int fd) {
  const SocketPtr socket = find(fd);
  if (!socket) return;
  socket->open = false;
  socket->inbox.clear();
  if (socket->error == 0 && socket->peer != nullptr) transmit(socket, Direction::kOut, {}, true);
  if (socket->handler == nullptr) sockets_[index(fd - kFirstFd)] = nullptr;
}

}  // namespace nearcached::sim
