#include "tiers/upstream/credential_list.hpp"

#include <algorithm>
#include <utility>

namespace nearcached::tiers::upstream {

CredentialList::CredentialList(Credentials configured) : entries_{{std::move(configured), {}}} {}

std::vector<CredentialList::Entry>::iterator CredentialList::find(const Credentials& credentials) {
  return std::ranges::find(entries_, credentials, &Entry::credentials);
}

bool CredentialList::learn(const Credentials& credentials) {
  if (credentials.empty() || find(credentials) != entries_.end()) return false;
  entries_.insert(entries_.begin() + 1, {credentials, {}});
  if (preferred_ > 0) ++preferred_;
  if (entries_.size() > kLearnedMax + 1) {
    // The oldest goes, unless it is the one in use.
    const std::size_t oldest = entries_.size() - 1;
    const std::size_t victim = preferred_ == oldest ? oldest - 1 : oldest;
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(victim));
    if (preferred_ > victim) --preferred_;
  }
  return true;
}

std::vector<Credentials> CredentialList::attempts() const {
  std::vector<Credentials> result{entries_[preferred_].credentials};
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (i != preferred_) result.push_back(entries_[i].credentials);
  }
  return result;
}

void CredentialList::worked(const Credentials& credentials) {
  const auto entry = find(credentials);
  if (entry == entries_.end()) return;
  entry->refusal.clear();
  preferred_ = static_cast<std::size_t>(entry - entries_.begin());
}

bool CredentialList::refused(const Credentials& credentials, std::string_view why) {
  const auto entry = find(credentials);
  if (entry == entries_.end() || entry->refusal == why) return false;
  entry->refusal = why;
  return true;
}

std::vector<std::string> auth_command(const Credentials& credentials) {
  if (credentials.user.empty()) return {"AUTH", credentials.password};
  return {"AUTH", credentials.user, credentials.password};
}

bool is_auth_error(std::string_view error_code) {
  return error_code == "NOAUTH" || error_code == "WRONGPASS" || error_code == "NOPERM";
}

}  // namespace nearcached::tiers::upstream
