// A complete reply as a flat tree: for probes, pushes, fills and merges, not for replies that are only passed on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::protocol {

enum class ReplyType : std::uint8_t {
  kSimpleString,
  kError,
  kInteger,
  kBulkString,
  kNull,
  kBoolean,
  kDouble,
  kBigNumber,
  kBulkError,
  kVerbatim,
  kArray,
  kMap,
  kSet,
  kPush,
  kAttribute,
};

// One node. `text` is the payload (verbatim: behind "txt:"; integer, double, boolean: the digits as sent); aggregates have
// `children` direct children (a map of n pairs has 2n), which follow in document order. A RESP2 null ("$-1", "*-1") is
// kNull.
struct ReplyNode {
  ReplyType type = ReplyType::kNull;
  std::uint32_t children = 0;
  std::uint32_t subtree = 1;  // nodes of this subtree, itself included: index + subtree is the next sibling
  std::string_view text;
  std::string_view raw;  // this element's own bytes in the input, header and CR LF included (not its attributes)
  [[nodiscard]] std::int64_t integer(std::int64_t otherwise = 0) const;  // text as a decimal number
};

// Parses a whole frame (as ReplyFramer delimits it; it accepts exactly what the framer calls complete). Pushes inside
// aggregates are taken out of their parent and appear in pushes(); attributes are dropped. Views live as long as the
// input. Reusable, keeps its memory. Confined to one thread.
//
// Bad at: large replies. A node takes 48 bytes, an element of the wire as few as 3; so it is for small replies, and the
// caller bounds the frame.
class ReplyTree {
 public:
  // False if `frame` is not exactly one well-formed reply; the tree is then a single null.
  [[nodiscard]] bool parse(std::string_view frame);

  // Of the last parse.
  [[nodiscard]] const ReplyNode& root() const { return nodes_.front(); }
  [[nodiscard]] const std::vector<ReplyNode>& nodes() const { return nodes_; }
  // Index into nodes() of child `n` of the node at `parent`; children are walked, so iterate with subtree for many.
  [[nodiscard]] std::size_t child(std::size_t parent, std::size_t n) const;

  // Roots of nested pushes: the frame of each, raw, in the order of the input. A push within a push is part of the outer
  // one.
  [[nodiscard]] const std::vector<std::string_view>& pushes() const { return pushes_; }

  // Appends the frame without its nested pushes: what a client that knows only one reply per command may be sent.
  template <class Sink>
  void append_without_pushes(Sink& out) const {
    const char* from = frame_.data();
    for (const std::string_view push : pushes_) {
      out.append(from, static_cast<std::size_t>(push.data() - from));
      from = push.data() + push.size();
    }
    out.append(from, static_cast<std::size_t>(frame_.data() + frame_.size() - from));
  }

 private:
  // Where an element's node goes: into the tree, or nowhere (inside attributes and nested pushes).
  enum class Keep : bool { kNo, kYes };

  bool parse_element(Keep keep, int depth);
  bool parse_aggregate(char type, std::size_t from, Keep keep, int depth);
  bool parse_bulk(char type, std::size_t from, Keep keep);
  bool parse_integer(std::size_t from, Keep keep);
  bool parse_boolean(std::size_t from, Keep keep);
  bool parse_text(ReplyType type, std::size_t from, Keep keep);
  bool parse_null(std::size_t from, Keep keep);
  bool skip_asides(int depth);
  bool skip_aside(int depth);
  bool take_count(std::uint64_t& children, bool pairs);
  bool take_number(std::int64_t& number);
  bool take_line_end();
  void add(ReplyType type, std::string_view text, std::size_t from, Keep keep);

  std::string_view frame_;
  std::size_t at_ = 0;
  bool in_push_ = false;  // inside a nested push that is recorded already
  std::vector<ReplyNode> nodes_{1};
  std::vector<std::string_view> pushes_;
};

}  // namespace nearcached::protocol
