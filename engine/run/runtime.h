// Runtime: the loops, their threads, and their life: start, reload, drain, stop.
//
// Reader -> queue -> core -> writer -> lanes. Each loop is a class with a step() that one thread calls.
// start(), reload(), tend() and stop() belong to the main thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/http_server.h"
#include "engine/io/store.h"
#include "engine/run/acknowledge.h"
#include "engine/run/api.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "engine/run/drill.h"
#include "engine/run/drill_schedule.h"
#include "engine/run/feedback.h"
#include "engine/run/first_receipts.h"
#include "engine/run/heard.h"
#include "engine/run/heartbeat.h"
#include "engine/run/log.h"
#include "engine/run/metrics.h"
#include "engine/run/proof.h"
#include "engine/run/queue.h"
#include "engine/run/reader.h"
#include "engine/run/send_loop.h"
#include "engine/run/verify.h"
#include "engine/run/waker.h"
#include "engine/run/watchdog.h"
#include "engine/run/writer.h"

namespace logbell::engine {

// Wall time as the core wants it: a small step back is held, time going on at half speed until the wall clock
// is ahead again, so that nothing that was shown is taken back; a larger one is passed on, and the core sets
// its clocks back. Both are counted. Owned by one thread; the clock must outlive it.
class HeldClock {
 public:
  static constexpr rules::Duration kMostHeld{std::chrono::seconds(10)};

  explicit HeldClock(const Clock& clock) : clock_(clock) {}
  rules::Timestamp now();
  std::uint64_t steps() const { return steps_; }  // back

 private:
  const Clock& clock_;
  bool first_ = true;
  rules::Timestamp wall_;
  rules::Instant instant_;
  std::chrono::microseconds held_{0};  // since the epoch
  std::uint64_t steps_ = 0;
};

// When a loop last got on. Thread-safe.
class Heartbeat {
 public:
  void beat(rules::Instant now) { last_us_ = now.time_since_epoch().count(); }
  // It waits for work and will not beat until there is some.
  void rest() { last_us_ = kResting; }
  // Silent for so long; unset: it rests.
  std::optional<rules::Duration> silent(rules::Instant now) const;

 private:
  static constexpr std::int64_t kResting = INT64_MIN;
  std::atomic<std::int64_t> last_us_{kResting};
};

// A lane's sink refuses for good, or works (again).
struct SinkHealth {
  std::string sink;
  std::string lane;
  bool dead = false;
  std::string reason;
};
// What a lane's sink answered when it was asked.
struct SinkVerdict {
  Verdict verdict;
  bool unverified = false;  // unknown for kUnverifiedAfter
};
struct PlanChange {
  std::shared_ptr<const rules::Plan> plan;
};
struct FirstPass {};  // everything that was there at the start has been read
// What waited at a sink when the configuration took it away: nobody is told of it any more.
struct GivenUp {
  std::vector<rules::Notification> notifications;
  std::uint64_t number = 0;  // to be said to Options::gave_up
};
using CoreInput =
    std::variant<MatchBatch, PlanChange, SinkHealth, SinkVerdict, Condition, FirstPass, GivenUp>;
using CoreQueue = BoundedQueue<CoreInput>;

// The core's driver: what is queued goes in, a tick goes to the writer, a view to whoever looks.
// Owned by the core thread.
class CoreLoop {
 public:
  static constexpr std::size_t kMaxStepBytes = 4 << 20;  // weight of batches taken in before a tick
  static constexpr rules::Duration kIdle{5000};          // waits no longer, so that the heartbeat goes on
  static constexpr rules::Duration kViewInterval{100};   // views follow what moves no faster
  static constexpr rules::Duration kFirstConfirmRetry{
      20};  // the same instant is asked about again after this,
  static constexpr rules::Duration kLastConfirmRetry{1000};  // then after twice that, up to this

  // After a change of the plan each rule has said by then what fires.
  static constexpr rules::Duration kRulesSettle{2000};

  struct Options {
    std::shared_ptr<const rules::Plan> plan;  // the pipeline's
    const Clock* clock = nullptr;             // these outlive me
    Log* log = nullptr;
    Metrics* metrics = nullptr;
    CoreQueue* queue = nullptr;
    std::string installation;          // whose notifications these are: of two, none has the other's key
    std::function<bool(Tick)> commit;  // may wait; false: nothing is taken any more
    std::function<void()> confirm;     // the sources should be looked at: how far are they read?
    std::function<void(std::shared_ptr<const CoreView>)> publish;
    std::function<void()> first_pass;                            // everything that was there is evaluated
    std::function<void(std::uint64_t number)> gave_up;  // what a GivenUp leads to is submitted; may be unset
    std::function<void(std::uint64_t generation)> plan_changed;  // and its view is published
    // What lines of a drill have to tell; may be unset: there are none.
    std::function<std::vector<rules::Notification>(const MatchBatch&, const rules::Plan&,
                                                   rules::Timestamp now)>
        drill;
  };
  CoreLoop(std::unique_ptr<Pipeline> pipeline, Options options);

  // Takes what is queued, evaluates it. Returns when to step again if nothing comes.
  rules::Instant step();
  // Until something comes, or `until`.
  void wait(rules::Instant until);
  bool ended() const {
    return ended_;
  }  // the queue was closed, and everything in it is evaluated and handed over

 private:
  void take(CoreInput input, rules::Timestamp now);
  void take(const SinkHealth& health, rules::Timestamp now);
  void take(const SinkVerdict& answer, rules::Timestamp now);
  void take(const Condition& condition, rules::Timestamp now);
  void tell_of_missed(const GivenUp& given_up, rules::Timestamp now);
  void route_around(const rules::SinkSpec& sink);
  // Why a lane is called dead. Either is reason enough; a message that was delivered ends both.
  struct WhyDead {
    bool refused = false;   // a message
    bool verified = false;  // a question
  };
  void set_dead(const rules::SinkSpec& sink, const std::string& lane, WhyDead dead,
                const std::string& summary, rules::Timestamp now);
  void forget_removed_sinks(rules::Timestamp now);
  void tell_of_sinks_left_behind();
  void publish(rules::Timestamp now, rules::Instant instant);

  std::unique_ptr<Pipeline> pipeline_;
  const Options options_;
  std::shared_ptr<const rules::Plan> plan_;
  HeldClock held_;
  std::uint64_t steps_seen_ = 0;
  std::optional<CoreInput> waiting_;                                  // taken out of the queue by wait()
  std::map<std::string, std::map<std::string, WhyDead>> dead_lanes_;  // by sink and lane
  // Sinks that the last drill did not reach, or where messages wait for long: by the alerts that say so.
  std::map<std::string, std::set<std::string>> avoided_;
  bool dirty_ = true;  // something has changed since the last view
  bool show_now_ = true;
  rules::Instant shown_at_;
  std::optional<rules::Timestamp> asked_for_;
  rules::Instant asked_at_;
  rules::Duration ask_again_after_{0};
  std::vector<rules::Notification> drills_;  // to go with the next tick
  bool passed_ = false;
  std::optional<std::uint64_t> gave_up_;
  std::deque<std::pair<rules::Instant, GivenUp>> given_up_;  // with when to look at it
  std::optional<std::uint64_t> changed_to_;  // a generation that nobody has been told of
  bool ended_ = false;
};

// The reader's driver: batches into the queue, plans in between them. step() belongs to the reader's thread,
// the rest is thread-safe.
class ReaderLoop {
 public:
  static constexpr rules::Duration kIdle{5000};
  static constexpr rules::Duration kViewInterval{500};

  struct Options {
    const Clock* clock = nullptr;  // these outlive me
    Log* log = nullptr;
    Waker* waker = nullptr;
    CoreQueue* queue = nullptr;
    std::function<void(std::shared_ptr<const std::vector<StreamView>>)> publish;
    std::function<void()> ended;  // every source has ended for good
  };
  ReaderLoop(std::unique_ptr<Reader> reader, Options options);

  rules::Instant step();
  void wait(rules::Instant until);
  bool done() const { return done_; }

  void confirm();
  // There is something to read that no file descriptor tells of.
  void wake() { options_.waker->kick(); }
  void replace_plan(std::shared_ptr<const rules::Plan> plan);
  // Read what is written, until `until` at most, then end.
  void finish(rules::Instant until);

 private:
  void say(const ReaderNote& note);

  std::unique_ptr<Reader> reader_;
  const Options options_;
  bool done_ = false;
  bool passed_ = false;
  bool told_end_ = false;
  rules::Instant shown_at_;
  std::atomic<bool> confirm_{false};
  Mutex mutex_;
  std::vector<std::shared_ptr<const rules::Plan>> plans_ GUARDED_BY(mutex_);
  std::optional<rules::Instant> finish_by_ GUARDED_BY(mutex_);
};

// One lane of one sink: its send loop, its mailbox. step() and wait() belong to the lane's thread, the rest
// is thread-safe. While its sink is talked to, which may take long, nothing of it is held.
class Lane final : public DeliveryLog {
 public:
  struct Options {
    std::string sink;
    std::string lane;
    const Clock* clock = nullptr;  // these outlive me
    Log* log = nullptr;
    Metrics* metrics = nullptr;
    Writer* writer = nullptr;
    std::function<void(SinkHealth)> health;
    std::function<void(const Settled&)> settled;  // and written down, or about to be; may be unset
    std::set<std::string> elsewhere;              // what the store has under elsewhere_prefix()
    std::vector<StoredEntry> firsts;              // and under FirstReceipts::prefix()
  };
  // What a (new) configuration makes of the lane.
  struct Setting {
    std::unique_ptr<sinks::Sink> sink;
    Fallbacks fallbacks;
    rules::Duration min_interval{0};
    std::uint32_t per_minute = 0;
    std::optional<rules::Duration> fallback_after;
    bool follows = false;
  };
  // Where the store has the alerts of whose firing a fallback of this lane was told: each under the prefix
  // and a hash.
  static constexpr std::string_view kElsewherePrefix = "run/elsewhere/";
  static std::string elsewhere_prefix(const std::string& lane);
  Lane(Options options, Setting setting);
  ~Lane() override;

  std::optional<rules::Instant> step();
  void wait(std::optional<rules::Instant> until);
  bool done() const { return done_; }

  void add(Delivery delivery);
  // From its next step on: a new sink, with what waits for it; an open circuit is closed.
  void replace(Setting setting);
  // One immediate try for whatever waits, until `deadline`, then done: at once where the sink alone ends,
  // else after leave(), for until then others may have this one tell what theirs did not take.
  void drain(rules::Instant deadline, SendLoop::Ending ending);
  void leave();
  // After drain(): nothing is left to do. `arrived`: how much has come; while that is the same it has stayed
  // so.
  bool quiet(std::uint64_t& arrived) const;
  // Tells the fallbacks instead of a step, if the sink is being talked to and does not answer.
  void tell_fallbacks();
  LaneView view() const;
  const std::string& name() const { return options_.lane; }
  void rest() { heartbeat_.rest(); }
  std::optional<rules::Duration> silent(rules::Instant now) const { return heartbeat_.silent(now); }

  // The loop's, from its steps.
  bool begin(const std::vector<DeliveryId>& ids) override;
  void settle(const std::vector<Settled>& settled) override REQUIRES(stepping_);
  void told_elsewhere(const std::string& alert, bool of_firing) override REQUIRES(stepping_);
  std::string first_receipt(const rules::Notification& notification) override REQUIRES(stepping_);
  void sink_dead(const std::string& sink, const std::string& lane, const std::string& why) override;
  void sink_alive(const std::string& sink, const std::string& lane) override;

 private:
  class Talking;
  struct Drain {
    rules::Instant deadline;
    SendLoop::Ending ending = SendLoop::Ending::kProcess;
  };
  void show() REQUIRES(stepping_);  // to the other threads, how the loop does
  void say(const Settled& settled);
  static std::string names_of(const rules::Notification& notification);
  void start(Setting setting) REQUIRES(stepping_);

  const Options options_;
  Heartbeat heartbeat_;

  // Of whoever steps the loop: the lane's thread, but while the sink is talked to. Before mutex_.
  Mutex stepping_;
  std::unique_ptr<SendLoop> loop_ GUARDED_BY(stepping_);
  std::set<std::string> elsewhere_ GUARDED_BY(stepping_);  // alerts that a fallback was told of
  FirstReceipts firsts_ GUARDED_BY(stepping_);
  bool follows_ GUARDED_BY(stepping_) = false;  // the sink wants them
  bool talking_ GUARDED_BY(stepping_) = false;  // to the sink

  // Owned by the lane's thread.
  bool draining_ = false;
  bool stays_ = false;  // until leave()
  bool done_ = false;

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Delivery> mailbox_ GUARDED_BY(mutex_);
  std::optional<Setting> replacement_ GUARDED_BY(mutex_);
  std::optional<Drain> drain_ GUARDED_BY(mutex_);
  bool leave_ GUARDED_BY(mutex_) = false;
  bool quiet_ GUARDED_BY(mutex_) = false;
  std::uint64_t arrived_ GUARDED_BY(mutex_) = 0;
  LaneView view_ GUARDED_BY(mutex_);
};

// The process stops, and a sink that hangs takes the time of those who would be told instead: after half of
// it they are told, in the lane's place, after half of the rest whoever comes next on a list, and so on.
// step() and wait() belong to one thread, the rest is thread-safe.
class LastCall {
 public:
  LastCall(const Clock& clock, std::vector<std::shared_ptr<Lane>> lanes, rules::Instant until);
  std::optional<rules::Instant> step();
  void wait(std::optional<rules::Instant> until);
  void end();
  bool done() const;

 private:
  const Clock& clock_;
  const std::vector<std::shared_ptr<Lane>> lanes_;
  const rules::Instant until_;
  rules::Instant next_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  bool done_ GUARDED_BY(mutex_) = false;
};

// What a stop leaves in the outbox, for the last line of the log: what people should have heard. Repeats,
// refreshes and drills are not counted.
struct LeftBehind {
  std::size_t undelivered = 0;
  std::size_t untold = 0;           // of these, the ones that no fallback was told either
  std::vector<std::string> lanes;   // of what is untold, or where all is told of that; each once, in their order
  std::vector<std::string> alerts;  // the names of theirs
};
LeftBehind left_behind(const std::vector<Delivery>& rows);

// What runs by itself: a step, the wait for what makes the next one worth it, until it is done.
struct Loop {
  std::string name;
  std::function<std::optional<rules::Instant>()> step;  // when to step again; unset: when something comes
  std::function<void(std::optional<rules::Instant> until)> wait;
  std::function<bool()> done;  // no further step
  std::function<void()> rest;  // once, after the last one
};

// A loop that runs.
class Worker {
 public:
  virtual ~Worker() = default;  // waits for its end
  // Whether it has ended, waiting at most until `until`.
  virtual bool wait(const Clock& clock, rules::Instant until) = 0;
  virtual bool done() = 0;
};

// Who runs the loops. The runtime's own gives each a thread; the simulator steps them all in one, in an order
// of its own.
class Driver {
 public:
  virtual ~Driver() = default;
  virtual std::unique_ptr<Worker> run(Loop loop) = 0;
  // A loop waits for what the writer's will do, on the thread that runs both.
  virtual void step_writer() = 0;
};

// DeliveryDelayed for each sink: whether something has waited there for kDeliveryDelayed, and it is not dead
// (of that SinkDead tells).
inline constexpr rules::Duration kDeliveryDelayed{std::chrono::minutes(5)};
std::vector<Condition> delays_of(const std::vector<LaneView>& lanes, rules::Timestamp now);

class Runtime {
 public:
  // Weight of the batches that wait for the core: reading is never far ahead, the log file is the buffer.
  static constexpr std::size_t kQueueBytes = 8 << 20;
  static constexpr rules::Duration kStalled{std::chrono::seconds(30)};      // reader, core, writer
  static constexpr rules::Duration kLaneStalled{std::chrono::seconds(60)};  // an attempt may take 15 s
  static constexpr rules::Duration kLastGasp{std::chrono::seconds(5)};      // to tell somebody before exit 74
  static constexpr rules::Duration kTrimAfter{
      std::chrono::seconds(1)};  // a start or a reload: its commits are done
  static constexpr rules::Duration kStateLostFires{std::chrono::hours(1)};
  static constexpr rules::Duration kAgesFor{std::chrono::seconds(1)};  // proofs' ages in a scrape
  static constexpr rules::Duration kLookAtProofs{std::chrono::seconds(30)};  // what is due, what is too old

  struct Options {
    std::shared_ptr<const Config> config;
    const Clock* clock = nullptr;  // these outlive me
    Log* log = nullptr;
    Metrics* metrics = nullptr;
    Front* front = nullptr;    // may be missing: nobody can ask then
    Driver* driver = nullptr;  // unset: each loop has a thread; else it outlives me too
    std::string version;
    std::string installation;  // of tests; "": made by the kernel at the first start, and kept with the state
    int stdin_fd = 0;
    rules::Duration lock_wait = Store::kLockWait;
    bool plan_refused = false;  // an older configuration runs
    bool verify = false;        // sinks are asked again and again
    bool drills = false;        // and drilled, as the configuration says
    std::optional<rules::Duration> ask_again = {};    // VerifyLoop's
    std::optional<rules::Duration> first_drill = {};  // so long after the start; unset: DrillSchedule::kFirst
    Verdicts verdicts = {};     // what they have answered already
    // Of a loop that has hung for `stall_limit`: ends the process. Unset: nobody looks.
    std::function<void(const Watchdog::Progress&)> stalled;
    rules::Duration stall_limit = Watchdog::kLimit;
    bool heartbeat = false;                               // the configuration's is sent
    std::function<void()> wake_main;                      // tend() has something to do; any thread
    std::function<std::optional<ReloadAnswer>()> reload;  // somebody asks for one; the HTTP server's thread
  };
  struct Failure {
    int exit_status = 74;
    std::string message;
  };
  // The store keeps the configuration's texts under it.
  static constexpr std::string_view kTextsPrefix = "run/config/";

  static tl::expected<std::unique_ptr<Runtime>, Failure> start(Options options);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // A configuration that compiled, and what its sinks have answered. What cannot change while running is
  // logged.
  void reload(const std::shared_ptr<const Config>& config, Verdicts verdicts = {});
  void refused();  // a reload was: the old plan goes on
  void tell(Condition condition);  // to the core; any thread
  // What the main thread does between events: lanes of removed sinks.
  void tend();
  // Set when the process should end by itself: 0 every source has ended, 74 the disk did not keep what was
  // written, or another instance has the state directory.
  std::optional<int> finished() const;
  // As if the process had died: nothing more is read, written or sent. Of a driver that has stopped its
  // loops.
  void abandon() { stopped_ = true; }
  // Reads what is written, evaluates it, commits, gives every waiting notification one immediate try.
  // True: everything has ended. False: something hung beyond `grace`; nothing is lost that the store holds,
  // but the process must end without destructors. So it must where this throws: they would wait for loops
  // that nobody told to end.
  bool stop(rules::Duration grace);

  // Whether the core works with the newest configuration, and shows it.
  bool reload_done() const { return core_generation_ == config_.get()->plan->generation; }
  std::shared_ptr<const Config> config() const { return config_.get(); }
  Health health() const;
  // As of the core's last look, as everybody else sees it.
  std::shared_ptr<const CoreView> core_view() const { return core_view_.get(); }
  std::vector<LaneView> lane_views() const;
  Verdicts verdicts() const;
  std::vector<ProofView> proofs() const;
  DrillDesk& drills() { return *drills_; }
  std::vector<MetricValue> bounds() const;

 private:
  explicit Runtime(Options options);
  struct Post {
    std::shared_ptr<Lane> lane;
    std::unique_ptr<Worker> worker;
  };

  std::optional<Failure> begin();
  void know_own_files(const Config& config);
  Lane::Setting setting(const Config& config, const rules::SinkSpec& sink, std::size_t lane);
  void open_lane(const Config& config, const rules::SinkSpec& sink, std::size_t index);
  void forget_lane(const std::string& lane);
  void give_up(const std::vector<Delivery>& rows, std::string_view why);
  void hand_to_main(const std::vector<Delivery>& rows);
  void settle_given_up();
  void tell_verdict(const Verdict& verdict);
  void tell_drill(const DrillReport& report);
  void look_at_proofs(rules::Instant now);
  void tell_read_back(const std::string& lane, const rules::Notification& about, const sinks::ReadBack& back,
                      const std::set<std::size_t>* all);
  void tell_acknowledged(const Acknowledgements::Message& message, const Acknowledgements::Said& said);
  // `way`: by which it came, "link" or "read_back".
  void count_acknowledgement(std::string_view way, std::string_view outcome, double by = 1);
  void show_fingerprint(const Config& config);
  std::vector<std::string> stalled(rules::Duration limit) const;
  std::vector<Watchdog::Progress> progress() const;
  PulseFacts pulse_facts() const;
  std::unique_ptr<Worker> run(Loop loop);
  std::unique_ptr<Worker> run_lane(const std::shared_ptr<Lane>& lane);
  std::shared_ptr<Lane> lane(const std::string& name) const;
  bool lanes_are_quiet(const std::vector<Post*>& posts) const;
  void say_stopped(bool ended, bool written, rules::Duration took);
  std::vector<StoredEntry> text_entries(const Config& config);

  const Options options_;
  Published<Config> config_;
  Published<CoreView> core_view_;
  Published<std::vector<StreamView>> stream_views_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> grown_{false};  // a start or a reload has just needed memory for a moment
  std::optional<rules::Instant> trim_at_;
  std::atomic<bool> plan_refused_{false};
  std::atomic<bool> reload_failed_{false};
  std::atomic<int> finished_{-1};
  std::atomic<std::uint64_t> core_generation_{0};
  Heartbeat reader_heartbeat_;
  Heartbeat core_heartbeat_;
  Heartbeat writer_heartbeat_;
  std::uint64_t told_generation_ = 0;              // of a plan whose verdicts the core was told
  std::set<std::string> stored_texts_;             // paths
  std::optional<rules::Timestamp> state_lost_at_;  // StateLost fires since
  std::uint64_t displaced_seen_ = 0;               // StoreCounters::displaced; the writer's thread's
  std::atomic<bool> displaced_{false};             // it has moved
  bool stopped_ = false;

  // In the order of the start; destroyed in reverse.
  Feedback feedback_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ProofBook> proofs_;
  // For scrapes: many at once ask the routes once.
  mutable Mutex ages_mutex_;
  mutable std::vector<MetricValue> ages_ GUARDED_BY(ages_mutex_);
  mutable std::optional<rules::Instant> ages_at_ GUARDED_BY(ages_mutex_);
  std::unique_ptr<DrillDesk> drills_;
  std::unique_ptr<DrillSchedule> schedule_;  // null: only on demand; the main thread's, as is this
  rules::Instant proofs_seen_;
  CoreQueue queue_{kQueueBytes};
  std::unique_ptr<CoreLoop> core_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Heard> heard_;
  std::unique_ptr<Acknowledgements> acknowledgements_;
  std::unique_ptr<VerifyLoop> verify_;  // null: sinks are not asked; a lane that outlives a stop may ask it
  mutable Mutex lanes_mutex_;
  std::map<std::string, Post> lanes_ GUARDED_BY(lanes_mutex_);
  std::vector<Post> retired_;  // of removed sinks; the main thread's
  // Rows that have no lane, by sink: they leave the outbox once it is on the disk that somebody will be told
  // so. The main thread's.
  std::map<std::string, std::vector<Settlement>> given_up_;
  std::uint64_t given_up_number_ = 0;
  std::atomic<std::uint64_t> told_of_given_up_{0};  // up to this GivenUp::number
  Mutex unheard_mutex_;
  std::vector<rules::Notification> unheard_ GUARDED_BY(unheard_mutex_);  // of rows that the writer gave up
  std::unique_ptr<PollWaker> reader_waker_;
  std::unique_ptr<ReaderLoop> reader_;
  std::unique_ptr<HeartbeatLoop> heartbeat_;  // null: nobody is told that logbell lives
  std::unique_ptr<LastCall> last_call_;       // null: nobody stops it, or a driver does, where no sink hangs
  std::unique_ptr<Worker> last_call_thread_;
  std::unique_ptr<Worker> verify_thread_;
  std::unique_ptr<Worker> heartbeat_thread_;
  std::unique_ptr<Watchdog> watchdog_;  // null: nobody looks
  std::unique_ptr<Worker> watchdog_thread_;
  std::unique_ptr<Worker> writer_thread_;
  std::unique_ptr<Worker> core_thread_;
  std::unique_ptr<Worker> reader_thread_;
};

}  // namespace logbell::engine
