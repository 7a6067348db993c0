#include "protocol/reply_tree.hpp"

#include "protocol/decimal.hpp"
#include "protocol/reply_framer.hpp"

namespace nearcached::protocol {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::size_t kVerbatimHead = 4;  // "txt:"

}  // namespace

std::int64_t ReplyNode::integer(std::int64_t otherwise) const { return parse_decimal(text).value_or(otherwise); }

bool ReplyTree::parse(std::string_view frame) {
  frame_ = frame;
  at_ = 0;
  in_push_ = false;
  nodes_.clear();
  pushes_.clear();
  if (parse_element(Keep::kYes, 0) && at_ == frame.size()) return true;
  frame_ = {};
  nodes_.assign(1, ReplyNode{});
  pushes_.clear();
  return false;
}

std::size_t ReplyTree::child(std::size_t parent, std::size_t n) const {
  std::size_t at = parent + 1;
  for (; n > 0; --n) at += nodes_[at].subtree;
  return at;
}

// `depth`: how many aggregates are open around the element.
bool ReplyTree::parse_element(Keep keep, int depth) {
  if (!skip_asides(depth) || at_ == frame_.size()) return false;
  const std::size_t from = at_;
  const char type = frame_[at_++];
  switch (type) {
    case '+': return parse_text(ReplyType::kSimpleString, from, keep);
    case '-': return parse_text(ReplyType::kError, from, keep);
    case '(': return parse_text(ReplyType::kBigNumber, from, keep);
    case ',': return parse_text(ReplyType::kDouble, from, keep);
    case ':': return parse_integer(from, keep);
    case '#': return parse_boolean(from, keep);
    case '_': return parse_null(from, keep);
    case '$':
    case '!':
    case '=': return parse_bulk(type, from, keep);
    case '*':
    case '~':
    case '%':
    case '>': return parse_aggregate(type, from, keep, depth);
    default: return false;
  }
}

// What stands before an element without being one of its parent's: attributes, and pushes where something else is open.
bool ReplyTree::skip_asides(int depth) {
  while (at_ < frame_.size()) {
    const char type = frame_[at_];
    if (type != '|' && (type != '>' || depth == 0)) return true;
    const std::size_t from = at_;
    const bool record = type == '>' && !in_push_;
    if (record) in_push_ = true;
    if (!skip_aside(depth)) return false;
    if (!record) continue;
    in_push_ = false;
    pushes_.push_back(frame_.substr(from, at_ - from));
  }
  return true;
}

bool ReplyTree::skip_aside(int depth) {
  const bool pairs = frame_[at_++] == '|';
  std::uint64_t children = 0;
  if (!take_count(children, pairs)) return false;
  if (children > 0 && depth == ReplyFramer::kDepthMax) return false;
  for (; children > 0; --children) {
    if (!parse_element(Keep::kNo, depth + 1)) return false;
  }
  return true;
}

bool ReplyTree::parse_aggregate(char type, std::size_t from, Keep keep, int depth) {
  if (type == '*' && frame_.substr(at_).starts_with("-1\r\n")) {
    at_ += 4;
    add(ReplyType::kNull, {}, from, keep);
    return true;
  }
  std::uint64_t children = 0;
  if (!take_count(children, type == '%')) return false;
  if (children > 0 && depth == ReplyFramer::kDepthMax) return false;
  const std::size_t index = nodes_.size();
  const ReplyType kind = type == '*'   ? ReplyType::kArray
                         : type == '~' ? ReplyType::kSet
                         : type == '%' ? ReplyType::kMap
                                       : ReplyType::kPush;
  add(kind, {}, from, keep);
  for (std::uint64_t i = 0; i < children; ++i) {
    if (!parse_element(keep, depth + 1)) return false;
  }
  if (keep == Keep::kNo) return true;
  ReplyNode& node = nodes_[index];
  node.children = static_cast<std::uint32_t>(children);
  node.subtree = static_cast<std::uint32_t>(nodes_.size() - index);
  node.raw = frame_.substr(from, at_ - from);
  return true;
}

bool ReplyTree::parse_bulk(char type, std::size_t from, Keep keep) {
  std::int64_t number = 0;
  if (!take_number(number)) return false;
  if (type == '$' && number == -1) {
    add(ReplyType::kNull, {}, from, keep);
    return true;
  }
  if (number < 0 || static_cast<std::uint64_t>(number) > ReplyFramer::kBulkBytesMax) return false;
  const auto size = static_cast<std::size_t>(number);
  if (frame_.size() - at_ < size) return false;
  std::string_view text = frame_.substr(at_, size);
  at_ += size;
  if (!take_line_end()) return false;
  if (type == '=') {
    if (size < kVerbatimHead) return false;
    text.remove_prefix(kVerbatimHead);
  }
  add(type == '$' ? ReplyType::kBulkString : type == '!' ? ReplyType::kBulkError : ReplyType::kVerbatim, text, from, keep);
  return true;
}

bool ReplyTree::parse_integer(std::size_t from, Keep keep) {
  std::int64_t number = 0;
  if (!take_number(number)) return false;
  add(ReplyType::kInteger, frame_.substr(from + 1, at_ - from - 1 - kLineEnd.size()), from, keep);
  return true;
}

bool ReplyTree::parse_boolean(std::size_t from, Keep keep) {
  const std::string_view text = frame_.substr(at_, 1);
  if (text != "t" && text != "f") return false;
  ++at_;
  if (!take_line_end()) return false;
  add(ReplyType::kBoolean, text, from, keep);
  return true;
}

bool ReplyTree::parse_null(std::size_t from, Keep keep) {
  if (!take_line_end()) return false;
  add(ReplyType::kNull, {}, from, keep);
  return true;
}

bool ReplyTree::parse_text(ReplyType type, std::size_t from, Keep keep) {
  const std::size_t end = frame_.substr(0, at_ + ReplyFramer::kLineBytesMax + kLineEnd.size()).find(kLineEnd, at_);
  if (end == std::string_view::npos) return false;
  const std::string_view text = frame_.substr(at_, end - at_);
  at_ = end + kLineEnd.size();
  add(type, text, from, keep);
  return true;
}

bool ReplyTree::take_count(std::uint64_t& children, bool pairs) {
  std::int64_t number = 0;
  if (!take_number(number) || number < 0) return false;
  children = static_cast<std::uint64_t>(number);
  if (children > ReplyFramer::kElementsMax) return false;
  if (pairs) children *= 2;
  return true;
}

bool ReplyTree::take_number(std::int64_t& number) {
  constexpr std::size_t kNumberBytesMax = 20;  // "-9223372036854775808"
  const std::string_view head = frame_.substr(at_, kNumberBytesMax + 1);
  const std::size_t end = head.find('\r');
  if (end == std::string_view::npos) return false;
  const auto parsed = parse_decimal(head.substr(0, end));
  if (!parsed) return false;
  number = *parsed;
  at_ += end;
  return take_line_end();
}

bool ReplyTree::take_line_end() {
  if (!frame_.substr(at_).starts_with(kLineEnd)) return false;
  at_ += kLineEnd.size();
  return true;
}

void ReplyTree::add(ReplyType type, std::string_view text, std::size_t from, Keep keep) {
  if (keep == Keep::kYes) nodes_.push_back({type, 0, 1, text, frame_.substr(from, at_ - from)});
}

}  // namespace nearcached::protocol
