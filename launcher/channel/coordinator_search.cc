#include "launcher/channel/coordinator_search.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/sha.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/fd.h"

namespace muster {
namespace {

constexpr absl::Duration kStagger = absl::Milliseconds(250);  // RFC 8305: Connection Attempt Delay
constexpr absl::Duration kAnswerWithin = absl::Seconds(5);
constexpr absl::Duration kPause = absl::Milliseconds(200);  // before all are tried again
constexpr int64_t kNsPerMs = 1'000'000;

struct Candidate {
  std::string text;
  sockaddr_storage address = {};
  socklen_t length = 0;
  std::string what_happened = "not tried";  // last
};

struct Attempt {
  Candidate* candidate = nullptr;
  UniqueFd socket;
  bool asked = false;
  std::string answer;
  int64_t deadline_ns = 0;
};

absl::StatusOr<Candidate> Parse(const std::string& text) {
  Candidate candidate;
  candidate.text = text;
  const size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (colon == std::string::npos || text.find_first_not_of('0', colon + 1) == std::string::npos ||
      ::getaddrinfo(host.c_str(), text.c_str() + colon + 1, &hints, &found) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no numeric address of a coordinator, such as 10.0.0.5:4242 or [fd00::5]:4242"));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  ::memcpy(&candidate.address, found->ai_addr, found->ai_addrlen);
  candidate.length = found->ai_addrlen;
  return candidate;
}

std::string LocalAddressOf(int socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  char text[NI_MAXHOST];
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) {
    return "";
  }
  const std::string local = text;
  return local.substr(0, local.find('%'));
}

// One round over all candidates.
class Race {
 public:
  Race(std::vector<Candidate>* candidates, std::string wanted, int line)
      : candidates_(candidates), wanted_(std::move(wanted)), line_(line) {}

  bool line_ended() const { return line_ended_; }

  // Nobody, or the line has ended: empty `coordinator`.
  FoundCoordinator Run(int64_t end_ns) {
    size_t next = 0;
    int64_t next_ns = 0;
    while (found_.coordinator.empty() && !line_ended_ && MonotonicNanoseconds() < end_ns) {
      const int64_t now_ns = MonotonicNanoseconds();
      // The next one's turn comes when its time is there, or at once when nobody is being waited for.
      if (next < candidates_->size() && (now_ns >= next_ns || attempts_.empty())) {
        Begin(&(*candidates_)[next++], now_ns);
        next_ns = now_ns + absl::ToInt64Nanoseconds(kStagger);
        continue;
      }
      if (attempts_.empty()) break;
      int64_t wake_ns = std::min(end_ns, attempts_.front().deadline_ns);
      for (const Attempt& attempt : attempts_) wake_ns = std::min(wake_ns, attempt.deadline_ns);
      if (next < candidates_->size()) wake_ns = std::min(wake_ns, next_ns);
      Wait(wake_ns - now_ns);
    }
    return found_;
  }

 private:
  void Begin(Candidate* candidate, int64_t now_ns) {
    Attempt attempt;
    attempt.candidate = candidate;
    attempt.socket.Reset(::socket(candidate->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    attempt.deadline_ns = now_ns + absl::ToInt64Nanoseconds(kAnswerWithin);
    if (!attempt.socket ||
        (::connect(attempt.socket.get(), reinterpret_cast<const sockaddr*>(&candidate->address), candidate->length) != 0 &&
         errno != EINPROGRESS)) {
      candidate->what_happened = ::strerrordesc_np(errno);
      return;
    }
    candidate->what_happened = absl::StrCat("no answer in ", absl::FormatDuration(kAnswerWithin));
    attempts_.push_back(std::move(attempt));
  }

  void Wait(int64_t ns) {
    std::vector<pollfd> waiting;
    for (const Attempt& attempt : attempts_) {
      waiting.push_back({attempt.socket.get(), static_cast<short>(attempt.asked ? POLLIN : POLLOUT), 0});
    }
    waiting.push_back({line_, POLLIN, 0});  // poll(2) passes over a negative one
    ::poll(waiting.data(), waiting.size(), static_cast<int>(std::max<int64_t>(1, ns / kNsPerMs + 1)));
    line_ended_ = waiting.back().revents != 0;
    const int64_t now_ns = MonotonicNanoseconds();
    for (size_t i = attempts_.size(); i-- > 0;) {
      const bool over = waiting[i].revents != 0 ? !Advance(&attempts_[i]) : now_ns >= attempts_[i].deadline_ns;
      if (over) attempts_.erase(attempts_.begin() + static_cast<ptrdiff_t>(i));
    }
  }

  // False: it is over.
  bool Advance(Attempt* attempt) {
    const int fd = attempt->socket.get();
    if (!attempt->asked) {
      int error = 0;
      socklen_t length = sizeof error;
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) {
        attempt->candidate->what_happened = ::strerrordesc_np(error);
        return false;
      }
      attempt->asked = ::send(fd, kSearchGreeting.data(), kSearchGreeting.size(), MSG_NOSIGNAL) ==
                       static_cast<ssize_t>(kSearchGreeting.size());
      attempt->candidate->what_happened = "it takes connections but says nothing";
      return attempt->asked;
    }
    char bytes[128];
    const ssize_t count = ::recv(fd, bytes, sizeof bytes, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (count > 0) attempt->answer.append(bytes, static_cast<size_t>(count));
    if (attempt->answer == wanted_) {
      if (found_.coordinator.empty()) found_ = {attempt->candidate->text, LocalAddressOf(fd)};
      return false;
    }
    if (count > 0 && attempt->answer.size() < wanted_.size()) return true;
    attempt->candidate->what_happened = "another program listens there";
    return false;
  }

  std::vector<Candidate>* const candidates_;
  const std::string wanted_;
  const int line_;
  bool line_ended_ = false;
  std::vector<Attempt> attempts_;
  FoundCoordinator found_;
};

}  // namespace

std::string SearchAnswer(const std::string& authority_pem) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  ::SHA256(reinterpret_cast<const unsigned char*>(authority_pem.data()), authority_pem.size(), hash);
  return absl::StrCat("muster job ", absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(hash), 16)), "\n");
}

absl::StatusOr<FoundCoordinator> FindCoordinator(const std::vector<std::string>& coordinators, const std::string& authority_pem,
                                                 absl::Duration within, int line) {
  std::vector<Candidate> candidates;
  for (const std::string& text : coordinators) {
    absl::StatusOr<Candidate> candidate = Parse(text);
    if (!candidate.ok()) return candidate.status();
    candidates.push_back(*std::move(candidate));
  }
  const int64_t end_ns = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(within);
  while (true) {
    Race race(&candidates, SearchAnswer(authority_pem), line);
    FoundCoordinator found = race.Run(end_ns);
    if (!found.coordinator.empty()) return found;
    pollfd ended = {line, POLLIN, 0};
    const bool again = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(kPause) < end_ns;
    if (race.line_ended() || ::poll(&ended, 1, again ? static_cast<int>(absl::ToInt64Milliseconds(kPause)) : 0) > 0) {
      return absl::CancelledError("whoever started this agent has gone while it looked for the coordinator");
    }
    if (!again) break;
  }
  std::string each;
  for (const Candidate& candidate : candidates) {
    absl::StrAppend(&each, each.empty() ? "" : ", ", candidate.text, " (", candidate.what_happened, ")");
  }
  return absl::UnavailableError(
      absl::StrCat("no way to the coordinator: ", each,
                   "; look for a firewall, or name an address that this node reaches with --listen ADDRESS"));
}

}  // namespace muster
