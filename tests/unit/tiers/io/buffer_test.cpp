#include "tiers/io/buffer.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace nearcached::tiers::io {

TEST_CASE("a buffer is a byte queue", "[buffer]") {
  BufferPool pool;
  Buffer buffer(pool);
  std::string model;
  std::mt19937 random(3);
  char next = 'a';
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t n = random() % 10 == 0 ? random() % 60'000 : random() % 500;
    if (random() % 2 == 0 && model.size() < 300'000) {
      const std::string bytes(n, next++);
      if (random() % 2 == 0) {
        buffer.append(bytes);
      } else {
        bytes.copy(buffer.prepare(n), n);
        REQUIRE(buffer.room() >= n);
        buffer.commit(n);
      }
      model += bytes;
    } else {
      buffer.consume(n);  // more than there is: all of it
      model.erase(0, n);
    }
    REQUIRE(buffer.size() == model.size());
    if (step % 50 == 0) REQUIRE(buffer.view() == model);
  }
  CHECK(buffer.view() == model);
}

TEST_CASE("an empty buffer holds no memory, and every byte handed out is counted", "[buffer]") {
  BufferPool pool;
  {
    Buffer small(pool);
    Buffer large(pool);
    CHECK(pool.bytes_out() == 0);
    small.append("x");
    CHECK(pool.bytes_out() == BufferPool::kChunkBytes);
    large.append(std::string(1'000'000, 'y'));
    CHECK(pool.bytes_out() >= BufferPool::kChunkBytes + 1'000'000);
    small.consume(1);
    large.clear();
    CHECK(small.empty());
    CHECK(pool.bytes_out() == 0);
    small.append("again");
    CHECK(small.view() == "again");
  }
  CHECK(pool.bytes_out() == 0);
}

TEST_CASE("what was consumed does not make a buffer grow for ever", "[buffer]") {
  BufferPool pool;
  Buffer buffer(pool);
  buffer.append("first");
  for (int i = 0; i < 100'000; ++i) {
    buffer.append(std::string(100, 'x'));
    buffer.consume(100);  // never empty
  }
  CHECK(buffer.size() == 5);
  CHECK(pool.bytes_out() <= 2 * BufferPool::kChunkBytes);
}

TEST_CASE("a moved buffer takes its bytes along and leaves an empty one", "[buffer]") {
  BufferPool pool;
  Buffer from(pool);
  from.append("12345");
  from.consume(2);
  Buffer to(std::move(from));
  CHECK(to.view() == "345");
  Buffer other(pool);
  other.append("gone");
  other = std::move(to);
  CHECK(other.view() == "345");
  CHECK(pool.bytes_out() == BufferPool::kChunkBytes);
  other.clear();
  CHECK(pool.bytes_out() == 0);
}

TEST_CASE("the pool keeps a bounded number of chunks, and says how much it gave", "[buffer]") {
  BufferPool pool;
  std::vector<char*> blocks;
  for (std::size_t i = 0; i < BufferPool::kFreeMax + 10; ++i) {
    std::size_t bytes = 1;
    blocks.push_back(pool.take(bytes));
    CHECK(bytes == BufferPool::kChunkBytes);
  }
  char* const last = blocks[BufferPool::kFreeMax - 1];
  for (char* block : blocks) pool.give(block, BufferPool::kChunkBytes);
  CHECK(pool.bytes_out() == 0);
  std::size_t bytes = BufferPool::kChunkBytes;
  CHECK(pool.take(bytes) == last);  // the last one that was kept
  pool.give(last, bytes);
  bytes = BufferPool::kChunkBytes + 1;
  char* const large = pool.take(bytes);
  CHECK(bytes >= BufferPool::kChunkBytes + 1);
  CHECK(pool.bytes_out() == bytes);
  pool.give(large, bytes);
}

TEST_CASE("the pool keeps the large blocks that were given back last, within bounds, and gives none far too large",
          "[buffer]") {
  BufferPool pool;
  const auto took = [&](std::size_t wanted) {
    std::size_t bytes = wanted;
    char* const block = pool.take(bytes);
    REQUIRE(bytes >= wanted);
    return std::pair(block, bytes);
  };
  const auto [block, bytes] = took(100'000);
  pool.give(block, bytes);
  CHECK(pool.bytes_out() == 0);
  CHECK(took(90'000) == std::pair(block, bytes));
  CHECK(pool.bytes_out() == bytes);
  pool.give(block, bytes);
  const auto [small, small_bytes] = took(40'000);
  CHECK(small_bytes < 100'000);
  const auto [larger, larger_bytes] = took(100'001);
  CHECK(larger_bytes > bytes);
  pool.give(small, small_bytes);
  pool.give(larger, larger_bytes);
  // What is over the bound pushes the oldest out.
  std::vector<std::pair<char*, std::size_t>> many;
  for (std::size_t i = 0; i < 12; ++i) many.push_back(took(BufferPool::kSpareBytesMax / 8));
  for (const auto& [each, size] : many) pool.give(each, size);
  CHECK(pool.bytes_out() == 0);
  CHECK(pool.spare_bytes() <= BufferPool::kSpareBytesMax);
  CHECK(took(BufferPool::kSpareBytesMax / 8).first == many[4].first);
  pool.give(many[4].first, many[4].second);
  const auto [huge, huge_bytes] = took(BufferPool::kSpareBytesMax + 1);
  const std::size_t before = pool.spare_bytes();
  pool.give(huge, huge_bytes);
  CHECK(pool.spare_bytes() == before);
  SECTION("while they are used they stay") {
    pool.trim();
    CHECK(pool.spare_bytes() == before);
    pool.trim();
  }
  SECTION("or memory is short") { pool.drop_spares(); }
  CHECK(pool.spare_bytes() == 0);
}

}  // namespace nearcached::tiers::io
