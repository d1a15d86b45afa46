// Workers' output on its way into an agent's stream: what follows on each other from one rank and stream travels in one message.
#ifndef MUSTER_LAUNCHER_PROCESS_OUTPUT_BATCH_H_
#define MUSTER_LAUNCHER_PROCESS_OUTPUT_BATCH_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread. Order is kept over all ranks and streams.
class OutputBatch {
 public:
  static constexpr size_t kMessageBytesMax = 64 << 10;

  // `send` may be called from inside Add and Flush. `host` goes with each message; empty: none does.
  OutputBatch(EventLoop* loop, std::function<void(v1::Output output)> send, std::string host = "")
      : loop_(loop), send_(std::move(send)), host_(std::move(host)) {}
  ~OutputBatch() { *alive_ = false; }

  // Sent when the loop comes round, at the latest. A longer `text` becomes several messages.
  void Add(uint32_t rank, bool is_stderr, absl::string_view text);
  // Sends what is held now: before any message that must not overtake it.
  void Flush();
  void set_host(std::string host) { host_ = std::move(host); }
  size_t held_bytes() const { return held_.text().size(); }

 private:
  void Begin(uint32_t rank, bool is_stderr, int64_t unix_ms);

  EventLoop* const loop_;
  const std::function<void(v1::Output output)> send_;
  std::string host_;
  v1::Output held_;
  bool posted_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_OUTPUT_BATCH_H_
