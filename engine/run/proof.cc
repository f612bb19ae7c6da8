#include "engine/run/proof.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "engine/run/drill_ways.h"
#include "rules/json.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/text.h"

namespace logbell::engine {

using rules::Duration;
using rules::Fingerprint;
using rules::Json;
using rules::Timestamp;
using sinks::ProofLevel;
using Kind = sinks::Verification::Verdict;

namespace {

std::optional<ProofLevel> parse_level(std::string_view text) {
  for (const ProofLevel level : {ProofLevel::kAccepted, ProofLevel::kReadBack, ProofLevel::kAcknowledged}) {
    if (to_string(level) == text) return level;
  }
  return std::nullopt;
}

}  // namespace

Duration ProofAges::of(ProofLevel level) const {
  const auto said = said_.find(level);
  if (said != said_.end()) return said->second;
  switch (level) {
    case ProofLevel::kStatic:
      return kNever;  // it is of what runs
    case ProofLevel::kNetwork:
    case ProofLevel::kCredential:
    case ProofLevel::kDestination:
      return std::chrono::hours(24);
    case ProofLevel::kAccepted:
    case ProofLevel::kReadBack:
      return std::chrono::hours(24 * 7);
    case ProofLevel::kAcknowledged:
      return std::chrono::hours(24 * 30);
  }
  return Duration(0);
}

ProofLevel ProofView::reached() const {
  ProofLevel highest = ProofLevel::kStatic;
  for (const Proof& proof : proofs) {
    if ((is_missing() || is_refused()) && proof.level >= ProofLevel::kAccepted) continue;
    if (!is_old(proof)) highest = std::max(highest, proof.level);
  }
  return highest;
}

void show_refused(std::vector<ProofView>& views, const rules::Plan& plan, const std::vector<LaneView>& lanes) {
  for (ProofView& view : views) {
    const auto spec = plan.sinks.find(view.sink);
    if (spec == plan.sinks.end() || view.is_missing()) continue;
    for (const LaneView& lane : lanes) {
      if (lane.state != SinkState::kDead || !rules::contains(spec->second.lanes, lane.lane)) continue;
      view.failed = {ProofLevel::kAccepted, lane.last_error_at.value_or(view.now), "delivery", lane.last_error};
      break;
    }
  }
}

ProofBook::ProofBook(Options options, std::shared_ptr<const rules::Plan> plan,
                     const std::vector<StoredEntry>& restored, ProofAges ages)
    : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr && options_.store);
  const MutexLock lock(mutex_);
  for (const StoredEntry& entry : restored) {
    if (!entry.value || entry.key.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    const std::size_t slash = entry.key.find('/', kPrefix.size());
    const auto json = Json::parse(*entry.value);
    if (slash == std::string::npos || !json) continue;  // drilled again
    Known known;
    known.whom = rules::parse_fingerprint((*json)["whom"].string());
    for (const auto& [name, one] : (*json)["levels"].object()) {
      const std::optional<ProofLevel> level = parse_level(name);
      if (!level) continue;
      known.by_level[*level] = {*level, rules::from_stored_ms(one["at"].integer()),
                                std::string(one["by"].string()), std::string(one["evidence"].string()),
                                std::string(one["who"].string())};
      if (one["took"].is_number()) known.by_level[*level].took = Duration(one["took"].integer());
    }
    for (const auto& [lane, one] : (*json)["missing"].object())
      known.missing[lane] = {ProofLevel::kReadBack, rules::from_stored_ms(one["at"].integer()),
                             std::string(one["by"].string()), std::string(one["evidence"].string())};
    if ((*json)["asked"].is_number()) known.asked = rules::from_stored_ms((*json)["asked"].integer());
    known_[{
        rules::parse_fingerprint(std::string_view(entry.key).substr(kPrefix.size(), slash - kPrefix.size())),
        entry.key.substr(slash + 1)}] = std::move(known);
  }
  plan_ = std::move(plan);
  ages_ = std::move(ages);
  loaded_ = options_.clock->now();
}

std::string ProofBook::name_of(const Key& key) {
  return fmt::format("{}{}/{}", kPrefix, rules::format_fingerprint(key.first), key.second);
}

StoredEntry ProofBook::entry_of(const Key& key, const Known& known) const {
  Json levels = Json::Object{};
  for (const auto& [level, proof] : known.by_level) {
    Json one;
    one.set("at", rules::to_unix_ms(proof.at)).set("by", proof.by).set("evidence", proof.evidence);
    if (proof.took) one.set("who", proof.who).set("took", proof.took->count());
    levels.set(to_string(level), std::move(one));
  }
  Json json;
  json.set("whom", rules::format_fingerprint(known.whom)).set("levels", std::move(levels));
  if (!known.missing.empty()) {
    Json missing = Json::Object{};
    for (const auto& [lane, proof] : known.missing) {
      Json one;
      one.set("at", rules::to_unix_ms(proof.at)).set("by", proof.by).set("evidence", proof.evidence);
      missing.set(lane, std::move(one));
    }
    json.set("missing", std::move(missing));
  }
  if (known.asked) json.set("asked", rules::to_unix_ms(*known.asked));
  return {name_of(key), json.dump()};
}

void ProofBook::replace_plan(std::shared_ptr<const rules::Plan> plan, ProofAges ages) {
  std::vector<StoredEntry> gone;
  {
    const MutexLock lock(mutex_);
    plan_ = std::move(plan);
    ages_ = std::move(ages);
    loaded_ = options_.clock->now();
    const rules::Plan& now = *plan_;
    std::set<Fingerprint> rules;
    for (const rules::AlertingRule& rule : plan_->rules)
      rules.insert(rule.identity());
    std::erase_if(known_, [&](const auto& entry) {
      const auto sink = now.sinks.find(entry.first.second);
      const bool stays = rules.count(entry.first.first) != 0 && sink != now.sinks.end() &&
                         sink->second.settings == entry.second.whom;
      if (!stays) gone.push_back({name_of(entry.first), std::nullopt});
      return !stays;
    });
  }
  if (!gone.empty()) options_.store(std::move(gone));
}

void ProofBook::note(const Key& key, const Proof& proof, bool asks, std::vector<StoredEntry>& changed) {
  const auto sink = plan_->sinks.find(key.second);
  if (sink == plan_->sinks.end()) return;  // removed meanwhile
  Known& known = known_[key];
  if (known.whom != sink->second.settings) known = {sink->second.settings, {}, {}, {}};
  if (asks && !known.asked) known.asked = proof.at;
  Proof& kept = known.by_level[proof.level];
  if (kept.at > proof.at && !kept.by.empty()) return;
  kept = proof;
  kept.evidence = rules::clean_text(proof.evidence, kEvidenceKept);
  changed.push_back(entry_of(key, known));
  if (known_.size() <= kMaxPairs) return;
  const auto oldest = std::min_element(known_.begin(), known_.end(), [](const auto& a, const auto& b) {
    return a.second.by_level.begin()->second.at < b.second.by_level.begin()->second.at;
  });
  changed.push_back({name_of(oldest->first), std::nullopt});
  known_.erase(oldest);
}

void ProofBook::delivered(const rules::Notification& notification, const std::string& receipt, Timestamp at) {
  if (receipt.empty()) return;        // nothing that anybody gave back
  std::map<Fingerprint, bool> rules;  // and whether one of its alerts fires: of that it is asked who saw it
  const std::vector<std::string_view> names = notification.names();
  const std::set<std::string_view> named(names.begin(), names.end());
  for (const rules::Alert& alert : notification.alerts) {
    if (named.count(alert.name()) == 0) continue;  // no message says that it was in it
    // The end of an alert proves as much as its beginning; of a drill's, nothing that the beginning did not.
    if (alert.rule == 0 || (!notification.drill.empty() && !alert.is_firing())) continue;
    bool& fires = rules.try_emplace(alert.rule, false).first->second;
    fires = fires || alert.is_firing();
  }
  const Proof proof{ProofLevel::kAccepted, at, notification.drill.empty() ? "alert" : "drill", receipt};
  std::vector<StoredEntry> changed;
  {
    const MutexLock lock(mutex_);
    const auto sink = plan_->sinks.find(notification.sink);
    const bool asks = sink != plan_->sinks.end() && sink->second.acknowledges;
    for (const auto& [rule, fires] : rules)
      note({rule, notification.sink}, proof, asks && fires, changed);
  }
  if (!changed.empty()) options_.store(std::move(changed));
}

void ProofBook::proven(Fingerprint rule, const std::string& sink, const Proof& proof) {
  std::vector<StoredEntry> changed;
  {
    const MutexLock lock(mutex_);
    note({rule, sink}, proof, false, changed);
  }
  if (!changed.empty()) options_.store(std::move(changed));
}

void ProofBook::found(Fingerprint rule, const std::string& sink, const std::string& lane,
                      const Proof& proof) {
  std::vector<StoredEntry> changed;
  {
    const MutexLock lock(mutex_);
    const auto known = known_.find({rule, sink});
    if (known != known_.end()) known->second.missing.erase(lane);
    note({rule, sink}, proof, false, changed);
  }
  if (!changed.empty()) options_.store(std::move(changed));
}

void ProofBook::missing(Fingerprint rule, const std::string& sink, const std::string& lane,
                        const Proof& proof) {
  std::vector<StoredEntry> changed;
  {
    const MutexLock lock(mutex_);
    const auto known = known_.find({rule, sink});
    // Whoever has no receipt there any more, or never had one, is not proven anyway.
    if (known == known_.end() || known->second.by_level.empty()) return;
    Proof& kept = known->second.missing[lane] = proof;
    kept.evidence = rules::clean_text(proof.evidence, kEvidenceKept);
    changed.push_back(entry_of(known->first, known->second));
  }
  options_.store(std::move(changed));
}

std::vector<ProofView> ProofBook::view(const Verdicts& verdicts) const {
  const MutexLock lock(mutex_);
  const Timestamp now = options_.clock->now();
  std::vector<ProofView> views;
  const std::vector<rules::Reach> reaches = rules::reach_of(*plan_);
  for (std::size_t i = 0; i < plan_->rules.size(); ++i) {
    const rules::AlertingRule& rule = plan_->rules[i];
    if (rule.silent && now < rule.silent->until) continue;
    const Fingerprint identity = rule.identity();
    for (const RuleSink& way : sinks_of(*plan_, rule, reaches.at(i))) {
      const std::string& name = way.sink;
      const auto spec = plan_->sinks.find(name);
      if (spec == plan_->sinks.end()) continue;
      ProofView view;
      view.alert = rule.name;
      view.rule = identity;
      view.sink = name;
      view.stands_in_for = way.stands_in_for;
      view.conditional = way.conditional;
      view.now = now;
      view.ages = ages_;
      view.proofs.push_back({ProofLevel::kStatic, loaded_, "configuration",
                             way.stands_in_for.empty() ? "its route leads there" : "it is a fallback"});
      // Of several lanes the one that is proven least.
      std::optional<Proof> asked;
      for (const std::string& lane : spec->second.lanes) {
        const auto verdict = verdicts.find(lane);
        if (verdict == verdicts.end() || verdict->second.found.verdict == Kind::kUnknown) {
          asked.reset();
          break;
        }
        const sinks::Verification& found = verdict->second.found;
        const Proof proof{found.level, verdict->second.at, "probe", found.evidence};
        if (found.verdict == Kind::kDead) {
          view.failed = proof;
          asked.reset();
          break;
        }
        if (!asked || proof.level < asked->level || (proof.level == asked->level && proof.at < asked->at))
          asked = proof;
      }
      if (asked && asked->level > ProofLevel::kStatic) view.proofs.push_back(*asked);
      const auto known = known_.find({identity, name});
      if (known != known_.end() && known->second.whom == spec->second.settings) {
        for (const auto& [level, proof] : known->second.by_level)
          view.proofs.push_back(proof);
        view.asked = known->second.asked;
        for (const std::string& lane : spec->second.lanes) {
          const auto missing = known->second.missing.find(lane);
          if (missing != known->second.missing.end()) view.failed = missing->second;
        }
      }
      views.push_back(std::move(view));
    }
  }
  return views;
}

std::vector<MetricValue> proof_ages(const std::vector<ProofView>& proofs) {
  std::map<rules::Labels, double> ages;
  for (const ProofView& view : proofs) {
    for (const Proof& proof : view.proofs) {
      if (proof.level == ProofLevel::kStatic) continue;
      const rules::Labels labels{
          {"alertname", view.alert}, {"level", std::string(to_string(proof.level))}, {"sink", view.sink}};
      const double age = std::max(0.0, static_cast<double>((view.now - proof.at).count()) / 1000);
      const auto [known, is_new] = ages.try_emplace(labels, age);
      if (!is_new) known->second = std::max(known->second, age);
    }
  }
  std::vector<MetricValue> values;
  values.reserve(ages.size());
  for (const auto& [labels, age] : ages)
    values.push_back({"logbell_proof_age_seconds", labels, age});
  return values;
}

}  // namespace logbell::engine
