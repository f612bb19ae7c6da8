// Verify: asks sinks whether a message would arrive, without one that anybody sees (DESIGN.md §7, levels L1
// to L3), and says which rules would reach nobody.
//
// A verdict is kept in `state_dir`/logbell/verified, so that a process that starts again and again asks a
// service once in a while. Functions: any thread. The loop: step() and wait() are one thread's, the rest is
// thread-safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/io/thread_annotations.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "rules/notification.h"
#include "rules/problems.h"
#include "sinks/sink.h"

namespace logbell::engine {

// What is live is asked again after this, unless its type minds being asked so often
// (SinkType::verify_every).
inline constexpr rules::Duration kVerifyEvery{std::chrono::minutes(15)};
// One that minds is asked again after this while it is dead: somebody is mending it, and a server that locks
// out who tries a wrong password again and again must not be given a reason.
inline constexpr rules::Duration kVerifyDeadEvery{std::chrono::hours(1)};
// What said nothing is asked again after this, kVerifyPatience times, then after twice that, up to
// kVerifyEvery.
inline constexpr rules::Duration kVerifyAgain{std::chrono::seconds(30)};
inline constexpr std::uint32_t kVerifyPatience = 10;
// Unknown for so long is told: SinkUnverified (FAULTS F52).
inline constexpr rules::Duration kUnverifiedAfter{std::chrono::minutes(5)};
// A dead one is believed dead for so long by a process that has just begun, as one in a crash loop has;
// whoever has mended it and starts again is hardly ever refused for old news.
inline constexpr rules::Duration kDeadFor{std::chrono::minutes(1)};
// One question, and all of a start's: what has not answered by then is unknown, and asked again later.
inline constexpr rules::Duration kVerifyTimeout{std::chrono::seconds(5)};
inline constexpr rules::Duration kVerifyTotal{std::chrono::seconds(10)};
// Who has acknowledged a message is asked for again after this, later after a tenth of the time that it has
// been asked for, and no longer than a night's sleep: some sixty questions a message.
inline constexpr rules::Duration kWhoAgain{std::chrono::seconds(30)};
inline constexpr rules::Duration::rep kWhoShare = 10;
inline constexpr rules::Duration kWhoFor{std::chrono::hours(8)};
// What a drill has brought and is not to be found there is looked for again after this, then after four times
// that: a service may show a moment later what it took. Then it is not there.
inline constexpr rules::Duration kMissedAgain{std::chrono::seconds(2)};
inline constexpr std::uint32_t kMostMisses = 3;
// A certificate that ends within this is told: renewing one takes people days.
inline constexpr rules::Duration kCertificateEndsSoon{std::chrono::hours(24 * 14)};
// Sinks that are asked at the same time.
inline constexpr std::size_t kVerifyThreads = 8;
// Verdicts that are kept, the newest: a line of some 300 bytes each.
inline constexpr std::size_t kVerdictsRemembered = 500;
// Of the evidence in a kept line.
inline constexpr std::size_t kEvidenceBytes = 300;

// What became of the question to one lane of one sink.
struct Verdict {
  std::string sink;
  std::string lane;
  rules::Fingerprint whom = 0;  // of the lane's settings, secrets included: another is another question
  sinks::Verification found;
  rules::Timestamp at;      // when it was asked
  bool remembered = false;  // by an earlier process
  std::optional<rules::Timestamp> unknown_since;
};
using Verdicts = std::map<std::string, Verdict>;  // by lane

enum class Dead { kBelieved, kAskedAgain };
// Asks every sink of `config` that can be asked, several at a time, within kVerifyTotal. `state_dir`: where
// verdicts are kept; "": they are neither looked up nor kept. Blocks.
Verdicts verify_sinks(const Config& config, const Clock& clock, const std::string& state_dir,
                      Dead dead = Dead::kBelieved);

// An error for each rule that would reach nobody, on some way that its alerts can take, because every sink
// there that tells people and each one's fallbacks are dead; a warning if a machine is told all the same
// (`audience: machine`), and for each other sink that is dead, or live but not for all whom it is to tell.
// What reaches nobody with the `running` configuration (null: none) and what is `known` of its sinks is no
// reason to refuse another one.
void report_dead(const Config& config, const Verdicts& verdicts, const Config* running, const Verdicts& known,
                 rules::Problems& problems);

// Whether nobody answered there at all.
bool is_silent(const sinks::Verification& found);

// Warnings of such sinks: for who asks before a start, which goes on all the same.
void warn_of_silence(const rules::Plan& plan, const Verdicts& verdicts, rules::Problems& problems);

// Live, but not for everybody whom the sink is to tell: the evidence names the others.
bool leaves_somebody_out(const sinks::Verification& found);

// Whether the certificate that was shown there had ended soon when it was seen.
bool ends_soon(const Verdict& verdict);

// Rules of whose alerts no person would hear, on some way that they can take, while these sinks are dead; nor
// a machine, of rules that are for one only.
std::vector<std::string> rules_that_reach_nobody(const rules::Plan& plan, const std::set<std::string>& dead);

// Whether the sink is dead: each of its lanes.
bool is_dead(const rules::SinkSpec& sink, const Verdicts& verdicts);

// Asks again, one lane after the other, on a thread of its own: no delivery waits for it.
class VerifyLoop {
 public:
  struct Options {
    const Clock* clock = nullptr;  // outlives me
    std::string state_dir;
    std::function<void(const Verdict&)> tell;  // of every answer
    // What was found of a message that was brought to this lane, and not told before; may be unset: nothing
    // is looked for. `all`: those of its alerts that were found ever, once no more of them are waited for;
    // null before that, and afterwards (who has acknowledged one may still be asked for). Valid during the
    // call.
    std::function<void(const std::string& lane, const rules::Notification&, const sinks::ReadBack&,
                       const std::set<std::size_t>* all)>
        found = {};
    // What came of one look: one of kLooks. May be unset.
    std::function<void(std::string_view outcome)> looked = {};
    std::optional<rules::Duration> again = {};  // what has answered is asked again after this; unset: by its type
  };
  // Everything is there; not all of it is; it did not say; somebody could still acknowledge it, and nobody
  // asks any more; there were kMaxLookedFor already.
  static constexpr std::string_view kLooks[] = {"found", "missing", "unanswered", "given_up", "dropped"};

  // `first`: what is known already.
  VerifyLoop(Options options, std::shared_ptr<const Config> config, Verdicts first);

  std::optional<rules::Instant> step();
  void wait(std::optional<rules::Instant> until);
  bool done() const;

  void replace(std::shared_ptr<const Config> config, Verdicts first);
  // Looks for a message that was taken, at a sink that can be asked for it: a drill's, and where the sink
  // tells who has acknowledged it, a real one, again and again. Thread-safe. False: nobody will look.
  bool look_for(const std::string& lane, rules::Notification notification);
  // Whether it would be looked for. Thread-safe.
  bool looks_for(const rules::Notification& notification) const;
  void stop();
  Verdicts verdicts() const;

 private:
  struct Due {
    rules::Instant at;
    std::uint32_t unknown = 0;  // times in a row
  };
  void take(Verdicts verdicts) REQUIRES(mutex_);
  bool is_looked_for(const rules::Notification& notification) const REQUIRES(mutex_);
  std::optional<rules::Instant> look_due() const REQUIRES(mutex_);
  bool look();
  void count(std::string_view outcome) const {
    if (options_.looked) options_.looked(outcome);
  }
  rules::Duration pause_after(const Verdict& verdict, Due& due) const REQUIRES(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<const Config> config_ GUARDED_BY(mutex_);
  std::uint64_t revision_ GUARDED_BY(mutex_) = 0;  // of config_
  std::uint64_t seen_ GUARDED_BY(mutex_) = 0;      // by the last step()
  Verdicts verdicts_ GUARDED_BY(mutex_);
  std::map<std::string, Due> due_ GUARDED_BY(mutex_);  // by lane
  // A message that is looked for.
  struct Look {
    std::string lane;
    rules::Notification notification;
    rules::Instant at;  // the next time
    rules::Instant since;
    std::set<std::size_t> found;         // of its alerts, told already
    std::set<std::size_t> acknowledged;  // so
    std::uint32_t misses = 0;            // looks that did not find all of a drill's
    bool settled = false;                // no more of its alerts are waited for
  };
  // Messages that are looked for: those of a few drills, and what somebody may still acknowledge; of more
  // nothing is proven beyond the receipt.
  static constexpr std::size_t kMaxLookedFor = 100;
  std::deque<Look> looked_for_ GUARDED_BY(mutex_);
  std::uint64_t asked_ GUARDED_BY(mutex_) = 0;  // by look_for()
  std::uint64_t asked_seen_ GUARDED_BY(mutex_) = 0;
  bool looked_ = false;  // the last step did: a question that is due comes before the next. The thread's own
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace logbell::engine
