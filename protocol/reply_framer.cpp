#include "protocol/reply_framer.hpp"

#include <algorithm>
#include <cstring>

namespace nearcached::protocol {
namespace {

constexpr std::uint8_t kDigitsMax = 19;  // of a signed 64-bit number; 19 digits cannot overflow an unsigned one
constexpr std::uint64_t kIntegerMax = static_cast<std::uint64_t>(INT64_MAX);
constexpr std::uint64_t kVerbatimHead = 4;  // "txt:"

}  // namespace

ReplyFramer::Step ReplyFramer::advance(std::string_view input) {
  if (error_ != FrameError::kNone || input.empty()) return {0, false, error_};
  if (complete_) begin_frame();
  const char* const begin = input.data();
  const char* const end = begin + input.size();
  const char* at = begin;
  while (at != end && !complete_ && error_ == FrameError::kNone) at = run(at, end);
  const auto bytes = static_cast<std::size_t>(at - begin);
  frame_bytes_ += bytes;
  return {bytes, complete_, error_};
}

void ReplyFramer::begin_frame() {
  complete_ = false;
  type_ = 0;
  frame_bytes_ = 0;
  nested_push_ = false;
}

// One step of the machine: consumes at least one byte, or changes the phase, or fails.
const char* ReplyFramer::run(const char* at, const char* end) {
  switch (phase_) {
    case Phase::kType: take_type(*at++); break;
    case Phase::kNumber: return take_number(at, end);
    case Phase::kNumberLf:
      if (*at != '\n') {
        fail(FrameError::kBadLength);
      } else {
        ++at;
        number_ends();
      }
      break;
    case Phase::kPayload: return take_payload(at, end);
    case Phase::kPayloadCr: expect(*at++, '\r', Phase::kPayloadLf); break;
    case Phase::kLine: return take_line(at, end);
    case Phase::kLineCr:
      if (*at == '\n') {
        ++at;
        element_ends();
      } else {
        take_line_cr_successor();
      }
      break;
    case Phase::kBoolean:
      if (*at != 't' && *at != 'f') fail(FrameError::kBadLine);
      ++at;
      phase_ = Phase::kEmptyCr;
      break;
    case Phase::kEmptyCr: expect(*at++, '\r', Phase::kEmptyLf); break;
    case Phase::kPayloadLf:
    case Phase::kEmptyLf:
      if (*at++ == '\n') {
        element_ends();
      } else {
        fail(FrameError::kBadLine);
      }
      break;
  }
  return at;
}

void ReplyFramer::take_type(char type) {
  if (depth_ == 0) type_ = type;
  element_ = type;
  switch (type) {
    case '$':
    case '!':
    case '=':
    case ':':
    case '*':
    case '~':
    case '%':
    case '>':
    case '|':
      number_ = 0;
      digits_ = 0;
      negative_ = false;
      phase_ = Phase::kNumber;
      return;
    case '+':
    case '-':
    case '(':
    case ',':
      bytes_left_ = kLineBytesMax;
      phase_ = Phase::kLine;
      return;
    case '#': phase_ = Phase::kBoolean; return;
    case '_': phase_ = Phase::kEmptyCr; return;
    default: fail(FrameError::kBadType);
  }
}

// Canonical decimals only, as parse_decimal() has them.
const char* ReplyFramer::take_number(const char* at, const char* end) {
  for (; at != end; ++at) {
    const unsigned digit = static_cast<unsigned>(static_cast<unsigned char>(*at)) - unsigned{'0'};
    if (digit <= 9) {
      const bool leading_zero = digits_ > 0 && number_ == 0;
      if (leading_zero || digits_ == kDigitsMax) break;
      number_ = number_ * 10 + digit;
      ++digits_;
    } else if (*at == '-' && digits_ == 0 && !negative_) {
      negative_ = true;
    } else {
      break;
    }
  }
  if (at == end) return at;
  const bool valid =
      *at == '\r' && digits_ > 0 && number_ <= kIntegerMax + (negative_ ? 1 : 0) && !(negative_ && number_ == 0);
  if (!valid) {
    fail(FrameError::kBadLength);
    return at;
  }
  phase_ = Phase::kNumberLf;
  return at + 1;
}

void ReplyFramer::number_ends() {
  switch (element_) {
    case ':': element_ends(); return;
    case '$':
    case '!':
    case '=': bulk_begins(); return;
    default: aggregate_begins();
  }
}

void ReplyFramer::bulk_begins() {
  if (negative_) {
    if (element_ == '$' && number_ == 1) return element_ends();
    return fail(FrameError::kBadLength);
  }
  if (number_ > kBulkBytesMax || (element_ == '=' && number_ < kVerbatimHead)) return fail(FrameError::kBadLength);
  bytes_left_ = number_;
  phase_ = Phase::kPayload;
}

void ReplyFramer::aggregate_begins() {
  if (negative_) {
    if (element_ == '*' && number_ == 1) return element_ends();
    return fail(FrameError::kBadLength);
  }
  if (number_ > kElementsMax) return fail(FrameError::kBadLength);
  const bool push = element_ == '>' && depth_ > 0;
  nested_push_ = nested_push_ || push;
  const bool counted = !push && element_ != '|';
  const std::uint64_t children = element_ == '%' || element_ == '|' ? 2 * number_ : number_;
  phase_ = Phase::kType;
  if (children == 0) {
    if (counted) element_ends();
    return;
  }
  if (depth_ == kDepthMax) return fail(FrameError::kTooDeep);
  levels_[static_cast<std::size_t>(depth_++)] = {children, counted};
}

const char* ReplyFramer::take_payload(const char* at, const char* end) {
  const std::uint64_t taken = std::min<std::uint64_t>(bytes_left_, static_cast<std::uint64_t>(end - at));
  bytes_left_ -= taken;
  at += taken;
  if (bytes_left_ > 0) return at;
  if (end - at >= 2 && at[0] == '\r' && at[1] == '\n') {
    at += 2;
    element_ends();
  } else {
    phase_ = Phase::kPayloadCr;
  }
  return at;
}

// bytes_left_ is what the text may still take; one byte more must be its CR.
const char* ReplyFramer::take_line(const char* at, const char* end) {
  const auto window =
      static_cast<std::size_t>(std::min<std::uint64_t>(bytes_left_ + 1, static_cast<std::uint64_t>(end - at)));
  const void* const cr = std::memchr(at, '\r', window);
  if (cr == nullptr) {
    if (window > bytes_left_) fail(FrameError::kBadLine);
    bytes_left_ -= window;
    return at + window;
  }
  const auto text = static_cast<std::size_t>(static_cast<const char*>(cr) - at);
  bytes_left_ -= text;
  phase_ = Phase::kLineCr;
  return at + text + 1;
}

// The CR was text after all.
void ReplyFramer::take_line_cr_successor() {
  if (bytes_left_ == 0) return fail(FrameError::kBadLine);
  --bytes_left_;
  phase_ = Phase::kLine;
}

void ReplyFramer::expect(char got, char wanted, Phase next) {
  if (got != wanted) fail(FrameError::kBadLine);
  phase_ = next;
}

void ReplyFramer::element_ends() {
  phase_ = Phase::kType;
  while (depth_ > 0) {
    const Level& level = levels_[static_cast<std::size_t>(depth_ - 1)];
    if (--levels_[static_cast<std::size_t>(depth_ - 1)].left > 0) return;
    --depth_;
    if (!level.counted) return;
  }
  complete_ = true;
}

}  // namespace nearcached::protocol
