#include "runtime/training/trace.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status WriteFile(const std::string& path, absl::string_view text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  if (std::fclose(file) != 0 || !written) return ErrnoToStatus(written ? errno : error, absl::StrCat("write ", path));
  return absl::OkStatus();
}

}  // namespace

void Trace::Add(Track track, absl::string_view category, absl::string_view name, absl::Time begin, absl::Time end,
                int64_t step) {
  if (spans_.size() == kSpansMax) {
    ++dropped_;
    return;
  }
  spans_.push_back({track, std::string(category), std::string(name), begin, end, step});
}

std::string Trace::Events(int rank) const {
  std::string text;
  absl::StrAppendFormat(&text,
                        R"({"ph":"M","pid":%d,"tid":0,"name":"process_name","args":{"name":"rank %d"}},)"
                        "\n",
                        rank, rank);
  absl::StrAppendFormat(&text,
                        R"({"ph":"M","pid":%d,"tid":0,"name":"process_sort_index","args":{"sort_index":%d}},)"
                        "\n",
                        rank, rank);
  absl::StrAppendFormat(&text,
                        R"({"ph":"M","pid":%d,"tid":0,"name":"thread_name","args":{"name":"compute"}},)"
                        "\n",
                        rank);
  absl::StrAppendFormat(&text,
                        R"({"ph":"M","pid":%d,"tid":1,"name":"thread_name","args":{"name":"communication"}},)"
                        "\n",
                        rank);
  for (const Span& span : spans_) {
    absl::StrAppendFormat(&text,
                          R"({"ph":"X","pid":%d,"tid":%d,"cat":"%s","name":"%s","ts":%.3f,"dur":%.3f,"args":{"step":%d}},)"
                          "\n",
                          rank, static_cast<int>(span.track), span.category, span.name,
                          static_cast<double>(absl::ToUnixNanos(span.begin)) / 1e3,
                          static_cast<double>(absl::ToInt64Nanoseconds(span.end - span.begin)) / 1e3, span.step);
  }
  if (dropped_ > 0) {
    absl::StrAppendFormat(&text,
                          R"({"ph":"M","pid":%d,"tid":0,"name":"process_labels","args":{"labels":"%d spans dropped"}},)"
                          "\n",
                          rank, dropped_);
  }
  return text;
}

absl::Status Trace::Write(Communicator& communicator, const std::string& path) const {
  const int world_size = communicator.world_size();
  std::string events = Events(communicator.rank());
  int64_t size = static_cast<int64_t>(events.size());
  std::vector<int64_t> sizes(world_size);
  MUSTER_RETURN_IF_ERROR(communicator.AllGather(MakeTensor(&size, 1), MakeTensor(sizes.data(), world_size)));
  const int64_t size_max = *std::max_element(sizes.begin(), sizes.end());
  events.resize(size_max);
  std::vector<uint8_t> all(size_max * world_size);
  MUSTER_RETURN_IF_ERROR(communicator.AllGather(MakeTensor(reinterpret_cast<uint8_t*>(events.data()), size_max),
                                                MakeTensor(all.data(), size_max * world_size)));
  if (communicator.rank() != 0) return absl::OkStatus();
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (int rank = 0; rank < world_size; ++rank) {
    text.append(reinterpret_cast<const char*>(all.data()) + rank * size_max, sizes[rank]);
  }
  text.resize(text.size() - 2);  // the last ",\n"
  absl::StrAppend(&text, "\n]}\n");
  return WriteFile(path, text);
}

}  // namespace muster
