// Acknowledgements: who has said that they saw a message, by the link in it (SINKS.md "Proof levels", L6).
//
// A message's link ends in a token that says what the message was about, signed with a key which only the
// store has: nothing need be kept until somebody comes, and a restart forgets no link. Whoever has the token
// may say so, for kValid; the first word counts, and is remembered as long as the token is good.
//
// Thread-safe: lanes make tokens, the HTTP server's thread reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "engine/io/http_server.h"
#include "engine/run/clock.h"
#include "engine/run/thread_annotations.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/secret.h"
#include "rules/time.h"

namespace logbell::engine {

class Acknowledgements {
 public:
  // Where the store has the key, and what was said.
  static constexpr std::string_view kKeyEntry = "run/acknowledge/key";
  static constexpr std::string_view kPrefix = "run/acknowledged/";
  // Before every path that ends in a token; and every token, so that redaction knows one (rules/redact.cc).
  static constexpr std::string_view kPath = "/ack/";
  static constexpr std::string_view kMark = "lba_";
  // A week: whoever comes back from a holiday may still say so, and nobody can for ever.
  static constexpr rules::Duration kValid{std::chrono::hours(24 * 7)};
  // Messages that somebody has acknowledged within kValid: one a minute. Beyond it the oldest is forgotten,
  // and the next who opens its link is taken for the first.
  static constexpr std::size_t kMaxAcknowledged = 10'000;
  // No message but a storm's holds more alerts, and no address more characters (LinkUrl).
  static constexpr std::size_t kMaxTokenRules = 100;
  static constexpr std::size_t kMaxToken = 3000;
  // Of what somebody posts: a name.
  static constexpr std::size_t kMaxPostedBytes = 1024;
  static constexpr std::size_t kMaxPersonBytes = 80;

  // What a token says.
  struct Message {
    rules::Fingerprint id = 0;  // of the notification, and of what of it is asked about
    std::string sink;
    std::string drill;  // "": it was real
    rules::Timestamp sent_at;
    std::vector<rules::Fingerprint> rules;  // their identities
  };
  struct Said {
    std::string who;  // "": they did not say
    rules::Timestamp at;
    rules::Duration took{0};  // since the message was sent
  };
  struct Reading {
    enum class Kind {
      kGood,
      kWrong,    // nobody here has signed it
      kExpired,  // older than kValid
      kStale,    // the sink, its settings, or each of the rules are no longer in the configuration
    };
    Kind kind = Kind::kWrong;
    Message message;  // of a token of ours; of kGood its rules that there still are
    std::optional<Said> said;
  };

  struct Options {
    const Clock* clock = nullptr;                         // outlives me
    std::function<void(std::vector<StoredEntry>)> store;  // to be written down; any thread
    // Somebody was the first to say that they saw it. On the thread that asked.
    std::function<void(const Message&, const Said&)> tell;
    // What became of a token: one of kOutcomes. On the thread that asked.
    std::function<void(std::string_view outcome)> count;
  };
  static constexpr std::string_view kOutcomes[] = {"acknowledged", "repeated", "wrong", "expired", "stale"};

  // `restored`: what store() wrote. Without a key in it, one is made.
  Acknowledgements(Options options, const std::vector<StoredEntry>& restored);

  // Of what fires in the notification; "": nothing that a rule stands behind does. `settings`: the sink's.
  std::string token(const rules::Notification& notification, rules::Fingerprint settings,
                    rules::Timestamp sent_at) const;
  Reading read(std::string_view token, const rules::Plan& plan) const;
  // Whether this was the first word of it. `message` is what read() calls good.
  bool acknowledge(const Message& message, std::string_view who);

  // What a browser gets under kPath, and what its button does: GET only shows, POST says. `plan`: null where
  // nothing runs.
  HttpResponse answer(const HttpRequest& request, const rules::Plan* plan);

  // Said within kValid, and no longer remembered.
  std::uint64_t forgotten() const;

 private:
  struct Known {
    rules::Timestamp sent_at;
    Said said;
  };
  std::string sealed(std::string_view text) const;
  std::string seal_of(rules::Fingerprint settings) const;
  bool remember(rules::Fingerprint id, const Known& known) REQUIRES(mutex_);
  void forget_old(std::vector<StoredEntry>& gone) REQUIRES(mutex_);

  const Options options_;
  rules::Secret key_;  // constant after construction
  mutable Mutex mutex_;
  std::map<rules::Fingerprint, Known> known_ GUARDED_BY(mutex_);  // by the message's id
  std::set<std::pair<rules::Timestamp, rules::Fingerprint>> by_age_ GUARDED_BY(mutex_);  // of the same
  std::uint64_t forgotten_ GUARDED_BY(mutex_) = 0;
};

}  // namespace logbell::engine
