#include "runtime/training/pass.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

class PassImpl final : public Pass {
 public:
  PassImpl(const PassContext& context, PassTask task) : context_(context), task_(std::move(task)) {}

  std::span<const int64_t> samples() const override { return task_.samples; }
  std::span<const float> value(int i) const override {
    return {context_.state.value(context_.state.live(), i), static_cast<size_t>(context_.counts[i])};
  }
  std::span<float> gradient(int i) override {
    return {context_.gradients.Gradient(i), static_cast<size_t>(context_.counts[i])};
  }
  void GradientReady(int i) override {
    if (!task_.last_of_shard || context_.gradients.IsReady(i)) return;
    context_.ready_times[i] = absl::Now();
    status_.Update(context_.gradients.Ready(i));
  }
  void* stream() const override { return context_.stream; }
  void BackwardBegins() override { backward_begin_ = absl::Now(); }
  uint64_t random_seed() const override { return task_.random_seed; }
  int64_t step() const override { return static_cast<int64_t>(context_.state.word()); }
  int32_t shard() const override { return task_.shard; }

  absl::Time backward_begin() const { return backward_begin_; }
  const absl::Status& status() const { return status_; }

 private:
  const PassContext& context_;
  const PassTask task_;
  absl::Time backward_begin_ = absl::InfinitePast();
  absl::Status status_;
};

void AddToTrace(Trace& trace, const PassImpl& pass, absl::Time begin, absl::Time end) {
  const std::string shard = absl::StrCat(" shard ", pass.shard());
  const absl::Time middle = pass.backward_begin();
  if (middle == absl::InfinitePast()) {
    trace.Add(Trace::Track::kCompute, "pass", absl::StrCat("pass", shard), begin, end, pass.step());
    return;
  }
  trace.Add(Trace::Track::kCompute, "forward", absl::StrCat("forward", shard), begin, middle, pass.step());
  trace.Add(Trace::Track::kCompute, "backward", absl::StrCat("backward", shard), middle, end, pass.step());
}

}  // namespace

absl::StatusOr<Loss> RunPass(const PassContext& context, PassTask task, const Trainer::PassFunction& function) {
  PassImpl pass(context, std::move(task));
  const absl::Time begin = absl::Now();
  absl::StatusOr<Loss> loss = function(pass);
  if (!loss.ok()) {
    context.communicator.Abort(Annotate(loss.status(), absl::StrCat("rank ", context.communicator.rank(), " in its pass")));
    return loss;
  }
  for (const BucketPlan::Bucket& bucket : context.gradients.plan().buckets) {
    for (const int32_t parameter : bucket.parameters) pass.GradientReady(parameter);
  }
  if (context.trace != nullptr) AddToTrace(*context.trace, pass, begin, absl::Now());
  if (!pass.status().ok()) return pass.status();
  return loss;
}

}  // namespace muster
