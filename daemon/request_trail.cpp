#include "daemon/request_trail.hpp"

#include <algorithm>
#include <cstring>

#include "daemon/secret_args.hpp"

namespace nearcached::daemon {
namespace {

constexpr std::size_t kMemoryKept = 1024;  // of a client that waits for nothing

}  // namespace

void RequestTrail::append_number(std::uint32_t number) {
  char raw[sizeof number];
  std::memcpy(raw, &number, sizeof number);
  bytes_.append(raw, sizeof raw);
}

std::uint64_t RequestTrail::note(std::string_view command, std::int64_t taken_us, std::span<const std::string_view> args) {
  const std::size_t start = bytes_.size();
  Header header{command.data(), static_cast<std::uint32_t>(command.size()), 0,
                taken_us,       static_cast<std::uint32_t>(args.size()),    0};
  bytes_.resize(start + sizeof header);
  if (start - head_ < kBytesMax) {
    // As Redis: when there are more, the last place says how many.
    header.kept = static_cast<std::uint32_t>(args.size() > kShownArgs ? kShownArgs - 1 : args.size());
    const bool secrets = may_have_secrets(command);
    for (std::size_t i = 0; i < header.kept; ++i) {
      const std::string_view arg = secrets && is_secret(command, args, i) ? kSecretShown : args[i];
      append_number(static_cast<std::uint32_t>(arg.size()));
      bytes_.append(arg.substr(0, kShownBytes));
    }
  }
  header.entry_bytes = static_cast<std::uint32_t>(bytes_.size() - start);
  std::memcpy(bytes_.data() + start, &header, sizeof header);
  return base_ + start;
}

RequestTrail::Header RequestTrail::header(std::uint64_t ticket) const {
  Header header;
  std::memcpy(&header, bytes_.data() + (ticket - base_), sizeof header);
  return header;
}

RequestTrail::Entry RequestTrail::at(std::uint64_t ticket) const {
  const Header found = header(ticket);
  return {{found.name, found.name_bytes}, found.taken_us};
}

std::vector<std::string> RequestTrail::args(std::uint64_t ticket) const {
  const Header found = header(ticket);
  std::vector<std::string> shown;
  const char* at = bytes_.data() + (ticket - base_) + sizeof found;
  for (std::uint32_t i = 0; i < found.kept; ++i) {
    std::uint32_t size = 0;
    std::memcpy(&size, at, sizeof size);
    at += sizeof size;
    const std::size_t kept = std::min<std::size_t>(size, kShownBytes);
    shown.emplace_back(at, kept);
    at += kept;
    if (kept != size) shown.back() += "... (" + std::to_string(size - kept) + " more bytes)";
  }
  if (found.kept == 0) shown.emplace_back(found.name, found.name_bytes);
  const std::size_t more = found.args - std::min<std::size_t>(found.args, std::max<std::uint32_t>(found.kept, 1));
  if (more != 0) shown.push_back("... (" + std::to_string(more) + " more arguments)");
  return shown;
}

void RequestTrail::drop(std::uint64_t ticket) {
  head_ = static_cast<std::size_t>(ticket - base_) + header(ticket).entry_bytes;
  if (head_ == bytes_.size()) {
    base_ += bytes_.size();
    head_ = 0;
    bytes_.clear();
    if (bytes_.capacity() > kMemoryKept) bytes_.shrink_to_fit();
  } else if (head_ > kBytesMax && head_ * 2 > bytes_.size()) {
    bytes_.erase(0, head_);
    base_ += head_;
    head_ = 0;
  }
}

}  // namespace nearcached::daemon
