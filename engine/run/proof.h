// ProofBook: what proves, and since when, that a rule reaches a sink (DESIGN.md §7, SINKS.md "Proof levels").
//
// Thread-safe. A delivery with a receipt, real or of a drill, is written down as it is settled; what a sink
// answered when it was asked, and what the configuration says, is looked up when somebody asks. A proof is of
// a rule (by its identity) and a sink with its settings: whoever changes either begins anew.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "engine/core/pipeline.h"
#include "engine/io/store.h"
#include "engine/run/clock.h"
#include "engine/run/proof_ages.h"
#include "engine/run/send_loop.h"
#include "engine/run/thread_annotations.h"
#include "engine/run/verify.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

struct Proof {
  sinks::ProofLevel level = sinks::ProofLevel::kStatic;
  rules::Timestamp at;
  std::string by;        // "configuration", "probe", "alert", "drill"
  std::string evidence;  // a receipt, an answer; never a secret
  // L6: who said that they saw it ("": they did not say who they are), and how long after it was sent.
  std::string who = {};
  std::optional<rules::Duration> took = {};
};

// What is known of one rule and one of its sinks.
struct ProofView {
  std::string alert;
  rules::Fingerprint rule = 0;  // its identity
  std::string sink;
  // It is told only in the place of these, if they refuse; empty: it is told itself.
  std::vector<std::string> stands_in_for;
  // Only if labels from logs have certain values does the rule get there: a drill may know of no line that has
  // them, so that nothing is asked of it before it was proven once.
  bool conditional = false;
  bool asked_for = true;      // is_asked_for() of drill_schedule.h says so
  std::vector<Proof> proofs;  // the newest of each level that is proven, from L0
  // Since when messages have come there that somebody could have acknowledged; unset: none has.
  std::optional<rules::Timestamp> asked;
  // What was found wrong last: by a probe; (kReadBack) that what a drill brought is not there, which is no
  // longer so once it is found there; or (kAccepted) that the sink refuses messages, as long as it is dead.
  std::optional<Proof> failed;
  // The highest level whose proof is not too old, at `now`; no receipt counts for what was not found there, nor
  // one of before the sink began to refuse.
  sinks::ProofLevel reached() const;
  bool is_refused() const { return failed && failed->level == sinks::ProofLevel::kAccepted; }
  bool is_missing() const { return failed && failed->level == sinks::ProofLevel::kReadBack; }
  bool is_old(const Proof& proof) const { return ages.is_old(proof.level, proof.at, now); }
  rules::Timestamp now;
  ProofAges ages;
};

// Which of them lead to a sink that refuses messages: of several lanes, one that does.
void show_refused(std::vector<ProofView>& views, const rules::Plan& plan, const std::vector<LaneView>& lanes);

class ProofBook {
 public:
  static constexpr std::string_view kPrefix = "run/proof/";
  // Proven pairs that are kept: hundreds of rules with a handful of sinks each; beyond it the oldest go.
  static constexpr std::size_t kMaxPairs = 20'000;
  static constexpr std::size_t kEvidenceKept = 200;

  struct Options {
    const Clock* clock = nullptr;                         // outlives me
    std::function<void(std::vector<StoredEntry>)> store;  // to be written down; any thread
  };
  // `restored`: what store() wrote.
  ProofBook(Options options, std::shared_ptr<const rules::Plan> plan, const std::vector<StoredEntry>& restored,
            ProofAges ages = {});

  void replace_plan(std::shared_ptr<const rules::Plan> plan, ProofAges ages = {});
  // A notification was taken, with a receipt: it proves each of its rules' ways to that sink.
  void delivered(const rules::Notification& notification, const std::string& receipt, rules::Timestamp at);
  // A person said so.
  void proven(rules::Fingerprint rule, const std::string& sink, const Proof& proof);
  // What was brought to this lane was looked for: it is there (kReadBack); or it is not, and until it is found
  // there no receipt proves anything.
  void found(rules::Fingerprint rule, const std::string& sink, const std::string& lane, const Proof& proof);
  void missing(rules::Fingerprint rule, const std::string& sink, const std::string& lane, const Proof& proof);

  std::vector<ProofView> view(const Verdicts& verdicts) const;

 private:
  struct Known {
    rules::Fingerprint whom = 0;                  // the sink's settings
    std::map<sinks::ProofLevel, Proof> by_level;  // L4 and beyond
    std::optional<rules::Timestamp> asked;        // as ProofView's
    std::map<std::string, Proof> missing;         // by lane
  };
  using Key = std::pair<rules::Fingerprint, std::string>;
  static std::string name_of(const Key& key);
  StoredEntry entry_of(const Key& key, const Known& known) const;
  // `asks`: it was a message that somebody could acknowledge.
  void note(const Key& key, const Proof& proof, bool asks, std::vector<StoredEntry>& changed)
      REQUIRES(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  std::shared_ptr<const rules::Plan> plan_ GUARDED_BY(mutex_);
  ProofAges ages_ GUARDED_BY(mutex_);
  rules::Timestamp loaded_ GUARDED_BY(mutex_);  // the plan: what L0 is as of
  std::map<Key, Known> known_ GUARDED_BY(mutex_);
};

// logbell_proof_age_seconds{alertname,sink,level}: of rules that share a name the oldest.
std::vector<MetricValue> proof_ages(const std::vector<ProofView>& proofs);

}  // namespace logbell::engine
