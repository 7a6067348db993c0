#include "tiers/l1/policy.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <set>
#include <vector>

using namespace nearcached::tiers::l1;

namespace {

constexpr std::uint32_t kNone = PolicyItems::kNone;

class Items final : public PolicyItems {
 public:
  explicit Items(std::size_t handles) : costs(handles, 64), nodes_(std::make_unique<PolicyNode[]>(handles)) {}
  PolicyNode& node(std::uint32_t handle) override { return nodes_[handle]; }
  std::uint32_t cost(std::uint32_t handle) override { return costs[handle]; }
  std::uint32_t fingerprint(std::uint32_t handle) override { return (handle + 1) * 0x9E3779B9u; }

  void hit(std::uint32_t handle) { nodes_[handle].uses = 1; }
  static void copy(const PolicyNode& from, PolicyNode& to) {
    to.prev = from.prev;
    to.next = from.next;
    to.rank = from.rank;
    to.queue = from.queue;
    to.frequency = from.frequency;
    to.uses = from.uses.load();
  }

  std::vector<std::uint32_t> costs;

 private:
  std::unique_ptr<PolicyNode[]> nodes_;
};

// A cache of `capacity` cost units over the policy, read through.
class Cache {
 public:
  Cache(std::size_t keys, std::uint64_t capacity) : items(keys), policy(items), capacity_(capacity), resident_(keys) {}

  bool get(std::uint32_t key) {
    if (resident_[key]) {
      items.hit(key);
      return true;
    }
    while (policy.cost() + items.costs[key] > capacity_) {
      const std::uint32_t victim = policy.victim();
      REQUIRE(victim != kNone);
      REQUIRE(resident_[victim]);
      resident_[victim] = false;
    }
    items.node(key).uses = 0;
    policy.insert(key, policy.cost() + items.costs[key] <= capacity_ * 95 / 100);
    resident_[key] = true;
    if (policy.ghost_step_bytes() != 0) policy.resize_ghosts();
    return false;
  }
  [[nodiscard]] bool has(std::uint32_t key) const { return resident_[key]; }

  Items items;
  Policy policy;

 private:
  std::uint64_t capacity_;
  std::vector<bool> resident_;
};

}  // namespace

TEST_CASE("an empty policy has no victim") {
  Items items(1);
  Policy policy(items);
  CHECK(policy.victim() == kNone);
  policy.insert(0, false);
  CHECK(policy.victim() == 0);
  CHECK(policy.victim() == kNone);
  CHECK(policy.cost() == 0);
  CHECK(policy.items() == 0);
}

TEST_CASE("newcomers leave probation in their order unless they were hit") {
  Items items(10);
  Policy policy(items);
  for (std::uint32_t i = 0; i < 10; ++i) policy.insert(i, false);
  items.hit(0);
  items.hit(2);
  CHECK(policy.victim() == 1);
  CHECK(policy.victim() == 3);
}

TEST_CASE("what comes back after eviction enters the main area") {
  Items items(200);
  Policy policy(items);
  policy.resize_ghosts();
  policy.insert(0, false);
  CHECK(policy.victim() == 0);
  CHECK(policy.remembers(items.fingerprint(0)));
  policy.insert(0, false);
  CHECK_FALSE(policy.remembers(items.fingerprint(0)));
  for (std::uint32_t i = 1; i < 100; ++i) policy.insert(i, false);
  for (std::uint32_t i = 1; i < 80; ++i) CHECK(policy.victim() == i);
}

TEST_CASE("a scan of ten times the cache leaves the hot items where they are") {
  Cache cache(100'000, 1000 * 64);
  for (int round = 0; round < 4; ++round)
    for (std::uint32_t key = 0; key < 800; ++key) cache.get(key);
  for (std::uint32_t key = 10'000; key < 20'000; ++key) cache.get(key);
  int left = 0;
  for (std::uint32_t key = 0; key < 800; ++key) left += cache.has(key) ? 1 : 0;
  CHECK(left >= 770);
}

TEST_CASE("a new working set replaces the old one") {
  Cache cache(100'000, 1000 * 64);
  for (int round = 0; round < 20; ++round)
    for (std::uint32_t key = 0; key < 800; ++key) cache.get(key);
  for (int round = 0; round < 60; ++round)
    for (std::uint32_t key = 10'000; key < 10'800; ++key) cache.get(key);
  int hits = 0;
  for (std::uint32_t key = 10'000; key < 10'800; ++key) hits += cache.get(key) ? 1 : 0;
  CHECK(hits >= 700);
}

TEST_CASE("a loop longer than the cache still gets hits for what fits") {
  Cache cache(2000, 500 * 64);
  int hits = 0;
  for (int round = 0; round < 20; ++round)
    for (std::uint32_t key = 0; key < 2000; ++key) hits += cache.get(key) ? 1 : 0;
  CHECK(hits > 20 * 2000 / 5);
}

TEST_CASE("of items equally used the large one goes first") {
  Items items(21);
  Policy policy(items);
  for (std::uint32_t i = 0; i <= 20; ++i) {
    items.costs[i] = i == 15 ? 64 * 64 : 64;
    policy.insert(i, true);
  }
  CHECK(policy.victim() == 15);
}

TEST_CASE("a dense newcomer enters without a hit where the main area's next victim is a heavy one") {
  Items items(100);
  Policy policy(items);
  for (std::uint32_t i = 0; i < 10; ++i) {
    items.costs[i] = 1'000'000;
    policy.insert(i, true);
  }
  items.costs[50] = 1'000'000;
  items.costs[51] = 1'000'000;
  policy.insert(50, false);
  policy.insert(51, false);
  items.costs[60] = 100;
  policy.insert(60, false);
  CHECK(policy.victim() == 50);
  CHECK(policy.victim() == 51);
  for (std::uint32_t i = 0; i < 10; ++i) CHECK(policy.victim() == i);
  CHECK(policy.victim() == 60);
}

TEST_CASE("a victim is found in bounded steps though everything was hit") {
  Items items(10'000);
  Policy policy(items);
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    policy.insert(i, true);
    items.hit(i);
  }
  CHECK(policy.victim() != kNone);
  std::size_t still_hit = 0;
  for (std::uint32_t i = 0; i < 10'000; ++i) still_hit += items.node(i).uses;
  CHECK(still_hit >= 10'000 - 65);
}

TEST_CASE("an item dropped by its owner is remembered only if it had earned its place") {
  Items items(3);
  Policy policy(items);
  policy.resize_ghosts();
  for (std::uint32_t i = 0; i < 3; ++i) policy.insert(i, true);
  items.hit(1);
  items.hit(2);
  policy.erase(0, true);
  policy.erase(1, true);
  policy.erase(2, false);
  CHECK_FALSE(policy.remembers(items.fingerprint(0)));
  CHECK(policy.remembers(items.fingerprint(1)));
  CHECK_FALSE(policy.remembers(items.fingerprint(2)));
  CHECK(policy.cost() == 0);
}

TEST_CASE("ghosts follow the number of items up and down") {
  Items items(10'000);
  Policy policy(items);
  CHECK(policy.ghost_step_bytes() > 0);
  policy.resize_ghosts();
  CHECK(policy.ghost_step_bytes() == 0);
  for (std::uint32_t i = 0; i < 10'000; ++i) policy.insert(i, true);
  CHECK(policy.ghost_step_bytes() >= 80'000);
  policy.resize_ghosts();
  CHECK(policy.heap_bytes() >= 80'000);
  CHECK(policy.heap_bytes() <= 90'000);
  for (std::uint32_t i = 0; i < 10'000; ++i) policy.erase(i, false);
  CHECK(policy.ghost_step_bytes() > 0);
  policy.resize_ghosts();
  CHECK(policy.heap_bytes() < 200);
}

namespace {

// Every operation at random against a plain set.
class RandomOwner {
 public:
  explicit RandomOwner(std::uint32_t seed) : items_(kHandles), policy_(items_), random_(seed) { policy_.resize_ghosts(); }

  void step() {
    const std::uint32_t handle = random_() % kHandles;
    const bool present = live_.count(handle) != 0;
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2: return present ? items_.hit(handle) : insert(handle);
      case 3: return present ? erase(handle) : insert(handle);
      case 4: return present ? replace(handle) : insert(handle);
      case 5: return present ? move(handle, random_() % kHandles) : insert(handle);
      case 6: return take_victim();
      default:
        if (random_() % 50 == 0) rotate();
    }
  }
  void check_sums() {
    std::uint64_t cost = 0;
    for (const std::uint32_t handle : live_) cost += items_.costs[handle];
    REQUIRE(policy_.cost() == cost);
    REQUIRE(policy_.items() == live_.size());
  }
  void drain() {
    while (!live_.empty()) take_victim();
    REQUIRE(policy_.victim() == kNone);
  }

 private:
  static constexpr std::uint32_t kHandles = 512;

  void insert(std::uint32_t handle) {
    items_.costs[handle] = 1 + random_() % 5000;
    items_.node(handle).uses = 0;
    policy_.insert(handle, random_() % 2 == 0);
    live_.insert(handle);
  }
  void erase(std::uint32_t handle) {
    policy_.erase(handle, random_() % 2 == 0);
    live_.erase(handle);
  }
  void replace(std::uint32_t handle) {
    const std::uint32_t old_cost = items_.costs[handle];
    items_.costs[handle] = 1 + random_() % 5000;
    policy_.replaced(handle, old_cost);
  }
  void move(std::uint32_t from, std::uint32_t to) {
    if (live_.count(to) != 0) return;
    Items::copy(items_.node(from), items_.node(to));
    items_.costs[to] = items_.costs[from];
    policy_.moved(from, to);
    live_.erase(from);
    live_.insert(to);
  }
  void take_victim() {
    const std::uint32_t victim = policy_.victim();
    REQUIRE((victim == kNone) == live_.empty());
    if (victim != kNone) REQUIRE(live_.erase(victim) == 1);
  }
  // All items move on by one handle.
  void rotate() {
    Items old(kHandles);
    old.costs = items_.costs;
    std::vector<std::uint32_t> map(kHandles, kNone);
    for (std::uint32_t i = 0; i < kHandles; ++i) Items::copy(items_.node(i), old.node(i));
    for (std::uint32_t i = 0; i < kHandles; ++i) {
      const std::uint32_t to = (i + 1) % kHandles;
      Items::copy(old.node(i), items_.node(to));
      items_.costs[to] = old.costs[i];
      if (live_.count(i) != 0) map[i] = to;
    }
    policy_.remap(map);
    std::set<std::uint32_t> rotated;
    for (const std::uint32_t i : live_) rotated.insert((i + 1) % kHandles);
    live_ = rotated;
  }

  Items items_;
  Policy policy_;
  std::mt19937 random_;
  std::set<std::uint32_t> live_;
};

}  // namespace

TEST_CASE("no order of operations loses or repeats an item") {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    RandomOwner owner(seed);
    for (int step = 0; step < 5000; ++step) {
      owner.step();
      if (step % 100 == 0) owner.check_sums();
    }
    owner.drain();
  }
}
