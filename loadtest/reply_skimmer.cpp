#include "loadtest/reply_skimmer.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace nearcached::loadtest {

ReplySkimmer::Counts ReplySkimmer::feed(std::string_view bytes) {
  Counts counts;
  while (!bytes.empty() && !malformed_) {
    if (bulk_left_ > 0) {
      const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(bulk_left_, bytes.size()));
      bulk_left_ -= taken;
      bytes.remove_prefix(taken);
      if (bulk_left_ == 0) {
        end_value(counts);
      }
      continue;
    }
    const std::size_t newline = bytes.find('\n');
    const std::size_t taken = newline == std::string_view::npos ? bytes.size() : newline;
    const std::size_t kept = std::min(taken, kLineMax - line_size_);
    std::memcpy(line_.data() + line_size_, bytes.data(), kept);
    line_size_ += kept;
    bytes.remove_prefix(newline == std::string_view::npos ? taken : taken + 1);
    if (newline != std::string_view::npos) {
      end_line(counts);
      line_size_ = 0;
    }
  }
  return counts;
}

void ReplySkimmer::end_line(Counts& counts) {
  std::string_view line(line_.data(), line_size_);
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  if (line.empty()) {
    malformed_ = true;
    return;
  }
  const char type = line.front();
  std::int64_t length = 0;
  if (std::string_view("$!=*~%>").find(type) != std::string_view::npos) {
    const auto parsed = std::from_chars(line.data() + 1, line.data() + line.size(), length);
    malformed_ = parsed.ec != std::errc{} || length < -1;
  }
  const bool top_level = depth_ == 0;
  switch (type) {
    case '-':
      counts.errors += top_level;
      if (first_error_.empty()) {
        first_error_ = line.substr(1);
      }
      return end_value(counts);
    case '_': counts.nulls += top_level; return end_value(counts);
    case '$':
    case '!':
    case '=':
      if (length < 0) {
        counts.nulls += top_level;
        return end_value(counts);
      }
      counts.errors += top_level && type == '!';
      bulk_left_ = static_cast<std::uint64_t>(length) + 2;
      return;
    case '>': in_push_ = in_push_ || top_level; [[fallthrough]];
    case '*':
    case '~':
      if (length < 0) {
        counts.nulls += top_level;
        return end_value(counts);
      }
      return open_aggregate(static_cast<std::uint64_t>(length), counts);
    case '%': return open_aggregate(static_cast<std::uint64_t>(std::max<std::int64_t>(length, 0)) * 2, counts);
    case '+':
    case ':':
    case ',':
    case '#':
    case '(': return end_value(counts);
    default: malformed_ = true;
  }
}

void ReplySkimmer::open_aggregate(std::uint64_t elements, Counts& counts) {
  if (elements == 0) {
    return end_value(counts);
  }
  if (depth_ == kDepthMax) {
    malformed_ = true;
    return;
  }
  elements_left_[depth_++] = elements;
}

void ReplySkimmer::end_value(Counts& counts) {
  while (depth_ > 0) {
    if (--elements_left_[depth_ - 1] > 0) {
      return;
    }
    --depth_;
  }
  counts.replies += !in_push_;
  in_push_ = false;
}

}  // namespace nearcached::loadtest
