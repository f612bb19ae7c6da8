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
  std::vector<std::pair<std::string, bool>> assumed;  // matcher's text -> held
};

std::optional<bool> decided(const LabelMatcher& matcher, const LabelSpace& space, const Trail& walk) {
  const bool from_logs =
      std::find(space.from_logs.begin(), space.from_logs.end(), matcher.name) != space.from_logs.end();
  if (!from_logs || space.fixed.has(matcher.name)) return matcher.matches(space.fixed);
  // The same test cannot have two answers for one alert.
  const std::string text = matcher.format();
  for (const auto& [known, held] : walk.assumed) {
    if (known == text) return held;
  }
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
    no.assumed.emplace_back(matcher.format(), false);
    leaves.push_back(std::move(no));
    current.assumed.emplace_back(matcher.format(), true);
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

std::vector<RoutePath> possible_paths(const Route& root, const LabelSpace& space) {
  std::vector<RoutePath> paths;
  try {
    for (Trail& walk : walk_node(root, space, Trail{})) {
      RoutePath path;
      path.nodes = std::move(walk.nodes);
      for (const auto& [text, held] : walk.assumed)
        path.assumptions.push_back(text + (held ? " holds" : " does not hold"));
      paths.push_back(std::move(path));
    }
  } catch (const TooManyPaths&) {
    // What cannot be looked at is not believed: one way that nobody takes.
    return {RoutePath{{}, {"the route has more ways for this rule than can be looked at"}}};
  }
  return paths;
}

}  // namespace logbell::rules
