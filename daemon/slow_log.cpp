#include "daemon/slow_log.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "protocol/writer.hpp"

namespace nearcached::daemon {

void SlowLog::add(SlowCommand command) {
  const std::lock_guard lock(mutex_);
  command.id = next_id_++;
  commands_.push_front(std::move(command));
  if (commands_.size() > length_max_) commands_.pop_back();
}

std::vector<SlowCommand> SlowLog::newest(std::size_t count) const {
  const std::lock_guard lock(mutex_);
  const std::size_t taken = std::min(count, commands_.size());
  return {commands_.begin(), commands_.begin() + static_cast<std::ptrdiff_t>(taken)};
}

std::size_t SlowLog::length() const {
  const std::lock_guard lock(mutex_);
  return commands_.size();
}

void SlowLog::reset() {
  const std::lock_guard lock(mutex_);
  commands_.clear();
}

std::string slow_log_reply(const std::vector<SlowCommand>& commands) {
  std::string reply;
  protocol::append_header(reply, '*', static_cast<std::int64_t>(commands.size()));
  for (const SlowCommand& command : commands) {
    protocol::append_header(reply, '*', 6);
    protocol::append_integer(reply, static_cast<std::int64_t>(command.id));
    protocol::append_integer(reply, command.time_s);
    protocol::append_integer(reply, command.duration_us);
    protocol::append_command(reply, command.args);
    protocol::append_bulk(reply, command.address);
    protocol::append_bulk(reply, command.name);
  }
  return reply;
}

bool parse_slow_log_count(std::string_view text, std::size_t& count) {
  std::int64_t wanted = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wanted);
  if (error != std::errc() || end != text.data() + text.size() || wanted < -1) return false;
  count = wanted == -1 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(wanted);
  return true;
}

}  // namespace nearcached::daemon
