// A session's reads that L1 may answer: hits, and the fills of what is missing.
#include <algorithm>
#include <utility>

#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/reply_form.hpp"
#include "tiers/coherence/rules.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using protocol::Merge;
using protocol::RespVersion;
using tiers::Consistency;
using tiers::Policy;
using tiers::coherence::enforced;
using tiers::coherence::FillRead;
using tiers::coherence::Rule;
using tiers::insight::MissReason;
using tiers::upstream::kNoSlot;
using tiers::upstream::RequestMeta;

namespace {

// Missing keys of one MGET that are read for L1.
constexpr std::size_t kFillsPerCommandMax = 256;
// A larger request is not held for a fill: it would lie there twice.
constexpr std::size_t kRequestBytesMax = 4096;
// A longer variant costs more to compare than it saves.
constexpr std::size_t kVariantBytesMax = 1024;
// A link that did not take a read within this time may take it yet; one that gave it back sooner has its reasons.
constexpr std::int64_t kHeldUs = 100'000;
// Of one MGET's replies; what is beyond is a miss. And what is kept of that memory for the next.
constexpr std::size_t kUnpackedBytesMax = 16u << 20;
constexpr std::size_t kUnpackedBytesKept = 1u << 20;

bool never_from_l1(const Policy& policy) {
  return policy.consistency == Consistency::kStrict && enforced(Rule::kStrictNeverFromL1);
}

}  // namespace

bool Session::read_cached(const Command& command, const Args& args, std::string_view raw) {
  tiers::NearCache& cache = shared_.cache;
  const bool large = raw.size() > kRequestBytesMax;
  if (!cache.enabled() || large || !protocol::cacheable(command, args)) return forward(command, args, raw);
  const std::string_view key = args[1];
  const Policy& policy = cache.policies().of(key);
  if (never_from_l1(policy)) return read_past(command, args, raw, MissReason::kStrict);
  const std::uint64_t hash = tiers::l1::hash_key(key);
  if (!forwarded_.empty() && forwarded_.contains(hash) && enforced(Rule::kUnacknowledgedBypass)) {
    return read_past(command, args, raw, MissReason::kUnacknowledged);
  }
  // An earlier read of the key is under way: a hit could be older than its answer.
  if (!filling_.empty() && filling_.contains(hash)) {
    stall_ = Stall::kUntilEmpty;
    return false;
  }
  std::string& variant = worker_.variant();
  variant.clear();
  protocol::append_variant(variant, command, args);
  if (variant.size() > kVariantBytesMax) return forward(command, args, raw);
  const FillRead read{key, hash, slot_of(key), raw, variant, command.caching};
  const auto found = look_up(read, policy);
  if (!found) return false;
  const protocol::Resp2Form form = protocol::resp2_form(command, args);
  if (found->reply && answer_cached(form, *found->reply)) {
    worker_.counters().l1_hits.add();
    if (found->stale) worker_.counters().l1_stale_hits.add();
    if (worker_.audit_due() && !found->stale) sample(read, policy);
    return true;
  }
  if (congested(read.slot)) return false;
  worker_.counters().l1_misses[static_cast<std::size_t>(found->reason)].add();
  const std::uint64_t number = open_place();
  replies_.at(number).form = form;
  fill_or_forward(number, 0, read);
  return true;
}

bool Session::read_past(const Command& command, const Args& args, std::string_view raw, MissReason reason) {
  if (!forward(command, args, raw)) return false;
  worker_.counters().l1_misses[static_cast<std::size_t>(reason)].add();
  return true;
}

std::optional<tiers::NearCache::Lookup> Session::look_up(const FillRead& read, const Policy& policy) {
  const tiers::NearCache::Lookup found =
      shared_.cache.find({read.hash, identity_->id, read.key}, read.variant, policy, heard_us_, now_us_);
  if (found.reason != MissReason::kUnproven) return found;
  if (asked_us_ == 0) asked_us_ = now_us_;
  // The time that a command may take is over: whoever asks the node says why.
  if (now_us_ - asked_us_ >= command_timeout_us()) return found;
  stall_ = Stall::kAsked;
  ++outside_;
  worker_.fills().prove(identity_, read.slot, heard_us_, *this);
  return std::nullopt;
}

void Session::on_proven() {
  --outside_;
  if (stall_ == Stall::kAsked) stall_ = Stall::kNone;
  touched();
}

std::int64_t Session::command_timeout_us() const { return shared_.settings.upstream.command_timeout.count() * 1000; }

// The causal level: what this client is told next may have been written after something that it is about to hit.
void Session::heard() {
  if (shared_.cache.policies().any_causal()) heard_us_ = tiers::io::boot_us();
}

// What another reader asked for before this is not for this one.
std::int64_t Session::earliest_answer_us(std::string_view key, std::int64_t asked_us) const {
  const Policy& policy = shared_.cache.policies().of(key);
  const std::int64_t bound_us = asked_us - policy.max_staleness_us;
  const bool causal = policy.consistency == Consistency::kCausal && enforced(Rule::kCausalWaits);
  return causal ? std::max(bound_us, heard_us_ + 1) : bound_us;
}

bool Session::answer_cached(protocol::Resp2Form form, const tiers::l1::StoredReply& stored) {
  return stored.packed ? answer_packed(form, stored) : answer_plain(form, stored.bytes);
}

// Unpacked where it is to be sent from, if nothing is in between.
bool Session::answer_packed(protocol::Resp2Form form, const tiers::l1::StoredReply& stored) {
  worker_.counters().l1_unpacked.add();
  const bool as_it_is = version_ != RespVersion::kResp2 || stored.header().bulk;
  if (as_it_is && replies_.empty() && replies_wanted_ == Replies::kOn) {
    const std::size_t bytes = stored.plain_size();
    char* const to = stream_.out().prepare(bytes);
    if (shared_.cache.unpack(stored, to)) {
      stream_.out().commit(bytes);
      return true;
    }
  } else {
    std::string& unpacked = worker_.unpacked();
    unpacked.clear();
    if (shared_.cache.unpack(stored, unpacked)) return answer_plain(form, unpacked);
  }
  worker_.counters().l1_unreadable.add();
  return false;
}

bool Session::answer_plain(protocol::Resp2Form form, std::string_view reply) {
  if (version_ == RespVersion::kResp2 && !protocol::same_in_resp2(reply)) {
    std::string& converted = worker_.converted();
    converted.clear();
    if (!protocol::append_as_resp2(converted, form, reply)) return false;
    reply = converted;
  }
  answer([&](auto& out) { out.append(reply.data(), reply.size()); });
  return true;
}

// The fence first, then the value again: what happens to the key in between shows.
void Session::sample(const FillRead& read, const Policy& policy) {
  tiers::AuditSample sample;
  sample.fence = shared_.cache.fences().capture(read.hash);
  const auto found = shared_.cache.find({read.hash, identity_->id, read.key}, read.variant, policy, heard_us_, now_us_);
  if (!found.reply || found.stale || !shared_.cache.unpack(*found.reply, sample.reply)) return;
  sample.hit_us = now_us_;
  sample.expires_at_ms = found.expires_at_ms;
  worker_.fills().audit(identity_, read, std::move(sample));
}

void Session::fill_or_forward(std::uint64_t number, std::uint64_t part, const FillRead& read) {
  Place& place = replies_.at(number);
  const std::int64_t now_us = place.asked_us == 0 ? now_us_ : tiers::io::boot_us();
  if (place.asked_us == 0) place.asked_us = asked_us_ == 0 ? now_us : asked_us_;
  place.held_us = now_us;
  FillRead asked = read;
  asked.not_before_us = earliest_answer_us(read.key, place.asked_us);
  if (!worker_.fills().read(identity_, asked, *this, make_token(number, part), now_us)) {
    forward_read(number, part, read);
    return;
  }
  const bool noted = filling_.add(read.hash);
  if (place.gather) {
    place.filled[part] = noted ? read.hash : 0;
  } else {
    place.hash = read.hash;
    place.filled_against_all = !noted;
  }
}

void Session::forward_read(std::uint64_t number, std::uint64_t part, const FillRead& read) {
  worker_.counters().fills_forwarded.add();
  Place& place = replies_.at(number);
  if (!place.gather) {
    if (forwarded_.empty()) forward_topology_ = worker_.router().topology()->version;
    place.hash = read.hash;
    place.against_all = !forwarded_.add(read.hash);
    place.touch = Touch::kRead;
  } else {
    note_forwarded(place, read.hash);
  }
  RequestMeta meta;
  meta.sink = this;
  meta.token = make_token(number, part);
  meta.slot = read.slot;
  // The time it has waited for a fill counts.
  const std::int64_t now_us = tiers::io::boot_us();
  const std::int64_t timeout_us = command_timeout_us();
  meta.deadline_us = std::max(place.asked_us + timeout_us, now_us + timeout_us / 10);
  worker_.router().send(*lane_, meta, read.command, now_us);
}

bool Session::reads_by_key(const Command& command, const Args& args) const {
  return command.merge == Merge::kByKey && shared_.cache.enabled() && args.size() <= kPartsMax;
}

bool Session::read_many(const Command& command, const Args& args, std::string_view raw) {
  const std::size_t keys = args.size() - 1;
  std::vector<KeyRead> reads(keys);
  std::size_t hits = 0;
  std::size_t pending = 0;
  std::size_t fills = 0;
  std::string& unpacked = worker_.unpacked();
  unpacked.clear();
  if (unpacked.capacity() > kUnpackedBytesKept) unpacked.shrink_to_fit();
  for (std::size_t i = 0; i < keys; ++i) {
    KeyRead& read = reads[i];
    if (!look_up_one(args[i + 1], read)) return false;
    if (read.way == KeyRead::Way::kFilled && fills == kFillsPerCommandMax) read.way = KeyRead::Way::kForwarded;
    hits += read.way == KeyRead::Way::kHit ? 1 : 0;
    pending += read.pending ? 1 : 0;
    fills += read.way == KeyRead::Way::kFilled ? 1 : 0;
  }
  // Now that they stay where they are.
  for (KeyRead& read : reads) {
    if (read.unpacked != 0) read.reply = std::string_view(unpacked).substr(read.unpacked_at, read.unpacked);
  }
  const bool forwards = hits + fills != keys;
  if (forwards) {
    static_cast<void>(protocol::extract_keys(command, args, worker_.positions()));
    if (must_wait(args, kNoSlot)) return false;
  } else if (hits != keys && congested(kNoSlot)) {
    return false;
  }
  tiers::insight::Counters& counters = worker_.counters();
  counters.l1_hits.add(hits - pending);
  counters.pending_reads.add(pending);
  for (const KeyRead& read : reads) {
    if (read.way != KeyRead::Way::kHit) counters.l1_misses[static_cast<std::size_t>(read.reason)].add();
    if (read.stale) counters.l1_stale_hits.add();
  }
  if (hits == keys) {
    answer([&](auto& out) {
      protocol::append_header(out, '*', static_cast<std::int64_t>(keys));
      for (const KeyRead& read : reads) out.append(read.reply.data(), read.reply.size());
    });
    return true;
  }
  if (hits + fills == 0) return forward_parts(command, args, raw);
  read_missing(command, args, reads, hits, fills);
  return true;
}

bool Session::look_up_one(std::string_view key, KeyRead& read) {
  if (const Behind done = take_pending(key, read); done != Behind::kNotMine) return done == Behind::kTaken;
  const Policy& policy = shared_.cache.policies().of(key);
  read.hash = tiers::l1::hash_key(key);
  if (never_from_l1(policy)) {
    read.reason = MissReason::kStrict;
    return true;
  }
  if (!forwarded_.empty() && forwarded_.contains(read.hash) && enforced(Rule::kUnacknowledgedBypass)) {
    read.reason = MissReason::kUnacknowledged;
    return true;
  }
  if (!filling_.empty() && filling_.contains(read.hash)) {
    stall_ = Stall::kUntilEmpty;
    return false;
  }
  const auto found = look_up({key, read.hash, slot_of(key), {}, {}}, policy);
  if (!found) return false;
  read.reason = found->reason;
  if (!found->reply || !take_hit(*found->reply, read)) {
    if (key.size() <= kRequestBytesMax) read.way = KeyRead::Way::kFilled;
    return true;
  }
  read.way = KeyRead::Way::kHit;
  read.stale = found->stale;
  if (read.reply == "_\r\n" && version_ == RespVersion::kResp2) read.reply = "$-1\r\n";
  return true;
}

bool Session::take_hit(const tiers::l1::StoredReply& stored, KeyRead& read) {
  if (!stored.packed) {
    read.reply = stored.bytes;
    return true;
  }
  std::string& unpacked = worker_.unpacked();
  if (unpacked.size() + stored.plain_size() > kUnpackedBytesMax) return false;
  read.unpacked_at = unpacked.size();
  worker_.counters().l1_unpacked.add();
  if (!shared_.cache.unpack(stored, unpacked)) {
    worker_.counters().l1_unreadable.add();
    return false;
  }
  read.unpacked = stored.plain_size();
  return true;
}

// One part for each key that is filled, and one for each slot of those that are read the ordinary way.
void Session::read_missing(const Command& command, const Args& args, const std::vector<KeyRead>& reads, std::size_t hits,
                           std::size_t fills) {
  std::vector<std::uint32_t> forwarded;
  for (std::uint32_t i = 0; i < reads.size(); ++i) {
    if (reads[i].way == KeyRead::Way::kForwarded) forwarded.push_back(i);
  }
  const auto slot_at = [&](std::uint32_t i) { return slot_of(args[i + 1]); };
  std::stable_sort(forwarded.begin(), forwarded.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return slot_at(a) < slot_at(b); });
  std::size_t groups = 0;
  for (std::size_t n = 0; n < forwarded.size(); ++n) {
    groups += n == 0 || slot_at(forwarded[n]) != slot_at(forwarded[n - 1]) ? 1 : 0;
  }
  const std::uint64_t number = open_place();
  auto gather =
      std::make_unique<Gather>(Merge::kByKey, version_, hits + fills + groups, shared_.settings.limits.output_bytes);
  gather->set_elements(reads.size());
  std::uint64_t part = 0;
  for (std::uint32_t i = 0; i < reads.size(); ++i) {
    if (reads[i].way == KeyRead::Way::kHit) static_cast<void>(gather->put(i, reads[i].reply));
    if (reads[i].way == KeyRead::Way::kFilled) gather->set_places(part++, {i});
  }
  queued_bytes_ += gather->bytes();
  replies_.at(number).gather = std::move(gather);
  replies_.at(number).filled.resize(fills);
  part = 0;
  std::string get;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (reads[i].way != KeyRead::Way::kFilled) continue;
    get.clear();
    protocol::append_command(get, {"GET", args[i + 1]});
    fill_or_forward(number, part++, {args[i + 1], reads[i].hash, slot_of(args[i + 1]), get, {}});
  }
  for (std::size_t from = 0; from < forwarded.size(); ++part) {
    std::vector<std::uint32_t> places;
    std::vector<std::string_view> parts{args[0]};
    const std::uint16_t slot = slot_at(forwarded[from]);
    for (; from < forwarded.size() && slot_at(forwarded[from]) == slot; ++from) {
      places.push_back(forwarded[from]);
      parts.push_back(args[forwarded[from] + 1]);
      note_forwarded(replies_.at(number), reads[forwarded[from]].hash);
    }
    replies_.at(number).gather->set_places(part, std::move(places));
    std::string bytes;
    protocol::append_command(bytes, parts);
    worker_.router().send(*lane_, request(command, make_token(number, part), slot), bytes, now_us_);
  }
}

// The key of a part that is read past L1.
void Session::note_forwarded(Place& place, std::uint64_t hash) {
  if (!place.hashes) {
    if (forwarded_.empty()) forward_topology_ = worker_.router().topology()->version;
    place.hashes = std::make_unique<std::vector<std::uint64_t>>();
    place.against_all = true;
    forwarded_.add_all();
  }
  place.hashes->push_back(hash);
  place.touch = Touch::kRead;
}

FillRead Session::parse_read(std::string_view command) {
  protocol::RequestParser& parser = worker_.read_parser();
  static_cast<void>(parser.parse(command, shared_.request_limits));
  const Args& args = parser.args();
  std::string& variant = worker_.variant();
  variant.clear();
  const Command* known = protocol::find_command(args[0]);
  protocol::append_variant(variant, *known, args);
  return {args[1], tiers::l1::hash_key(args[1]), slot_of(args[1]), command, variant, known->caching};
}

void Session::end_fill(Place& place, std::uint64_t part) {
  const std::uint64_t filled = !place.filled.empty() ? place.filled[part] : place.filled_against_all ? 0 : place.hash;
  if (filled == 0) {
    filling_.remove_all();
  } else {
    filling_.remove(filled);
  }
}

// While the node can't be reached there is no use in asking it another way, and when it is back, all who ask past L1 are a
// herd: the read waits on, as long as a command may.
void Session::go_on_without_fill(std::uint64_t number, std::uint64_t part, std::string_view command) {
  Place& place = replies_.at(number);
  const FillRead read = parse_read(command);
  const std::int64_t now_us = tiers::io::boot_us();
  const bool held = now_us - place.held_us >= kHeldUs;
  const bool in_time = now_us - place.asked_us < command_timeout_us();
  const tiers::upstream::DataConnection* way = worker_.router().connection_for(*lane_, read.slot);
  const bool reachable = way != nullptr && way->responsive(now_us);
  if (held && in_time && !reachable) {
    fill_or_forward(number, part, read);
  } else if (held && way != nullptr && (!in_time || way->silent(now_us))) {
    // Not written to a node that does not answer: it would read all of it when it is back.
    worker_.counters().timeouts.add();
    on_failure(make_token(number, part), way->no_answer(), false);
  } else {
    if (held && reachable) worker_.fills().pass_by(identity_, read.slot, now_us);
    forward_read(number, part, read);
  }
}

void Session::on_fill(std::uint64_t token, bool answered, std::string_view bytes) {
  const std::uint64_t number = token_number(token);
  Place& place = replies_.at(number);
  end_fill(place, token_part(token));
  if (!answered && stream_.is_open()) {
    go_on_without_fill(number, token_part(token), bytes);
    return;
  }
  if (!answered) bytes = "_\r\n";
  heard();
  if (place.gather) {
    if (gather_more(*place.gather, token_part(token), bytes, true)) finish_gather(number);
    return;
  }
  const bool error = bytes.front() == '-';
  if (version_ == RespVersion::kResp2 && !error && !protocol::same_in_resp2(bytes)) {
    std::string& converted = worker_.converted();
    converted.clear();
    if (!protocol::append_as_resp2(converted, place.form, bytes)) {
      protocol::append_error(converted, "ERR nearcached: the upstream's reply has no form in RESP2");
    }
    bytes = converted;
  }
  emit(number, bytes);
  finish(number);
}

}  // namespace nearcached::daemon
