// The requests of a load: their bytes, their mix, their keys.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "loadtest/key_distribution.hpp"

namespace nearcached::loadtest {

enum class Operation : std::uint8_t { kGet, kSet, kMget, kIncr, kHget, kHset };
inline constexpr std::size_t kOperations = 6;

// Shares of each operation; any unit, they are compared with their sum.
using Mix = std::array<double, kOperations>;

// What the requests look like. Strings are kept under prefix + 12 digits, hashes under prefix + "h:" + digits (field "f"),
// counters under prefix + "c:" + digits, so that a mix never meets a key of the wrong type.
struct RequestShape {
  std::string prefix = "key:";
  std::size_t value_bytes = 64;
  std::size_t mget_keys = 10;
};

// Where a client loop takes its requests from. One thread.
class RequestSource {
 public:
  virtual ~RequestSource() = default;
  // Appends one command; false, with nothing appended, when there are no more.
  virtual bool append(std::string& out) = 0;
};

// Writes commands as arrays of bulk strings. Values are the same printable bytes every time, but incompressible within one
// value, so that an upstream or a tier that compresses has no unfair luck.
class RequestWriter {
 public:
  explicit RequestWriter(const RequestShape& shape);
  void append(std::string& out, Operation operation, std::uint64_t key_index) const;
  void begin_mget(std::string& out) const;
  void append_mget_key(std::string& out, std::uint64_t key_index) const;

 private:
  void append_key(std::string& out, std::string_view head, std::uint64_t key_index) const;

  std::string string_key_head_;  // "$N\r\n<prefix>": everything of a key but its digits
  std::string hash_key_head_;
  std::string counter_key_head_;
  std::string value_;  // as a bulk string
  std::string mget_head_;
};

// Random keys and operations, up to `requests` (0: without end).
class MixedRequests final : public RequestSource {
 public:
  MixedRequests(const RequestShape& shape, const Mix& mix, const KeyDistribution& keys, std::uint64_t requests,
                std::uint64_t seed);
  bool append(std::string& out) override;

 private:
  Operation next_operation();

  RequestWriter writer_;
  std::array<double, kOperations> thresholds_{};
  KeyDistribution keys_;
  std::size_t mget_keys_;
  std::uint64_t left_;
  bool endless_;
  Random random_;
};

// One operation on every key once, in order: to populate and to warm up.
class EveryKeyOnce final : public RequestSource {
 public:
  EveryKeyOnce(const RequestShape& shape, Operation operation, std::uint64_t keys)
      : writer_(shape), operation_(operation), keys_(keys) {}
  bool append(std::string& out) override;

 private:
  RequestWriter writer_;
  Operation operation_;
  std::uint64_t keys_;
  std::uint64_t next_ = 0;
};

}  // namespace nearcached::loadtest
