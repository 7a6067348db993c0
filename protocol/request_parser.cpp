#include "protocol/request_parser.hpp"

#include <algorithm>
#include <cstring>

#include "protocol/decimal.hpp"

namespace nearcached::protocol {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::ptrdiff_t kShortestBulk = 6;  // "$0\r\n\r\n"
constexpr std::ptrdiff_t kFastDigits = 10;   // of a bulk's length; longer ones are left to the general path

unsigned digit(char c) { return static_cast<unsigned>(static_cast<unsigned char>(c)) - unsigned{'0'}; }

bool ends_line(const char* at) { return at[0] == '\r' && at[1] == '\n'; }

// C's isspace in the C locale, which is what sdssplitargs skips between tokens.
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char unescape(char c) {
  switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default: return c;
  }
}

// Walks over a line; behind its end it sees NULs, as the C string of sdssplitargs ends (the line itself holds none).
class LineCursor {
 public:
  explicit LineCursor(std::string_view line) : line_(line) {}
  [[nodiscard]] char peek(std::size_t ahead = 0) const { return ahead < line_.size() - at_ ? line_[at_ + ahead] : '\0'; }
  [[nodiscard]] bool at_end() const { return at_ == line_.size(); }
  void skip(std::size_t n) { at_ += n; }

 private:
  std::string_view line_;
  std::size_t at_ = 0;
};

// A closing quote must be followed by a blank or by nothing.
bool close_quote(LineCursor& cursor) {
  cursor.skip(1);
  return cursor.at_end() || is_blank(cursor.peek());
}

bool take_double_quoted(LineCursor& cursor, std::string& out) {
  while (!cursor.at_end()) {
    const char c = cursor.peek();
    if (c == '"') return close_quote(cursor);
    if (c != '\\' || cursor.peek(1) == '\0') {
      out.push_back(c);
      cursor.skip(1);
      continue;
    }
    const int high = hex_value(cursor.peek(2));
    const int low = hex_value(cursor.peek(3));
    if (cursor.peek(1) == 'x' && high >= 0 && low >= 0) {
      out.push_back(static_cast<char>(high * 16 + low));
      cursor.skip(4);
    } else {
      out.push_back(unescape(cursor.peek(1)));
      cursor.skip(2);
    }
  }
  return false;
}

bool take_single_quoted(LineCursor& cursor, std::string& out) {
  while (!cursor.at_end()) {
    if (cursor.peek() == '\'') return close_quote(cursor);
    if (cursor.peek() == '\\' && cursor.peek(1) == '\'') cursor.skip(1);
    out.push_back(cursor.peek());
    cursor.skip(1);
  }
  return false;
}

// One token: bare text, in which a quote opens anywhere ('foo"bar"' is foobar) and whose closing quote ends it.
bool take_token(LineCursor& cursor, std::string& out) {
  while (!cursor.at_end()) {
    const char c = cursor.peek();
    switch (c) {
      case ' ':
      case '\n':
      case '\r':
      case '\t': return true;
      case '"': cursor.skip(1); return take_double_quoted(cursor, out);
      case '\'': cursor.skip(1); return take_single_quoted(cursor, out);
      default: out.push_back(c); cursor.skip(1);
    }
  }
  return true;
}

}  // namespace

ParseStatus RequestParser::parse(std::string_view input, const RequestLimits& limits) {
  switch (stage_) {
    case Stage::kFresh:
      begin_command();
      if (input.empty()) return ParseStatus::kNeedMore;
      stage_ = Stage::kLine;
      return parse_line(input, limits);
    case Stage::kLine: return parse_line(input, limits);
    case Stage::kMultibulk: return parse_multibulk(input, limits);
    case Stage::kFailed: break;
  }
  return ParseStatus::kError;
}

void RequestParser::begin_command() {
  if (args_.capacity() > kArgsKept || spans_.capacity() > kArgsKept || scratch_.capacity() > kScratchKept) release();
  args_.clear();
  spans_.clear();
  position_ = 0;
  scanned_ = 0;
  wanted_ = 0;
  reencode_ = false;
}

ParseStatus RequestParser::parse_line(std::string_view input, const RequestLimits& limits) {
  return input.front() == '*' ? parse_count(input, limits) : parse_inline(input, limits);
}

ParseStatus RequestParser::parse_count(std::string_view input, const RequestLimits& limits) {
  std::int64_t count = 0;
  if (input.size() >= 4 && digit(input[1]) <= 9 && ends_line(input.data() + 2)) {
    count = input[1] - '0';
    position_ = 4;
  } else {
    const Line line = find_line(input, '\r', limits.inline_bytes_max);
    if (line == Line::kTooLong) return fail(Error::kBigCount);
    if (line == Line::kMissing || line_end_ + 1 >= input.size()) return ParseStatus::kNeedMore;
    const auto number = parse_decimal(input.substr(1, line_end_ - 1));
    if (!number) return fail(Error::kBadCount);
    count = *number;
    reencode_ = input[line_end_ + 1] != '\n';
    position_ = line_end_ + 2;
  }
  scanned_ = 0;
  if (count <= 0) {
    stage_ = Stage::kFresh;
    return ParseStatus::kEmpty;
  }
  remaining_ = static_cast<std::size_t>(count);
  if (remaining_ > limits.args_max) return fail(Error::kBadCount);
  stage_ = Stage::kMultibulk;
  return parse_multibulk(input, limits);
}

ParseStatus RequestParser::parse_multibulk(std::string_view input, const RequestLimits& limits) {
  while (true) {
    take_arguments(input, limits);
    if (remaining_ == 0) return complete(input);
    const ParseStatus status = take_argument(input, limits);
    if (status == ParseStatus::kNeedMore) suspend(input);
    if (status != ParseStatus::kComplete) return status;
  }
}

// The hot loop. It takes only what is whole and in canonical form and changes nothing else: everything it leaves alone is
// looked at again by take_argument().
void RequestParser::take_arguments(std::string_view input, const RequestLimits& limits) {
  if (bulk_ != kNoBulk) return;
  const char* const begin = input.data();
  const char* const end = begin + input.size();
  const char* at = begin + position_;
  std::size_t left = remaining_;
  while (left > 0 && end - at >= kShortestBulk && at[0] == '$') {
    std::size_t size = digit(at[1]);
    if (size > 9) break;
    const char* next = at + 2;
    if (*next != '\r' && size != 0) {
      const char* const stop = at + std::min(end - at, kFastDigits + 1);
      for (; next != stop && digit(*next) <= 9; ++next) size = size * 10 + digit(*next);
    }
    if (end - next < 4 || !ends_line(next)) break;
    next += 2;
    if (size > limits.bulk_bytes_max || static_cast<std::size_t>(end - next) < size + 2) break;
    if (!ends_line(next + size)) break;
    args_.emplace_back(next, size);
    at = next + size + 2;
    --left;
  }
  if (left == remaining_) return;
  position_ = static_cast<std::size_t>(at - begin);
  remaining_ = left;
  scanned_ = 0;
}

// kComplete: the argument is taken.
ParseStatus RequestParser::take_argument(std::string_view input, const RequestLimits& limits) {
  if (bulk_ == kNoBulk) {
    const ParseStatus status = take_bulk_header(input, limits);
    if (status != ParseStatus::kComplete) return status;
  }
  wanted_ = position_ + bulk_ + kLineEnd.size();
  if (input.size() < wanted_) return ParseStatus::kNeedMore;
  args_.push_back(input.substr(position_, bulk_));
  if (!ends_line(input.data() + position_ + bulk_)) reencode_ = true;
  position_ = wanted_;
  wanted_ = 0;
  bulk_ = kNoBulk;
  --remaining_;
  return ParseStatus::kComplete;
}

ParseStatus RequestParser::take_bulk_header(std::string_view input, const RequestLimits& limits) {
  const Line line = find_line(input, '\r', limits.inline_bytes_max);
  if (line == Line::kTooLong) return fail(Error::kBigBulkCount);
  if (line == Line::kMissing || line_end_ + 1 >= input.size()) return ParseStatus::kNeedMore;
  if (input[position_] != '$') return fail_expected_dollar(input[position_]);
  const auto number = parse_decimal(input.substr(position_ + 1, line_end_ - position_ - 1));
  if (!number || *number < 0 || static_cast<std::size_t>(*number) > limits.bulk_bytes_max) return fail(Error::kBadBulk);
  if (input[line_end_ + 1] != '\n') reencode_ = true;
  position_ = line_end_ + 2;
  scanned_ = 0;
  bulk_ = static_cast<std::size_t>(*number);
  return ParseStatus::kComplete;
}

// Looks for the end of the line that starts at position_, from where the last call stopped. A NUL hides what follows it,
// as it does from Redis's strchr: such a line never ends and runs into its bound.
RequestParser::Line RequestParser::find_line(std::string_view input, char terminator, std::size_t bytes_max) {
  const std::string_view line = input.substr(position_);
  const Line otherwise = line.size() > bytes_max ? Line::kTooLong : Line::kMissing;
  const std::string_view unseen = line.substr(0, bytes_max + 1).substr(scanned_);
  if (unseen.empty() || unseen.front() == '\0') return otherwise;
  const std::size_t found = unseen.find(terminator);
  const std::size_t nul = unseen.substr(0, found).find('\0');
  if (nul != std::string_view::npos || found == std::string_view::npos) {
    scanned_ += std::min(nul, unseen.size());
    return otherwise;
  }
  scanned_ += found;
  line_end_ = position_ + scanned_;
  return Line::kFound;
}

ParseStatus RequestParser::parse_inline(std::string_view input, const RequestLimits& limits) {
  const Line found = find_line(input, '\n', limits.inline_bytes_max);
  if (found == Line::kTooLong) return fail(Error::kBigInline);
  if (found == Line::kMissing) return ParseStatus::kNeedMore;
  position_ = line_end_ + 1;
  reencode_ = true;
  if (!split_inline(input.substr(0, line_end_))) return fail(Error::kUnbalancedQuotes);
  stage_ = Stage::kFresh;
  return args_.empty() ? ParseStatus::kEmpty : ParseStatus::kComplete;
}

// sdssplitargs; the CR of a CR LF is a blank like any other. Unescaped text is never longer than the line, so the scratch
// never moves under the views.
bool RequestParser::split_inline(std::string_view line) {
  scratch_.clear();
  scratch_.reserve(line.size());
  LineCursor cursor(line);
  while (true) {
    while (!cursor.at_end() && is_blank(cursor.peek())) cursor.skip(1);
    if (cursor.at_end()) return true;
    const std::size_t from = scratch_.size();
    if (!take_token(cursor, scratch_)) return false;
    args_.emplace_back(scratch_.data() + from, scratch_.size() - from);
  }
}

// The buffer may move before the next call: what was taken since the last one is kept as offsets.
void RequestParser::suspend(std::string_view input) {
  for (std::size_t i = spans_.size(); i < args_.size(); ++i) {
    spans_.push_back({static_cast<std::size_t>(args_[i].data() - input.data()), args_[i].size()});
  }
}

ParseStatus RequestParser::complete(std::string_view input) {
  for (std::size_t i = 0; i < spans_.size(); ++i) args_[i] = input.substr(spans_[i].offset, spans_[i].size);
  stage_ = Stage::kFresh;
  return ParseStatus::kComplete;
}

ParseStatus RequestParser::fail(Error error) {
  args_.clear();
  stage_ = Stage::kFailed;
  error_ = error;
  return ParseStatus::kError;
}

ParseStatus RequestParser::fail_expected_dollar(char got) {
  scratch_ = "Protocol error: expected '$', got '";
  scratch_ += got == '\r' || got == '\n' ? ' ' : got;
  scratch_ += '\'';
  return fail(Error::kExpectedDollar);
}

std::string_view RequestParser::error() const {
  switch (error_) {
    case Error::kNone: break;
    case Error::kBigInline: return "Protocol error: too big inline request";
    case Error::kUnbalancedQuotes: return "Protocol error: unbalanced quotes in request";
    case Error::kBigCount: return "Protocol error: too big mbulk count string";
    case Error::kBadCount: return "Protocol error: invalid multibulk length";
    case Error::kBigBulkCount: return "Protocol error: too big bulk count string";
    case Error::kExpectedDollar: return scratch_;
    case Error::kBadBulk: return "Protocol error: invalid bulk length";
  }
  return {};
}

std::size_t RequestParser::memory_bytes() const {
  return args_.capacity() * sizeof(args_[0]) + spans_.capacity() * sizeof(spans_[0]) + scratch_.capacity();
}

void RequestParser::release() {
  if (stage_ != Stage::kFresh) return;
  std::vector<std::string_view>().swap(args_);
  std::vector<Span>().swap(spans_);
  std::string().swap(scratch_);
}

}  // namespace nearcached::protocol
