#include "tiers/l1/compressor.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/tiers/l1/json_values.hpp"

namespace nearcached::tiers::l1 {
namespace {

using testing::bulk;
using testing::json_value;
using testing::noise;

constexpr CompressionPolicy kLz4{Compression::kLz4, 1024, false};
constexpr CompressionPolicy kZstd{Compression::kZstd, 1024, false};
constexpr CompressionPolicy kTrained{Compression::kZstd, 1024, true};
constexpr std::size_t kEnough = 16u << 20;

// What a client would get for what is stored now.
std::string through(Compressor& compressor, std::uint32_t policy, const std::string& reply) {
  const StoredReply stored = compressor.pack(policy, reply);
  const std::string copy(stored.bytes);
  std::string plain = "before:";
  REQUIRE(compressor.unpack(StoredReply(std::string_view(copy), stored.packed), plain));
  return plain.substr(7);
}

// As many replies as make a dictionary, and then maintain().
void teach(Compressor& compressor, std::uint32_t policy, std::uint32_t seed, std::size_t bytes = 200) {
  compressor.maintain();
  for (std::uint32_t i = 0; i < 300'000 / bytes + 100; ++i) {
    static_cast<void>(compressor.pack(policy, bulk(json_value(seed + i, bytes))));
  }
  compressor.maintain();
}

TEST_CASE("with no algorithm every reply is stored as it is, and nothing is held", "[compressor]") {
  Compressor compressor({{CompressionPolicy{}}, kEnough});
  for (const std::size_t size : {0, 1, 1024, 100'000}) {
    const std::string reply = bulk(json_value(1, size));
    const StoredReply stored = compressor.pack(0, reply);
    CHECK_FALSE(stored.packed);
    CHECK(stored.bytes.data() == reply.data());
  }
  compressor.maintain();
  CHECK(compressor.stats().values == 0);
  CHECK(compressor.stats().bytes == 0);
  CHECK(Compressor::bytes_wanted({CompressionPolicy{}, kLz4, kZstd}, 50u << 20) == 0);
}

TEST_CASE("replies of all sizes come back as they were, whatever the algorithm", "[compressor]") {
  Compressor compressor({{kLz4, kZstd, kTrained}, kEnough});
  teach(compressor, 2, 5000);
  REQUIRE(compressor.stats().dictionaries == 1);
  for (std::uint32_t policy = 0; policy < 3; ++policy) {
    for (std::size_t size = 0; size < 3000; size += 13) {
      const std::string reply = bulk(json_value(static_cast<std::uint32_t>(size), size));
      REQUIRE(through(compressor, policy, reply) == reply);
    }
    for (const std::size_t size : {8192, 32768, 32769, 65536, 1'000'000, 1 << 20, 2 << 20}) {
      const std::string reply = bulk(json_value(7, size));
      REQUIRE(through(compressor, policy, reply) == reply);
      const std::string dull = bulk(noise(7, size));
      REQUIRE(through(compressor, policy, dull) == dull);
    }
  }
}

TEST_CASE("the threshold is the reply's size, and what is larger than 1 MiB is kept plain", "[compressor]") {
  for (const CompressionPolicy& policy : {kLz4, kZstd}) {
    Compressor compressor({{policy}, 0});
    const std::string text = "*" + std::string(2 << 20, 'a');
    CHECK_FALSE(compressor.pack(0, text.substr(0, 1023)).packed);
    CHECK(compressor.pack(0, text.substr(0, 1024)).packed);
    CHECK(compressor.pack(0, text.substr(0, 1 << 20)).packed);
    CHECK_FALSE(compressor.pack(0, text.substr(0, (1 << 20) + 1)).packed);
    CHECK(compressor.stats().values == 2);
    CHECK(compressor.stats().bytes_before == 1024 + (1 << 20));
    CHECK(compressor.stats().bytes_after < 20'000);
  }
}

TEST_CASE("what does not shrink by an eighth is kept plain", "[compressor]") {
  for (const CompressionPolicy& policy : {kLz4, kZstd}) {
    Compressor compressor({{policy}, 0});
    const std::string dull = noise(3, 4000);
    const StoredReply stored = compressor.pack(0, dull);
    CHECK_FALSE(stored.packed);
    CHECK(stored.bytes == dull);
    CHECK(compressor.stats().kept_plain == 1);
    // A tenth of it shrinks.
    CHECK_FALSE(compressor.pack(0, noise(4, 3600) + std::string(400, 'a')).packed);
    CHECK(compressor.pack(0, noise(4, 2000) + std::string(2000, 'a')).packed);
    CHECK(compressor.stats().kept_plain == 2);
    CHECK(compressor.stats().values == 1);
  }
}

TEST_CASE("a packed reply says its size and whether it is a string without being unpacked", "[compressor]") {
  Compressor compressor({{kLz4, kZstd}, 0});
  for (const std::uint32_t policy : {0u, 1u}) {
    const std::string reply = bulk(json_value(1, 2000));
    const StoredReply stored = compressor.pack(policy, reply);
    REQUIRE(stored.packed);
    CHECK(stored.plain_size() == reply.size());
    CHECK(stored.header().bulk);
    CHECK(stored.bytes.size() < reply.size());
    const StoredReply map = compressor.pack(policy, "%1\r\n$1\r\nf\r\n" + reply);
    REQUIRE(map.packed);
    CHECK_FALSE(map.header().bulk);
  }
}

TEST_CASE("what can't be unpacked is refused, and a string is left as it was", "[compressor]") {
  Compressor compressor({{kLz4, kZstd}, 0});
  for (const std::uint32_t policy : {0u, 1u}) {
    const std::string reply = bulk(json_value(1, 2000));
    const std::string stored(compressor.pack(policy, reply).bytes);
    std::string out = "before";
    CHECK_FALSE(compressor.unpack(StoredReply(stored.substr(0, stored.size() - 1), true), out));
    CHECK(out == "before");
    std::string unknown = stored;  // a dictionary that there is not
    PackedHeader header = PackedHeader::read(unknown.data());
    header.dictionary = 9;
    header.write(unknown.data());
    CHECK_FALSE(compressor.unpack(StoredReply(unknown, true), out));
    header = PackedHeader::read(stored.data());
    header.plain_bytes += 1;
    header.write(unknown.data());
    CHECK_FALSE(compressor.unpack(StoredReply(unknown, true), out));
    CHECK(out == "before");
  }
}

TEST_CASE("a dictionary is trained from what is installed, and packs what is far below the threshold", "[compressor]") {
  Compressor compressor({{kTrained}, kEnough});
  const std::string reply = bulk(json_value(77, 120));
  CHECK_FALSE(compressor.pack(0, reply).packed);
  teach(compressor, 0, 1000);
  CHECK(compressor.stats().dictionaries == 1);
  CHECK(compressor.stats().bytes > 0);
  CHECK(compressor.stats().bytes < Compressor::kSamplesBytes);
  const StoredReply stored = compressor.pack(0, reply);
  REQUIRE(stored.packed);
  CHECK(stored.header().dictionary == 1);
  CHECK(through(compressor, 0, reply) == reply);
  CHECK_FALSE(compressor.pack(0, std::string(63, 'a')).packed);
  CHECK(compressor.pack(0, std::string(64, 'a')).packed);
  // A large one does as well without.
  CHECK(compressor.pack(0, bulk(json_value(1, 40'000))).header().dictionary == 0);
}

TEST_CASE("dictionaries of namespaces are each their own", "[compressor]") {
  Compressor compressor({{kTrained, kTrained, kZstd}, kEnough});
  teach(compressor, 1, 1000);
  CHECK(compressor.stats().dictionaries == 1);
  const std::string reply = bulk(json_value(77, 300));
  CHECK(compressor.pack(1, reply).packed);
  CHECK_FALSE(compressor.pack(0, reply).packed);
  CHECK_FALSE(compressor.pack(2, reply).packed);
  teach(compressor, 0, 2000);
  CHECK(compressor.stats().dictionaries == 2);
  CHECK(compressor.pack(0, reply).header().dictionary == 2);
}

TEST_CASE("data that nothing is gained from get no dictionary, and not for ever new trials", "[compressor]") {
  Compressor compressor({{kTrained}, kEnough});
  for (std::uint32_t trial = 0; trial < 10; ++trial) {
    compressor.maintain();
    for (std::uint32_t i = 0; i < 1500; ++i) static_cast<void>(compressor.pack(0, noise(trial * 2000 + i, 200)));
  }
  compressor.maintain();
  CHECK(compressor.stats().dictionaries == 0);
  CHECK(compressor.stats().bytes == 0);
  CHECK(compressor.stats().values == 0);
}

TEST_CASE("when what a dictionary packs comes out larger than at first, another is trained, and both are read",
          "[compressor]") {
  Compressor compressor({{kTrained}, kEnough});
  const auto fill = [&](auto make) {  // more than two windows
    for (std::uint32_t i = 0; i < 50'000; ++i) static_cast<void>(compressor.pack(0, bulk(make(i))));
  };
  teach(compressor, 0, 1000);
  REQUIRE(compressor.stats().dictionaries == 1);
  const std::string old_reply = bulk(json_value(1, 300));
  const std::string old_stored(compressor.pack(0, old_reply).bytes);
  fill([](std::uint32_t i) { return json_value(i, 200); });
  compressor.maintain();  // what it is at first
  fill([](std::uint32_t i) { return json_value(i + 7, 200); });
  compressor.maintain();  // the same: nothing happens
  CHECK(compressor.stats().bytes < Compressor::kSamplesBytes);
  const auto changed = [](std::uint32_t i) {
    std::string value = "<order number='" + std::to_string(i * 7919u) + "'>";
    while (value.size() < 200) value += "<position article='" + std::to_string(i++ * 104729u) + "' currency='EUR'/>";
    return value + "</order>";
  };
  fill(changed);
  compressor.maintain();
  CHECK(compressor.stats().bytes >= Compressor::kSamplesBytes);
  fill(changed);
  compressor.maintain();
  REQUIRE(compressor.stats().dictionaries == 2);
  CHECK(compressor.pack(0, bulk(changed(5))).header().dictionary == 2);
  std::string plain;
  REQUIRE(compressor.unpack(StoredReply(old_stored, true), plain));
  CHECK(plain == old_reply);
}

TEST_CASE("dictionaries and samples never hold more than they may, and who finds no room waits", "[compressor]") {
  CHECK(Compressor::bytes_wanted({kTrained}, 50u << 20) == Compressor::kNamespaceBytes);
  CHECK(Compressor::bytes_wanted(std::vector<CompressionPolicy>(1024, kTrained), 50u << 20) == (50u << 20) / 8);
  CHECK(Compressor::bytes_wanted({kTrained}, 1u << 20) == (1u << 20) / 8);
  {
    Compressor compressor({{kTrained}, Compressor::kSamplesBytes - 1});
    teach(compressor, 0, 1);
    CHECK(compressor.stats().bytes == 0);
    CHECK(compressor.stats().dictionaries == 0);
  }
  const std::size_t limit = Compressor::kSamplesBytes + 200'000;
  Compressor compressor({std::vector<CompressionPolicy>(8, kTrained), limit});
  for (std::uint32_t round = 0; round < 20; ++round) {
    for (std::uint32_t policy = 0; policy < 8; ++policy) {
      for (std::uint32_t i = 0; i < 400; ++i) {
        static_cast<void>(compressor.pack(policy, bulk(json_value(round * 400 + i, 300))));
      }
      compressor.maintain();
      REQUIRE(compressor.stats().bytes <= limit);
    }
  }
  CHECK(compressor.stats().dictionaries >= 1);
  CHECK(compressor.stats().dictionaries < 8);
}

TEST_CASE("packing, unpacking and training go on at once", "[compressor]") {
  Compressor compressor({{kTrained, kLz4, kTrained}, kEnough});
  std::atomic<bool> done{false};
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < 6000 || (i < 1'000'000 && compressor.stats().dictionaries < 2); ++i) {
        const std::string reply = bulk(json_value(t * 10'000 + i, 100 + i % 400));
        const StoredReply stored = compressor.pack(i % 3, reply);
        std::string plain;
        if (!compressor.unpack(stored, plain) || plain != reply) ++bad;
      }
    });
  }
  std::thread maintainer([&] {
    while (!done) compressor.maintain();
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  maintainer.join();
  CHECK(bad == 0);
  CHECK(compressor.stats().dictionaries == 2);
}

}  // namespace
}  // namespace nearcached::tiers::l1
