#include "launcher/process/last_words.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kSentenceBytesMax = 2000;  // escapes can make two and more bytes of one

std::string Line(Json words) {
  const auto dump = [&] { return words.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; };
  std::string sentence = words["sentence"].get<std::string>();
  for (size_t most = kSentenceBytesMax; dump().size() > kLastWordsBytesMax; most /= 2) {
    sentence.resize(std::min(sentence.size(), most));
    words["sentence"] = absl::StrCat(sentence, "...");
  }
  return dump();
}

}  // namespace

std::string JobLastWords(absl::string_view report_json) {
  const Json report = Json::parse(report_json, nullptr, /*allow_exceptions=*/false);
  if (!report.is_object()) return "";
  std::string sentence = report.value("sentence", "");
  const int exit_code = report.value("exit_code", 0);
  const auto number = [&](const char* name) {
    return report.contains(name) && report[name].is_number() ? report[name].get<double>() : 0;
  };
  if (sentence.empty() && exit_code == 0) {
    sentence = absl::StrFormat("all %.0f workers ended with 0 after %.1f s, with %.0f restarts", number("workers"),
                               number("seconds"), number("restarts"));
  }
  Json words = {{"exit_code", exit_code}, {"sentence", sentence}};
  for (const char* name : {"class", "rank", "host", "job_id", "generation", "restarts", "committed_step", "checkpoint_step",
                           "workers", "seconds"}) {
    if (report.contains(name) && !report[name].is_null()) words[name] = report[name];
  }
  return Line(std::move(words));
}

std::string AgentLastWords(int exit_code, absl::string_view sentence, absl::string_view host) {
  Json words = {{"exit_code", exit_code},
                {"sentence", std::string(sentence.empty() && exit_code == 0 ? "the job is over" : sentence)}};
  if (!host.empty()) words["host"] = std::string(host);
  return Line(std::move(words));
}

absl::Status WriteLastWords(const std::string& path, const std::string& words) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  for (size_t done = 0; done < words.size();) {
    const ssize_t bytes = ::write(file.get(), words.data() + done, words.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return ErrnoToStatus(errno, absl::StrCat("write ", path));
    done += static_cast<size_t>(bytes);
  }
  return absl::OkStatus();
}

}  // namespace muster
