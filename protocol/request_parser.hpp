// Incremental parser of client requests: RESP arrays of bulk strings and inline commands, as Redis takes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::protocol {

// Bounds of one request. A request over a bound is a protocol error: the client is told in Redis's words and closed.
struct RequestLimits {
  std::size_t args_max = 1024 * 1024;              // elements of one multibulk, 1..2^31-1
  std::size_t bulk_bytes_max = 512u * 1024 * 1024;  // bytes of one argument ("proto-max-bulk-len")
  std::size_t inline_bytes_max = 64 * 1024;         // bytes of an inline command or of a "*n" / "$n" header line
};

// What a call of RequestParser::parse found.
enum class ParseStatus : std::uint8_t {
  kComplete,  // one whole command: args() and consumed() are valid
  kEmpty,     // something without a command ("\r\n", "*0\r\n"): skip consumed() bytes, nothing to answer
  kNeedMore,  // the input ends inside a command: call again with the same bytes and more behind them
  kError,     // protocol error: error() is the text to send behind "-ERR ", then the connection is closed
};

// Parses one command at a time out of a buffer that the caller owns. Resumable: after kNeedMore the next call continues
// where this one stopped (positions are kept as offsets, so the buffer may have moved), which keeps a command that
// arrives in many pieces linear. No allocation in the steady state: argument slots are reused, arguments are views into
// the input (for an inline command, into a scratch string).
//
// Confined to one thread. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/, networking.c.
class RequestParser {
 public:
  // `input` starts at the first byte of the command. Views are valid until `input` moves or parse is called again.
  [[nodiscard]] ParseStatus parse(std::string_view input, const RequestLimits& limits);

  [[nodiscard]] const std::vector<std::string_view>& args() const { return args_; }
  [[nodiscard]] std::size_t consumed() const { return position_; }  // bytes of input that the command took
  [[nodiscard]] bool is_inline() const { return inline_; }          // its bytes must be re-encoded to be sent on
  [[nodiscard]] std::string_view error() const { return error_; }   // "Protocol error: ..." without "-ERR "

  // Bytes that the input must have at least before the command can be complete (0 when unknown): lets the caller size
  // its buffer once for a large bulk.
  [[nodiscard]] std::size_t bytes_wanted() const { return wanted_; }

 private:
  std::vector<std::string_view> args_;
  std::size_t position_ = 0;
  std::size_t wanted_ = 0;
  bool inline_ = false;
  std::string_view error_;
};

}  // namespace nearcached::protocol
