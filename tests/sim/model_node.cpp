#include "tests/sim/model_node.hpp"

#include <algorithm>
#include <utility>

#include "protocol/key_slot.hpp"
#include "protocol/writer.hpp"
#include "tests/sim/model_cluster.hpp"

namespace nearcached::sim {

void NodeConnection::on_bytes(std::string_view bytes) {
  in_ += bytes;
  std::size_t at = 0;
  while (!closed && at < in_.size()) {
    const auto status = parser_.parse(std::string_view(in_).substr(at), {});
    if (status == protocol::ParseStatus::kNeedMore || status == protocol::ParseStatus::kError) break;
    if (status == protocol::ParseStatus::kComplete) node_.execute(this, parser_.args(), out);
    at += parser_.consumed();
  }
  in_.erase(0, at);
  flush();
}

void NodeConnection::flush() {
  if (!closed && !out.empty()) node_.kernel().send_to_sidecar(socket_, std::exchange(out, {}));
}

void NodeConnection::on_closed() { node_.forget(*this); }

Kernel& Node::kernel() const { return cluster_.kernel(); }

Peer* Node::accept(const SocketPtr& socket) {
  const std::uint64_t id = next_id_++;
  return connections_.emplace(id, std::make_unique<NodeConnection>(*this, socket, id)).first->second.get();
}

void Node::forget(NodeConnection& connection) {
  connection.closed = true;
  const auto found = connections_.find(connection.id());
  if (found == connections_.end()) return;
  gone_.push_back(std::move(found->second));
  connections_.erase(found);
}

void Node::close_all() {
  for (auto& [id, connection] : connections_) {
    connection->closed = true;
    kernel().close_by_peer(connection->socket_pointer());
    gone_.push_back(std::move(connection));
  }
  connections_.clear();
  tracked_.clear();
}

int Node::owner_seen(std::uint16_t slot) const {
  const auto found = view_.find(slot);
  return found == view_.end() ? -1 : found->second;
}

void Node::learn(std::uint16_t slot, int owner) {
  const int before = std::exchange(view_[slot], owner);
  if (before == number_ && owner != number_) unsubscribe(slot);
}

// Sharded channels go with their slot.
void Node::unsubscribe(std::uint16_t slot) {
  for (const auto& [id, connection] : connections_) {
    for (const std::string& channel : std::set(connection->shard_channels)) {
      if (protocol::key_slot(channel) != slot) continue;
      connection->shard_channels.erase(channel);
      std::string bytes;
      protocol::append_header(bytes, '>', 3);
      protocol::append_bulk(bytes, "sunsubscribe");
      protocol::append_bulk(bytes, channel);
      protocol::append_integer(bytes, static_cast<std::int64_t>(connection->shard_channels.size()));
      push(*connection, bytes);
    }
  }
}

// ---- data

const Item* Node::find(const std::string& key) const {
  const auto found = data_.find(key);
  if (found == data_.end()) return nullptr;
  const Item& item = found->second;
  return item.expires_ms != 0 && cluster_.now_ms() > item.expires_ms ? nullptr : &item;
}

void Node::put(const std::string& key, Item item) {
  Item& kept = data_[key];
  kept = std::move(item);
  signal(key);
  cluster_.watch_expiry(number_, key, kept);
  cluster_.replicate(number_, key);
  cluster_.truth_changed(key);
}

void Node::remove(const std::string& key) {
  if (data_.erase(key) == 0) return;
  signal(key);
  cluster_.replicate(number_, key);
  cluster_.truth_changed(key);
}

void Node::expire(const std::string& key) {
  if (!replica && data_.contains(key) && find(key) == nullptr) remove(key);
}

void Node::drop_slot_silently(std::uint16_t slot) {
  std::erase_if(data_, [&](const auto& entry) { return cluster_.slot_of(entry.first) == slot; });
}

void Node::swap_databases() {
  data_.swap(other_database_);
  ++swapdb_calls_;
}

// ---- tracking

void Node::push(NodeConnection& connection, const std::string& bytes) {
  if (&connection == executing_) {
    connection.late.push_back(bytes);
    return;
  }
  connection.out += bytes;
  connection.flush();
}

void Node::signal(const std::string& key) {
  const auto found = tracked_.find(key);
  if (found == tracked_.end() || muted) return;
  const std::vector<std::uint64_t> readers = std::move(found->second);
  tracked_.erase(found);
  std::string bytes;
  protocol::append_header(bytes, '>', 2);
  protocol::append_bulk(bytes, "invalidate");
  protocol::append_header(bytes, '*', 1);
  protocol::append_bulk(bytes, key);
  for (const std::uint64_t id : readers) {
    const auto reader = connections_.find(id);
    if (reader != connections_.end() && reader->second->tracking) push(*reader->second, bytes);
  }
}

void Node::signal_all() {
  tracked_.clear();
  std::string bytes;
  protocol::append_header(bytes, '>', 2);
  protocol::append_bulk(bytes, "invalidate");
  bytes += "_\r\n";
  for (const auto& [id, connection] : connections_) {
    if (connection->tracking) push(*connection, bytes);
  }
}

void Node::remember(NodeConnection& connection, const std::string& key) {
  if (!connection.tracking) return;
  std::vector<std::uint64_t>& readers = tracked_[key];
  if (std::find(readers.begin(), readers.end(), connection.id()) == readers.end()) readers.push_back(connection.id());
  while (tracked_.size() > tracking_keys_max) {
    auto victim = tracked_.begin();
    if (victim->first == key) ++victim;
    signal(std::string(victim->first));
  }
}

}  // namespace nearcached::sim
