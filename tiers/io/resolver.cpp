#include "tiers/io/resolver.hpp"

#include <utility>

namespace nearcached::tiers::io {

Resolver::Resolver() : thread_([this] { run(); }) {}

Resolver::~Resolver() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Resolver::look_up(std::string host, std::uint16_t port, Answer answer) {
  {
    const std::lock_guard lock(mutex_);
    if (questions_.size() < kQueueMax) {
      questions_.push_back({std::move(host), port, std::move(answer)});
      changed_.notify_one();
      return;
    }
  }
  answer({});
}

void Resolver::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !questions_.empty(); });
    if (stopping_) return;
    const Question question = std::move(questions_.front());
    questions_.pop_front();
    lock.unlock();
    question.answer(resolve(question.host, question.port));
    lock.lock();
  }
}

}  // namespace nearcached::tiers::io
