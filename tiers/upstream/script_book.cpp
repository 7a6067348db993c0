#include "tiers/upstream/script_book.hpp"

#include <algorithm>
#include <utility>

#include "protocol/writer.hpp"

namespace nearcached::tiers::upstream {

void ScriptBook::remember(std::string_view script) {
  if (script.size() > kBytesMax) return;
  const std::lock_guard lock(mutex_);
  const auto same = std::find_if(pages_.begin(), pages_.end(), [&](const Page& page) { return page.script == script; });
  if (same != pages_.end()) {
    std::rotate(same, same + 1, pages_.end());
    return;
  }
  std::string command;
  protocol::append_command(command, {"SCRIPT", "LOAD", script});
  pages_.push_back({std::string(script), std::make_shared<const std::string>(std::move(command))});
  bytes_ += script.size();
  while (pages_.size() > kScriptsMax || bytes_ > kBytesMax) {
    bytes_ -= pages_.front().script.size();
    pages_.pop_front();
  }
}

void ScriptBook::clear() {
  const std::lock_guard lock(mutex_);
  pages_.clear();
  bytes_ = 0;
}

std::vector<std::shared_ptr<const std::string>> ScriptBook::commands() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const std::string>> all;
  all.reserve(pages_.size());
  for (const Page& page : pages_) all.push_back(page.command);
  return all;
}

}  // namespace nearcached::tiers::upstream
