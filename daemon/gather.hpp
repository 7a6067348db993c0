// The parts of one command's reply, until all are in.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "protocol/command_table.hpp"
#include "protocol/reply_tree.hpp"
#include "protocol/writer.hpp"

namespace nearcached::daemon {

// Merges the replies of a command that was split by slot, sent to every primary, or answered key by key, as the command's
// response policy says (protocol::Merge). Any part's error is the reply, as Redis answers a command that failed in the
// middle. With Merge::kNone the reply is that of part 0, whose text `edit` may change before it is passed on, knowing the
// texts of the other parts (INFO); of an array its first element's (SCAN's cursor). Bounds: holds the parts' replies whole,
// up to bytes_max together; more is an error, and what comes still is thrown away. Confined to the session's worker.
class Gather {
 public:
  using Edit = std::function<void(std::string& text, const std::vector<std::string>& others)>;

  Gather(protocol::Merge merge, protocol::RespVersion version, std::size_t parts, std::size_t bytes_max);
  Gather(protocol::RespVersion version, std::size_t parts, std::size_t bytes_max, Edit edit);

  // For Merge::kByKey: where the elements of a part's reply go, in order. A part whose reply is one value has one place.
  void set_places(std::size_t part, std::vector<std::uint32_t> places);
  void set_elements(std::size_t elements) { elements_.resize(elements); }

  // Bytes of a part's reply. True once the last part is complete.
  [[nodiscard]] bool add(std::size_t part, std::string_view bytes, bool last);
  [[nodiscard]] bool fail(std::size_t part, std::string_view error);
  // A part that was answered here.
  [[nodiscard]] bool put(std::size_t place, std::string_view element);

  [[nodiscard]] std::string reply();
  // Held.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] bool complete(std::size_t part);
  void merge_array(std::string_view frame);
  void merge_pairs(std::string_view frame);
  void merge_by_key(std::size_t part);
  [[nodiscard]] const protocol::ReplyNode& text_node() const;
  [[nodiscard]] std::string edited();
  void hold(std::size_t bytes);

  const protocol::Merge merge_;
  const protocol::RespVersion version_;
  const Edit edit_;
  const std::size_t bytes_max_;
  std::vector<std::string> replies_;                // by part
  std::vector<std::vector<std::uint32_t>> places_;  // by part
  std::vector<std::string> elements_;
  std::vector<std::string> others_;    // kNone: texts of the parts behind the first
  std::vector<std::int64_t> numbers_;  // kLogicalAnd, kSumPairs
  std::string joined_;                 // kConcatenate, kUnion
  std::size_t joined_elements_ = 0;
  std::unordered_set<std::string> seen_;  // kUnion
  char aggregate_ = '*';                  // of joined_: array or set
  std::size_t candidates_ = 0;            // kRandom: those among which first_ was chosen
  std::int64_t sum_ = 0;
  std::string first_;
  std::string error_;  // with '-' and CR LF
  std::size_t left_;
  std::size_t bytes_ = 0;
  bool too_large_ = false;
  protocol::ReplyTree tree_;
};

}  // namespace nearcached::daemon
