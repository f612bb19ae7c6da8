// Api: what the one port answers: metrics, health, the state in Prometheus's JSON, reload.
//
// handle() runs on the HTTP server's thread: it reads what the loops have published and waits for nobody.
// Thread-safe as its parts are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/http_server.h"
#include "engine/run/clock.h"
#include "engine/run/metrics.h"
#include "engine/run/reader.h"
#include "engine/run/send_loop.h"
#include "engine/run/thread_annotations.h"
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

class Api {
 public:
  struct Options {
    const Clock* clock = nullptr;  // both must outlive me
    const Metrics* metrics = nullptr;
    std::string version;
    bool may_change = false;       // requests that change something: only where no other machine can ask
    std::function<void()> reload;  // asks for it; does not wait
    std::function<Health()> health;
    std::function<std::shared_ptr<const CoreView>()> core;  // null: nothing runs
    std::function<std::shared_ptr<const std::vector<StreamView>>()> streams;
    std::function<std::vector<LaneView>()> lanes;
    std::function<std::string(const std::string& sink)> destination;  // where a sink leads, without secrets
  };
  explicit Api(Options options);

  HttpResponse handle(const HttpRequest& request) const;

 private:
  HttpResponse metrics() const;
  HttpResponse healthy() const;
  HttpResponse ready() const;
  HttpResponse reload(const HttpRequest& request) const;
  HttpResponse alerts() const;
  HttpResponse rules(const HttpRequest& request) const;
  HttpResponse sources() const;
  HttpResponse sinks() const;
  HttpResponse page() const;

  const Options options_;
};

// Whether only this machine can connect to `listen`: "127.0.0.1:9733", "[::1]:1", "localhost:1".
bool is_loopback(std::string_view listen);

}  // namespace logbell::engine
