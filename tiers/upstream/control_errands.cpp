#include "tiers/upstream/control_errands.hpp"

#include <utility>

namespace nearcached::tiers::upstream {

ControlErrands::ControlErrands(ControlLoop& loop, const ControlPlaneOptions& options, NodeRing& ring)
    : loop_(loop), options_(options), ring_(ring) {}

void ControlErrands::run(Errand errand) {
  const Id id = next_id_++;
  const bool full = running_ >= kRunningMax && waiting_.size() >= kWaitingMax;
  auto& active = *active_.emplace(id, std::make_unique<Active>(loop_, std::move(errand))).first->second;
  if (full) {
    active.deadline.arm({}, [this, id] { finish(id, {LinkStatus::kLost, {}, "too many questions to the upstream wait"}); });
    return;
  }
  active.deadline.arm(2 * options_.connect_timeout + options_.command_timeout, [this, id] {
    finish(id, {LinkStatus::kTimedOut, {}, active_.at(id)->trouble});
  });
  if (running_ < kRunningMax) return begin(id, active);
  waiting_.push_back(id);
}

void ControlErrands::begin(Id id, Active& active) {
  ++running_;
  active.running = true;
  active.nodes = ring_.spread(std::chrono::steady_clock::now());
  ask(id, active);
}

void ControlErrands::ask(Id id, Active& active) {
  const Credentials& credentials = active.errand.attempts[active.attempt];
  const bool auth_is_the_question = active.errand.command.empty();
  active.link = std::make_unique<ControlLink>(
      loop_,
      ControlLink::Options{active.nodes[active.node], options_.tls, options_.connect_timeout, options_.command_timeout});
  const auto on_answer = [this, id](LinkResult result) { on_result(id, std::move(result)); };
  if (auth_is_the_question) return active.link->request(auth_command(credentials), on_answer);
  if (!credentials.empty()) {
    // Whether it was accepted shows in the answer to the command.
    active.link->request(auth_command(credentials), [this, id](LinkResult result) {
      if (result.status != LinkStatus::kOk) on_result(id, std::move(result));
    });
  }
  active.link->request(active.errand.command, on_answer);
}

void ControlErrands::on_result(Id id, LinkResult result) {
  Active& active = *active_.at(id);
  const Endpoint& node = active.nodes[active.node];
  if (result.status == LinkStatus::kOk || result.status == LinkStatus::kTooDeep) {
    ring_.reachable(node);
    const bool other_credentials = !active.errand.command.empty() && is_auth_error(result.reply.error_code());
    if (!other_credentials || active.attempt + 1 == active.errand.attempts.size()) return finish(id, std::move(result));
    ++active.attempt;
    return ask(id, active);
  }
  ring_.unreachable(node, std::chrono::steady_clock::now());
  active.trouble = node.text() + ": " + result.why;
  if (++active.node == active.nodes.size()) {
    result.why = active.trouble;
    return finish(id, std::move(result));
  }
  ask(id, active);
}

void ControlErrands::finish(Id id, LinkResult result) {
  const auto found = active_.find(id);
  const auto active = std::move(found->second);
  active_.erase(found);
  active->link.reset();
  active->deadline.cancel();
  if (active->running) --running_;
  begin_waiting();
  active->errand.handler(std::move(result));
}

void ControlErrands::begin_waiting() {
  while (running_ < kRunningMax && !waiting_.empty()) {
    const Id id = waiting_.front();
    waiting_.pop_front();
    const auto found = active_.find(id);
    if (found != active_.end()) begin(id, *found->second);
  }
}

}  // namespace nearcached::tiers::upstream
