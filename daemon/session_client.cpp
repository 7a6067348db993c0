// CLIENT LIST, INFO, KILL and the rest that is about the clients of this process; CONFIG of its settings.
#include <algorithm>
#include <memory>
#include <utility>

#include "daemon/client_facts.hpp"
#include "daemon/own_settings.hpp"
#include "daemon/session.hpp"
#include "daemon/survey.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using protocol::equal_ignoring_case;
using protocol::RespVersion;

namespace {

constexpr std::int64_t kSecondUs = 1'000'000;

// Visits all sessions, each on its own thread.
std::function<void(Worker&)> each_session(std::function<void(Session&)> visit) {
  return [visit = std::move(visit)](Worker& worker) {
    for (const auto& session : worker.sessions()) visit(*session);
  };
}

}  // namespace

ClientFacts Session::facts() {
  ClientFacts client;
  const std::int64_t now_us = tiers::io::boot_us();
  client.id = id_;
  client.address = peer_;
  client.local_address = local_address_;
  client.fd = stream_.fd();
  client.name = name_;
  client.age_s = (now_us - connected_us_) / kSecondUs;
  client.idle_s = std::max<std::int64_t>(0, now_us - now_us_) / kSecondUs;
  client.database = identity_->database;
  if (pinned_) {
    client.channels = pinned_->channels();
    client.patterns = pinned_->patterns();
    client.shard_channels = pinned_->shard_channels();
    if (pinned_->queueing()) client.queued = pinned_->queued();
    client.blocked = pinned_->blocked();
  }
  client.closing = closing_;
  client.monitors = monitoring_;
  client.input_bytes = stream_.unread_bytes();
  client.output_bytes = stream_.out().size();
  client.replies = replies_.size();
  client.reply_bytes = queued_bytes_;
  client.command = last_command_;
  const std::string& user = identity_->credentials.user;
  client.user = user_ != nullptr ? user_->name : user.empty() ? "default" : user;
  client.library_name = library_name_;
  client.library_version = library_version_;
  client.protocol = version_ == RespVersion::kResp3 ? 3 : 2;
  return client;
}

// What is behind it in the pipeline waits, as for AUTH.
void Session::ask_upstream(std::initializer_list<std::string_view> question,
                           std::function<void(std::uint64_t, std::string)> then) {
  std::string bytes;
  protocol::append_command(bytes, question);
  ask_upstream(std::string_view(bytes), std::move(then));
}

void Session::ask_upstream(std::string_view question, std::function<void(std::uint64_t, std::string)> then) {
  const std::uint64_t number = open_place();
  stall_ = Stall::kAsked;
  ++outside_;
  ask_again(number, question, std::move(then));
}

void Session::ask_again(std::uint64_t number, std::string_view question,
                        std::function<void(std::uint64_t, std::string)> then) {
  question_.begin([this, number, then = std::move(then)](std::string reply) { then(number, std::move(reply)); });
  tiers::upstream::RequestMeta meta;
  meta.sink = &question_;
  meta.affinity = static_cast<std::uint32_t>(id_);
  worker_.router().send(*lane_, meta, question, now_us_);
}

void Session::end_question(std::uint64_t number, std::string_view reply) {
  --outside_;
  if (stall_ == Stall::kAsked) stall_ = Stall::kNone;
  emit(number, reply);
  finish(number);
}

// Who may see and close clients is the upstream's ACL to say: the same command is asked there, of nobody.
bool Session::client_list(const Args& args) {
  auto filter = std::make_shared<ClientFilter>();
  if (const std::string error = parse_client_list(args, *filter); !error.empty()) {
    answer_error(error);
    return true;
  }
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  ask_upstream({"CLIENT", "LIST", "TYPE", "master"}, [this, filter](std::uint64_t number, std::string permitted) {
    if (permitted.starts_with('-')) {
      end_question(number, permitted);
      return;
    }
    auto lines = std::make_shared<std::vector<std::pair<std::uint64_t, std::string>>>();
    auto what = std::make_shared<Survey>();
    what->visit = each_session([filter, lines](Session& session) {
      if (!session.is_open()) return;
      const ClientFacts client = session.facts();
      if (filter->matches(client, 0)) lines->emplace_back(client.id, client.line());
    });
    what->then = [this, number, lines] {
      std::sort(lines->begin(), lines->end());
      std::string text;
      for (const auto& [id, line] : *lines) text += line;
      end_question(number, text_reply(text));
    };
    survey(shared_.workers, 0, worker_, std::move(what));
  });
  return true;
}

bool Session::client_kill(const Args& args) {
  auto filter = std::make_shared<ClientFilter>();
  if (const std::string error = parse_client_kill(args, *filter); !error.empty()) {
    answer_error(error);
    return true;
  }
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  ask_upstream({"CLIENT", "KILL", "ID", "9223372036854775807"}, [this, filter](std::uint64_t number, std::string permitted) {
    if (permitted.starts_with('-')) {
      end_question(number, permitted);
      return;
    }
    auto killed = std::make_shared<std::int64_t>(0);
    auto what = std::make_shared<Survey>();
    what->visit = each_session([filter, killed, me = id_](Session& session) {
      if (!session.is_open() || !filter->matches(session.facts(), me)) return;
      ++*killed;
      if (session.id_ == me) {
        session.closing_ = true;  // when it has been told
      } else {
        session.shut({});
      }
    });
    what->then = [this, number, filter, killed] {
      std::string reply;
      if (!filter->old_form) {
        protocol::append_integer(reply, *killed);
      } else if (*killed == 0) {
        protocol::append_error(reply, "ERR No such client");
      } else {
        protocol::append_simple(reply, "OK");
      }
      end_question(number, reply);
    };
    survey(shared_.workers, 0, worker_, std::move(what));
  });
  return true;
}

// Of a client that does not track.
void Session::client_tracking_info() {
  answer([this](auto& out) {
    const bool resp3 = version_ == RespVersion::kResp3;
    protocol::append_header(out, resp3 ? '%' : '*', resp3 ? 3 : 6);
    protocol::append_bulk(out, "flags");
    protocol::append_header(out, resp3 ? '~' : '*', 1);
    protocol::append_bulk(out, "off");
    protocol::append_bulk(out, "redirect");
    protocol::append_integer(out, -1);
    protocol::append_bulk(out, "prefixes");
    protocol::append_header(out, '*', 0);
  });
}

void Session::client_switch(const Args& args) {
  if (equal_ignoring_case(args[2], "on") || equal_ignoring_case(args[2], "off")) {
    answer([](auto& out) { protocol::append_simple(out, "OK"); });
  } else {
    answer_error("ERR syntax error");
  }
}

bool Session::config_get(const Args& args, std::string_view raw) {
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  auto patterns = std::make_shared<std::vector<std::string>>(args.begin() + 2, args.end());
  ask_upstream(raw, [this, patterns](std::uint64_t number, std::string reply) {
    const std::vector<std::string_view> views(patterns->begin(), patterns->end());
    end_question(number, with_own_settings(std::move(reply), views, shared_.settings));
  });
  return true;
}

void Session::refuse_setting(std::string_view name) {
  answer_error("ERR CONFIG SET failed (possibly related to argument '" + std::string(name.substr(0, 128)) +
               "') - settings of nearcached can't be changed at run time");
}

}  // namespace nearcached::daemon
