#include "tiers/l1/compressor_codec.hpp"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/unit/tiers/l1/json_values.hpp"

namespace nearcached::tiers::l1 {
namespace {

using testing::json_value;
using testing::noise;

constexpr Compression kBoth[] = {Compression::kLz4, Compression::kZstd};

std::string compressed(Compression algorithm, const std::string& plain, const CompressionDictionary* dictionary = nullptr) {
  std::string out(plain.size() + plain.size() / 128 + 1024, '\0');
  out.resize(CompressorCodec::compress(algorithm, dictionary, plain, out.data(), out.size()));
  return out;
}

std::unique_ptr<CompressionDictionary> dictionary_of(std::uint32_t seed) {
  std::string samples;
  std::vector<std::size_t> sizes;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::string value = json_value(seed + i, 200);
    samples += value;
    sizes.push_back(value.size());
  }
  const std::string text = CompressorCodec::train(samples, sizes, 16 << 10);
  REQUIRE_FALSE(text.empty());
  REQUIRE(text.size() <= 16 << 10);
  return CompressionDictionary::create(text);
}

TEST_CASE("what was compressed comes back byte by byte, of every size", "[compressor]") {
  for (const Compression algorithm : kBoth) {
    for (const std::size_t size : {1, 2, 7, 63, 64, 200, 1000, 4096, 65535, 65536, 100'000, 1 << 20}) {
      for (const std::string& plain :
           {json_value(1, size), noise(1, size), std::string(size, 'a'), std::string(size, '\0')}) {
        const std::string small = compressed(algorithm, plain);
        REQUIRE_FALSE(small.empty());
        std::string out(plain.size() + 1, '#');
        REQUIRE(CompressorCodec::decompress(algorithm, nullptr, small, out.data(), plain.size()));
        REQUIRE(out.substr(0, plain.size()) == plain);
        REQUIRE(out.back() == '#');
      }
    }
  }
}

TEST_CASE("what does not fit into the room is not compressed, and nothing is written behind it", "[compressor]") {
  for (const Compression algorithm : kBoth) {
    const std::string plain = noise(2, 4000);
    std::string out(3500 + 1, '#');
    CHECK(CompressorCodec::compress(algorithm, nullptr, plain, out.data(), 3500) == 0);
    CHECK(out.back() == '#');
    const std::string json = json_value(2, 4000);
    const std::size_t least = compressed(algorithm, json).size();
    CHECK(CompressorCodec::compress(algorithm, nullptr, json, out.data(), least / 2) == 0);
    // The thread's context is as good as before.
    CHECK(compressed(algorithm, json).size() == least);
  }
}

TEST_CASE("what is cut short, damaged or of another size is refused and never written too far", "[compressor]") {
  for (const Compression algorithm : kBoth) {
    const std::string plain = json_value(3, 600);
    const std::string small = compressed(algorithm, plain);
    std::string out(plain.size() + 1, '#');
    for (std::size_t cut = 0; cut < small.size(); ++cut) {
      REQUIRE_FALSE(CompressorCodec::decompress(algorithm, nullptr, small.substr(0, cut), out.data(), plain.size()));
      REQUIRE(out.back() == '#');
    }
    REQUIRE_FALSE(CompressorCodec::decompress(algorithm, nullptr, small, out.data(), plain.size() - 1));
    for (std::size_t at = 0; at < small.size(); ++at) {
      std::string damaged = small;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
      static_cast<void>(CompressorCodec::decompress(algorithm, nullptr, damaged, out.data(), plain.size()));
      REQUIRE(out.back() == '#');
    }
  }
}

TEST_CASE("a dictionary makes small values smaller, and only it reads them again", "[compressor]") {
  const auto dictionary = dictionary_of(100);
  REQUIRE(dictionary != nullptr);
  CHECK(dictionary->bytes() < 160 << 10);
  const std::string plain = json_value(9999, 200);
  const std::string without = compressed(Compression::kZstd, plain);
  const std::string with = compressed(Compression::kZstd, plain, dictionary.get());
  CHECK(with.size() < without.size() * 3 / 4);
  std::string out(plain.size(), '\0');
  REQUIRE(CompressorCodec::decompress(Compression::kZstd, dictionary.get(), with, out.data(), out.size()));
  CHECK(out == plain);
  std::string other(plain.size(), '\0');
  CHECK_FALSE(
      (CompressorCodec::decompress(Compression::kZstd, nullptr, with, other.data(), other.size()) && other == plain));
  // The thread's context has forgotten it again.
  CHECK(compressed(Compression::kZstd, plain) == without);
}

TEST_CASE("samples of nothing give no dictionary", "[compressor]") {
  CHECK(CompressorCodec::train("", {}, 16 << 10).empty());
  const std::vector<std::size_t> one{4};
  CHECK(CompressorCodec::train("abcd", one, 16 << 10).empty());
}

TEST_CASE("threads use one dictionary at once", "[compressor]") {
  const auto dictionary = dictionary_of(200);
  std::vector<std::thread> threads;
  std::atomic<int> bad{0};
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < 300; ++i) {
        const std::string plain = json_value(t * 1000 + i, 100 + i);
        const std::string small = compressed(Compression::kZstd, plain, dictionary.get());
        std::string out(plain.size(), '\0');
        if (!CompressorCodec::decompress(Compression::kZstd, dictionary.get(), small, out.data(), out.size())) ++bad;
        if (out != plain) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(bad == 0);
}

}  // namespace
}  // namespace nearcached::tiers::l1
