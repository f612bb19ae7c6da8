#include "engine/run/drill.h"

#include <algorithm>
#include <array>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "engine/core/drill.h"
#include "engine/run/drill_ways.h"
#include "rules/example.h"
#include "rules/expr.h"
#include "rules/json.h"
#include "rules/line_shape.h"
#include "rules/reach.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::ErrorCode;
using rules::Notification;
using rules::Timestamp;

namespace {

constexpr std::string_view kChanged = "the configuration was changed meanwhile: drill again";

bool is_of_mark(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-';
}

std::string sample(const std::string& line) {
  return rules::clean_text(rules::redact(line), rules::kMaxSampleBytes);
}

std::string fact_or(const rules::Facts& facts, std::string_view name, const char* otherwise) {
  const std::string* known = facts.find(name);
  return known == nullptr || known->empty() ? otherwise : *known;
}

// RFC 5424's facilities and severities, by the names that facts have.
std::size_t index_of(std::string_view name, std::initializer_list<std::string_view> names,
                     std::size_t otherwise) {
  const auto* const found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? otherwise : static_cast<std::size_t>(found - names.begin());
}

}  // namespace

std::string_view to_string(DrillPair::State state) {
  switch (state) {
    case DrillPair::State::kWaiting:
      return "waiting";
    case DrillPair::State::kProven:
      return "proven";
    case DrillPair::State::kFailed:
      return "failed";
    case DrillPair::State::kSkipped:
      return "skipped";
  }
  return "";
}

bool DrillReport::proven() const {
  return ended && !pairs.empty() && std::all_of(pairs.begin(), pairs.end(), [](const DrillPair& pair) {
           return pair.state == DrillPair::State::kProven;
         });
}

std::string in_envelope(const rules::SourceSpec& source, std::string_view text, const rules::Facts& facts,
                        Timestamp now) {
  const std::string time = rules::format_rfc3339(now);
  switch (source.envelope) {
    case rules::Envelope::kNone:
      break;
    case rules::Envelope::kCri: {
      std::string lines;
      const std::string stream = fact_or(facts, "stream", "stdout");
      for (std::size_t from = 0; from <= text.size();) {
        const std::size_t end = std::min(text.find('\n', from), text.size());
        lines += fmt::format("{}{} {} F {}", lines.empty() ? "" : "\n", time, stream,
                             text.substr(from, end - from));
        from = end + 1;
      }
      return lines;
    }
    case rules::Envelope::kDocker: {
      rules::Json json;
      json.set("log", std::string(text) + "\n").set("stream", fact_or(facts, "stream", "stdout"));
      json.set("time", time);
      return json.dump();
    }
    case rules::Envelope::kSyslog:
    case rules::Envelope::kJournal: {
      const std::size_t facility =
          index_of(fact_or(facts, "facility", "user"),
                   {"kern",   "user",   "mail",     "daemon", "auth",   "syslog", "lpr",    "news",
                    "uucp",   "cron",   "authpriv", "ftp",    "ntp",    "audit",  "alert",  "clock",
                    "local0", "local1", "local2",   "local3", "local4", "local5", "local6", "local7"},
                   1);
      const std::size_t severity =
          index_of(fact_or(facts, "severity", "info"),
                   {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}, 6);
      return fmt::format(
          "<{}>1 {} {} {} {} {} - {}", facility * 8 + severity, time, fact_or(facts, "host", "drill"),
          fact_or(facts, "app", "logbell"), fact_or(facts, "procid", "-"),
          fact_or(facts, source.envelope == rules::Envelope::kJournal ? "unit" : "msgid", "-"), text);
    }
  }
  return std::string(text);
}

DrillDesk::DrillDesk(Options options) : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr);
}

std::string DrillDesk::new_id() {
  if (options_.random) return fmt::format("{:016x}", options_.random());
  // Nobody must guess one: a line with it does not count.
  std::random_device kernel;
  return fmt::format("{:08x}{:08x}", kernel(), kernel());
}

rules::Result<DrillReport> DrillDesk::begin(const rules::Plan& plan, const Request& request) {
  const auto wrong = [](std::string text) { return rules::fail(ErrorCode::kInvalid, std::move(text)); };
  for (const std::string& name : request.rules) {
    const bool known = std::any_of(plan.rules.begin(), plan.rules.end(),
                                   [&](const rules::AlertingRule& rule) { return rule.name == name; });
    if (!known) {
      std::vector<std::string> names;
      for (const rules::AlertingRule& rule : plan.rules)
        names.push_back(rule.name);
      const std::string meant = rules::did_you_mean(name, names);
      return wrong(fmt::format("there is no rule \"{}\"; {}", name,
                               meant.empty() ? "/api/v1/rules lists them" : meant));
    }
  }
  if (!request.sink.empty() && plan.sinks.count(request.sink) == 0)
    return wrong(fmt::format("there is no sink \"{}\"; /api/v1/sinks lists them", request.sink));
  const bool known_source = request.source.empty() || std::any_of(plan.sources.begin(), plan.sources.end(),
                                                                  [&](const rules::SourceSpec& source) {
                                                                    return source.name == request.source;
                                                                  });
  if (!known_source) return wrong(fmt::format("there is no source \"{}\"", request.source));

  const Timestamp now = options_.clock->now();
  Drill drill;
  drill.report.id = new_id();
  drill.report.scheduled = request.scheduled;
  drill.report.started = now;
  drill.report.source = request.source;
  drill.generation = plan.generation;
  drill.how = request.how;
  drill.sink = request.sink;
  drill.expires_at = options_.clock->instant() + kValid;
  std::vector<Line> lines;

  const std::string one_mark = fmt::format("{}{}", kMark, drill.report.id);
  const std::vector<rules::Reach> reaches = rules::reach_of(plan);
  DrillWays maker(plan, one_mark, request.source);
  std::set<std::string> marked;
  for (std::size_t i = 0; i < plan.rules.size(); ++i) {
    const rules::AlertingRule& written = plan.rules[i];
    const bool named = request.rules.empty() || std::find(request.rules.begin(), request.rules.end(),
                                                          written.name) != request.rules.end();
    if (!named || (!request.only_rules.empty() && request.only_rules.count(written.identity()) == 0))
      continue;
    // Who asks for everything does not ask for what tells nobody on purpose.
    if (request.rules.empty() && written.silent && now < written.silent->until) continue;
    std::vector<RuleSink> sinks = sinks_of(plan, written, reaches.at(i));
    if (!request.sink.empty()) {
      std::erase_if(sinks, [&](const RuleSink& one) { return one.sink != request.sink; });
      if (sinks.empty() && request.rules.empty()) continue;
      if (sinks.empty())
        return wrong(fmt::format("no alert of rule \"{}\" goes to sink \"{}\"", written.name, request.sink));
    }
    Rule rule;
    rule.index = i;
    rule.alert = written.name;
    rule.identity = written.identity();
    for (const RuleSink& one : sinks) {
      if (!one.stands_in_for.empty()) drill.stands_in[{rule.identity, one.sink}] = one.stands_in_for;
    }
    if (request.how == How::kIssue) {
      if (!request.sink.empty()) rule.sinks.insert(request.sink);
      rule.waits_for.insert(one_mark);
      drill.rules.push_back(std::move(rule));
      continue;
    }
    const DrillWays::Ways found = maker.find(written, sinks);
    for (const DrillWays::Way& way : found.ways) {
      Rule one = rule;
      one.sinks = way.sinks;
      for (const DrillWays::Line* line : way.lines) {
        one.waits_for.insert(line->mark);
        if (!marked.insert(line->mark).second) continue;
        const rules::PatternSpec& pattern = plan.patterns[line->pattern];
        const rules::SourceSpec& source = plan.sources[line->source];
        drill.marks[line->mark] = {line->pattern, pattern.name, pattern.identity(), sample(line->made.text)};
        lines.push_back(
            {line->mark, source.name, in_envelope(source, line->made.text, line->made.facts, now)});
      }
      drill.rules.push_back(std::move(one));
    }
    if (found.ways.empty()) drill.rules.push_back(rule);  // for what is said of it
    if (!found.trouble.empty()) fail(drill, drill.rules.back(), "line", found.trouble);
    for (const auto& [sink, why] : found.left)
      fail(drill, rule, "line", why, DrillPair::State::kSkipped, sink);
  }
  if (request.how == How::kInside && options_.is_read) {
    std::set<std::string> behind;
    for (const Line& line : lines)
      behind.insert(line.source);
    for (const std::string& source : behind) {
      if (!options_.is_read(source))
        drill.report.notes.push_back(fmt::format(
            "source \"{}\" has no readable file: the line of the drill came in behind it, and what is logged "
            "is not read",
            source));
    }
  }
  if (request.how == How::kIssue && !drill.rules.empty()) drill.marks[one_mark] = {};
  if (drill.rules.empty())
    return wrong(request.sink.empty() ? "there is no rule to drill: each has `sinks: none`"
                                      : fmt::format("no rule's alerts go to sink \"{}\"", request.sink));
  if (request.how == How::kIssue) drill.report.mark = one_mark;
  if (request.how == How::kViaLog) {
    for (const Line& line : lines)
      drill.report.lines.push_back(line.text);
    lines.clear();
  }

  DrillReport report;
  {
    const MutexLock lock(mutex_);
    if (marks_.size() + drill.marks.size() > kMaxMarks)
      return rules::fail(ErrorCode::kUnavailable,
                         "too many drills wait for their lines; they end within ten minutes");
    forget_old();
    if (drills_.size() >= kMaxDrills)
      return rules::fail(ErrorCode::kUnavailable,
                         "too many drills are under way; try again when one has ended");
    for (const auto& [mark, wanted] : drill.marks)
      marks_[mark] = drill.report.id;
    waiting_ = marks_.size();
    settle_end(drill);
    report = drill.report;
    order_.push_back(drill.report.id);
    drills_.emplace(drill.report.id, std::move(drill));
    std::move(lines.begin(), lines.end(), std::back_inserter(lines_));
    has_lines_ = !lines_.empty();
  }
  if (has_lines_ && options_.wake_reader) options_.wake_reader();
  if (report.ended && options_.wake_main) options_.wake_main();
  return report;
}

std::optional<DrillReport> DrillDesk::report(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto found = drills_.find(id);
  return found == drills_.end() ? std::nullopt : std::optional(found->second.report);
}

std::vector<DrillReport> DrillDesk::reports() const {
  const MutexLock lock(mutex_);
  std::vector<DrillReport> all;
  for (auto id = order_.rbegin(); id != order_.rend(); ++id)
    all.push_back(drills_.at(*id).report);
  return all;
}

std::vector<DrillDesk::Line> DrillDesk::take_lines() {
  const MutexLock lock(mutex_);
  has_lines_ = false;
  std::vector<Line> lines = std::exchange(lines_, {});
  for (const Line& line : lines) {
    const auto mark = marks_.find(line.mark);
    if (mark == marks_.end()) continue;
    claimed_[line.mark] = mark->second;
    marks_.erase(mark);
  }
  waiting_ = marks_.size();
  return lines;
}

bool DrillDesk::may_be_in(std::string_view text) const {
  return waiting_ > 0 && text.find(kMark) != std::string_view::npos;
}

std::string DrillDesk::claim(std::string_view line) {
  const MutexLock lock(mutex_);
  for (std::size_t at = line.find(kMark); at != std::string_view::npos; at = line.find(kMark, at + 1)) {
    std::size_t end = at + kMark.size();
    while (end < line.size() && is_of_mark(line[end]))
      ++end;
    const auto mark = marks_.find(std::string(line.substr(at, end - at)));
    if (mark == marks_.end()) continue;
    std::string found = mark->first;
    claimed_[found] = mark->second;
    marks_.erase(mark);
    waiting_ = marks_.size();
    return found;
  }
  return {};
}

void DrillDesk::fail(Drill& drill, Rule& rule, std::string_view hop, const std::string& why,
                     DrillPair::State as, const std::string& sink) {
  DrillPair pair;
  pair.alert = rule.alert;
  pair.rule = rule.identity;
  pair.sink = pair.lane = sink;
  const auto stands_in = drill.stands_in.find({rule.identity, sink});
  if (stands_in != drill.stands_in.end()) pair.stands_in_for = stands_in->second;
  pair.state = as;
  pair.read = rule.read;
  pair.failed_at = hop;
  pair.why = why;
  rule.waits_for.clear();
  drill.report.pairs.push_back(std::move(pair));
}

std::vector<Notification> DrillDesk::matched(const std::vector<DrillLine>& lines, const rules::Plan& plan,
                                             Timestamp read_at, Timestamp now) {
  std::vector<Notification> out;
  bool ended = false;
  {
    const MutexLock lock(mutex_);
    std::map<std::string, std::vector<const DrillLine*>> by_drill;
    for (const DrillLine& line : lines) {
      const auto mark = claimed_.find(line.mark);
      if (mark == claimed_.end()) continue;
      by_drill[mark->second].push_back(&line);
      claimed_.erase(mark);
    }
    for (const auto& [id, found] : by_drill) {
      const auto known = drills_.find(id);
      if (known == drills_.end() || known->second.report.ended) continue;
      Drill& drill = known->second;
      if (drill.generation != plan.generation) move_to(drill, plan);
      std::vector<DrillFiring> firings;
      std::vector<Rule*> fired;
      for (const DrillLine* line : found) {
        const auto wanted = drill.marks.find(line->mark);
        for (Rule& rule : drill.rules) {
          if (rule.waits_for.count(line->mark) == 0) continue;
          const std::set<std::uint32_t> patterns = patterns_of(plan.rules[rule.index]);
          rule.read = std::min(rule.read.value_or(read_at), read_at);
          bool hit = false;
          for (const DrillLine::Found& match : line->found) {
            if (drill.how == How::kIssue ? patterns.count(match.pattern) == 0
                                         : match.pattern != wanted->second.pattern)
              continue;
            hit = true;
            const rules::PatternSpec& pattern = plan.patterns[match.pattern];
            for (std::size_t k = 0; k < pattern.labels.size(); ++k) {
              if (!match.labels[k].empty()) rule.found.set(pattern.labels[k], match.labels[k]);
            }
            for (std::size_t k = 0; k < match.keys.size(); ++k) {
              if (match.keys[k].empty()) continue;
              if (pattern.keys[k] == rules::kTemplateKey) {
                rule.found.set(std::string(rules::kTemplateLabel), rules::shape_label(match.keys[k]));
              } else {
                rule.found.set(pattern.keys[k], match.keys[k]);
              }
            }
            if (!rule.line) rule.line = rules::SampleLine{line->at, sample(line->text)};
          }
          if (!hit) {
            // A line that somebody else wrote is about some rules; the others were not meant.
            if (drill.how == How::kIssue) {
              rule.waits_for.clear();
            } else if (drill.under_another) {
              fail(drill, rule, "match", std::string(kChanged), DrillPair::State::kSkipped);
            } else {
              fail(drill, rule, "match",
                   fmt::format("pattern \"{}\" does not match the line that was made for it: {}",
                               plan.patterns[wanted->second.pattern].name, wanted->second.text));
            }
            continue;
          }
          rule.waits_for.erase(line->mark);
          if (!rule.waits_for.empty()) continue;
          firings.push_back(
              {rule.index, drill_element(plan, plan.rules[rule.index], rule.found), *rule.line, rule.sinks});
          fired.push_back(&rule);
        }
        drill.marks.erase(line->mark);
      }
      if (drill.how == How::kIssue && firings.empty() && drill.report.pairs.empty()) {
        for (Rule& rule : drill.rules)
          fail(drill, rule, "match", "no pattern of the rule matches the line with the mark");
      }
      if (!firings.empty()) {
        const std::set<std::string> only =
            drill.sink.empty() ? std::set<std::string>() : std::set<std::string>{drill.sink};
        DrillTold told = engine::drill(plan, id, drill.parts++, firings, only, read_at, now);
        std::set<std::pair<rules::Fingerprint, std::string>> heard;
        for (Notification& notification : told.notifications) {
          if (!notification.is_resolved()) {
            for (const rules::Alert& alert : notification.alerts) {
              DrillPair& pair = pair_of(drill, alert, notification);
              pair.read = read_at;
              pair.matched = now;
              pair.routed = options_.clock->now();
              heard.insert({alert.rule, notification.sink});
            }
          }
          out.push_back(std::move(notification));
        }
        std::set<std::size_t> untold_rules;
        for (const DrillTold::Untold& untold : told.untold) {
          Rule& rule = **std::find_if(fired.begin(), fired.end(),
                                      [&](const Rule* one) { return one->index == untold.rule; });
          fail(drill, rule, "route", "it tells nobody now: " + untold.why,
               untold.lost ? DrillPair::State::kFailed : DrillPair::State::kSkipped);
          untold_rules.insert(untold.rule);
        }
        for (Rule* rule : fired) {
          if (untold_rules.count(rule->index) != 0) continue;
          const rules::AlertingRule& written = plan.rules[rule->index];
          const std::set<std::string> meant =
              sinks_told(plan, written, drill_element(plan, written, rule->found));
          for (const std::string& sink : rule->sinks.empty() ? meant : rule->sinks) {
            if (heard.count({rule->identity, sink}) != 0) continue;
            fail(drill, *rule, "route",
                 meant.count(sink) != 0
                     ? "it is not told now: its route is muted at this time"
                     : fmt::format("with the labels of this line its alerts do not go to \"{}\"", sink),
                 DrillPair::State::kSkipped, sink);
          }
        }
        // In the order of the rules, whichever sink was first.
        std::map<rules::Fingerprint, std::size_t> order;
        for (const Rule& rule : drill.rules)
          order.try_emplace(rule.identity, rule.index);
        std::stable_sort(
            drill.report.pairs.begin(), drill.report.pairs.end(),
            [&](const DrillPair& a, const DrillPair& b) { return order[a.rule] < order[b.rule]; });
      }
      settle_end(drill);
      ended = ended || drill.report.ended;
    }
  }
  if (ended && options_.wake_main) options_.wake_main();
  return out;
}

// The plan is another one: what is still the same in it goes on.
void DrillDesk::move_to(Drill& drill, const rules::Plan& plan) {
  drill.generation = plan.generation;
  drill.under_another = true;
  std::set<std::string> gone;  // marks
  for (auto& entry : drill.marks) {
    const std::string& mark = entry.first;
    Wanted& wanted = entry.second;
    if (drill.how == How::kIssue) continue;  // it is of no pattern of its own
    const auto pattern = std::find_if(plan.patterns.begin(), plan.patterns.end(), [&](const auto& one) {
      return one.name == wanted.name && one.identity() == wanted.identity;
    });
    if (pattern == plan.patterns.end()) gone.insert(mark);
    wanted.pattern = static_cast<std::uint32_t>(pattern - plan.patterns.begin());
  }
  for (Rule& rule : drill.rules) {
    if (rule.waits_for.empty()) continue;
    const auto now = std::find_if(plan.rules.begin(), plan.rules.end(), [&](const rules::AlertingRule& one) {
      return one.identity() == rule.identity;
    });
    rule.index = static_cast<std::size_t>(now - plan.rules.begin());
    const bool stays = now != plan.rules.end() &&
                       std::none_of(rule.waits_for.begin(), rule.waits_for.end(),
                                    [&](const std::string& mark) { return gone.count(mark) != 0; });
    if (!stays) fail(drill, rule, "match", std::string(kChanged), DrillPair::State::kSkipped);
  }
}

DrillPair& DrillDesk::pair_of(Drill& drill, const rules::Alert& alert, const Notification& notification) {
  std::vector<DrillPair>& pairs = drill.report.pairs;
  const auto known = std::find_if(pairs.begin(), pairs.end(), [&](const DrillPair& pair) {
    return pair.rule == alert.rule && pair.lane == notification.lane &&
           pair.instead_of == notification.fallback_for;
  });
  if (known != pairs.end()) return *known;
  DrillPair pair;
  pair.alert = alert.name();
  pair.rule = alert.rule;
  pair.sink = notification.sink;
  pair.lane = notification.lane;
  pair.instead_of = notification.fallback_for;
  const auto stands_in = drill.stands_in.find({alert.rule, notification.sink});
  if (stands_in != drill.stands_in.end() && pair.instead_of.empty()) pair.stands_in_for = stands_in->second;
  return pairs.emplace_back(std::move(pair));
}

void DrillDesk::stored(const Notification& notification) {
  if (notification.drill.empty() || notification.is_resolved()) return;
  const MutexLock lock(mutex_);
  const auto known = drills_.find(notification.drill);
  if (known == drills_.end() || known->second.report.ended) return;
  for (const rules::Alert& alert : notification.alerts)
    pair_of(known->second, alert, notification).stored = options_.clock->now();
}

void DrillDesk::settled(const Settled& settled, bool reads_back) {
  const Notification& notification = *settled.notification;
  if (notification.drill.empty() || notification.is_resolved()) return;
  const Settlement& settlement = settled.settlement;
  bool ended = false;
  {
    const MutexLock lock(mutex_);
    const auto known = drills_.find(notification.drill);
    if (known == drills_.end() || known->second.report.ended) return;
    Drill& drill = known->second;
    for (const rules::Alert& alert : notification.alerts) {
      DrillPair& pair = pair_of(drill, alert, notification);
      if (pair.state != DrillPair::State::kWaiting) continue;
      pair.attempts = settlement.attempts;
      const std::string why = settlement.detail.empty()
                                  ? settlement.reason
                                  : fmt::format("{}: {}", settlement.reason, settlement.detail);
      switch (settlement.state) {
        case DeliveryState::kDelivered:
          if (settlement.receipt.empty()) {
            pair.state = DrillPair::State::kFailed;
            pair.failed_at = "deliver";
            pair.why = "it is called delivered, without a receipt";
            break;
          }
          pair.receipt = settlement.at;
          pair.receipt_text = settlement.receipt;
          pair.why.clear();
          pair.reads_back = reads_back;
          if (!reads_back) pair.state = DrillPair::State::kProven;
          break;
        case DeliveryState::kPending:
        case DeliveryState::kInFlight:
          pair.why = why;
          // Until a person has mended it nothing goes there: that is the answer.
          if (settlement.outcome != "rejected") break;
          [[fallthrough]];
        case DeliveryState::kDead:
        case DeliveryState::kSuperseded:
          pair.state = DrillPair::State::kFailed;
          pair.failed_at = "deliver";
          pair.why = why;
          break;
      }
      // Whoever speaks instead is a way of its own.
      for (const Notification& fallback : settlement.fallbacks)
        pair_of(drill, alert, fallback).matched = options_.clock->now();
    }
    settle_end(drill);
    ended = drill.report.ended.has_value();
  }
  if (ended && options_.wake_main) options_.wake_main();
}

void DrillDesk::read_back(const Notification& notification, const sinks::ReadBack& back, bool over) {
  if (notification.drill.empty()) return;
  bool ended = false;
  {
    const MutexLock lock(mutex_);
    const auto known = drills_.find(notification.drill);
    if (known == drills_.end() || known->second.report.ended) return;
    Drill& drill = known->second;
    for (std::size_t i = 0; i < notification.alerts.size(); ++i) {
      DrillPair& pair = pair_of(drill, notification.alerts[i], notification);
      if (pair.state != DrillPair::State::kWaiting || !pair.receipt) continue;
      if (std::find(back.found.begin(), back.found.end(), i) != back.found.end()) {
        pair.state = DrillPair::State::kProven;
        pair.found = options_.clock->now();
        pair.found_text = back.evidence;
      } else if (!over) {
        pair.why = back.evidence;
      } else if (back.answered) {
        pair.state = DrillPair::State::kFailed;
        pair.failed_at = "read back";
        pair.why = back.evidence;
      } else {
        // The receipt stands.
        pair.state = DrillPair::State::kProven;
        pair.found_text = back.evidence;
        pair.why.clear();
      }
    }
    settle_end(drill);
    ended = drill.report.ended.has_value();
  }
  if (ended && options_.wake_main) options_.wake_main();
}

void DrillDesk::acknowledged(const std::string& id, const std::string& sink,
                             const std::vector<rules::Fingerprint>& rules, const std::string& who,
                             Timestamp at) {
  const MutexLock lock(mutex_);
  const auto known = drills_.find(id);
  if (known == drills_.end()) return;
  for (DrillPair& pair : known->second.report.pairs) {
    if (pair.sink != sink || pair.acknowledged) continue;
    if (std::find(rules.begin(), rules.end(), pair.rule) == rules.end()) continue;
    pair.acknowledged = at;
    pair.acknowledged_by = who;
  }
}

void DrillDesk::settle_end(Drill& drill) {
  if (drill.report.ended) return;
  const bool waits =
      std::any_of(drill.rules.begin(), drill.rules.end(),
                  [](const Rule& rule) { return !rule.waits_for.empty(); }) ||
      std::any_of(drill.report.pairs.begin(), drill.report.pairs.end(),
                  [](const DrillPair& pair) { return pair.state == DrillPair::State::kWaiting; });
  if (waits) return;
  drill.report.ended = options_.clock->now();
  drop_marks(drill);
}

void DrillDesk::drop_marks(Drill& drill) {
  for (const auto& [mark, wanted] : drill.marks)
    marks_.erase(mark);
  drill.marks.clear();
  waiting_ = marks_.size();
}

void DrillDesk::forget_old() {
  for (auto id = order_.begin(); id != order_.end() && drills_.size() >= kMaxDrills;) {
    const auto drill = drills_.find(*id);
    if (!drill->second.report.ended || !drill->second.handed_out) {
      ++id;
      continue;
    }
    drills_.erase(drill);
    id = order_.erase(id);
  }
}

std::vector<DrillReport> DrillDesk::take_ended() {
  const MutexLock lock(mutex_);
  const rules::Instant instant = options_.clock->instant();
  std::vector<DrillReport> ended;
  for (const std::string& id : order_) {
    Drill& drill = drills_.at(id);
    if (drill.handed_out) continue;
    if (!drill.report.ended && instant >= drill.expires_at) {
      for (Rule& rule : drill.rules) {
        if (rule.waits_for.empty()) continue;
        fail(drill, rule, "line",
             drill.how == How::kInside ? "the reader did not take the line"
                                       : "no line with the mark came that a pattern matches");
      }
      for (DrillPair& pair : drill.report.pairs) {
        if (pair.state != DrillPair::State::kWaiting) continue;
        pair.state = DrillPair::State::kFailed;
        if (pair.receipt) {
          pair.failed_at = "read back";
          pair.why = fmt::format("nobody has looked for it within {}", rules::format_duration(kValid));
          continue;
        }
        pair.failed_at = pair.stored ? "deliver" : "store";
        pair.why = fmt::format("no receipt within {}{}{}", rules::format_duration(kValid),
                               pair.why.empty() ? "" : "; last: ", pair.why);
      }
      settle_end(drill);
    }
    if (!drill.report.ended) continue;
    drill.handed_out = true;
    ended.push_back(drill.report);
  }
  return ended;
}

bool DrillDesk::idle() const {
  const MutexLock lock(mutex_);
  return std::all_of(drills_.begin(), drills_.end(),
                     [](const auto& drill) { return drill.second.report.ended.has_value(); });
}

}  // namespace logbell::engine
