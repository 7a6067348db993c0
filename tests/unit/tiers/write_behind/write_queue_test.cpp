#include "tiers/write_behind/write_queue.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <thread>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;
constexpr std::uint16_t kNode = 0;

WritePtr set(std::string value, std::int64_t expires_at_ms = 0) {
  return std::make_shared<const Write>(Write{Write::Kind::kSet, std::move(value), expires_at_ms});
}

QueueOptions small() {
  QueueOptions options;
  options.batch_records = 3;
  options.in_flight_max = 6;
  return options;
}

struct Bench {
  explicit Bench(const QueueOptions& options = small()) : queue(options) {}

  WriteQueue::PutResult put(std::string_view key, std::string value, Priority priority = Priority::kNormal,
                            std::uint16_t node = kNode) {
    return queue.put({{0, key}, node, priority, set(std::move(value))}, now, [this](QueueKey) { return ++log; });
  }
  std::vector<WriteQueue::Flight> take(std::uint16_t node = kNode) {
    std::vector<WriteQueue::Flight> flights;
    queue.take(node, now, safe, flights);
    return flights;
  }
  std::vector<std::string> keys(const std::vector<WriteQueue::Flight>& flights) {
    std::vector<std::string> found;
    for (const auto& flight : flights) found.emplace_back(flight.key);
    return found;
  }
  void flush(const std::vector<WriteQueue::Flight>& flights) {
    std::vector<WriteQueue::Entry*> entries;
    for (const auto& flight : flights) entries.push_back(flight.entry);
    queue.flushed(entries, now);
  }
  std::string pending(std::string_view key) {
    const auto found = queue.find({0, key});
    return found ? found->write->value : "(nothing)";
  }

  WriteQueue queue;
  std::int64_t now = 100 * kSecondUs;
  std::uint64_t log = 0;
  std::uint64_t safe = UINT64_MAX;
};

using Keys = std::vector<std::string>;

TEST_CASE("a batch leaves when it is full, when its oldest has waited, or when somebody waits for it", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "2");
  CHECK(b.take().empty());
  SECTION("full") {
    b.put("c", "3");
    CHECK(b.keys(b.take()) == Keys{"a", "b", "c"});
  }
  SECTION("old") {
    b.now += kSecondUs - 1;
    CHECK(b.take().empty());
    b.now += 1;
    CHECK(b.keys(b.take()) == Keys{"a", "b"});
  }
  SECTION("waited for, and that one first") {
    CHECK(b.queue.await({0, "b"}, [] {}));
    CHECK(b.keys(b.take()) == Keys{"b", "a"});
  }
  SECTION("all are waited for") {
    CHECK(b.queue.await_all([] {}));
    CHECK(b.take().size() == 2);
  }
  SECTION("the end is near") {
    b.queue.hurry();
    CHECK(b.take().size() == 2);
  }
  CHECK(b.take().empty());
}

TEST_CASE("the last write of a key wins, and takes the place of the one that waits", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "1");
  b.put("a", "22");
  CHECK(b.queue.stats().records == 2);
  CHECK(b.queue.stats().bytes == 1 + 2 + 1 + 1);
  CHECK(b.queue.stats().coalesced == 1);
  CHECK(b.pending("a") == "22");
  b.now += kSecondUs;
  const auto flights = b.take();
  REQUIRE(b.keys(flights) == Keys{"a", "b"});
  CHECK(flights[0].write->value == "22");
  CHECK(flights[0].sequence == 3);
  b.flush(flights);
  CHECK(b.pending("a") == "(nothing)");
  CHECK(b.queue.stats().bytes == 0);
  CHECK(b.queue.stats().records == 0);
}

TEST_CASE("of one key never two writes are in flight, and what came meanwhile goes behind", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.queue.hurry();
  const auto first = b.take();
  REQUIRE(first.size() == 1);
  b.put("a", "2");
  b.put("a", "3");
  CHECK(b.take().empty());
  CHECK(b.pending("a") == "3");
  CHECK(b.queue.stats().coalesced == 1);
  b.flush(first);
  CHECK(b.pending("a") == "3");
  const auto second = b.take();
  REQUIRE(second.size() == 1);
  CHECK(second[0].write->value == "3");
  CHECK(b.queue.checkpoint(b.log) == 1);
  b.flush(second);
  CHECK(b.queue.checkpoint(b.log) == 3);
}

TEST_CASE("what failed goes again first, with what it has become, after a rest that grows", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "1");
  b.put("c", "1");
  b.put("d", "1");
  auto flights = b.take();
  REQUIRE(b.keys(flights) == Keys{"a", "b", "c"});
  b.put("a", "2");
  for (auto flight = flights.rbegin(); flight != flights.rend(); ++flight) b.queue.failed(flight->entry, b.now);
  CHECK(b.queue.stats().retries == 3);
  CHECK(b.take().empty());
  b.now += 50'000;
  flights = b.take();
  REQUIRE(b.keys(flights) == Keys{"a", "b", "c"});
  CHECK(flights[0].write->value == "2");
  for (const auto& flight : flights) b.queue.failed(flight.entry, b.now);
  b.now += 50'000;
  CHECK(b.take().empty());
  b.now += 50'000;
  CHECK(b.take().size() == 3);
}

TEST_CASE("after an outage a node is not overrun", "[write_queue]") {
  QueueOptions options = small();
  options.in_flight_max = 1000;
  Bench b(options);
  for (int i = 0; i < 100; ++i) b.put("k" + std::to_string(i), "v");
  std::size_t largest = 0;
  std::size_t batches = 0;
  for (auto flights = b.take(); !flights.empty(); flights = b.take(), ++batches) {
    CHECK(flights.size() <= std::max<std::size_t>(3, 2 * largest));
    largest = std::max(largest, flights.size());
    b.flush(flights);
    b.now += kSecondUs;
  }
  CHECK(batches > 4);
  CHECK(b.queue.stats().flushed == 100);
}

TEST_CASE("who waits for a key waits for what was put before, and not for what comes later", "[write_queue]") {
  Bench b;
  int told = 0;
  CHECK_FALSE(b.queue.await({0, "a"}, [&] { ++told; }));
  b.put("a", "1");
  CHECK_FALSE(b.queue.await({1, "a"}, [&] { ++told; }));
  CHECK(b.queue.await({0, "a"}, [&] { ++told; }));
  const auto flights = b.take();
  b.put("a", "2");
  CHECK(told == 0);
  b.flush(flights);
  CHECK(told == 1);
  CHECK(b.queue.await({0, "a"}, [&] { ++told; }));
  b.flush(b.take());
  CHECK(told == 2);
  CHECK_FALSE(b.queue.await({0, "a"}, [&] { ++told; }));
}

TEST_CASE("who waits for all waits for all that was put before, and not for what comes later", "[write_queue]") {
  Bench b;
  int told = 0;
  CHECK_FALSE(b.queue.await_all([&] { ++told; }));
  b.put("a", "1");
  b.put("b", "1", Priority::kNormal, 1);
  CHECK(b.queue.await_all([&] { ++told; }));
  b.flush(b.take(0));
  b.put("a", "2");
  CHECK(told == 0);
  b.flush(b.take(1));
  CHECK(told == 1);
}

TEST_CASE("what will never be applied holds nobody up", "[write_queue]") {
  Bench b;
  int told = 0;
  b.put("a", "1");
  CHECK(b.queue.await({0, "a"}, [&] { ++told; }));
  b.queue.gave_up(b.take()[0].entry);
  CHECK(told == 1);
  CHECK(b.queue.stats().dead == 1);
  CHECK(b.queue.checkpoint(b.log) == b.log);
}

TEST_CASE("more urgent ones leave first, whenever they came", "[write_queue]") {
  Bench b;
  b.put("low", "1", Priority::kLow);
  b.put("normal", "1");
  b.put("high", "1", Priority::kHigh);
  CHECK(b.keys(b.take()) == Keys{"high", "normal", "low"});
}

TEST_CASE("full is said, and a refused record leaves nothing behind", "[write_queue]") {
  QueueOptions options = small();
  options.records_max = 2;
  options.bytes_max = 10;
  options.max_age_us = 5 * kSecondUs;
  Bench b(options);
  CHECK(b.put("a", "1").put == WriteQueue::Put::kAccepted);
  SECTION("too many bytes") {
    CHECK(b.put("b", "12345678").put == WriteQueue::Put::kFull);
    CHECK(b.put("a", "123456789").put == WriteQueue::Put::kFull);
    CHECK(b.put("b", "1234567").put == WriteQueue::Put::kAccepted);
  }
  SECTION("too many records") {
    CHECK(b.put("b", "1").put == WriteQueue::Put::kAccepted);
    CHECK(b.take().empty());
    CHECK(b.put("c", "1").put == WriteQueue::Put::kFull);
    CHECK(b.queue.stats().full == 1);
    CHECK(b.put("b", "2").put == WriteQueue::Put::kAccepted);
    CHECK(b.keys(b.take()) == Keys{"a", "b"});  // to make room
  }
  SECTION("the oldest is too old") {
    b.now += 5 * kSecondUs + 1;
    CHECK(b.put("b", "1").put == WriteQueue::Put::kFull);
    b.flush(b.take());
    CHECK(b.put("b", "1").put == WriteQueue::Put::kAccepted);
  }
  SECTION("the log refuses") {
    const auto result =
        b.queue.put({{0, "z"}, kNode, Priority::kNormal, set("1")}, b.now, [](QueueKey) { return std::uint64_t{0}; });
    CHECK(result.put == WriteQueue::Put::kRefused);
    CHECK_FALSE(b.queue.find({0, "z"}));
    CHECK(b.queue.stats().records == 1);
  }
}

TEST_CASE("a direct write of what a restart would replay is preceded by a superseding record, once", "[write_queue]") {
  Bench b;
  const auto append = [&](QueueKey) { return ++b.log; };
  CHECK(b.queue.supersede({0, "a"}, append) == 0);
  b.put("a", "1");
  CHECK(b.queue.supersede({0, "a"}, append) == 0);  // it is dirty: flushed first
  b.queue.hurry();
  b.flush(b.take());
  CHECK_FALSE(b.queue.may_be_dirty("a"));
  CHECK(b.queue.supersede({1, "a"}, append) == 0);
  CHECK_FALSE(b.queue.supersede({0, "a"}, [](QueueKey) { return std::uint64_t{0}; }));
  CHECK(b.queue.supersede({0, "a"}, append) == 2);
  // Whoever comes next waits for the same record.
  CHECK(b.queue.supersede({0, "a"}, append) == 2);
  CHECK(b.queue.supersede_all(append) == 2);
  SECTION("written again it needs another") {
    b.put("a", "2");
    b.flush(b.take());
    CHECK(b.queue.supersede({0, "a"}, append) == 4);
  }
  SECTION("a checkpoint of its write alone does not end it") {
    b.queue.checkpointed(1);
    CHECK(b.queue.supersede({0, "a"}, append) == 2);
    b.queue.checkpointed(2);
    CHECK(b.queue.supersede({0, "a"}, append) == 0);
    CHECK(b.log == 2);
  }
}

TEST_CASE("what a restart would not know of does not leave", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "1");
  b.put("c", "1");
  b.put("a", "2");
  b.safe = 0;
  CHECK(b.take().empty());
  b.safe = 3;
  CHECK(b.keys(b.take()) == Keys{"b", "c"});
  b.safe = 4;
  b.now += kSecondUs;
  CHECK(b.keys(b.take()) == Keys{"a"});
}

TEST_CASE("who has an older record in the log is told so, until a checkpoint has passed it", "[write_queue]") {
  Bench b;
  b.queue.hurry();
  CHECK_FALSE(b.put("a", "1").older_logged);
  CHECK_FALSE(b.queue.find({0, "a"})->older_logged);
  b.flush(b.take());
  CHECK(b.put("a", "2").older_logged);
  CHECK(b.queue.find({0, "a"})->older_logged);
  b.flush(b.take());
  b.queue.checkpointed(2);
  CHECK_FALSE(b.put("a", "3").older_logged);
}

TEST_CASE("in a burst writes leave by age, what is new waits on", "[write_queue]") {
  Bench b;
  for (int i = 0; i < 40; ++i) {
    b.put("k" + std::to_string(i), "v");
    b.now += 1000;
    CHECK((i < 20 || b.take().empty()));
    if (i < 20) b.flush(b.take());
  }
  b.now += kSecondUs;
  CHECK_FALSE(b.take().empty());
}

TEST_CASE("a key that is written all the time leaves", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.now += kSecondUs;
  b.safe = 0;
  for (int i = 2; i < 100; ++i) {
    CHECK(b.take().empty());
    b.put("a", std::to_string(i));
  }
  b.safe = 1;
  auto flights = b.take();
  REQUIRE(flights.size() == 1);
  CHECK(flights[0].write->value == "1");
  CHECK(flights[0].sequence == 1);
  b.flush(flights);
  CHECK(b.pending("a") == "99");
  CHECK(b.queue.stats().coalesced == 97);
}

TEST_CASE("what waits for its safety goes with its slot", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "1");
  b.now += kSecondUs;
  b.safe = 0;
  CHECK(b.take().empty());
  b.put("b", "2");
  b.queue.regroup([](QueueKey) { return std::uint16_t{1}; });
  CHECK(b.queue.stats().in_flight == 0);
  b.safe = UINT64_MAX;
  CHECK(b.take().empty());
  const auto flights = b.take(1);
  REQUIRE(flights.size() == 2);
  for (const auto& flight : flights) CHECK(flight.write->value == (flight.key == "a" ? "1" : "2"));
}

TEST_CASE("a write that depends on the one before is taken only if that is still the newest", "[write_queue]") {
  Bench b;
  const auto append = [&](QueueKey) { return ++b.log; };
  const auto put = [&](std::uint64_t follows) {
    return b.queue.put({{0, "a"}, kNode, Priority::kNormal, set("x"), follows}, b.now, append).put;
  };
  CHECK(put(1) == WriteQueue::Put::kChanged);
  CHECK(put(0) == WriteQueue::Put::kAccepted);
  CHECK(put(0) == WriteQueue::Put::kChanged);
  CHECK(put(1) == WriteQueue::Put::kAccepted);
  CHECK(b.log == 2);
  b.queue.hurry();
  b.flush(b.take());
  CHECK(put(2) == WriteQueue::Put::kChanged);
  CHECK(put(0) == WriteQueue::Put::kAccepted);
}

TEST_CASE("who waits makes it urgent, of the node where it waits", "[write_queue]") {
  std::vector<int> told;
  Bench b;
  b.queue.on_urgent([&](std::uint16_t node) { told.push_back(node); });
  b.put("a", "1", Priority::kNormal, 1);
  CHECK(told.empty());
  CHECK(b.queue.await({0, "a"}, [] {}));
  CHECK(told == std::vector<int>{1});
  const auto flights = b.take(1);
  CHECK(b.queue.await({0, "a"}, [] {}));  // it is on its way
  CHECK(told.size() == 1);
  CHECK(b.queue.await_all([] {}));
  CHECK(told == std::vector<int>{1, 0, 1});
  b.flush(flights);
}

TEST_CASE("a direct write of keys that nobody knows supersedes all that is logged, and nothing that waits",
          "[write_queue]") {
  Bench b;
  std::vector<std::string> named;
  const auto append = [&](QueueKey key) {
    named.emplace_back(key.key);
    return ++b.log;
  };
  CHECK(b.queue.supersede_all(append) == 0);
  b.put("a", "1");
  b.put("b", "1");
  b.queue.hurry();
  b.flush(b.take());
  b.put("c", "1");
  CHECK(b.queue.supersede_all(append) == 5);
  CHECK(named == Keys{"a", "b"});
  CHECK(b.queue.supersede_all(append) == 5);
  CHECK(named.size() == 2);
}

TEST_CASE("what waits goes where its slot is now", "[write_queue]") {
  Bench b;
  b.put("a", "1");
  b.put("b", "1");
  b.queue.hurry();
  b.queue.regroup([](QueueKey key) { return static_cast<std::uint16_t>(key.key == "b" ? 1 : 0); });
  const auto flights = b.take(0);
  CHECK(b.keys(flights) == Keys{"a"});
  CHECK(b.keys(b.take(1)) == Keys{"b"});
  // What is in flight lands where it left, and goes on from where it belongs.
  b.put("a", "2");
  b.queue.regroup([](QueueKey) { return std::uint16_t{2}; });
  b.flush(flights);
  CHECK(b.take(0).empty());
  CHECK(b.keys(b.take(2)) == Keys{"a"});
}

// What the upstream and a restart would see of any order of events.
class Model {
 public:
  explicit Model(std::uint32_t seed) : random_(seed), b_(small()) {}

  void run(int steps) {
    b_.safe = 0;
    for (int i = 0; i < steps; ++i) step();
    b_.safe = b_.log;
    b_.queue.hurry();
    while (!flights_.empty() || b_.queue.stats().records != 0) {
      b_.now += 3 * kSecondUs;
      for (std::uint16_t node = 0; node < kNodes; ++node) take(node);
      while (!flights_.empty()) land(true);
    }
    for (const auto& [key, sequence] : newest_) REQUIRE(upstream_[key] == sequence);
    REQUIRE(b_.queue.stats().bytes == 0);
    REQUIRE(b_.queue.stats().behind == 0);
    REQUIRE(b_.queue.checkpoint(b_.log) == b_.log);
    b_.queue.checkpointed(b_.log);
  }

 private:
  static constexpr std::uint16_t kNodes = 3;

  void step() {
    b_.now += random_() % 200'000;
    b_.safe += random_() % (b_.log - b_.safe + 1);
    const std::string key = "k" + std::to_string(random_() % 8);
    const std::uint32_t kind = random_() % 10;
    if (kind < 5) {
      const auto result = b_.put(key, std::to_string(b_.log + 1), static_cast<Priority>(random_() % 3),
                                 static_cast<std::uint16_t>(random_() % kNodes));
      if (result.put == WriteQueue::Put::kAccepted) newest_[key] = result.sequence;
    } else if (kind < 7) {
      take(static_cast<std::uint16_t>(random_() % kNodes));
    } else if (kind < 9 && !flights_.empty()) {
      land(random_() % 3 != 0);
    } else if (random_() % 4 == 0) {
      b_.queue.regroup([&](QueueKey) { return static_cast<std::uint16_t>(random_() % kNodes); });
    }
    check(key);
  }
  void take(std::uint16_t node) {
    for (const auto& flight : b_.take(node)) {
      for (const auto& other : flights_) REQUIRE(other.key != flight.key);
      flights_.push_back(flight);
    }
  }
  void land(bool applied) {
    const std::size_t at = random_() % flights_.size();
    const auto flight = flights_[at];
    flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(at));
    if (applied || random_() % 2 == 0) {
      REQUIRE(upstream_[std::string(flight.key)] <= flight.sequence);
      upstream_[std::string(flight.key)] = flight.sequence;
    }
    if (applied) {
      b_.queue.flushed({flight.entry}, b_.now);
    } else {
      b_.queue.failed(flight.entry, b_.now);
    }
  }
  void check(const std::string& key) {
    REQUIRE(b_.queue.stats().dropped() == 0);
    const auto pending = b_.queue.find({0, key});
    if (pending) REQUIRE(pending->sequence == newest_[key]);
    if (!pending && newest_.contains(key)) REQUIRE(upstream_[key] == newest_[key]);
    if (pending) REQUIRE(b_.queue.may_be_dirty(key));
    const std::uint64_t checkpoint = b_.queue.checkpoint(b_.log);
    for (const auto& [name, sequence] : newest_) {
      // All up to the checkpoint is there, or something newer.
      if (sequence <= checkpoint) REQUIRE(upstream_[name] >= sequence);
    }
    if (random_() % 8 == 0) b_.queue.checkpointed(checkpoint);
  }

  std::minstd_rand random_;
  Bench b_;
  std::vector<WriteQueue::Flight> flights_;
  std::map<std::string, std::uint64_t> newest_;
  std::map<std::string, std::uint64_t> upstream_;
};

TEST_CASE("in any order of events a key only goes forward, nothing is lost, and checkpoints are true", "[write_queue]") {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Model(seed).run(400);
  }
}

TEST_CASE("threads put while one flushes, and the last of each key arrives", "[write_queue]") {
  constexpr int kThreads = 4;
  constexpr int kWrites = 5000;
  QueueOptions options;
  options.batch_interval_us = 0;
  WriteQueue queue(options);
  std::atomic<std::uint64_t> log{0};
  std::atomic<int> running{kThreads};
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kWrites; ++i) {
        const std::string key = std::to_string(t) + ":" + std::to_string(i % 50);
        const auto result = queue.put({{0, key}, 0, Priority::kNormal, set(std::to_string(i))}, 1,
                                      [&](QueueKey) { return log.fetch_add(1) + 1; });
        if (result.put != WriteQueue::Put::kAccepted) std::abort();
        const auto pending = queue.find({0, key});
        if (pending && pending->write->value != std::to_string(i)) std::abort();
      }
      running.fetch_sub(1);
    });
  }
  std::map<std::string, std::string> upstream;
  std::vector<WriteQueue::Flight> flights;
  while (running.load() != 0 || queue.stats().records != 0) {
    flights.clear();
    queue.take(0, 1, UINT64_MAX, flights);
    for (const auto& flight : flights) {
      upstream[std::string(flight.key)] = flight.write->value;
      queue.flushed({flight.entry}, 1);
    }
  }
  for (std::thread& writer : writers) writer.join();
  REQUIRE(upstream.size() == kThreads * 50);
  for (const auto& [key, value] : upstream) {
    REQUIRE(std::stoi(value) == kWrites - 50 + std::stoi(key.substr(2)));
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
