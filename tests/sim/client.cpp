#include "tests/sim/client.hpp"

#include <algorithm>
#include <utility>

#include "protocol/writer.hpp"

namespace nearcached::sim {
namespace {

using protocol::ReplyNode;
using protocol::ReplyType;
using tiers::Consistency;

std::size_t floor_in(const std::map<std::string, std::size_t>& floors, const std::string& key) {
  const auto found = floors.find(key);
  return found == floors.end() ? 0 : found->second;
}

std::string version_text(std::uint64_t number) { return "v" + std::to_string(number); }

// As observe() shows it.
std::string shown(const protocol::ReplyTree& tree, std::size_t at) {
  const ReplyNode& node = tree.nodes()[at];
  if (node.type == ReplyType::kNull) return "(nil)";
  if (node.type != ReplyType::kArray && node.type != ReplyType::kMap) return std::string(node.text);
  std::string text;
  for (std::size_t i = at + 1; i + 1 < at + node.subtree; i += 2) {
    text.append(tree.nodes()[i].text).append("=").append(tree.nodes()[i + 1].text).append(";");
  }
  return text;
}

std::vector<std::string> read_command(ReadKind kind, const std::string& key) {
  switch (kind) {
    case ReadKind::kGet: return {"GET", key};
    case ReadKind::kGetRange: return {"GETRANGE", key, "0", "-1"};
    case ReadKind::kExists: return {"EXISTS", key};
    case ReadKind::kHashField: return {"HGET", key, "f"};
    case ReadKind::kHashAll: return {"HGETALL", key};
  }
  return {};
}

}  // namespace

Client::Client(World& world, Sidecar& sidecar, int worker, bool resp3)
    : world_(world), sidecar_(sidecar), worker_(worker), resp3_(resp3) {
  connect();
}

void Client::connect() {
  socket_ = sidecar_.connect(worker_, *this);
  pending_.clear();  // asked for while there was no connection
  in_.clear();
  out_.clear();
  scanned_ = 0;
  sent_ = 0;
  framer_ = protocol::ReplyFramer();
  if (!resp3_) return;
  Pending greeting;
  greeting.greeting = true;
  send(std::move(greeting), {"HELLO", "3"});
}

void Client::on_closed() {
  errors_ += pending_.size();
  pending_.clear();
  world_.kernel.after(1'000, [this] { connect(); });
}

void Client::on_read(std::uint64_t total) {
  for (Pending& pending : pending_) {
    if (pending.end <= total && pending.arrived_us == 0) pending.arrived_us = world_.kernel.now_us();
  }
}

void Client::send(Pending pending, const std::vector<std::string>& args) {
  const std::size_t before = out_.size();
  protocol::append_command(out_, args);
  sent_ += out_.size() - before;
  pending.sent_us = world_.kernel.now_us();
  pending.end = sent_;
  for (const std::string& arg : args) pending.command += (pending.command.empty() ? "" : " ") + arg;
  for (const std::string& key : pending.keys) {
    const std::size_t floor = world_.cluster.history().floor(sidecar_.number(), key);
    pending.floors.push_back(std::max(floor, floor_in(heard_floors_, key)));
  }
  pending_.push_back(std::move(pending));
  if (std::exchange(flush_scheduled_, true)) return;
  world_.kernel.after(0, [this] { flush(); });
}

void Client::flush() {
  flush_scheduled_ = false;
  world_.kernel.send_to_sidecar(socket_, std::exchange(out_, {}));
}

void Client::act(const Action& action) {
  const std::vector<std::string>& names = world_.options.model.keys;
  const std::string& key = names[action.key];
  const std::string& key2 = names[action.key2];
  const std::string text = version_text(action.number);
  Pending pending;
  pending.kind = action.kind;
  pending.read = action.read;
  pending.keys = {key};
  pending.texts = {text};
  switch (action.kind) {
    case ActionKind::kRead: return send(std::move(pending), read_command(action.read, key));
    case ActionKind::kReadAfter:
      pending.kind = ActionKind::kRead;
      pending.read = ReadKind::kGet;
      pending.keys = {names[0]};
      pending.then = key;
      return send(std::move(pending), {"GET", names[0]});
    case ActionKind::kReadMany: pending.keys.push_back(key2); return send(std::move(pending), {"MGET", key, key2});
    case ActionKind::kSet:
      if (action.for_us == 0) return send(std::move(pending), {"SET", key, text});
      return send(std::move(pending), {"SET", key, text, "PX", std::to_string(action.for_us / 1000)});
    case ActionKind::kSetMany:
      if (key == key2) return send(std::move(pending), {"MSET", key, text});
      pending.keys.push_back(key2);
      pending.texts.push_back(text + "b");
      return send(std::move(pending), {"MSET", key, text, key2, text + "b"});
    case ActionKind::kDelete: return send(std::move(pending), {"DEL", key});
    case ActionKind::kIncrement: return send(std::move(pending), {"INCR", key});
    case ActionKind::kSetField: return send(std::move(pending), {"HSET", key, action.number % 4 == 0 ? "g" : "f", text});
    case ActionKind::kExpire: return send(std::move(pending), {"PEXPIRE", key, std::to_string(action.for_us / 1000)});
    case ActionKind::kScript: return send(std::move(pending), {"EVAL", "set " + key + " " + text, "0"});
    case ActionKind::kFlush: pending.keys = names; return send(std::move(pending), {"FLUSHALL"});
    default: return;
  }
}

void Client::read_next(const Pending& before) {
  Pending pending;
  pending.kind = ActionKind::kRead;
  pending.read = ReadKind::kGet;
  pending.keys = {before.then};
  send(std::move(pending), {"GET", before.then});
}

void Client::read_everything() {
  for (const std::string& key : world_.options.model.keys) {
    Pending pending;
    pending.kind = ActionKind::kRead;
    pending.read = key.starts_with("hash") ? ReadKind::kHashAll : ReadKind::kGet;
    pending.keys = {key};
    pending.final = true;
    send(std::move(pending), read_command(pending.read, key));
  }
}

void Client::on_bytes(std::string_view bytes) {
  in_ += bytes;
  std::size_t from = 0;
  while (from + scanned_ < in_.size()) {
    const auto step = framer_.advance(std::string_view(in_).substr(from + scanned_));
    scanned_ += step.bytes;
    if (!step.complete) break;
    const std::string_view frame = std::string_view(in_).substr(from, scanned_);
    from += std::exchange(scanned_, 0);
    if (pending_.empty() || !tree_.parse(frame)) {
      world_.failure = "a reply that nobody asked for, or that is no reply: " + std::string(frame);
      return;
    }
    const Pending pending = std::move(pending_.front());
    pending_.pop_front();
    if (!tree_.pushes().empty()) world_.failure = "a push inside a reply to " + pending.command;
    if (!pending.greeting) judge(pending, tree_);
  }
  in_.erase(0, from);
}

void Client::judge(const Pending& pending, const protocol::ReplyTree& reply) {
  const ReplyType type = reply.root().type;
  if (type == ReplyType::kError || type == ReplyType::kBulkError) {
    ++errors_;
    if (reply.root().text.starts_with("MOVED ") || reply.root().text.starts_with("ASK ")) {
      return fail(pending, pending.keys.front(), "sent elsewhere: " + std::string(reply.root().text), 0, 0);
    }
    if (pending.final) {
      fail(pending, pending.keys.front(), "an error when all is well again: " + std::string(reply.root().text), 0, 0);
    }
    return;
  }
  if (pending.kind == ActionKind::kRead) {
    judge_read(pending, 0, pending.read, shown(reply, 0));
    if (!pending.then.empty()) read_next(pending);
  } else if (pending.kind == ActionKind::kReadMany) {
    judge_read(pending, 0, ReadKind::kGet, shown(reply, 1));
    judge_read(pending, 1, ReadKind::kGet, shown(reply, 2));
  } else {
    judge_write(pending, reply);
  }
}

void Client::judge_read(const Pending& pending, std::size_t at, ReadKind kind, const std::string& got) {
  ++reads_;
  const std::string& key = pending.keys[at];
  History& history = world_.cluster.history();
  const tiers::Policy& policy = sidecar_.policies().of(key);
  const std::int64_t now_us = world_.kernel.now_us();
  std::int64_t staleness_us = policy.consistency == Consistency::kStrict ? 0 : policy.max_staleness_us;
  staleness_us = std::max(staleness_us, world_.options.bound_us);
  const bool stale_ok = policy.consistency == Consistency::kStaleOk && pending.arrived_us < world_.stale_until_us;
  if (stale_ok) staleness_us = policy.max_stale_us;
  if (pending.final) staleness_us = 0;
  const std::int64_t low_us = pending.arrived_us - staleness_us;
  // Within the bound after a foreign SWAPDB one way of reading may show the one database, another the other.
  const bool swapped = world_.swapped_us != 0 && pending.arrived_us - staleness_us < world_.swapped_us;
  const std::size_t floor = swapped ? 0 : std::max(pending.floors[at], floor_in(own_floors_, key));
  const auto place = history.earliest(key, kind, got, low_us, now_us, floor);
  if (!place) {
    const bool too_old = history.earliest(key, kind, got, low_us, now_us, 0) == std::nullopt;
    fail(pending, key, (too_old ? "older than its bound, or never true: " : "back in time: ") + got, low_us, floor);
    return;
  }
  history.raise_floor(sidecar_.number(), key, *place);
  std::size_t& own = own_floors_[key];
  own = std::max(own, *place);
  if (policy.consistency == Consistency::kStrict) heard(key, *place);
}

// What was true of the causal keys when the version that was heard came to be, this client must see from now on.
void Client::heard(const std::string& key, std::size_t place) {
  const History& history = world_.cluster.history();
  const std::int64_t since_us = history.since_us(key, place);
  for (const std::string& other : world_.options.model.keys) {
    if (sidecar_.policies().of(other).consistency != Consistency::kCausal) continue;
    std::size_t& floor = heard_floors_[other];
    floor = std::max(floor, history.place_at(other, since_us));
  }
}

void Client::judge_write(const Pending& pending, const protocol::ReplyTree& reply) {
  switch (pending.kind) {
    case ActionKind::kSet:
    case ActionKind::kSetMany:
    case ActionKind::kScript:
      for (std::size_t i = 0; i < pending.keys.size(); ++i)
        acknowledge(pending, pending.keys[i], ReadKind::kGet, pending.texts[i]);
      return;
    case ActionKind::kSetField:
      if (pending.command.find(" f ") != std::string::npos) {
        acknowledge(pending, pending.keys[0], ReadKind::kHashField, pending.texts[0]);
      }
      return;
    case ActionKind::kDelete: acknowledge(pending, pending.keys[0], ReadKind::kExists, "0"); return;
    case ActionKind::kIncrement:
      acknowledge(pending, pending.keys[0], ReadKind::kGet, std::string(reply.root().text));
      return;
    default: return;
  }
}

void Client::acknowledge(const Pending& pending, const std::string& key, ReadKind kind, const std::string& written) {
  History& history = world_.cluster.history();
  const auto place = history.earliest(key, kind, written, pending.sent_us, world_.kernel.now_us(), 0);
  if (!place) return fail(pending, key, "acknowledged, but it never was true: " + written, pending.sent_us, 0);
  history.raise_floor(sidecar_.number(), key, *place);
  std::size_t& own = own_floors_[key];
  own = std::max(own, *place);
}

void Client::fail(const Pending& pending, const std::string& key, const std::string& what, std::int64_t low_us,
                  std::size_t floor) {
  if (!world_.failure.empty()) return;
  const auto ms = [](std::int64_t us) {
    const std::int64_t since = std::max<std::int64_t>(0, us - Kernel::kStartUs);
    return std::to_string(since / 1000) + "." + std::to_string(since % 1000 / 100);
  };
  world_.failure = "sidecar " + std::to_string(sidecar_.number()) + " worker " + std::to_string(worker_) + " #" +
                   std::to_string(socket_->fd - Kernel::kFirstFd) + " \"" + pending.command + "\": " + what + "\n  sent " +
                   ms(pending.sent_us) + ", read by the sidecar " + ms(pending.arrived_us) + ", answered " +
                   ms(world_.kernel.now_us()) + "; must have been true at or after " + ms(low_us) + " ms, and at place " +
                   std::to_string(floor) + " or behind it\n  what was true of " + key + ":\n" +
                   world_.cluster.history().describe(key, low_us, world_.kernel.now_us());
}

}  // namespace nearcached::sim
