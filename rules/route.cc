#include "rules/route.h"

#include <algorithm>

namespace logbell::rules {
namespace {

// A tree with more different ways than this through labels from logs: nobody could read the table either. The
// rest is answered as if nothing took the alert, so that it is refused rather than believed.
constexpr std::size_t kMaxPaths = 4096;

void match_into(const Route& node, const Labels& labels, std::vector<const Route*>& out) {
  const std::size_t before = out.size();
  for (const Route& child : node.routes) {
    const bool takes = std::all_of(child.matchers.begin(), child.matchers.end(),
                                   [&](const LabelMatcher& m) { return m.matches(labels); });
    if (!takes) continue;
    match_into(child, labels, out);
    if (!child.continue_) break;
  }
  if (out.size() == before) out.push_back(&node);
}

// One state of the walk: what was assumed so far about matchers on labels from logs, and who took the alert.
struct Trail {
  std::vector<const Route*> nodes;
  std::vector<Assumption> assumed;
};

std::optional<bool> decided(const LabelMatcher& matcher, const LabelSpace& space, const Trail& walk) {
  const bool from_logs =
      std::find(space.from_logs.begin(), space.from_logs.end(), matcher.name) != space.from_logs.end();
  if (!from_logs || space.fixed.has(matcher.name)) return matcher.matches(space.fixed);
  const auto can_be = [&](const std::string& value) {
    return std::all_of(walk.assumed.begin(), walk.assumed.end(), [&](const Assumption& known) {
      return known.matcher->name != matcher.name || known.matcher->matches(value) == known.holds;
    });
  };
  for (const Assumption& known : walk.assumed) {
    const LabelMatcher& other = *known.matcher;
    if (other.name != matcher.name) continue;
    // The same test cannot have two answers for one alert, nor its opposite the same.
    if (other.regex.has_value() == matcher.regex.has_value() && other.value == matcher.value)
      return (other.op == matcher.op) == known.holds;
    // The value is one of a few: do those that are left agree?
    const auto few = other.is_positive() == known.holds ? other.named_values() : std::nullopt;
    if (!few) continue;
    std::optional<bool> answer;
    bool agree = true;
    for (const std::string& value : *few) {
      if (!can_be(value)) continue;
      agree = agree && (!answer || *answer == matcher.matches(value));
      answer = matcher.matches(value);
    }
    if (agree && answer) return answer;
  }
  // Nor can the value be one that is excluded already.
  const auto named = matcher.named_values();
  if (named && std::none_of(named->begin(), named->end(), can_be)) return !matcher.is_positive();
  return std::nullopt;
}

// Splits `walk` by whether all of the node's matchers hold.
void split(const Route& node, const LabelSpace& space, const Trail& walk, std::vector<Trail>& takes,
           std::vector<Trail>& leaves) {
  Trail current = walk;
  for (const LabelMatcher& matcher : node.matchers) {
    const std::optional<bool> answer = decided(matcher, space, current);
    if (answer && !*answer) {
      leaves.push_back(std::move(current));
      return;
    }
    if (answer) continue;
    Trail no = current;
    no.assumed.push_back({&matcher, false});
    leaves.push_back(std::move(no));
    current.assumed.push_back({&matcher, true});
  }
  takes.push_back(std::move(current));
}

// Thrown when there are more ways than kMaxPaths; never leaves possible_paths().
struct TooManyPaths {};

std::vector<Trail> walk_node(const Route& node, const LabelSpace& space, Trail start) {
  const std::size_t before = start.nodes.size();
  std::vector<Trail> open{std::move(start)};
  std::vector<Trail> done;
  for (const Route& child : node.routes) {
    std::vector<Trail> next;
    for (const Trail& walk : open) {
      std::vector<Trail> takes;
      split(child, space, walk, takes, next);
      for (Trail& taken : takes) {
        for (Trail& after : walk_node(child, space, std::move(taken))) {
          (child.continue_ ? next : done).push_back(std::move(after));
        }
      }
      if (next.size() + done.size() > kMaxPaths) throw TooManyPaths{};
    }
    open = std::move(next);
  }
  for (Trail& walk : open) {
    if (walk.nodes.size() == before) walk.nodes.push_back(&node);
    done.push_back(std::move(walk));
  }
  return done;
}

}  // namespace

std::vector<const Route*> Route::match(const Labels& labels) const {
  std::vector<const Route*> out;
  match_into(*this, labels, out);
  return out;
}

bool is_muted(const RouteOptions& options, const std::map<std::string, TimeInterval>& intervals,
              Timestamp at) {
  const auto holds = [&](const std::string& name) {
    const auto found = intervals.find(name);
    return found != intervals.end() && found->second.contains(at);
  };
  const auto& mute = options.mute_time_intervals;
  const auto& active = options.active_time_intervals;
  return std::any_of(mute.begin(), mute.end(), holds) ||
         (!active.empty() && std::none_of(active.begin(), active.end(), holds));
}

const Route* find_route(const Route& root, const std::string& id) {
  if (root.id == id) return &root;
  for (const Route& child : root.routes) {
    if (const Route* found = find_route(child, id)) return found;
  }
  return nullptr;
}

std::vector<RoutePath> possible_paths(const Route& root, const LabelSpace& space,
                                      const std::vector<Assumption>& known) {
  std::vector<RoutePath> paths;
  try {
    for (Trail& walk : walk_node(root, space, Trail{{}, known})) {
      RoutePath path{std::move(walk.nodes), std::move(walk.assumed), {}};
      for (const Assumption& assumption : path.assumed)
        path.assumptions.push_back(assumption.matcher->format() +
                                   (assumption.holds ? " holds" : " does not hold"));
      paths.push_back(std::move(path));
    }
  } catch (const TooManyPaths&) {
    // What cannot be looked at is not believed: one way that nobody takes.
    return {RoutePath{{}, {}, {"the route has more ways for this rule than can be looked at"}}};
  }
  return paths;
}

}  // namespace logbell::rules
