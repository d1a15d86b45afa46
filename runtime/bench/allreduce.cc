#include "runtime/bench/allreduce.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "muster/window.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/bench/floor.h"
#include "runtime/bench/pattern.h"

namespace muster::bench {
namespace {

// Calls and floor passes take turns this many times, so that a change of the machine's mood hits both.
constexpr int64_t kTurns = 4;

// A window, or private memory from the system, zeroed and touched.
class Buffer {
 public:
  static absl::StatusOr<std::unique_ptr<Buffer>> Create(Communicator& communicator, bool window, int64_t bytes) {
    std::unique_ptr<Buffer> buffer(new Buffer());
    if (window) {
      MUSTER_ASSIGN_OR_RETURN(buffer->window_, communicator.CreateWindow(bytes));
      buffer->data_ = buffer->window_->data();
      return buffer;
    }
    void* const memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("mmap of ", bytes, " bytes"));
    std::memset(memory, 0, static_cast<size_t>(bytes));
    buffer->data_ = memory;
    buffer->private_bytes_ = bytes;
    return buffer;
  }
  ~Buffer() {
    if (private_bytes_ > 0) munmap(data_, static_cast<size_t>(private_bytes_));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() { return data_; }

 private:
  Buffer() = default;
  std::unique_ptr<Window> window_;
  void* data_ = nullptr;
  int64_t private_bytes_ = 0;
};

double MicrosecondsSince(int64_t start) { return static_cast<double>(MonotonicNanoseconds() - start) / 1e3; }

class AllReduceBench {
 public:
  AllReduceBench(Communicator& communicator, const Options& options, Buffer& buffer, Floor* floor)
      : communicator_(communicator),
        options_(options),
        buffer_(buffer),
        floor_(floor),
        pattern_(options.type, options.op, communicator.rank(), communicator.world_size()) {}

  absl::StatusOr<Row> Measure(int64_t bytes) {
    tensor_ = {buffer_.data(), bytes / SizeOf(options_.type), options_.type};
    calls_.clear();
    passes_.clear();
    wrong_ = 0;
    const int64_t iterations = Iterations(options_, bytes);
    MUSTER_RETURN_IF_ERROR(options_.fresh ? MeasureFresh(iterations) : MeasureBackToBack(iterations));

    Row row{.bytes = bytes, .count = tensor_.count};
    MUSTER_ASSIGN_OR_RETURN(row.time, SlowestRank(calls_));
    if (!passes_.empty()) {
      MUSTER_ASSIGN_OR_RETURN(row.floor, SlowestRank(passes_));
    }
    if (options_.check) {
      MUSTER_RETURN_IF_ERROR(communicator_.AllReduce(MakeTensor(&wrong_, 1), ReduceOp::kSum));
      row.wrong = wrong_;
    }
    return row;
  }

 private:
  absl::Status MeasureFresh(int64_t iterations) {
    MUSTER_RETURN_IF_ERROR(FreshCalls(options_.warmup));
    if (floor_ != nullptr) MUSTER_RETURN_IF_ERROR(FloorPasses(options_.warmup));
    calls_.clear();
    passes_.clear();
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      const int64_t share = iterations * (turn + 1) / kTurns - iterations * turn / kTurns;
      MUSTER_RETURN_IF_ERROR(FreshCalls(share));
      if (floor_ != nullptr) MUSTER_RETURN_IF_ERROR(FloorPasses(share));
    }
    return absl::OkStatus();
  }

  absl::Status FreshCalls(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      pattern_.Fill(tensor_);
      MUSTER_RETURN_IF_ERROR(floor_ != nullptr ? floor_->Meet() : communicator_.Barrier());
      const int64_t start = MonotonicNanoseconds();
      MUSTER_RETURN_IF_ERROR(communicator_.AllReduce(tensor_, options_.op));
      calls_.push_back(MicrosecondsSince(start));
      if (options_.check) wrong_ += pattern_.CountWrong(tensor_);
    }
    return absl::OkStatus();
  }

  absl::Status FloorPasses(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      floor_->Fill(tensor_.bytes());
      MUSTER_RETURN_IF_ERROR(floor_->Meet());
      const int64_t start = MonotonicNanoseconds();
      floor_->Pass(tensor_.bytes());
      MUSTER_RETURN_IF_ERROR(floor_->Meet());
      passes_.push_back(MicrosecondsSince(start));
    }
    return absl::OkStatus();
  }

  // Zeros stay zeros under every op, so nothing has to be rewritten.
  absl::Status MeasureBackToBack(int64_t iterations) {
    std::memset(tensor_.data, 0, static_cast<size_t>(tensor_.bytes()));
    calls_.reserve(static_cast<size_t>(iterations));
    MUSTER_RETURN_IF_ERROR(communicator_.Barrier());
    for (int64_t i = 0; i < options_.warmup; ++i) MUSTER_RETURN_IF_ERROR(communicator_.AllReduce(tensor_, options_.op));
    int64_t start = MonotonicNanoseconds();
    for (int64_t i = 0; i < iterations; ++i) {
      MUSTER_RETURN_IF_ERROR(communicator_.AllReduce(tensor_, options_.op));
      const int64_t end = MonotonicNanoseconds();
      calls_.push_back(static_cast<double>(end - start) / 1e3);
      start = end;
    }
    return absl::OkStatus();
  }

  // `microseconds` holds this rank's time of each call; the summary is over the maxima.
  absl::StatusOr<Summary> SlowestRank(std::vector<double>& microseconds) {
    MUSTER_RETURN_IF_ERROR(
        communicator_.AllReduce(MakeTensor(microseconds.data(), static_cast<int64_t>(microseconds.size())), ReduceOp::kMax));
    return Summarise(microseconds);
  }

  Communicator& communicator_;
  const Options& options_;
  Buffer& buffer_;
  Floor* const floor_;  // nullptr: none
  const Pattern pattern_;
  Tensor tensor_;
  std::vector<double> calls_;
  std::vector<double> passes_;
  int64_t wrong_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Row>> MeasureAllReduce(Communicator& communicator, const Setting& setting, const Options& options,
                                                  const std::function<void(const Row&)>& print,
                                                  const std::function<void(const std::string&)>& warn) {
  const std::vector<int64_t> sizes = Sizes(options);
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, Buffer::Create(communicator, options.window, sizes.back()));
  std::unique_ptr<Floor> floor;
  if (options.fresh && options.floor) {
    auto created = Floor::Create(communicator, sizes.back(), setting.crowded);
    if (created.ok()) {
      floor = *std::move(created);
    } else {
      warn(std::string(created.status().message()));
    }
  }
  AllReduceBench bench(communicator, options, *buffer, floor.get());
  std::vector<Row> rows;
  for (const int64_t bytes : sizes) {
    auto row = bench.Measure(bytes);
    if (!row.ok()) return Annotate(row.status(), absl::StrCat("all-reduce of ", bytes, " bytes"));
    print(*row);
    rows.push_back(*row);
  }
  return rows;
}

}  // namespace muster::bench
