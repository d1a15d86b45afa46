#include "launcher/agent/refusal_teller.h"

#include <utility>

#include "absl/time/time.h"

namespace muster {
namespace {

constexpr absl::Duration kPause = absl::Seconds(1);

}  // namespace

RefusalTeller::~RefusalTeller() {
  if (timer_) loop_->Cancel(*timer_);
}

void RefusalTeller::Add(RefusalCount refused) {
  refusals_.Add(std::move(refused.what), std::move(refused.from), refused.count);
  if (!timer_) timer_ = loop_->After(absl::ZeroDuration(), [this] { Tell(); });
}

void RefusalTeller::Tell() {
  timer_.reset();
  if (refusals_.empty()) return;
  Flush();
  timer_ = loop_->After(kPause, [this] { Tell(); });
}

void RefusalTeller::Flush() {
  while (!refusals_.empty()) {
    const RefusalCount refused = refusals_.Take();
    v1::Refusal refusal;
    refusal.set_what(refused.what);
    refusal.set_from(refused.from);
    refusal.set_count(refused.count);
    send_(std::move(refusal));
  }
}

}  // namespace muster
