// Replays a cache trace through the daemon's own replacement policy and prints the miss ratio.
//
//   l1_replay --trace FILE.txt.zst (--objects N | --bytes N) [--max-entry-fraction 0.1] [--shards N]
//
// A trace line is "<key> <size>". A request is a get; a miss is offered to the cache (read-through). Compulsory misses
// count. With --objects every item costs the same; with --bytes an item costs its size, nothing is charged for metadata, and
// what is larger than the given fraction of the capacity is never cached. With --shards the capacity is split by the key's
// hash, as the store splits its budget.
#include <zstd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/l1/policy.hpp"

namespace nearcached::loadtest {
namespace {

using tiers::l1::kUsesMax;
using tiers::l1::Policy;
using tiers::l1::PolicyItems;
using tiers::l1::PolicyNode;

// The store places newcomers in the main area as long as it is this far from full.
constexpr double kRoomyShare = 0.95;
// An object's cost: the policy's finest size class.
constexpr std::uint32_t kObjectCost = 64;

struct Arguments {
  std::string trace;
  std::uint64_t capacity = 0;
  bool by_bytes = false;
  double max_entry_fraction = 0.1;
  std::uint32_t shards = 1;
};

struct Request {
  std::uint32_t key;
  std::uint32_t size;
};

std::uint64_t mix(std::uint64_t value) {
  value = (value + 1) * 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93u;
  value = (value ^ (value >> 29)) * 0xD6E8FEB86659FD93u;
  return value ^ (value >> 32);
}

// The items of all shards; a handle is the key's number in the trace.
class Replay final : private PolicyItems {
 public:
  Replay(const Arguments& arguments, std::size_t keys)
      : nodes_(std::make_unique<PolicyNode[]>(keys)),
        costs_(keys),
        resident_(keys),
        by_bytes_(arguments.by_bytes),
        capacity_(arguments.capacity * (by_bytes_ ? 1 : kObjectCost) / arguments.shards),
        cost_max_(by_bytes_ ? static_cast<double>(capacity_) * arguments.max_entry_fraction
                            : static_cast<double>(capacity_)) {
    for (std::uint32_t i = 0; i < arguments.shards; ++i)
      shards_.push_back(std::make_unique<Policy>(static_cast<PolicyItems&>(*this)));
  }

  // True for a hit.
  bool request(const Request& request) {
    PolicyNode& item = nodes_[request.key];
    if (resident_[request.key] != 0) {
      if (item.uses.load() < kUsesMax) item.uses.store(kUsesMax);
      return true;
    }
    const std::uint32_t item_cost = by_bytes_ ? std::max(request.size, 1u) : kObjectCost;
    costs_[request.key] = item_cost;
    if (static_cast<double>(item_cost) > cost_max_) return false;
    Policy& shard = *shards_[(mix(request.key) & 0xFFFF) % shards_.size()];
    while (shard.cost() + item_cost > capacity_) resident_[shard.victim()] = 0;
    const bool roomy = static_cast<double>(shard.cost() + item_cost) <= kRoomyShare * static_cast<double>(capacity_);
    item.uses.store(0);
    shard.insert(request.key, roomy);
    resident_[request.key] = 1;
    if (shard.ghost_step_bytes() != 0) shard.resize_ghosts();
    return false;
  }

 private:
  PolicyNode& node(std::uint32_t handle) override { return nodes_[handle]; }
  std::uint32_t cost(std::uint32_t handle) override { return costs_[handle]; }
  std::uint32_t fingerprint(std::uint32_t handle) override { return static_cast<std::uint32_t>(mix(handle) >> 32); }

  std::unique_ptr<PolicyNode[]> nodes_;
  std::vector<std::uint32_t> costs_;
  std::vector<std::uint8_t> resident_;
  bool by_bytes_;
  std::uint64_t capacity_;  // of one shard
  double cost_max_;
  std::vector<std::unique_ptr<Policy>> shards_;
};

std::optional<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return std::nullopt;
  std::string content;
  char buffer[1 << 16];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, file.get())) > 0;) content.append(buffer, n);
  return content;
}

// Nothing if it is not a whole zstd stream.
std::optional<std::string> decompress(const std::string& compressed) {
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(), &ZSTD_freeDStream);
  std::string text;
  std::vector<char> buffer(ZSTD_DStreamOutSize());
  ZSTD_inBuffer in{compressed.data(), compressed.size(), 0};
  std::size_t pending = 1;
  while (in.pos < in.size) {
    ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
    pending = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(pending) != 0) return std::nullopt;
    text.append(buffer.data(), out.pos);
  }
  if (pending != 0) return std::nullopt;
  return text;
}

std::optional<std::vector<Request>> parse(std::string_view text) {
  std::vector<Request> requests;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    Request request{};
    const auto key = std::from_chars(at, end, request.key);
    if (key.ec != std::errc{} || key.ptr == end || *key.ptr != ' ') return std::nullopt;
    const auto size = std::from_chars(key.ptr + 1, end, request.size);
    if (size.ec != std::errc{} || (size.ptr != end && *size.ptr != '\n')) return std::nullopt;
    requests.push_back(request);
    at = size.ptr + 1;
  }
  return requests;
}

template <typename Number>
bool read_number(const char* text, Number& number) {
  const char* const end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, number);
  return result.ec == std::errc{} && result.ptr == end;
}

std::optional<Arguments> read_arguments(std::span<char*> words) {
  Arguments arguments;
  if (words.size() % 2 == 0) return std::nullopt;
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    const std::string_view name = words[i];
    bool good = false;
    if (name == "--trace") {
      arguments.trace = words[i + 1];
      good = true;
    } else if (name == "--objects" || name == "--bytes") {
      arguments.by_bytes = name == "--bytes";
      good = arguments.capacity == 0 && read_number(words[i + 1], arguments.capacity);
    } else if (name == "--max-entry-fraction") {
      good = read_number(words[i + 1], arguments.max_entry_fraction) && arguments.max_entry_fraction > 0;
    } else if (name == "--shards") {
      good = read_number(words[i + 1], arguments.shards) && arguments.shards >= 1 && arguments.shards <= 1024;
    }
    if (!good) return std::nullopt;
  }
  if (arguments.trace.empty() || arguments.capacity == 0) return std::nullopt;
  return arguments;
}

int run(std::span<char*> words) {
  const auto arguments = read_arguments(words);
  if (!arguments) {
    std::fputs(
        "usage: l1_replay --trace FILE.txt.zst (--objects N | --bytes N) [--max-entry-fraction 0.1] [--shards 1..1024]\n",
        stderr);
    return 2;
  }
  const auto compressed = read_file(arguments->trace);
  const auto text = compressed ? decompress(*compressed) : std::nullopt;
  const auto requests = text ? parse(*text) : std::nullopt;
  if (!requests || requests->empty()) {
    std::fprintf(stderr, "l1_replay: %s: not a readable zstd-compressed trace\n", arguments->trace.c_str());
    return 1;
  }
  std::uint32_t key_max = 0;
  for (const Request& request : *requests) key_max = std::max(key_max, request.key);
  Replay replay(*arguments, std::size_t{key_max} + 1);
  std::uint64_t misses = 0;
  for (const Request& request : *requests) misses += replay.request(request) ? 0u : 1u;
  std::printf("requests %zu\nmisses %llu\nmiss_ratio %.4f\n", requests->size(), static_cast<unsigned long long>(misses),
              static_cast<double>(misses) / static_cast<double>(requests->size()));
  return 0;
}

}  // namespace
}  // namespace nearcached::loadtest

int main(int argc, char** argv) { return nearcached::loadtest::run({argv, static_cast<std::size_t>(argc)}); }
