// The commands of a model node: what each answers and does.
#include <algorithm>
#include <charconv>
#include <functional>
#include <unordered_map>

#include "protocol/key_slot.hpp"
#include "protocol/writer.hpp"
#include "tests/sim/model_cluster.hpp"
#include "tests/sim/model_node.hpp"

namespace nearcached::sim {
namespace {

std::int64_t number_of(std::string_view text) {
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return result;
}

using Fields = std::map<std::string, std::string>;

Fields fields_of(const Value& value) {
  Fields fields;
  std::string_view rest = value.empty() ? std::string_view() : std::string_view(value).substr(1);
  while (!rest.empty()) {
    const std::size_t equals = rest.find('=');
    const std::size_t end = rest.find(';');
    fields[std::string(rest.substr(0, equals))] = rest.substr(equals + 1, end - equals - 1);
    rest.remove_prefix(end + 1);
  }
  return fields;
}

Value value_of(const Fields& fields) {
  if (fields.empty()) return {};
  Value value = "h";
  for (const auto& [name, text] : fields) value.append(name).append("=").append(text).append(";");
  return value;
}

}  // namespace

// One call: its arguments, who called, where the reply goes.
class Commands {
 public:
  Commands(Node& node, Cluster& cluster, NodeConnection* connection, const Node::Args& args, std::string& out)
      : node_(node), cluster_(cluster), connection_(connection), args_(args), out_(out) {}

  void run() {
    static const std::unordered_map<std::string, void (Commands::*)()> kCommands{
        {"GET", &Commands::get},
        {"GETRANGE", &Commands::getrange},
        {"EXISTS", &Commands::exists},
        {"MGET", &Commands::mget},
        {"HGET", &Commands::hget},
        {"HGETALL", &Commands::hgetall},
        {"PTTL", &Commands::pttl},
        {"SET", &Commands::set},
        {"MSET", &Commands::mset},
        {"DEL", &Commands::del},
        {"INCR", &Commands::incr},
        {"HSET", &Commands::hset},
        {"PEXPIRE", &Commands::pexpire},
        {"EVAL", &Commands::eval},
        {"FLUSHALL", &Commands::flushall},
        {"SWAPDB", &Commands::swapdb},
        {"PING", &Commands::ping},
        {"HELLO", &Commands::hello},
        {"CLIENT", &Commands::client},
        {"CLUSTER", &Commands::cluster},
        {"INFO", &Commands::info},
        {"COMMAND", &Commands::command},
        {"ASKING", &Commands::asking},
        {"SELECT", &Commands::ok},
        {"AUTH", &Commands::ok},
        {"SUBSCRIBE", &Commands::subscribe},
        {"SSUBSCRIBE", &Commands::ssubscribe},
        {"PUBLISH", &Commands::publish},
        {"SPUBLISH", &Commands::spublish},
    };
    const auto found = kCommands.find(upper(args_[0]));
    if (found == kCommands.end()) {
      error("ERR unknown command '" + std::string(args_[0]) + "'");
    } else {
      (this->*found->second)();
    }
  }

 private:
  [[nodiscard]] std::string key(std::size_t at = 1) const { return std::string(args_[at]); }
  [[nodiscard]] protocol::RespVersion version() const {
    return connection_ != nullptr && connection_->resp3 ? protocol::RespVersion::kResp3 : protocol::RespVersion::kResp2;
  }
  void error(std::string_view text) { protocol::append_error(out_, text); }
  void ok() { protocol::append_simple(out_, "OK"); }
  void nil() { protocol::append_null(out_, version()); }

  // Keys from..to-1 in steps: true if they are served here; else the reply says where.
  bool served(std::size_t from, std::size_t to, std::size_t step) {
    const bool asking = connection_ != nullptr && std::exchange(connection_->asking, false);
    if (connection_ == nullptr) return true;
    if (!cluster_.options().cluster) {
      if (!node_.replica || !node_.link_down) return true;
      error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
      return false;
    }
    if (node_.failing) {
      error("CLUSTERDOWN The cluster is down");
      return false;
    }
    const std::uint16_t slot = protocol::key_slot(args_[from]);
    std::size_t missing = 0;
    std::size_t keys = 0;
    for (std::size_t at = from; at < to; at += step, ++keys) missing += node_.find(key(at)) == nullptr ? 1 : 0;
    const int owner = node_.owner_seen(slot);
    if (owner == node_.number()) {
      const auto moving = node_.migrating.find(slot);
      if (moving == node_.migrating.end() || missing == 0) return true;
      if (missing < keys) return again();
      return redirect("ASK", slot, moving->second);
    }
    if (asking && node_.importing.contains(slot)) return missing == 0 || keys == 1 ? true : again();
    if (owner >= 0) return redirect("MOVED", slot, owner);
    error("CLUSTERDOWN Hash slot not served");
    return false;
  }
  bool again() {
    error("TRYAGAIN Multiple keys request during rehashing of slot");
    return false;
  }
  bool redirect(std::string_view word, std::uint16_t slot, int to) {
    error(std::string(word) + " " + std::to_string(slot) + " 127.0.0.1:" + std::to_string(Kernel::kFirstPort + to));
    return false;
  }
  bool served_one() { return served(1, 2, 1); }

  // What a read finds; it is remembered for the reader.
  const Item* look(std::size_t at = 1) {
    node_.expire(key(at));
    if (connection_ != nullptr) node_.remember(*connection_, key(at));
    return node_.find(key(at));
  }

  // ---- reads
  void get() {
    if (!served_one()) return;
    const Item* item = look();
    item == nullptr ? nil() : protocol::append_bulk(out_, std::string_view(item->value).substr(1));
  }
  void getrange() {
    if (!served_one()) return;
    const Item* item = look();
    protocol::append_bulk(out_, item == nullptr ? std::string_view() : std::string_view(item->value).substr(1));
  }
  void exists() {
    if (!served(1, args_.size(), 1)) return;
    std::int64_t found = 0;
    for (std::size_t at = 1; at < args_.size(); ++at) found += look(at) != nullptr ? 1 : 0;
    protocol::append_integer(out_, found);
  }
  void mget() {
    if (!served(1, args_.size(), 1)) return;
    protocol::append_header(out_, '*', static_cast<std::int64_t>(args_.size()) - 1);
    for (std::size_t at = 1; at < args_.size(); ++at) {
      const Item* item = look(at);
      item == nullptr ? nil() : protocol::append_bulk(out_, std::string_view(item->value).substr(1));
    }
  }
  void hget() {
    if (!served_one()) return;
    const Item* item = look();
    const Fields fields = item == nullptr ? Fields() : fields_of(item->value);
    const auto field = fields.find(key(2));
    field == fields.end() ? nil() : protocol::append_bulk(out_, field->second);
  }
  void hgetall() {
    if (!served_one()) return;
    const Item* item = look();
    const Fields fields = item == nullptr ? Fields() : fields_of(item->value);
    const bool resp3 = version() == protocol::RespVersion::kResp3;
    protocol::append_header(out_, resp3 ? '%' : '*', static_cast<std::int64_t>(fields.size() * (resp3 ? 1 : 2)));
    for (const auto& [name, text] : fields) {
      protocol::append_bulk(out_, name);
      protocol::append_bulk(out_, text);
    }
  }
  void pttl() {
    if (!served_one()) return;
    const Item* item = look();
    protocol::append_integer(out_, item == nullptr ? -2 : item->expires_ms == 0 ? -1 : item->expires_ms - cluster_.now_ms());
  }

  // ---- writes
  void write(const std::string& name, std::string_view text, std::int64_t ttl_ms) {
    cluster_.note_written(std::string(text));
    node_.put(name, {"s" + std::string(text), ttl_ms == 0 ? 0 : cluster_.now_ms() + ttl_ms});
  }
  void set() {
    if (!served_one()) return;
    write(key(), args_[2], args_.size() == 5 ? number_of(args_[4]) : 0);
    ok();
  }
  void mset() {
    if (!served(1, args_.size(), 2)) return;
    for (std::size_t at = 1; at + 1 < args_.size(); at += 2) write(key(at), args_[at + 1], 0);
    ok();
  }
  void del() {
    if (!served(1, args_.size(), 1)) return;
    std::int64_t removed = 0;
    for (std::size_t at = 1; at < args_.size(); ++at) {
      node_.expire(key(at));
      removed += node_.find(key(at)) != nullptr ? 1 : 0;
      node_.remove(key(at));
    }
    protocol::append_integer(out_, removed);
  }
  void incr() {
    if (!served_one()) return;
    node_.expire(key());
    const Item* item = node_.find(key());
    const std::int64_t number = (item == nullptr ? 0 : number_of(std::string_view(item->value).substr(1))) + 1;
    node_.put(key(), {"s" + std::to_string(number), item == nullptr ? 0 : item->expires_ms});
    protocol::append_integer(out_, number);
  }
  void hset() {
    if (!served_one()) return;
    node_.expire(key());
    const Item* item = node_.find(key());
    Fields fields = item == nullptr ? Fields() : fields_of(item->value);
    const bool fresh = !fields.contains(key(2));
    fields[key(2)] = args_[3];
    cluster_.note_written(std::string(args_[3]));
    node_.put(key(), {value_of(fields), item == nullptr ? 0 : item->expires_ms});
    protocol::append_integer(out_, fresh ? 1 : 0);
  }
  void pexpire() {
    if (!served_one()) return;
    node_.expire(key());
    const Item* item = node_.find(key());
    if (item != nullptr) node_.put(key(), {item->value, cluster_.now_ms() + number_of(args_[2])});
    protocol::append_integer(out_, item == nullptr ? 0 : 1);
  }
  // "set KEY VALUE", undeclared.
  void eval() {
    if (connection_ != nullptr && node_.failing) return error("CLUSTERDOWN The cluster is down");
    if (connection_ != nullptr && node_.replica) return error("READONLY You can't write against a read only replica.");
    const std::string script(args_[1]);
    const std::size_t first = script.find(' ');
    const std::size_t second = script.find(' ', first + 1);
    const std::string name = script.substr(first + 1, second - first - 1);
    const std::uint16_t slot = cluster_.slot_of(name);
    const bool here =
        !cluster_.options().cluster || (node_.owner_seen(slot) == node_.number() && !node_.migrating.contains(slot));
    if (connection_ != nullptr && !here) return error("ERR Script attempted to access a non local key in a cluster node");
    write(name, std::string_view(script).substr(second + 1), 0);
    ok();
  }
  void flushall() {
    if (node_.replica) return error("READONLY You can't write against a read only replica.");
    std::vector<std::string> names;
    for (const auto& [name, item] : node_.data_) names.push_back(name);
    node_.data_.clear();
    node_.signal_all();
    for (const std::string& name : names) cluster_.replicate(node_.number(), name);
    cluster_.all_truth_changed();
    ok();
  }
  void swapdb() {
    node_.swap_databases();
    cluster_.all_truth_changed();
    ok();
  }

  // ---- the server
  void ping() { protocol::append_simple(out_, "PONG"); }
  void asking() {
    connection_->asking = true;
    ok();
  }
  void hello() {
    if (args_.size() == 1 && node_.probes_refused) {
      return error("NOPERM this user has no permissions to run the 'hello' command");
    }
    if (args_.size() > 1) connection_->resp3 = args_[1] == "3";
    protocol::append_header(out_, connection_->resp3 ? '%' : '*', connection_->resp3 ? 4 : 8);
    const auto pair = [&](std::string_view name, std::string_view text) {
      protocol::append_bulk(out_, name);
      protocol::append_bulk(out_, text);
    };
    pair("version", "7.0.15");
    protocol::append_bulk(out_, "proto");
    protocol::append_integer(out_, connection_->resp3 ? 3 : 2);
    pair("mode", cluster_.options().cluster ? "cluster" : "standalone");
    pair("role", node_.replica && !node_.hello_lies ? "replica" : "master");
  }
  void client() {
    if (node_.tracking_refused) return error("NOPERM this user has no permissions to run the 'client|tracking' command");
    connection_->tracking = true;
    ok();
  }
  void cluster() {
    const std::string what = upper(args_[1]);
    if (what == "INFO") {
      protocol::append_bulk(out_, std::string("cluster_enabled:1\r\ncluster_state:") + (node_.failing ? "fail" : "ok") +
                                      "\r\ncluster_current_epoch:" + std::to_string(node_.epoch_seen) + "\r\n");
    } else {
      protocol::append_bulk(out_, own_line());
    }
  }
  [[nodiscard]] std::string own_line() const {
    const std::string port = std::to_string(Kernel::kFirstPort + node_.number());
    std::string line = "id" + std::to_string(node_.number()) + " 127.0.0.1:" + port + "@1" + port + " myself," +
                       (node_.replica ? "slave id9" : "master -") + " 0 0 " + std::to_string(node_.epoch_seen) +
                       " connected";
    for (const auto& [slot, owner] : node_.view()) {
      if (owner == node_.number()) line += " " + std::to_string(slot);
    }
    for (const auto& [slot, to] : node_.migrating) line += " [" + std::to_string(slot) + "->-id" + std::to_string(to) + "]";
    for (const auto& [slot, from] : node_.importing) {
      line += " [" + std::to_string(slot) + "-<-id" + std::to_string(from) + "]";
    }
    return line + "\n";
  }
  void info() {
    ++node_.info_calls_;
    std::string text = "# Commandstats\r\ncmdstat_info:calls=" + std::to_string(node_.info_calls_) + ",usec=1\r\n";
    if (node_.swapdb_calls_ != 0) text += "cmdstat_swapdb:calls=" + std::to_string(node_.swapdb_calls_) + ",usec=1\r\n";
    protocol::append_bulk(out_, text);
  }
  void command() {
    protocol::append_header(out_, '*', 1);
    nil();
  }

  // ---- Pub/Sub
  void confirm(std::string_view kind, std::size_t count) {
    std::string bytes;
    protocol::append_header(bytes, '>', 3);
    protocol::append_bulk(bytes, kind);
    protocol::append_bulk(bytes, args_[1]);
    protocol::append_integer(bytes, static_cast<std::int64_t>(count));
    out_ += bytes;
  }
  void subscribe() {
    connection_->channels.insert(key());
    confirm("subscribe", connection_->channels.size());
  }
  void ssubscribe() {
    if (!served_channel()) return;
    connection_->shard_channels.insert(key());
    confirm("ssubscribe", connection_->shard_channels.size());
  }
  bool served_channel() {
    const std::uint16_t slot = protocol::key_slot(args_[1]);
    const int owner = node_.owner_seen(slot);
    if (owner == node_.number()) return true;
    if (owner >= 0) return redirect("MOVED", slot, owner);
    error("CLUSTERDOWN Hash slot not served");
    return false;
  }
  std::int64_t deliver(Node& node, std::string_view kind, bool sharded) {
    std::string bytes;
    protocol::append_header(bytes, '>', 3);
    protocol::append_bulk(bytes, kind);
    protocol::append_bulk(bytes, args_[1]);
    protocol::append_bulk(bytes, args_[2]);
    std::int64_t receivers = 0;
    if (node.kernel().now_us() < node.loses_messages_until_us) return receivers;
    for (const auto& [id, to] : node.connections_) {
      if (!(sharded ? to->shard_channels : to->channels).contains(key())) continue;
      node.push(*to, bytes);
      ++receivers;
    }
    return receivers;
  }
  void publish() { protocol::append_integer(out_, deliver(node_, "message", false)); }
  void spublish() {
    if (served_channel()) protocol::append_integer(out_, deliver(node_, "smessage", true));
  }

  Node& node_;
  Cluster& cluster_;
  NodeConnection* connection_;
  const Node::Args& args_;
  std::string& out_;
};

void Node::execute(NodeConnection* connection, const Args& args, std::string& out) {
  gone_.clear();
  executing_ = connection;
  const std::size_t before = out.size();
  Commands(*this, cluster_, connection, args, out).run();
  executing_ = nullptr;
  if (connection == nullptr || connection->late.empty()) return;
  std::string pushes;
  for (const std::string& bytes : connection->late) pushes += bytes;
  connection->late.clear();
  const char type = before < out.size() ? out[before] : '\0';
  const std::size_t header = out.find("\r\n", before) + 2;
  const bool inside = nested_pushes && (type == '*' || type == '%') && header < out.size();
  inside ? out.insert(header, pushes) : out.append(pushes);
}

}  // namespace nearcached::sim
