// How long what left the process took; SLOWLOG and LATENCY, which tell of it.
#include <algorithm>
#include <chrono>
#include <utility>

#include "daemon/command_latency.hpp"
#include "daemon/session.hpp"
#include "daemon/survey.hpp"
#include "daemon/worker.hpp"

namespace nearcached::daemon {
namespace {

// Commands that are not in the table are one row of the histograms.
constexpr std::string_view kLearnedName = "unknown";

std::int64_t unix_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

struct Tier {
  std::string_view argument;  // at the end of the arguments in SLOWLOG, as Redis's "... (3 more arguments)" is
  std::string_view event;     // of LATENCY
};
constexpr Tier kTierLocal{"(tier: local)", "command-local"};
constexpr Tier kTierFill{"(tier: fill)", "command-fill"};
constexpr Tier kTierUpstream{"(tier: upstream)", "command-upstream"};

}  // namespace

// The command has been taken. If its answer is open it may be slow; a blocking command's time is its own.
void Session::begin_measuring(std::uint64_t number, const Command& command, const Args& args) {
  if (!replies_.holds(number) || replies_.at(number).done || (pinned_ && pinned_->blocked())) return;
  Place& place = replies_.at(number);
  const bool lasts = command.name.data() == last_command_.data();
  const std::string_view name = lasts ? command.name : kLearnedName;
  place.trail = trail_.note(name, taken_us_ == 0 ? now_us_ : taken_us_, args);
  place.local = command.handling == protocol::Handling::kLocal;
}

// Its reply is complete.
void Session::end_measuring(const Place& place) {
  const RequestTrail::Entry entry = trail_.at(place.trail);
  const std::int64_t duration_us = std::max<std::int64_t>(0, worker_.turn_us() - entry.taken_us);
  worker_.latency().add(entry.command, duration_us);
  const std::int64_t slower_us = shared_.settings.slowlog.slower_than.count() * 1000;
  if (slower_us == 0 || duration_us < slower_us) return;
  const Tier& tier = place.local ? kTierLocal : place.asked_us != 0 ? kTierFill : kTierUpstream;
  SlowCommand slow;
  slow.time_s = unix_s();
  slow.duration_us = duration_us;
  slow.args = trail_.args(place.trail);
  slow.args.emplace_back(tier.argument);
  slow.address = peer_;
  slow.name = name_;
  shared_.latency_events.add(tier.event, slow.time_s, duration_us / 1000);
  shared_.slow_log.add(std::move(slow));
}

// Who may is the upstream's ACL to say, of a command of the same kind that changes nothing there.
void Session::if_permitted(std::initializer_list<std::string_view> question, std::function<void(std::uint64_t)> then) {
  ask_upstream(question, [this, then = std::move(then)](std::uint64_t number, std::string permitted) {
    if (permitted.starts_with('-')) {
      end_question(number, permitted);
    } else {
      then(number);
    }
  });
}

bool Session::slow_log(const Command& command, const Args& args) {
  std::size_t count = 10;
  if (command.name == "slowlog|get" && args.size() > 2) {
    const bool one = args.size() == 3;
    if (!one || !parse_slow_log_count(args[2], count)) {
      answer_error(one ? std::string("ERR count should be greater than or equal to -1")
                       : "ERR unknown subcommand or wrong number of arguments for '" + std::string(args[1]) +
                             "'. Try SLOWLOG HELP.");
      return true;
    }
  }
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  if_permitted({"SLOWLOG", "LEN"}, [this, count, name = command.name](std::uint64_t number) {
    std::string reply;
    if (name == "slowlog|get") {
      reply = slow_log_reply(shared_.slow_log.newest(count));
    } else if (name == "slowlog|len") {
      protocol::append_integer(reply, static_cast<std::int64_t>(shared_.slow_log.length()));
    } else {
      shared_.slow_log.reset();
      protocol::append_simple(reply, "OK");
    }
    end_question(number, reply);
  });
  return true;
}

bool Session::latency(const Command& command, const Args& args) {
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  auto named = std::make_shared<std::vector<std::string>>(args.begin() + 2, args.end());
  if_permitted({"LATENCY", "LATEST"}, [this, named, name = command.name](std::uint64_t number) {
    if (name == "latency|histogram") {
      latency_histogram(number, named);
      return;
    }
    const std::vector<std::string_view> names(named->begin(), named->end());
    LatencyEvents& events = shared_.latency_events;
    std::string reply;
    if (name == "latency|latest") {
      reply = events.latest_reply();
    } else if (name == "latency|history") {
      reply = events.history_reply(names[0]);
    } else if (name == "latency|reset") {
      protocol::append_integer(reply, static_cast<std::int64_t>(events.reset(names)));
    } else if (name == "latency|doctor") {
      reply = text_reply(events.doctor());
    } else if (const auto graph = events.graph(names[0], unix_s())) {
      reply = text_reply(*graph);
    } else {
      protocol::append_error(reply, "ERR No samples available for event '" + (*named)[0].substr(0, 128) + "'");
    }
    end_question(number, reply);
  });
  return true;
}

void Session::latency_histogram(std::uint64_t number, const std::shared_ptr<std::vector<std::string>>& named) {
  auto table = std::make_shared<LatencyTable>();
  auto what = std::make_shared<Survey>();
  what->visit = [table](Worker& worker) { worker.latency().add_to(*table); };
  what->then = [this, number, named, table] { end_question(number, histogram_reply(*table, *named, version_)); };
  survey(shared_.workers, 0, worker_, std::move(what));
}

}  // namespace nearcached::daemon
