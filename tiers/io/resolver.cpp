#include "tiers/io/resolver.hpp"

#include <thread>
#include <utility>

namespace nearcached::tiers::io {

Resolver::Resolver() {
  std::thread([state = state_] { run(state); }).detach();
}

void Resolver::stop() {
  const std::lock_guard lock(state_->mutex);
  state_->stopping = true;
  state_->questions.clear();
  state_->changed.notify_one();
}

void Resolver::look_up(std::string host, std::uint16_t port, Answer answer) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopping) return;
    if (state_->questions.size() < kQueueMax) {
      state_->questions.push_back({std::move(host), port, std::move(answer)});
      state_->changed.notify_one();
      return;
    }
  }
  answer({});
}

void Resolver::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return state->stopping || !state->questions.empty(); });
    if (state->stopping) return;
    const Question question = std::move(state->questions.front());
    state->questions.pop_front();
    lock.unlock();
    std::vector<SocketAddress> addresses = resolve(question.host, question.port);
    lock.lock();
    // Under the lock: stop() returns only when no answer is being given.
    if (!state->stopping) question.answer(std::move(addresses));
  }
}

}  // namespace nearcached::tiers::io
