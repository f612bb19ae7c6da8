#include "engine/run/verify.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "engine/io/fault.h"
#include "engine/run/small_file.h"
#include "engine/run/wait.h"
#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "sinks/registry.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Instant;
using rules::Timestamp;
using sinks::ProofLevel;
using sinks::Verification;
using Kind = Verification::Verdict;

constexpr const char* kMemory = "verified";

struct Question {
  std::string sink;
  std::string lane;
  std::size_t index = 0;
  std::shared_ptr<const sinks::SinkConfig> config;
  rules::Fingerprint whom = 0;
  Duration live_for = kVerifyEvery;
};

Duration live_for(const sinks::SinkType& type) {
  return type.verify_every.value_or(kVerifyEvery);
}

std::vector<Question> questions_of(const Config& config) {
  std::vector<Question> questions;
  for (const auto& [name, spec] : config.plan->sinks) {
    const sinks::SinkType* type = sinks::find_sink_type(spec.type);
    if (type == nullptr || type->verifies == ProofLevel::kStatic) continue;
    const std::shared_ptr<const sinks::SinkConfig>& built = config.sinks.at(name);
    for (std::size_t i = 0; i < spec.lanes.size(); ++i) {
      const std::string whom =
          fmt::format("{} {} {}", spec.type, rules::format_fingerprint(spec.settings), i);
      questions.push_back({name, spec.lanes[i], i, built, rules::hash_bytes(whom), live_for(*type)});
    }
  }
  return questions;
}

Verification ask(const Question& question, const Config& config, Timestamp now, Duration timeout) {
  sinks::Attempt attempt;
  attempt.now = now;
  attempt.timeout = timeout;
  Verification found = LOGBELL_BROKEN("probe.ask") ? Verification()
                       : LOGBELL_BROKEN("probe.shortcut")
                           ? Verification::live(ProofLevel::kDestination, "")
                           : question.config->build(question.index, {config.external_url, config.environment})
                                 ->verify(attempt);
  if (found.certificate_ends && !found.evidence.empty())
    found.evidence +=
        fmt::format("; its certificate ends {}", rules::format_rfc3339(*found.certificate_ends));
  // What says nothing of what it saw has seen nothing.
  if (found.verdict != Kind::kUnknown && found.evidence.empty())
    return Verification::unknown(sinks::Reason::kBadResponse, ProofLevel::kStatic,
                                 "it was called "
                                 "live or dead without any evidence");
  return found;
}

// What an earlier process was told is believed for so long.
Duration lasts(Kind verdict, Duration live) {
  switch (verdict) {
    case Kind::kLive:
      return live;
    case Kind::kDead:
      return kDeadFor;
    case Kind::kUnknown:
      return kVerifyAgain;
  }
  return Duration(0);
}

template <class Enum>
std::optional<Enum> parse_one_of(std::string_view text, int last) {
  for (int i = 0; i <= last; ++i) {
    if (to_string(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

// "L2", or "L2,1793577600000" where a certificate was shown that ends then.
std::string level_word(const Verification& found) {
  std::string word(to_string(found.level));
  if (found.certificate_ends) word += fmt::format(",{}", rules::to_unix_ms(*found.certificate_ends));
  return word;
}

// Lines of "<whom> <milliseconds> <verdict> <level> <reason> <evidence>".
class Memory {
 public:
  struct Entry {
    Timestamp at;
    Verification found;
  };

  // What cannot be read is asked again.
  explicit Memory(std::string state_dir) : state_dir_(std::move(state_dir)) {
    if (state_dir_.empty()) return;
    const std::string text =
        read_small_file(state_dir_, kMemory, kVerdictsRemembered * (kEvidenceBytes + 100));
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      read_line(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }

  const Entry* find(rules::Fingerprint whom) const {
    const auto found = entries_.find(rules::format_fingerprint(whom));
    return found == entries_.end() ? nullptr : &found->second;
  }
  void put(rules::Fingerprint whom, Entry entry) {
    entries_[rules::format_fingerprint(whom)] = std::move(entry);
  }
  // Where it cannot be kept, the next start asks again.
  void keep() const {
    if (state_dir_.empty()) return;
    std::vector<std::pair<Timestamp, std::string>> lines;
    lines.reserve(entries_.size());
    for (const auto& [whom, entry] : entries_) {
      lines.emplace_back(entry.at, fmt::format("{} {} {} {} {} {}\n", whom, rules::to_unix_ms(entry.at),
                                               to_string(entry.found.verdict), level_word(entry.found),
                                               to_string(entry.found.reason),
                                               rules::clean_text(entry.found.evidence, kEvidenceBytes)));
    }
    std::sort(lines.rbegin(), lines.rend());
    if (lines.size() > kVerdictsRemembered) lines.resize(kVerdictsRemembered);
    std::string text;
    for (const auto& line : lines)
      text += line.second;
    static_cast<void>(keep_small_file(state_dir_, kMemory, text));
  }

 private:
  void read_line(std::string_view line) {
    std::array<std::string_view, 5> words;
    for (std::string_view& word : words) {
      const std::size_t end = line.find(' ');
      if (end == std::string_view::npos) return;
      word = line.substr(0, end);
      line.remove_prefix(end + 1);
    }
    std::int64_t ms = 0;
    const auto [end, error] = std::from_chars(words[1].data(), words[1].data() + words[1].size(), ms);
    if (error != std::errc() || end != words[1].data() + words[1].size()) return;
    const auto verdict = parse_one_of<Kind>(words[2], static_cast<int>(Kind::kUnknown));
    const std::size_t comma = std::min(words[3].find(','), words[3].size());
    const auto level =
        parse_one_of<ProofLevel>(words[3].substr(0, comma), static_cast<int>(ProofLevel::kAcknowledged));
    const auto reason = parse_one_of<sinks::Reason>(words[4], static_cast<int>(sinks::Reason::kIo));
    if (!verdict || !level || !reason) return;
    Entry entry{rules::from_unix_ms(ms), {}};
    entry.found.verdict = *verdict;
    entry.found.level = *level;
    entry.found.reason = *reason;
    entry.found.evidence = rules::clean_text(line, kEvidenceBytes);
    std::int64_t ends = 0;
    if (comma < words[3].size() &&
        std::from_chars(words[3].data() + comma + 1, words[3].data() + words[3].size(), ends).ec ==
            std::errc())
      entry.found.certificate_ends = rules::from_stored_ms(ends);
    entries_[std::string(words[0])] = std::move(entry);
  }

  std::string state_dir_;
  std::map<std::string, Entry> entries_;
};

// Also those that a dead one hands over to: its own list, and no further, as the send loop does it.
std::set<std::string> with_fallbacks(const rules::Plan& plan, const std::vector<std::string>& sinks) {
  std::set<std::string> all;
  for (const std::string& name : sinks) {
    const auto spec = plan.sinks.find(name);
    if (spec == plan.sinks.end()) continue;
    all.insert(name);
    for (const std::string& fallback : spec->second.fallback) {
      if (plan.sinks.count(fallback) != 0) all.insert(fallback);
    }
  }
  return all;
}

// A rule of whose alerts no person would hear, on one way that they can take.
struct LostRule {
  const rules::Reach* reach = nullptr;
  const rules::Way* way = nullptr;
  std::set<std::string> sinks;        // all dead
  std::vector<std::string> machines;  // that hear of it all the same, and are no person
};

// By alertname; the first way of each.
std::map<std::string, LostRule> lost_rules(const rules::Plan& plan, const std::vector<rules::Reach>& all,
                                           const std::set<std::string>& dead) {
  std::map<std::string, LostRule> lost;
  for (const rules::Reach& reach : all) {
    // Logbell's own go the ways that are left: nobody's alert is lost with them.
    if (reach.built_in || reach.silent != nullptr) continue;
    for (const rules::Way& way : reach.ways) {
      std::set<std::string> sinks = with_fallbacks(plan, way.sinks);
      const auto keep_if_any = [&](bool rules::SinkSpec::*is) {
        const auto has = [&](const std::string& name) { return plan.sinks.at(name).*is; };
        if (std::none_of(sinks.begin(), sinks.end(), has)) return false;
        std::erase_if(sinks, [&](const std::string& name) { return !has(name); });
        return true;
      };
      // Where people are told at all, a machine that is told as well makes up for none of them; where a
      // machine is, neither does a file that none reads.
      const std::set<std::string> reached = sinks;
      if (!keep_if_any(&rules::SinkSpec::tells_people)) keep_if_any(&rules::SinkSpec::machine_audience);
      const auto is_dead = [&](const std::string& name) { return dead.count(name) != 0; };
      if (sinks.empty() || !std::all_of(sinks.begin(), sinks.end(), is_dead)) continue;
      LostRule one{&reach, &way, std::move(sinks), {}};
      for (const std::string& name : reached) {
        if (plan.sinks.at(name).machine_audience && !is_dead(name)) one.machines.push_back(name);
      }
      lost.try_emplace(reach.alert, std::move(one));
    }
  }
  return lost;
}

std::set<std::string> dead_sinks(const rules::Plan& plan, const Verdicts& verdicts) {
  std::set<std::string> dead;
  for (const auto& [name, spec] : plan.sinks) {
    if (is_dead(spec, verdicts)) dead.insert(name);
  }
  return dead;
}

// "ops-slack is dead (malformed message -> HTTP 404: no_service)"
std::string describe_dead(const rules::SinkSpec& sink, const Verdicts& verdicts) {
  std::string why;
  for (const std::string& lane : sink.lanes) {
    const Verdict& verdict = verdicts.at(lane);
    if (!why.empty()) why += "; ";
    why += verdict.found.evidence;
    if (verdict.remembered) why += ", asked at " + rules::format_rfc3339(verdict.at);
  }
  return fmt::format("{} is dead ({})", sink.name, why);
}

// A sink that is live, but not for everybody whom it is to tell: of whoever hears nothing nobody else knows.
void warn_of_those_left_out(const rules::Plan& plan, const Verdicts& verdicts, rules::Problems& problems) {
  for (const auto& [lane, verdict] : verdicts) {
    const auto sink = plan.sinks.find(verdict.sink);
    if (sink != plan.sinks.end() && leaves_somebody_out(verdict.found))
      problems.warn(sink->second.place, fmt::format("sink \"{}\"", verdict.sink),
                    "not everybody behind it would hear: " + verdict.found.evidence,
                    "correct or remove those who are refused");
  }
}

// A certificate that is about to end: the sink is well, and will not be.
void warn_of_certificates(const rules::Plan& plan, const Verdicts& verdicts, rules::Problems& problems) {
  for (const auto& [lane, verdict] : verdicts) {
    const auto sink = plan.sinks.find(verdict.sink);
    if (sink != plan.sinks.end() && ends_soon(verdict))
      problems.warn(sink->second.place, fmt::format("sink \"{}\"", verdict.sink),
                    fmt::format("the certificate that {} shows ends at {}: then no message arrives", lane,
                                rules::format_rfc3339(*verdict.found.certificate_ends)),
                    "have it renewed");
  }
}

}  // namespace

bool is_silent(const Verification& found) {
  return found.verdict == Kind::kUnknown && found.level == ProofLevel::kStatic && found.reason != sinks::Reason::kOk;
}

void warn_of_silence(const rules::Plan& plan, const Verdicts& verdicts, rules::Problems& problems) {
  for (const auto& [lane, verdict] : verdicts) {
    const Verification& found = verdict.found;
    const auto sink = plan.sinks.find(verdict.sink);
    if (sink == plan.sinks.end() || !is_silent(found)) continue;
    problems.warn(sink->second.place, fmt::format("sink \"{}\"", verdict.sink),
                  "nobody answered there, so it is not known whether a message would arrive: " + found.evidence,
                  "let this machine reach it: its name, its network, a proxy");
  }
}

bool ends_soon(const Verdict& verdict) {
  return verdict.found.certificate_ends &&
         *verdict.found.certificate_ends - verdict.at < kCertificateEndsSoon;
}

bool leaves_somebody_out(const Verification& found) {
  return found.verdict == Kind::kLive && found.reason == sinks::Reason::kPartlyRefused;
}

Verdicts verify_sinks(const Config& config, const Clock& clock, const std::string& state_dir, Dead dead) {
  Memory memory(state_dir);
  const Timestamp now = clock.now();
  const Instant deadline = clock.instant() + kVerifyTotal;
  const std::vector<Question> questions = questions_of(config);
  std::vector<Verdict> answers;
  std::vector<std::size_t> due;
  for (const Question& question : questions) {
    Verdict verdict{question.sink, question.lane, question.whom, {}, now, false, {}};
    const Memory::Entry* before = memory.find(question.whom);
    const bool asked_again =
        before != nullptr && before->found.verdict == Kind::kDead && dead == Dead::kAskedAgain;
    // A time to come is a clock that was set: it says nothing.
    if (before != nullptr && !asked_again && before->at <= now &&
        now - before->at < lasts(before->found.verdict, question.live_for)) {
      verdict.found = before->found;
      verdict.at = before->at;
      verdict.remembered = true;
    } else {
      due.push_back(answers.size());
    }
    answers.push_back(std::move(verdict));
  }

  // One that hangs must not use up the others' time. Each writes to its own place.
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < due.size(); i = next++) {
      const Duration left = std::chrono::floor<Duration>(deadline - clock.instant());
      Verdict& verdict = answers[due[i]];
      verdict.found =
          left <= Duration(0)
              ? Verification::unknown(sinks::Reason::kTimeout, ProofLevel::kStatic, "no time was left to ask")
              : ask(questions[due[i]], config, now, std::min(left, kVerifyTimeout));
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < std::min(due.size(), kVerifyThreads); ++i)
    threads.emplace_back(work);
  work();
  for (std::thread& thread : threads)
    thread.join();

  for (const std::size_t i : due)
    memory.put(answers[i].whom, {answers[i].at, answers[i].found});
  if (!due.empty()) memory.keep();
  Verdicts verdicts;
  for (Verdict& verdict : answers)
    verdicts.emplace(verdict.lane, std::move(verdict));
  return verdicts;
}

bool is_dead(const rules::SinkSpec& sink, const Verdicts& verdicts) {
  return !sink.lanes.empty() &&
         std::all_of(sink.lanes.begin(), sink.lanes.end(), [&](const std::string& lane) {
           const auto found = verdicts.find(lane);
           return found != verdicts.end() && found->second.found.verdict == Kind::kDead;
         });
}

std::vector<std::string> rules_that_reach_nobody(const rules::Plan& plan, const std::set<std::string>& dead) {
  std::vector<std::string> names;
  if (dead.empty()) return names;
  const std::vector<rules::Reach> reaches = rules::reach_of(plan);
  for (const auto& [alert, lost] : lost_rules(plan, reaches, dead))
    names.push_back(alert);
  return names;
}

void report_dead(const Config& config, const Verdicts& verdicts, const Config* running, const Verdicts& known,
                 rules::Problems& problems) {
  const rules::Plan& plan = *config.plan;
  const std::set<std::string> dead = dead_sinks(plan, verdicts);
  warn_of_those_left_out(plan, verdicts, problems);
  warn_of_certificates(plan, verdicts, problems);
  if (dead.empty()) return;
  const std::vector<rules::Reach> reaches = rules::reach_of(plan);
  const std::vector<rules::Reach> before =
      running == nullptr ? std::vector<rules::Reach>() : rules::reach_of(*running->plan);
  const std::map<std::string, LostRule> lost_before =
      running == nullptr ? std::map<std::string, LostRule>()
                         : lost_rules(*running->plan, before, dead_sinks(*running->plan, known));
  std::set<std::string> said;
  for (const auto& [alert, lost] : lost_rules(plan, reaches, dead)) {
    const auto known_lost = lost_before.find(alert);
    if (known_lost != lost_before.end() && (known_lost->second.machines.empty() || !lost.machines.empty()))
      continue;
    std::vector<std::string> which;
    which.reserve(lost.sinks.size());
    for (const std::string& name : lost.sinks)
      which.push_back(describe_dead(plan.sinks.at(name), verdicts));
    said.insert(lost.sinks.begin(), lost.sinks.end());
    const std::vector<std::string>& when = lost.way->assumptions;
    rules::Problem problem;
    problem.place = lost.reach->place;
    problem.subject = fmt::format("rule \"{}\"", alert);
    problem.reason = fmt::format("it would reach {}{}: {}", lost.machines.empty() ? "nobody" : "no person",
                                 when.empty() ? "" : fmt::format(" when {}", fmt::join(when, " and ")),
                                 fmt::join(which, ", "));
    // What a machine is to hear of must not stay away for it (DESIGN.md §7).
    if (!lost.machines.empty()) {
      problem.severity = rules::Severity::kWarning;
      problem.reason +=
          fmt::format("; only {} is left, which a machine reads", rules::list_words(lost.machines));
    }
    problem.fix = "give the sink a secret and a destination that work, or the rule another sink";
    // What a sink answers has times and numbers in it: the same refusal all the same.
    problem.identity = fmt::format("{} dead {}", problem.subject, fmt::join(lost.sinks, " "));
    problems.add(std::move(problem));
  }
  for (const std::string& name : dead) {
    if (said.count(name) != 0) continue;
    problems.warn(plan.sinks.at(name).place, fmt::format("sink \"{}\"", name),
                  "no message would arrive: " + describe_dead(plan.sinks.at(name), verdicts),
                  "mend its secret or its destination");
  }
}

// --- the loop

VerifyLoop::VerifyLoop(Options options, std::shared_ptr<const Config> config, Verdicts first)
    : options_(std::move(options)), config_(std::move(config)) {
  const MutexLock lock(mutex_);
  take(std::move(first));
}

// What was just asked is asked again in its time.
void VerifyLoop::take(Verdicts verdicts) {
  const Timestamp now = options_.clock->now();
  const Instant instant = options_.clock->instant();
  due_.clear();
  for (auto& [lane, verdict] : verdicts) {
    Due due;
    const Duration pause = pause_after(verdict, due);
    const Duration gone = std::clamp(now - verdict.at, Duration(0), pause);
    due.at = instant + (pause - gone);
    due_[lane] = due;
    if (verdict.found.verdict != Kind::kUnknown) continue;
    const auto before = verdicts_.find(lane);
    const bool same = before != verdicts_.end() && before->second.whom == verdict.whom;
    verdict.unknown_since = same && before->second.unknown_since ? before->second.unknown_since : verdict.at;
  }
  verdicts_ = std::move(verdicts);
}

Duration VerifyLoop::pause_after(const Verdict& verdict, Due& due) const {
  if (verdict.found.verdict != Kind::kUnknown) {
    due.unknown = 0;
    const sinks::SinkType* type = sinks::find_sink_type(config_->plan->sinks.at(verdict.sink).type);
    LOGBELL_CHECK(type != nullptr);
    if (options_.again) return *options_.again;
    const Duration live = live_for(*type);
    return verdict.found.verdict == Kind::kDead ? std::min(live, kVerifyDeadEvery) : live;
  }
  const std::uint32_t doublings = due.unknown < kVerifyPatience ? 0 : due.unknown - kVerifyPatience + 1;
  const Duration pause = kVerifyAgain * (1 << std::min<std::uint32_t>(doublings, 5));
  ++due.unknown;
  return std::min(std::max(pause, verdict.found.retry_after.value_or(Duration(0))), kVerifyEvery);
}

bool VerifyLoop::is_looked_for(const rules::Notification& notification) const {
  const auto sink = config_->plan->sinks.find(notification.sink);
  if (stopped_ || !options_.found || sink == config_->plan->sinks.end()) return false;
  const sinks::SinkType* type = sinks::find_sink_type(sink->second.type);
  if (type == nullptr || !type->reads_back || !config_->sinks.at(sink->first)->reads_back()) return false;
  return !notification.drill.empty() || type->tells_who;
}

bool VerifyLoop::looks_for(const rules::Notification& notification) const {
  const MutexLock lock(mutex_);
  return is_looked_for(notification);
}

bool VerifyLoop::look_for(const std::string& lane, rules::Notification notification) {
  const MutexLock lock(mutex_);
  if (!is_looked_for(notification)) return false;
  if (looked_for_.size() >= kMaxLookedFor) {
    count("dropped");
    return false;
  }
  const Instant now = options_.clock->instant();
  looked_for_.push_back({lane, std::move(notification), now, now, {}, {}});
  ++asked_;
  changed_.notify_all();
  return true;
}

std::optional<Instant> VerifyLoop::look_due() const {
  const auto first = std::min_element(looked_for_.begin(), looked_for_.end(),
                                      [](const Look& a, const Look& b) { return a.at < b.at; });
  return first == looked_for_.end() ? std::nullopt : std::optional<Instant>(first->at);
}

namespace {

// What is not in `told` yet, and is from now on.
template <class Item, class Index>
void keep_news(std::vector<Item>& items, std::set<std::size_t>& told, Index index) {
  std::erase_if(items, [&](const Item& item) { return !told.insert(index(item)).second; });
}

}  // namespace

// Whether there was something to look for.
bool VerifyLoop::look() {
  std::shared_ptr<const Config> config;
  Look wanted;
  {
    const MutexLock lock(mutex_);
    const std::optional<Instant> due = look_due();
    if (stopped_ || !due || *due > options_.clock->instant()) return false;
    const auto first = std::find_if(looked_for_.begin(), looked_for_.end(),
                                    [&](const Look& look) { return look.at == *due; });
    wanted = std::move(*first);
    looked_for_.erase(first);
    config = config_;
  }
  const auto spec = config->plan->sinks.find(wanted.notification.sink);
  if (spec == config->plan->sinks.end()) return true;
  const std::vector<std::string>& lanes = spec->second.lanes;
  const auto lane = std::find(lanes.begin(), lanes.end(), wanted.lane);
  if (lane == lanes.end()) return true;
  sinks::Attempt attempt;
  attempt.now = options_.clock->now();
  attempt.timeout = kVerifyTimeout;
  const auto sink = config->sinks.at(spec->first)
                        ->build(static_cast<std::size_t>(lane - lanes.begin()),
                                {config->external_url, config->environment});
  sinks::ReadBack back;
  if (LOGBELL_BROKEN("read_back.found")) {
    back.answered = true;
    for (std::size_t i = 0; i < wanted.notification.alerts.size(); ++i)
      back.found.push_back(i);
  } else {
    back = sink->read_back(wanted.notification, attempt);
  }
  const Instant now = options_.clock->instant();
  if (!back.answered) {
    count("unanswered");
  } else {
    count(back.found.size() == wanted.notification.alerts.size() ? "found" : "missing");
  }
  keep_news(back.found, wanted.found, [](std::size_t index) { return index; });
  keep_news(back.acknowledged, wanted.acknowledged, [](const auto& one) { return one.alert; });
  const bool missed = wanted.found.size() < wanted.notification.alerts.size();
  const bool again = !wanted.settled && missed && !wanted.notification.drill.empty() &&
                     (back.answered || back.open) && ++wanted.misses < kMostMisses;
  const bool last = !again && (!back.open || now - wanted.since >= kWhoFor);
  if (back.open && last) count("given_up");
  const bool settles = !wanted.settled && (last || (!again && !wanted.notification.drill.empty()));
  wanted.settled = wanted.settled || settles;
  if (settles || !back.found.empty() || !back.acknowledged.empty())
    options_.found(wanted.lane, wanted.notification, back, settles ? &wanted.found : nullptr);
  if (last) return true;
  wanted.at = again ? now + kMissedAgain * (1 << 2 * (wanted.misses - 1))
                    : now + std::max<std::chrono::microseconds>(kWhoAgain, (now - wanted.since) / kWhoShare);
  const MutexLock lock(mutex_);
  looked_for_.push_back(std::move(wanted));
  return true;
}

std::optional<Instant> VerifyLoop::step() {
  bool question_waits = false;
  {
    const MutexLock lock(mutex_);
    const Instant now = options_.clock->instant();
    question_waits =
        std::any_of(due_.begin(), due_.end(), [&](const auto& due) { return due.second.at <= now; });
    asked_seen_ = asked_;
  }
  // In turn: a service that hangs, and is asked about many messages, does not keep the others from being
  // asked.
  looked_ = !(looked_ && question_waits) && look();
  if (looked_) return options_.clock->instant();
  std::shared_ptr<const Config> config;
  std::uint64_t revision = 0;
  std::string lane;
  {
    const MutexLock lock(mutex_);
    seen_ = revision_;
    if (stopped_) return std::nullopt;
    const auto first = std::min_element(
        due_.begin(), due_.end(), [](const auto& a, const auto& b) { return a.second.at < b.second.at; });
    if (first == due_.end()) return look_due();
    if (LOGBELL_BROKEN("probe.again")) return look_due();
    if (first->second.at > options_.clock->instant())
      return std::min(first->second.at, look_due().value_or(first->second.at));
    lane = first->first;
    config = config_;
    revision = revision_;
  }
  const std::vector<Question> questions = questions_of(*config);
  const auto question =
      std::find_if(questions.begin(), questions.end(), [&](const Question& one) { return one.lane == lane; });
  LOGBELL_CHECK(question != questions.end());
  Verdict verdict{question->sink, lane, question->whom, {}, options_.clock->now(), false, {}};
  verdict.found = ask(*question, *config, verdict.at, kVerifyTimeout);
  {
    const MutexLock lock(mutex_);
    if (stopped_ || revision != revision_) return options_.clock->instant();  // an answer of the old one's
    Verdict& known = verdicts_[lane];
    if (verdict.found.verdict == Kind::kUnknown)
      verdict.unknown_since = known.unknown_since.value_or(verdict.at);
    known = verdict;
    Due& due = due_[lane];
    due.at = options_.clock->instant() + pause_after(verdict, due);
  }
  Memory memory(options_.state_dir);
  memory.put(verdict.whom, {verdict.at, verdict.found});
  memory.keep();
  {
    const MutexLock lock(mutex_);
    if (stopped_ || revision != revision_) return options_.clock->instant();
  }
  options_.tell(verdict);
  return options_.clock->instant();
}

void VerifyLoop::wait(std::optional<Instant> until) {
  const MutexLock lock(mutex_);
  while (!stopped_ && seen_ == revision_ && asked_seen_ == asked_) {
    if (!wait_for_news(changed_, mutex_, *options_.clock, until)) return;
  }
}

bool VerifyLoop::done() const {
  const MutexLock lock(mutex_);
  return stopped_;
}

void VerifyLoop::replace(std::shared_ptr<const Config> config, Verdicts first) {
  const MutexLock lock(mutex_);
  config_ = std::move(config);
  ++revision_;
  take(std::move(first));
  changed_.notify_all();
}

void VerifyLoop::stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

Verdicts VerifyLoop::verdicts() const {
  const MutexLock lock(mutex_);
  return verdicts_;
}

}  // namespace logbell::engine
