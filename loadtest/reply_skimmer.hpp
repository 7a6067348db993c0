// Counts the replies in a RESP stream without keeping them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nearcached::loadtest {

// Counts complete RESP2 and RESP3 replies (attributes excepted) in a byte stream without keeping them.
//
// Written apart from protocol/ on purpose: a generator that shared the codec under test would share its mistakes. It keeps
// only the head of the current line and how much of the current bulk is still to come, so a reply may be cut anywhere and
// a bulk of any size costs no memory. Pushes are skipped. Bad at: everything else; it does not check that a bulk ends with
// CRLF. One thread.
class ReplySkimmer {
 public:
  struct Counts {
    std::uint64_t replies = 0;
    std::uint64_t nulls = 0;   // top-level nulls
    std::uint64_t errors = 0;  // top-level errors
  };

  // Takes the next bytes of the stream; returns what they completed. After malformed() the stream's place is lost.
  Counts feed(std::string_view bytes);
  [[nodiscard]] bool malformed() const { return malformed_; }
  // The first error reply seen, cut to what the line buffer holds.
  [[nodiscard]] const std::string& first_error() const { return first_error_; }

 private:
  static constexpr std::size_t kLineMax = 96;  // a length, or as much of an error as is worth showing
  static constexpr std::size_t kDepthMax = 8;  // nesting of aggregates

  void end_line(Counts& counts);
  void open_aggregate(std::uint64_t elements, Counts& counts);
  void end_value(Counts& counts);

  std::array<char, kLineMax> line_{};
  std::size_t line_size_ = 0;
  std::uint64_t bulk_left_ = 0;  // bytes of the current bulk still to come, its CRLF included
  std::array<std::uint64_t, kDepthMax> elements_left_{};
  std::size_t depth_ = 0;
  bool in_push_ = false;
  bool malformed_ = false;
  std::string first_error_;
};

}  // namespace nearcached::loadtest
