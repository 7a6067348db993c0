#include "protocol/reply_form.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <vector>

#include "protocol/decimal.hpp"
#include "protocol/reply_tree.hpp"
#include "protocol/writer.hpp"

namespace nearcached::protocol {
namespace {

constexpr std::uint64_t kElementBytesMin = 3;  // "_\r\n"
constexpr std::size_t kRankArgs = 3;           // ZRANK key member; whatever follows is WITHSCORE, or the upstream refuses it
constexpr std::string_view kPairHead = "*2\r\n";

// One reply on its way into `out`. Elements are taken in the order of the bytes. Which aggregate an element belongs to does
// not matter to RESP2, so a count of the elements still to come stands for the whole stack of open aggregates.
//
//   begin ....... copied_ ....... at_ ....... end_
//         in out          same in        not yet
//                         both, not      looked at
//                         yet in out
//
// Invariant: copied_ <= at_ <= end_. A function that returns false leaves both anywhere in there: the reply is refused.
class Conversion {
 public:
  Conversion(std::string& out, Resp2Form form, std::string_view reply)
      : out_(out), form_(form), copied_(reply.data()), at_(reply.data()), end_(reply.data() + reply.size()) {}

  bool run() {
    const bool pairs = form_ == Resp2Form::kPairsFlat && starts_with("*");
    if (!(pairs ? flat_array() : elements(1)) || at_ != end_) return false;
    copy_until(at_);
    return true;
  }

 private:
  [[nodiscard]] std::uint64_t left() const { return static_cast<std::uint64_t>(end_ - at_); }
  [[nodiscard]] bool starts_with(std::string_view text) const { return std::string_view(at_, end_).starts_with(text); }

  void copy_until(const char* to) {
    out_.append(copied_, static_cast<std::size_t>(to - copied_));
    copied_ = to;
  }
  // What follows takes the place of the bytes from `from` to at_.
  void leave_out(const char* from) {
    copy_until(from);
    copied_ = at_;
  }

  bool elements(std::uint64_t awaited) {
    while (awaited > 0) {
      --awaited;
      if (starts_with("*") || starts_with("~") || starts_with("%")) {
        std::uint64_t children = 0;
        if (!aggregate_head(children)) return false;
        awaited += children;
      } else if (!scalar()) {
        return false;
      }
    }
    return true;
  }

  // A flat array, or one of pairs, that becomes flat.
  bool flat_array() {
    const char* const head = at_;
    std::uint64_t count = 0;
    if (!take_elements(count)) return false;
    const bool pairs = starts_with("*");
    if (pairs) {
      leave_out(head);
      append_header(out_, '*', static_cast<std::int64_t>(2 * count));
    }
    for (; count > 0; --count) {
      if (pairs && !pair_head()) return false;
      if (!scalar() || (pairs && !scalar())) return false;
    }
    return true;
  }

  bool pair_head() {
    if (!starts_with(kPairHead)) return false;
    const char* const head = at_;
    at_ += kPairHead.size();
    leave_out(head);
    return true;
  }

  bool aggregate_head(std::uint64_t& children) {
    const char* const head = at_;
    const char type = *head;
    if (!take_elements(children)) return false;
    if (type == '%') children *= 2;
    if (type != '*') {
      leave_out(head);
      append_header(out_, '*', static_cast<std::int64_t>(children));
    }
    return true;
  }

  bool scalar() {
    if (at_ == end_) return false;
    switch (*at_) {
      case '$': return bulk();
      case '+': return !line().empty();
      case ':': return parse_decimal(line()).has_value();
      case ',': return number_with_fraction();
      case '_': return null();
      case '#': return boolean();
      default: return false;
    }
  }

  bool bulk() {
    std::uint64_t bytes = 0;
    if (!take_count(bytes) || left() < 2 || bytes > left() - 2) return false;
    at_ += bytes;
    if (!starts_with("\r\n")) return false;
    at_ += 2;
    return true;
  }

  bool number_with_fraction() {
    const char* const head = at_;
    const std::string_view text = line();
    if (text.empty()) return false;
    leave_out(head);
    append_bulk(out_, text);
    return true;
  }

  bool null() {
    if (!starts_with("_\r\n")) return false;
    const char* const head = at_;
    at_ += 3;
    leave_out(head);
    append_text(out_, form_ == Resp2Form::kNullArray ? std::string_view("*-1\r\n") : std::string_view("$-1\r\n"));
    return true;
  }

  bool boolean() {
    const bool yes = starts_with("#t\r\n");
    if (!yes && !starts_with("#f\r\n")) return false;
    const char* const head = at_;
    at_ += 4;
    leave_out(head);
    append_integer(out_, yes ? 1 : 0);
    return true;
  }

  // The text between the type and CR LF; empty also where there is no such end. A lone CR is refused: no number has one.
  std::string_view line() {
    const char* const text = at_ + 1;
    const auto* const cr = static_cast<const char*>(std::memchr(text, '\r', static_cast<std::size_t>(end_ - text)));
    if (cr == nullptr || end_ - cr < 2 || cr[1] != '\n') return {};
    at_ = cr + 2;
    return {text, cr};
  }

  // A count of elements that the bytes behind it can hold: no sum or double of such counts overflows.
  bool take_elements(std::uint64_t& count) { return take_count(count) && count <= left() / kElementBytesMin; }

  // The canonical decimal behind a type byte, and its CR LF.
  bool take_count(std::uint64_t& count) {
    const char* const digits = at_ + 1;
    const auto [after, error] = std::from_chars(digits, end_, count);
    if (error != std::errc{} || (*digits == '0' && after - digits > 1)) return false;
    at_ = after;
    if (!starts_with("\r\n")) return false;
    at_ += 2;
    return true;
  }

  std::string& out_;
  const Resp2Form form_;
  const char* copied_;
  const char* at_;
  const char* const end_;
};

}  // namespace

Resp2Form resp2_form(const Command& command, std::span<const std::string_view> args) {
  if (command.resp2_form != Resp2Form::kRank) return command.resp2_form;
  return args.size() > kRankArgs ? Resp2Form::kNullArray : Resp2Form::kPlain;
}

bool append_as_resp2(std::string& out, Resp2Form form, std::string_view resp3_reply) {
  const std::size_t before = out.size();
  if (Conversion(out, form, resp3_reply).run()) return true;
  out.resize(before);
  return false;
}

bool same_elements(std::string_view variant, std::string_view one_reply, std::string_view other_reply) {
  constexpr std::string_view kUnordered[] = {"smembers", "hgetall", "hkeys", "hvals"};
  if (std::find(std::begin(kUnordered), std::end(kUnordered), variant) == std::end(kUnordered)) return false;
  ReplyTree one;
  ReplyTree other;
  if (!one.parse(one_reply) || !other.parse(other_reply) || one.root().type != other.root().type) return false;
  const auto sorted = [](const ReplyTree& tree) {
    std::vector<std::string> elements;
    const bool pairs = tree.root().type == ReplyType::kMap;
    for (std::size_t at = 1, n = 0; at < tree.nodes().size(); at += tree.nodes()[at].subtree, ++n) {
      if (pairs && n % 2 == 1) {
        elements.back() += tree.nodes()[at].raw;
      } else {
        elements.emplace_back(tree.nodes()[at].raw);
      }
    }
    std::sort(elements.begin(), elements.end());
    return elements;
  };
  return sorted(one) == sorted(other);
}

}  // namespace nearcached::protocol
