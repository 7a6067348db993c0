// A growing ring: a FIFO that allocates only when it has never been that long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nearcached::tiers::io {

// Elements are addressed by a sequence number that never comes back: the first push is 0, and an element keeps its number
// while it moves towards the front. Popped elements are overwritten with T() at once, so that they hold nothing. Bounded by
// its users. Confined to one thread. References are valid until the next push.
template <class T>
class Ring {
 public:
  [[nodiscard]] bool empty() const { return first_ == next_; }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(next_ - first_); }
  [[nodiscard]] std::uint64_t first() const { return first_; }  // number of front()
  [[nodiscard]] std::uint64_t next() const { return next_; }    // number that the next push gets

  T& push(T value) {
    if (size() == slots_.size()) grow();
    T& slot = slots_[next_++ & (slots_.size() - 1)];
    slot = std::move(value);
    return slot;
  }
  [[nodiscard]] T& front() { return slots_[first_ & (slots_.size() - 1)]; }
  [[nodiscard]] const T& front() const { return slots_[first_ & (slots_.size() - 1)]; }
  [[nodiscard]] T& back() { return slots_[(next_ - 1) & (slots_.size() - 1)]; }
  [[nodiscard]] T& at(std::uint64_t number) { return slots_[number & (slots_.size() - 1)]; }
  [[nodiscard]] const T& at(std::uint64_t number) const { return slots_[number & (slots_.size() - 1)]; }
  [[nodiscard]] bool holds(std::uint64_t number) const { return number >= first_ && number < next_; }
  void pop() { slots_[first_++ & (slots_.size() - 1)] = T(); }
  // Gives back the memory of a ring that was long once.
  void shrink() {
    if (empty() && slots_.size() > kSmall) slots_ = std::vector<T>();
  }

 private:
  static constexpr std::size_t kSmall = 8;

  void grow() {
    std::vector<T> larger(slots_.empty() ? kSmall : slots_.size() * 2);
    for (std::uint64_t n = first_; n != next_; ++n) larger[n & (larger.size() - 1)] = std::move(at(n));
    slots_.swap(larger);
  }

  std::vector<T> slots_;  // a power of two, or empty
  std::uint64_t first_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace nearcached::tiers::io
