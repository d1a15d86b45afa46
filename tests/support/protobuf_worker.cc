// A worker with a protobuf of its own, in which messages have the very names of muster's.
#include <cstdio>
#include <cstdlib>

#include "google/protobuf/descriptor.h"
#include "muster/muster.h"
#include "muster/v1/worker.pb.h"

int main() {
  auto session = muster::Session::Create();
  if (!session.ok()) return std::printf("FAILED %s\n", session.status().ToString().c_str()), 1;
  muster::v1::WorkerMessage message;
  message.mutable_step()->set_committed_step(41 + (*session)->world_size());
  muster::v1::WorkerMessage copy;
  if (!copy.ParseFromString(message.SerializeAsString())) return std::printf("FAILED to parse\n"), 1;
  if (muster::v1::WorkerMessage::descriptor()->full_name() != "muster.v1.WorkerMessage") return std::printf("FAILED name\n"), 1;
  int64_t value = copy.step().committed_step();
  const absl::Status status = (*session)->world().AllReduce(muster::MakeTensor(&value, 1), muster::ReduceOp::kMax);
  if (!status.ok()) return std::printf("FAILED %s\n", status.ToString().c_str()), 1;
  std::printf("ok %lld\n", static_cast<long long>(value));
}
