// A complete reply as a flat tree: for probes, pushes, fills and merges, not for replies that are only passed on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::protocol {

enum class ReplyType : std::uint8_t {
  kSimpleString, kError, kInteger, kBulkString, kNull, kBoolean, kDouble, kBigNumber, kBulkError, kVerbatim,
  kArray, kMap, kSet, kPush, kAttribute,
};

// One node. `text` is the payload (verbatim: behind "txt:"; integer, double, boolean: the digits as sent); aggregates have
// `children` direct children (a map of n pairs has 2n), which follow in document order. A RESP2 null ("$-1", "*-1") is kNull.
struct ReplyNode {
  ReplyType type = ReplyType::kNull;
  std::uint32_t children = 0;
  std::uint32_t subtree = 1;       // nodes of this subtree, itself included: index + subtree is the next sibling
  std::string_view text;
  std::string_view raw;            // this element's own bytes in the input, header and CR LF included
  [[nodiscard]] std::int64_t integer(std::int64_t otherwise = 0) const;  // text as a decimal number
};

// Parses a whole frame (as ReplyFramer delimits it). Pushes inside aggregates are taken out of their parent and appear in
// pushes(); attributes are dropped. Views live as long as the input. Reusable, keeps its memory. Confined to one thread.
class ReplyTree {
 public:
  // False if `frame` is not exactly one well-formed reply.
  [[nodiscard]] bool parse(std::string_view frame);

  [[nodiscard]] const ReplyNode& root() const { return nodes_.front(); }
  [[nodiscard]] const std::vector<ReplyNode>& nodes() const { return nodes_; }
  // Index into nodes() of child `n` of the node at `parent`; children are walked, so iterate with subtree for many.
  [[nodiscard]] std::size_t child(std::size_t parent, std::size_t n) const;

  // Roots of nested pushes: the frame of each, raw.
  [[nodiscard]] const std::vector<std::string_view>& pushes() const { return pushes_; }

 private:
  std::vector<ReplyNode> nodes_;
  std::vector<std::string_view> pushes_;
};

}  // namespace nearcached::protocol
