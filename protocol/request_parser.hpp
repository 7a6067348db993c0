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
  std::size_t args_max = 1024 * 1024;               // elements of one multibulk, 1..2^31-1
  std::size_t bulk_bytes_max = 512u * 1024 * 1024;  // bytes of one argument ("proto-max-bulk-len")
  std::size_t inline_bytes_max = 64 * 1024;         // bytes of an inline command or of a "*n" / "$n" header line
};

// What a call of RequestParser::parse found.
enum class ParseStatus : std::uint8_t {
  kComplete,  // one whole command: args() and consumed() are valid
  kEmpty,     // something without a command ("\r\n", "*0\r\n", "*-1\r\n"): skip consumed() bytes, nothing to answer
  kNeedMore,  // the input ends inside a command: call again with the same bytes and more behind them
  kError,     // protocol error: error() is the text to send behind "-ERR ", then the connection is closed
};

// Parses one command at a time out of a buffer that the caller owns. Resumable: after kNeedMore the next call continues
// where this one stopped (positions are kept as offsets, so the buffer may have moved), which keeps a command that
// arrives in many pieces linear. No allocation in the steady state: argument slots are reused, arguments are views into
// the input (for an inline command, into a scratch string).
//
// Two paths over the same state: take_arguments() runs through whole arguments in the form every client writes, and stops
// at the first thing that is incomplete or odd; take_argument() knows all of Redis's rules for one argument. So the rules
// (and the error words) exist once, and the usual command never sees them.
//
// What it takes is what Redis 7.0 takes, oddities included: a NUL hides the end of a line, any two bytes end a bulk, any
// byte follows the CR of a header line. Commands with such line ends are complete, but is_inline() says that they must be
// re-encoded: an upstream that is stricter would close the connection that all clients share.
//
// Bad at: attributing memory. args() grows to the largest command seen, up to kArgsKept it is kept (release()).
// Confined to one thread. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/, networking.c.
class RequestParser {
 public:
  // `input` starts at the first byte of the command. Views are valid until `input` moves or parse is called again.
  // An error is final: every later call reports it again.
  [[nodiscard]] ParseStatus parse(std::string_view input, const RequestLimits& limits);

  [[nodiscard]] const std::vector<std::string_view>& args() const { return args_; }
  [[nodiscard]] std::size_t consumed() const { return position_; }  // bytes of input that the command took
  [[nodiscard]] bool is_inline() const { return reencode_; }        // its bytes must be re-encoded to be sent on
  [[nodiscard]] std::string_view error() const;                     // "Protocol error: ..." without "-ERR "

  // Bytes that the input must have at least before the command can be complete (0 when unknown): lets the caller size
  // its buffer once for a large bulk. The client's claim, up to limits.bulk_bytes_max: not a reason to reserve at once.
  [[nodiscard]] std::size_t bytes_wanted() const { return wanted_; }

  // True between kNeedMore and the call that ends the command: some of its bytes have been seen.
  [[nodiscard]] bool mid_command() const { return stage_ == Stage::kLine || stage_ == Stage::kMultibulk; }

  // Memory held beside the object itself, and the way to give it back (an idle client): args() is empty afterwards. Does
  // nothing in the middle of a command.
  [[nodiscard]] std::size_t memory_bytes() const;
  void release();

 private:
  enum class Stage : std::uint8_t { kFresh, kLine, kMultibulk, kFailed };
  enum class Error : std::uint8_t {
    kNone,
    kBigInline,
    kUnbalancedQuotes,
    kBigCount,
    kBadCount,
    kBigBulkCount,
    kExpectedDollar,
    kBadBulk,
  };
  enum class Line : std::uint8_t { kFound, kMissing, kTooLong };
  struct Span {
    std::size_t offset;
    std::size_t size;
  };
  static constexpr std::size_t kArgsKept = 1024;     // slots kept between commands: 16 KB, a usual MGET
  static constexpr std::size_t kScratchKept = 4096;  // bytes of inline scratch kept between commands

  void begin_command();
  ParseStatus parse_line(std::string_view input, const RequestLimits& limits);
  ParseStatus parse_count(std::string_view input, const RequestLimits& limits);
  ParseStatus parse_inline(std::string_view input, const RequestLimits& limits);
  ParseStatus parse_multibulk(std::string_view input, const RequestLimits& limits);
  void take_arguments(std::string_view input, const RequestLimits& limits);
  ParseStatus take_argument(std::string_view input, const RequestLimits& limits);
  ParseStatus take_bulk_header(std::string_view input, const RequestLimits& limits);
  Line find_line(std::string_view input, char terminator, std::size_t bytes_max);
  bool split_inline(std::string_view line);
  void suspend(std::string_view input);
  ParseStatus complete(std::string_view input);
  ParseStatus fail(Error error);
  ParseStatus fail_expected_dollar(char got);

  std::vector<std::string_view> args_;
  std::vector<Span> spans_;   // arguments of a suspended command: args_[i] is stale for i < spans_.size()
  std::string scratch_;       // unescaped arguments of an inline command; the error that names a character
  std::size_t position_ = 0;  // of the first byte not yet taken
  std::size_t scanned_ = 0;   // bytes behind position_ that hold no end of line (while one is searched)
  std::size_t line_end_ = 0;  // what find_line found
  std::size_t wanted_ = 0;
  std::size_t remaining_ = 0;   // arguments still to come
  std::size_t bulk_ = kNoBulk;  // length of the argument that comes next, once its header is taken
  Stage stage_ = Stage::kFresh;
  Error error_ = Error::kNone;
  bool reencode_ = false;

  static constexpr std::size_t kNoBulk = static_cast<std::size_t>(-1);
};

}  // namespace nearcached::protocol
