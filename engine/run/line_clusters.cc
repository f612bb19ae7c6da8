#include "engine/run/line_clusters.h"

#include <algorithm>
#include <utility>

#include "rules/redact.h"
#include "rules/variable_parts.h"

namespace logbell::engine {
namespace {

constexpr std::size_t kMostWords = 60;     // of a template: of a longer one its beginning says which it is
constexpr std::size_t kSampleBytes = 400;  // of a line that is shown
constexpr std::size_t kTemplateBytes = 2000;

std::vector<std::string> words_of(const std::string& shape) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < shape.size();) {
    const std::size_t end = std::min(shape.find(' ', at), shape.size());
    words.push_back(shape.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words)
    out += (out.empty() ? "" : " ") + word;
  return out;
}

void merge(LineCluster& into, const LineCluster& other) {
  into.count += other.count;
  if (other.first < into.first) {
    into.first = other.first;
    into.sample = other.sample;
  }
}

}  // namespace

void LineClusters::add(std::string_view line, std::uint64_t number) {
  ++lines_;
  const std::string shown = rules::clean_text(rules::redact(line), kTemplateBytes);
  const std::string shape = rules::line_template(shown);
  const auto found = clusters_.find(shape);
  if (found != clusters_.end()) {
    ++found->second.count;
    return;
  }
  if (clusters_.size() >= kMostTemplates) {
    ++not_kept_;
    return;
  }
  clusters_.emplace(shape, LineCluster{shape, 1, number, rules::clean_text(shown, kSampleBytes)});
}

std::vector<LineCluster> LineClusters::sorted() const {
  // Those that differ in one word, by the words around it.
  std::map<std::string, std::vector<const LineCluster*>> alike;
  for (const auto& [shape, cluster] : clusters_) {
    std::vector<std::string> words = words_of(shape);
    if (words.size() < 3 || words.size() > kMostWords) continue;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i].empty() || words[i].front() == '<') continue;
      std::string word = std::exchange(words[i], "<*>");
      alike[joined(words)].push_back(&cluster);
      words[i] = std::move(word);
    }
  }
  // The largest groups first; each template goes to one.
  std::vector<const std::pair<const std::string, std::vector<const LineCluster*>>*> groups;
  for (const auto& group : alike) {
    if (group.second.size() >= kAlike) groups.push_back(&group);
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const auto* a, const auto* b) { return a->second.size() > b->second.size(); });
  std::map<const LineCluster*, bool> taken;
  std::vector<LineCluster> out;
  for (const auto* group : groups) {
    std::vector<const LineCluster*> members;
    for (const LineCluster* cluster : group->second) {
      if (!taken[cluster]) members.push_back(cluster);
    }
    if (members.size() < kAlike) continue;
    LineCluster one = *members.front();
    one.shape = group->first;
    taken[members.front()] = true;
    for (std::size_t i = 1; i < members.size(); ++i) {
      merge(one, *members[i]);
      taken[members[i]] = true;
    }
    out.push_back(std::move(one));
  }
  for (const auto& [shape, cluster] : clusters_) {
    if (!taken[&cluster]) out.push_back(cluster);
  }
  std::sort(out.begin(), out.end(), [](const LineCluster& a, const LineCluster& b) {
    return a.count != b.count ? a.count > b.count : a.first < b.first;
  });
  return out;
}

}  // namespace logbell::engine
