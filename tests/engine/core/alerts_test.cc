// Alert life: for, keep_firing_for, and what may happen when not everything is known.
#include "engine/core/alerts.h"

#include <catch2/catch.hpp>

using namespace logbell;
using engine::ActiveAlerts;
using engine::Certainty;
using engine::Sample;
using engine::Step;
using rules::from_unix_ms;

namespace {

// A rule's alerts, told as a story: at(second).holds(...) / .ends() and what must come of it.
class Story {
 public:
  Story(rules::Duration for_time, rules::Duration keep) : alerts_(for_time, keep) {}
  Story& at(int second) {
    now_ = from_unix_ms(second * 1000);
    return *this;
  }
  Story& certainty(bool may_fire, bool may_resolve) {
    certainty_ = {may_fire, may_resolve, may_resolve};
    return *this;
  }
  Story& holds() { return step({Sample{{{"queue", "a"}}, 5}}); }
  Story& ends() { return step({}); }
  void expect(const std::string& steps) const {
    std::string seen;
    for (const Step& step : steps_)
      seen += (seen.empty() ? "" : " ") + std::string(rules::to_string(step.to));
    INFO("at " << rules::format_rfc3339(now_));
    CHECK(seen == steps);
  }
  const ActiveAlerts& alerts() const { return alerts_; }

 private:
  Story& step(const std::vector<Sample>& result) {
    steps_.clear();
    alerts_.step(now_, result, certainty_, steps_);
    return *this;
  }
  ActiveAlerts alerts_;
  rules::Timestamp now_;
  Certainty certainty_;
  std::vector<Step> steps_;
};

constexpr rules::Duration kNone{0};

}  // namespace

TEST_CASE("alerts: without `for` an alert fires at once and resolves at once", "[core][alerts]") {
  Story story(kNone, kNone);
  story.at(0).holds().expect("pending firing");
  story.at(1).holds().expect("");
  story.at(2).ends().expect("resolved");
}

TEST_CASE("alerts: a blip shorter than `for` never fires", "[core][alerts]") {
  Story story(std::chrono::minutes(2), kNone);
  story.at(0).holds().expect("pending");
  story.at(119).holds().expect("");
  CHECK(story.alerts().next_instant(from_unix_ms(0)) == from_unix_ms(120'000));
  story.at(119).ends().expect("inactive");
  story.at(120).holds().expect("pending");
  story.at(240).holds().expect("firing");
}

TEST_CASE("alerts: keep_firing_for holds a resolve back, and a return cancels it", "[core][alerts]") {
  Story story(kNone, std::chrono::minutes(5));
  story.at(0).holds().expect("pending firing");
  story.at(10).ends().expect("");
  CHECK(story.alerts().next_instant(from_unix_ms(10'000)) == from_unix_ms(310'000));
  story.at(200).holds().expect("");
  story.at(210).ends().expect("");
  story.at(509).ends().expect("");
  story.at(510).ends().expect("resolved");
}

TEST_CASE("alerts: what is not known neither fires nor resolves", "[core][alerts]") {
  Story story(kNone, kNone);
  story.certainty(false, true).at(0).holds().expect("");
  story.certainty(true, false).at(1).holds().expect("pending firing");
  story.at(2).ends().expect("");
  story.certainty(true, true).at(3).ends().expect("resolved");
  Story slow(std::chrono::minutes(1), kNone);
  slow.at(0).holds().expect("pending");
  // A pending alert keeps its beginning over a gap.
  slow.certainty(false, false).at(90).ends().expect("");
  slow.certainty(true, true).at(100).holds().expect("firing");
}

TEST_CASE("alerts: an active alert reads back as it was stored", "[core][alerts]") {
  engine::ActiveAlert alert;
  alert.labels = {{"queue", "a\"b"}};
  alert.state = rules::AlertState::kFiring;
  alert.value = 0.25;
  alert.active_at = from_unix_ms(1);
  alert.fired_at = from_unix_ms(2);
  alert.absent_since = from_unix_ms(3);
  CHECK(engine::active_alert_from_json(engine::to_json(alert)) == alert);
}
