// MONITOR, and CLIENT PAUSE: what one client does to what all others do.
#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "daemon/client_pause.hpp"
#include "daemon/monitor.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {
namespace {

std::int64_t unix_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

bool refuses_dry_run(std::string_view reply) { return reply.starts_with("-ERR"); }

// ACL DRYRUN's answer as the refusal that the command itself would get.
std::string refusal_of(std::string_view dry_run, std::string_view command) {
  if (dry_run.starts_with('-')) return std::string(dry_run);
  std::string line;
  protocol::append_error(line, "NOPERM this user has no permissions to run the '" + std::string(command) + "' command");
  return line;
}

}  // namespace

// Where the upstream has ACL DRYRUN (7.0) it says whether this user may; where it has not, whether the user may do something
// alike that changes nothing. A user who may not ask is refused.
void Session::if_dry_run_permits(std::initializer_list<std::string_view> command, std::string_view name,
                                 std::initializer_list<std::string_view> alike, std::function<void(std::uint64_t)> then) {
  const std::string& user = identity_->credentials.user;
  std::string question;
  protocol::append_header(question, '*', static_cast<std::int64_t>(3 + command.size()));
  for (const std::string_view word : {std::string_view("ACL"), std::string_view("DRYRUN"),
                                      user.empty() ? std::string_view("default") : std::string_view(user)}) {
    protocol::append_bulk(question, word);
  }
  for (const std::string_view word : command) protocol::append_bulk(question, word);
  std::string second;
  protocol::append_command(second, alike);
  ask_upstream(question, [this, name, second, then = std::move(then)](std::uint64_t number, std::string said) {
    if (said == "+OK\r\n") {
      then(number);
    } else if (refuses_dry_run(said)) {
      ask_again(number, second, [this, then](std::uint64_t place, std::string permitted) {
        if (permitted.starts_with('-')) {
          end_question(place, permitted);
        } else {
          then(place);
        }
      });
    } else {
      end_question(number, refusal_of(said, name));
    }
  });
}

bool Session::client_pause(const Command& command, const Args& args) {
  PauseRequest request;
  const bool pauses = command.name == "client|pause";
  if (pauses) {
    if (const std::string error = parse_client_pause(args, request); !error.empty()) {
      answer_error(error);
      return true;
    }
  }
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  const auto act = [this, pauses, request](std::uint64_t number) {
    if (pauses) {
      const std::int64_t now_us = tiers::io::boot_us();
      const std::int64_t longest_ms = (std::numeric_limits<std::int64_t>::max() - now_us) / 1000;
      shared_.pause.begin(request.kind, now_us + std::min(request.timeout_ms, longest_ms) * 1000, now_us);
    } else {
      shared_.pause.end();
    }
    end_question(number, "+OK\r\n");
  };
  const std::initializer_list<std::string_view> alike = {"CLIENT", "KILL", "ID", "9223372036854775807"};
  if (pauses) {
    if_dry_run_permits({"CLIENT", "PAUSE", "0"}, command.name, alike, act);
  } else {
    if_dry_run_permits({"CLIENT", "UNPAUSE"}, command.name, alike, act);
  }
  return true;
}

// EXEC counts as a write whatever was queued. CLIENT UNPAUSE goes through, or a pause of everything could not be ended.
bool Session::held_by_pause(const Command& command) {
  if (!shared_.pause.begun() || command.name == "client|unpause") return false;
  const bool publishes = command.name == "publish" || command.name == "spublish";
  const bool writes =
      command.has(protocol::kFlagWrite) || command.has(protocol::kFlagMayReplicate) || publishes || command.name == "exec";
  if (!shared_.pause.holds(writes, now_us_)) return false;
  stall_ = Stall::kCongested;  // asks again at the next tick
  worker_.remember_congested(*this);
  return true;
}

bool Session::monitor(const Args& args) {
  if (monitoring_) return true;  // as Redis: no second answer
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  if_dry_run_permits({"MONITOR"}, "monitor", {"SLOWLOG", "LEN"}, [this](std::uint64_t number) {
    end_question(number, "+OK\r\n");
    if (!stream_.is_open()) return;
    monitoring_ = true;
    worker_.add_monitor(*this);
  });
  return true;
}

void Session::leave_monitor() {
  if (std::exchange(monitoring_, false)) worker_.remove_monitor(*this);
}

// As Redis: what is carried out, but not what administrates.
void Session::tell_monitors(const Command& command, const Args& args) {
  if (command.has(protocol::kFlagAdmin) || !command.arity_fits(args.size())) return;
  if (command.handling == protocol::Handling::kDenied) return;
  append_monitor_line(worker_.monitor_lines(), unix_us(), identity_->database, peer_, command.name, args);
}

bool Session::refused_to_monitor(const Command& command) {
  const bool of_keys =
      command.has(protocol::kFlagWrite) || command.has(protocol::kFlagReadonly) || command.has(protocol::kFlagMayReplicate);
  if (of_keys) answer_error("ERR Replica can't interact with the keyspace");
  return of_keys;
}

}  // namespace nearcached::daemon
