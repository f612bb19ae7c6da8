#include "engine/io/read_ahead.h"

#include <algorithm>
#include <utility>

#include "rules/result.h"

namespace logbell::engine {

using rules::Result;

ReadAhead::ReadAhead(Crew& crew, std::span<Onlooker* const> onlookers)
    : crew_(crew), most_of_one_file_(std::min(2 * crew.size() + kSpareOfOneFile, kMostReads - kOthers)) {
  LOGBELL_CHECK(onlookers.size() == kMostReads + 1);
  reads_.reserve(onlookers.size());
  for (Onlooker* const onlooker : onlookers)
    reads_.emplace_back(onlooker, &buffers_);
}

ReadAhead::Read* ReadAhead::first_of(const FileId& file) {
  const auto first =
      std::find_if(begun_.begin(), begun_.end(), [&](const Read* read) { return read->file == file; });
  return first == begun_.end() ? nullptr : *first;
}

std::size_t ReadAhead::count_of(const FileId& file) const {
  return static_cast<std::size_t>(
      std::count_if(begun_.begin(), begun_.end(), [&](const Read* read) { return read->file == file; }));
}

// There is one more than may be begun.
ReadAhead::Read& ReadAhead::free_read() {
  const auto free = std::find_if(reads_.begin(), reads_.end(), [&](const Read& read) {
    return &read != now_ && !read.shared.is_under_way();
  });
  LOGBELL_CHECK(free != reads_.end());
  return *free;
}

void ReadAhead::drop(const FileId& file) {
  while (Read* const read = first_of(file)) {
    std::erase(begun_, read);
    static_cast<void>(read->shared.finish(crew_));
  }
}

void ReadAhead::drop() {
  while (!begun_.empty())
    drop(begun_.front()->file);
}

std::string_view ReadAhead::read_before(const Place& place) {
  in_a_row_ = last_file_ == place.file ? in_a_row_ + 1 : 0;
  last_file_ = place.file;
  now_ = nullptr;
  Read* const next = first_of(place.file);
  if (next == nullptr) return {};
  if (next->from == place.from) {
    std::erase(begun_, next);
    const Result<std::size_t> got = next->shared.finish(crew_);
    // At the end, it may have grown since.
    const std::string_view text =
        got && *got == next->shared.bytes() ? next->shared.join(next->left) : std::string_view();
    if (!text.empty()) {
      now_ = next;
      return text;
    }
  }
  drop(place.file);
  return {};
}

std::string_view ReadAhead::read_now(const Place& place) {
  Read& read = free_read();
  if (!read.shared.begin(crew_, place.fd, place.from, place.bytes, place.before, true)) return {};
  const Result<std::size_t> got = read.shared.finish(crew_);
  if (!got || *got < place.bytes) return {};
  now_ = &read;
  return read.shared.text();
}

Survey ReadAhead::survey() const {
  return now_ == nullptr ? Survey{} : now_->shared.survey();
}

Onlooker* ReadAhead::onlooker() const {
  return now_ == nullptr ? nullptr : now_->shared.onlooker();
}

void ReadAhead::go_on(const Place& last, std::uint64_t from, std::string_view left, std::uint64_t end,
                      std::uint64_t size) {
  const std::size_t wanted = in_a_row_ >= kReadsBefore ? most_of_one_file_ : last.reads >= kReadsBefore ? 1 : 0;
  const Read* const first = first_of(last.file);
  if (left.size() < kOverlap || left.size() - kOverlap > SharedRead::kMostCarried ||
      (first != nullptr && first->shared.offset() + kOverlap != end))
    return drop(last.file);
  std::uint64_t begin = end;
  for (const Read* const read : begun_) {
    if (read->file == last.file) begin = read->shared.offset() + read->shared.bytes();
  }
  // Where it ends, nothing is read ahead: it may grow.
  for (std::size_t count = count_of(last.file);
       count < wanted && begun_.size() < most_of_one_file_ + kOthers && begin + last.bytes < size; ++count) {
    Read& read = free_read();
    // Without a descriptor for it, it is read when its turn comes.
    if (!read.shared.begin(crew_, last.fd, begin - kOverlap, last.bytes + kOverlap, kOverlap, false, SharedRead::By::kOne)) break;
    read.file = last.file;
    read.from.reset();
    begun_.push_back(&read);
    begin += last.bytes;
  }
  if (Read* const next = first_of(last.file)) {
    next->from = from;
    next->left = left;
  }
}

}  // namespace logbell::engine
