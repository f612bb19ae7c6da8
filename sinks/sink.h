// Sink: how a notification leaves. What a sink type must declare to be one.
//
// A sink is called by one send loop at a time, blocks until its deadline at most, and neither retries, logs
// nor counts. Repeating a notification with the same key must be harmless wherever the protocol allows it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/notification.h"
#include "rules/problems.h"
#include "rules/result.h"
#include "rules/secret.h"
#include "rules/time.h"
#include "rules/yaml.h"

namespace logbell::sinks {

// Why an attempt ended as it did: a closed set, so that it can be a metric label.
enum class Reason {
  kOk,
  kRateLimited,
  kTimeout,
  kConnect,  // refused, unreachable, reset before the request was sent
  kDns,
  kTls,
  kProxy,
  kServerError,    // 5xx and the like
  kAuth,           // 401, 403, invalid_token: the secret is wrong or revoked
  kGone,           // 404, 410, no_service, channel_is_archived: the destination is no more
  kBadRequest,     // the payload was refused
  kPartlyRefused,  // of several alerts some were taken, the others refused
  kBlocked,        // an address we refuse to connect to
  kBadResponse,    // an answer that the protocol does not know
  kResponseLost,   // sent in full, no answer
  kIo,             // file, console
};
std::string_view to_string(Reason reason);

struct Outcome {
  enum class Kind {
    kDelivered,  // receipt says so
    kRetry,      // passing: try again, not before retry_after
    kRejected,   // for good: trying again cannot help
    kUnknown,    // sent, but the answer was lost: it may have arrived
  };
  Kind kind = Kind::kRetry;
  Reason reason = Reason::kOk;
  std::string receipt;  // kDelivered: what the sink gave back
  std::string detail;   // for people: status and the answer's beginning; never a secret
  std::optional<rules::Duration> retry_after;  // the sink's own hint
  // kDelivered: less than the whole of it, because of the sink's limits; `detail` says so if it was refused
  // first.
  bool truncated = false;
  bool sink_is_dead = false;  // kRejected: not this message but the destination or secret is refused
  // kDelivered: a message of its own, whatever first_receipt named: what follows in this episode follows it.
  bool begins = false;
  // kPartlyRefused: which of the notification's alerts, which `detail` names; the others arrived.
  std::vector<std::size_t> refused;

  static Outcome delivered(std::string receipt);
  static Outcome retry(Reason reason, std::string detail, std::optional<rules::Duration> after = {});
  static Outcome rejected(Reason reason, std::string detail, bool sink_is_dead);
  static Outcome partly_refused(std::string detail, std::vector<std::size_t> refused);
  static Outcome unknown(std::string detail);
};

// How far a way to somebody is proven; each level includes those below it (SINKS.md, "Proof levels").
enum class ProofLevel {
  kStatic,        // L0: the configuration names it, its secret resolves
  kNetwork,       // L1: name, connection, certificate
  kCredential,    // L2: the secret is one that the service knows
  kDestination,   // L3: where it leads exists and takes messages
  kAccepted,      // L4: a message was taken, with a receipt
  kReadBack,      // L5: and found there
  kAcknowledged,  // L6: and a person said so
};
std::string_view to_string(ProofLevel level);  // "L2"

// What a sink answered when it was asked without a message that anybody sees.
struct Verification {
  enum class Verdict {
    kLive,     // as far as `level` says
    kDead,     // the secret or the destination is refused: no message would arrive
    kUnknown,  // neither: no answer, or one that says nothing of it
  };
  Verdict verdict = Verdict::kUnknown;
  ProofLevel level = ProofLevel::kStatic;  // what this proves, whatever the verdict
  // kOk of kLive; kPartlyRefused where not everybody behind it would hear, whom the evidence names.
  Reason reason = Reason::kOk;
  std::string evidence;                        // for people: what was asked and answered; never a secret
  std::optional<rules::Duration> retry_after;  // kUnknown: the sink's own hint
  // When the certificate ends that was shown there (L1); unset: there was none to see.
  std::optional<rules::Timestamp> certificate_ends;

  static Verification live(ProofLevel level, std::string evidence);
  static Verification dead(Reason reason, ProofLevel level, std::string evidence);
  static Verification unknown(Reason reason, ProofLevel level, std::string evidence,
                              std::optional<rules::Duration> after = {});
};
std::string_view to_string(Verification::Verdict verdict);  // "live"

// What was found where a message was brought, read back by what it said.
struct ReadBack {
  bool answered = false;           // else nothing is known
  std::vector<std::size_t> found;  // which of the notification's alerts are there
  std::string evidence;            // for people; never a secret
  // A person who has acknowledged one of them there (SinkType::tells_who).
  struct Acknowledged {
    std::size_t alert = 0;
    std::string who;
    rules::Timestamp at;
    rules::Duration took{0};  // since it was there
    std::string evidence;
  };
  std::vector<Acknowledged> acknowledged;
  bool open = false;  // of one of them that may still come: worth asking again
};

// What a message may say of its own delivery.
struct Attempt {
  std::uint32_t number = 1;
  rules::Timestamp now;                               // wall time
  bool maybe_sent = false;                            // an earlier attempt may have arrived
  rules::Duration timeout{std::chrono::seconds(15)};  // connecting at most 5 s of it
  // Of a storm: what this message speaks for, in order; empty: for itself. Valid during the call.
  std::vector<const rules::Notification*> speaks_for;
  // SinkType::follows: the receipt of the message that this one follows, the first one of its group and
  // episode that arrived here; "": none is known.
  std::string first_receipt;
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual Outcome deliver(const rules::Notification& notification, const Attempt& attempt) = 0;
  // Asks whether a message would arrive; nobody sees anything of it. Of a type that cannot be asked
  // (SinkType::verifies is kStatic) it is not called.
  virtual Verification verify(const Attempt& attempt);
  // Looks for what deliver() has brought there (L5). Only of a type that reads back (SinkType::reads_back),
  // and of drills only, unless it tells who has acknowledged what (SinkType::tells_who).
  virtual ReadBack read_back(const rules::Notification& notification, const Attempt& attempt);
};

// Makes the address of a page on which a person says that they saw this message, sent at this moment; "": no
// such page. Thread-safe. It is a capability: nothing but the message itself may hold it.
using AcknowledgeUrl =
    std::function<std::string(const rules::Notification& notification, rules::Timestamp sent_at)>;

// What sinks share: set once per process.
struct SinkContext {
  std::string external_url;  // of this logbell, for links; "" = none
  std::string environment;
  AcknowledgeUrl acknowledge_url = {};  // unset: messages have no such link
};

// A sink's configuration, parsed and validated; immutable; holds no resources.
class SinkConfig {
 public:
  virtual ~SinkConfig() = default;
  // How many endpoints it has, each with its own outbox and send loop: ≥ 1 (Alertmanager: one per peer).
  virtual std::size_t lanes() const { return 1; }
  virtual std::unique_ptr<Sink> build(std::size_t lane, const SinkContext& context) const = 0;
  // Secrets in it, so that logs can hide them by value.
  virtual std::vector<rules::Secret> secrets() const { return {}; }
  // Of a type that reads back: whether this configuration lets it.
  virtual bool reads_back() const { return true; }
  // Where it leads, for people: a URL's host, a path. Never a secret.
  virtual std::string destination() const = 0;
  // What would be handed over, as whoever receives it reads it: of JSON every text, one a line, of a mail its
  // subject and its lines. No secret is in it. For tests of rules; nothing is sent. Unless a type says
  // otherwise: what a terminal shows.
  virtual std::string words(const rules::Notification& notification, const Attempt& attempt,
                            const SinkContext& context) const;
  // The file that it writes, if that is what it does: nobody may take it for a log.
  virtual std::string writes_to() const { return {}; }
};

// Reads a field of a sink's configuration; supplied by engine/run/config.cc, which knows the environment and
// the files. Each records problems itself and returns nothing in that case.
class FieldReader {
 public:
  virtual ~FieldReader() = default;
  virtual std::optional<std::string> text(std::string_view key, bool required) = 0;
  // `key` or `key_file`; placeholders and empties are problems. With --assume-secrets a stand-in that is
  // never sent.
  virtual std::optional<rules::Secret> secret(std::string_view key, bool required) = 0;
  virtual std::optional<std::vector<std::string>> text_list(std::string_view key, bool required) = 0;
  virtual std::optional<bool> boolean(std::string_view key) = 0;
  virtual std::optional<rules::Duration> duration(std::string_view key) = 0;
  virtual const rules::yaml::Node* raw(std::string_view key) = 0;
  virtual bool assume_secrets() const = 0;
  virtual rules::Place place(std::string_view key) const = 0;  // of the key's value, else of the sink
  virtual void error(std::string_view key, std::string reason, std::string fix = {}) = 0;
  virtual void warn(std::string_view key, std::string reason, std::string fix = {}) = 0;
};

// One row in sinks/registry.cc. Keys that no reader asked for are unknown keys: the caller reports them with
// a suggestion from `keys`.
struct SinkType {
  std::string_view key;  // "slack", as written under the sink's name
  std::unique_ptr<SinkConfig> (*parse)(FieldReader& fields);
  std::vector<std::string_view> keys;  // every key it knows
  bool tells_people = true;
  bool pages = false;
  bool per_alert = false;
  // What fires there stays open until its end is told, an incident say: a drill is ended right behind itself.
  bool stays_open = false;
  // What it says can hold a link, and somebody to click on it: SinkContext::acknowledge_url (L6).
  bool shows_links = false;
  // Its messages follow one another: it is told what it gave back for the first one of an episode.
  bool follows = false;
  // The most that verify() can prove; kStatic: it cannot be asked without a message.
  ProofLevel verifies = ProofLevel::kStatic;
  bool reads_back = false;  // what was delivered can be looked for: read_back()
  bool tells_who = false;   // which says who has acknowledged what: it is asked again and again (L6)
  // May be told each minute that logbell lives (`heartbeat: {sink: …}`): what it hears is no message to a
  // person by itself.
  bool takes_heartbeats = false;
  // How often it may be asked while it is live, where the destination minds; unset: as often as any.
  std::optional<rules::Duration> verify_every;
  std::optional<rules::Duration> refresh;
  rules::Duration min_interval{0};  // between two messages: the destination's rate limit
  // More than so many a minute, and one message speaks for all that wait; 0: each for itself. Not of a type
  // that is told alert by alert.
  std::uint32_t messages_per_minute = 0;
};

}  // namespace logbell::sinks
