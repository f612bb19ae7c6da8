// Api: what the one port answers: metrics, health, the state in Prometheus's JSON, reload.
//
// handle() runs on the HTTP server's thread: it reads what the loops have published and waits for nobody.
// Thread-safe as its parts are.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/http_server.h"
#include "engine/run/acknowledge.h"
#include "engine/run/clock.h"
#include "engine/run/drill.h"
#include "engine/run/heard.h"
#include "engine/run/metrics.h"
#include "engine/run/proof.h"
#include "engine/run/reader.h"
#include "engine/run/send_loop.h"
#include "engine/run/thread_annotations.h"
#include "engine/run/verify.h"
#include "rules/plan.h"

namespace logbell::engine {

// The latest value that one thread shows to others. Thread-safe.
template <class T>
class Published {
 public:
  void set(std::shared_ptr<const T> value) {
    const MutexLock lock(mutex_);
    value_.swap(value);
  }  // what it replaced is freed here, outside of the lock
  // Null before the first set().
  std::shared_ptr<const T> get() const {
    const MutexLock lock(mutex_);
    return value_;
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const T> value_ GUARDED_BY(mutex_);
};

// What the core looked like after a tick. Immutable.
struct CoreView {
  std::shared_ptr<const rules::Plan> plan;
  std::vector<AlertView> alerts;
  std::vector<RuleView> rules;
  rules::Timestamp at;
};

// How the process does, for probes and people.
struct Health {
  std::vector<std::string> stalled;   // loops that do not get on: "core: no progress for 31s"
  bool ready = false;                 // everything that was written has been read once
  std::vector<std::string> degraded;  // what works less well than it should; ready all the same
};

// What came of a reload, for whoever asked.
struct ReloadAnswer {
  int status = 200;
  std::string text;
};

// Where the HTTP thread asks for a reload and the main thread answers. Thread-safe.
class ReloadDesk {
 public:
  // The longest that one reload may keep other requests waiting; a health check may take a second.
  static constexpr rules::Duration kLongestWait{800};

  // `wake` calls the main thread.
  explicit ReloadDesk(std::function<void()> wake) : wake_(std::move(wake)) {}
  // Unset: not answered within `limit`; it goes on all the same.
  std::optional<ReloadAnswer> ask(rules::Duration limit = kLongestWait);
  // Whether somebody has asked since the last answer() began.
  bool wanted() const;
  // To everybody who has asked by now.
  void answer(ReloadAnswer answer);

 private:
  const std::function<void()> wake_;
  mutable Mutex mutex_;
  std::condition_variable_any answered_;
  std::uint64_t asked_ GUARDED_BY(mutex_) = 0;
  std::uint64_t answered_up_to_ GUARDED_BY(mutex_) = 0;
  ReloadAnswer last_ GUARDED_BY(mutex_);
};

class Api {
 public:
  // A page of metrics is shown again for so long, and for so many times as long as it took to make: whoever asks for
  // hundreds at once delays no health check.
  static constexpr rules::Duration kPageFor{4};
  static constexpr int kPageTimes = 4;

  struct Options {
    const Clock* clock = nullptr;  // both must outlive me
    const Metrics* metrics = nullptr;
    std::string version;
    bool may_change = false;  // requests that change something: only where no other machine can ask
    std::function<std::optional<ReloadAnswer>()> reload;  // asks for it; unset: it still goes on
    std::function<Health()> health;
    std::function<std::shared_ptr<const CoreView>()> core;  // null: nothing runs
    std::function<std::shared_ptr<const std::vector<StreamView>>()> streams;
    std::function<std::vector<LaneView>()> lanes;
    std::function<Verdicts()> verdicts;              // may be missing: sinks are not asked
    std::function<std::vector<ProofView>()> proofs;  // may be missing, as may this: nothing runs
    // How the newest deliveries ended, at most so many, the newest first; may be unset.
    std::function<::logbell::rules::Result<std::vector<Receipt>>(std::size_t)> deliveries;
    DrillDesk* drills = nullptr;                     // outlives me
    Acknowledgements* acknowledgements = nullptr;    // as may this; outlives me
    Heard* heard = nullptr;  // others' heartbeats; null: nobody is listened for; outlives me
    std::function<std::vector<MetricValue>()>
        bounds;  // how full what waits is, and what was forgotten; may be unset
    std::function<std::string(const std::string& sink)> destination;  // where a sink leads, without secrets
  };
  explicit Api(Options options);

  HttpResponse handle(const HttpRequest& request) const;

 private:
  HttpResponse metrics() const;
  HttpResponse healthy() const;
  HttpResponse ready() const;
  HttpResponse reload(const HttpRequest& request) const;
  // Why the request may not change anything; nothing: it may.
  std::optional<HttpResponse> refuse_change(const HttpRequest& request) const;
  HttpResponse begin_drill(const HttpRequest& request) const;
  HttpResponse drills() const;
  HttpResponse drill(std::string_view id) const;
  HttpResponse acknowledge(const HttpRequest& request) const;
  HttpResponse proof() const;
  HttpResponse deliveries(const HttpRequest& request) const;
  HttpResponse heartbeat(const HttpRequest& request) const;
  HttpResponse heartbeats() const;
  HttpResponse alerts() const;
  HttpResponse rules(const HttpRequest& request) const;
  HttpResponse sources() const;
  HttpResponse sinks() const;
  HttpResponse page() const;

  const Options options_;
  mutable Mutex mutex_;
  mutable std::string metrics_page_ GUARDED_BY(mutex_);
  mutable std::optional<rules::Instant> metrics_until_ GUARDED_BY(mutex_);
};

// The port, and which Api answers on it: a parked process that starts to run keeps its port and its callers.
// serve() and close() belong to the main thread; requests come on the server's.
class Front {
 public:
  // Listens there, or goes on listening, and lets `api` answer from here on. What it refers to must live
  // until the next serve() or close().
  rules::Result<> serve(const std::string& listen, std::shared_ptr<const Api> api);
  void close();
  std::string address() const;  // "" = closed
  // Connections that lost their place to others, since the process began. Thread-safe.
  std::uint64_t turned_away() const { return turned_away_; }

 private:
  std::atomic<std::uint64_t> turned_away_{0};  // before the server, which counts on it until it is gone
  Published<Api> api_;
  std::string listen_;
  std::unique_ptr<HttpServer> server_;
};

// Whether only this machine can connect to `listen`: "127.0.0.1:9733", "[::1]:1", "localhost:1".
bool is_loopback(std::string_view listen);

}  // namespace logbell::engine
