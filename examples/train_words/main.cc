// Trains a character-level language model on a list of words; see options.cc for how it is used.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bigram.h"
#include "flip.h"
#include "invent.h"
#include "model.h"
#include "muster/device.h"
#include "muster/muster.h"
#include "network.h"
#include "options.h"
#include "words.h"

namespace {

// Exit codes, as in sysexits.h.
constexpr int kUsageError = 64;
constexpr int kBadData = 65;
constexpr int kNoInput = 66;
constexpr int kNotInstalled = 69;
constexpr int kCannotCreate = 73;

// An error and the exit code that goes with it.
struct Failure {
  int exit_code = 0;
  std::string message;
};

Failure Fail(int exit_code, const absl::Status& status) { return {exit_code, std::string(status.message())}; }

// A file stream has failed; errno, cleared before, has the reason where a system call did.
Failure CannotWrite(const std::string& path) {
  const int error = errno;
  const std::string reason = error == 0 ? "" : absl::StrCat(": ", std::strerror(error));
  const bool full = error == ENOSPC || error == EDQUOT;
  return {kCannotCreate, absl::StrCat("cannot write ", path, reason,
                                      full ? "; free some space there, or name a file elsewhere"
                                           : "; name a file in a folder that exists and may be written")};
}

bool IsOfPeer(const absl::Status& status) { return absl::IsUnavailable(status) || absl::IsAborted(status); }

// A collective failed. Of a lost peer the launcher tells once, with its cause; the ranks that only noticed stay quiet.
Failure FailCollective(const absl::Status& status) {
  return {EXIT_FAILURE, IsOfPeer(status) ? "" : std::string(status.message())};
}

struct Score {
  double heldout = 0;
  double bigram = 0;
  double seconds = 0;
  int64_t characters = 0;
};

// A folder that checkpoints can be written to: better known now than after the first hundred steps.
Failure CheckFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error && ::access(folder.c_str(), W_OK | X_OK) != 0) error = std::error_code(errno, std::generic_category());
  if (!error) return {};
  return {kCannotCreate, absl::StrCat("cannot write checkpoints to ", folder, ": ", error.message(),
                                      "; name a folder that may be written with --checkpoint-dir")};
}

// What this rank can tell before training: nothing said means all is well.
Failure Prepare(muster::Communicator& world, const Options& options, WordList& words) {
  for (const std::string& path : {options.result, options.weights, options.trace}) {
    if (world.rank() != 0 || path.empty()) continue;
    errno = 0;
    if (!std::ofstream(path, std::ios::app)) return CannotWrite(path);
  }
  if (world.rank() == 0 && !options.checkpoint_dir.empty()) {
    if (Failure failure = CheckFolder(options.checkpoint_dir); failure.exit_code != 0) return failure;
  }
  if (options.flip_gradient_bit >= world.world_size()) {
    return {kUsageError,
            absl::StrFormat("--flip-gradient-bit %d: there are only %d ranks", options.flip_gradient_bit, world.world_size())};
  }
  if (options.flip_gradient_bit >= 0 && options.device == "cuda") {
    return {kUsageError, "--flip-gradient-bit: flips bits in the host's memory only; pass --device cpu"};
  }
  absl::StatusOr<WordList> read = ReadWords(options.data);
  if (!read.ok()) return Fail(absl::IsNotFound(read.status()) ? kNoInput : kBadData, read.status());
  words = *std::move(read);
  if (static_cast<int64_t>(words.training.size()) >= options.batch) return {};
  return {kBadData, absl::StrFormat("%s has %d words to train on, fewer than --batch %d; pass a smaller --batch", options.data,
                                    words.training.size(), options.batch)};
}

// How many GPUs this rank can use; --device cuda needs one.
Failure CountGpus(const Options& options, int& gpus) {
  gpus = 0;
  if (options.device == "cpu" || options.flip_gradient_bit >= 0) return {};
  const absl::StatusOr<int> devices = NetworkGpus();
  if (devices.ok()) gpus = *devices;
  if (devices.ok() || options.device == "auto") return {};
  return {kNotInstalled, absl::StrCat("--device cuda: ", devices.status().message(), "; or train with --device cpu")};
}

// Every rank reads the data itself; the lowest rank that cannot, or that read something else than rank 0, speaks for all. `gpus`: those
// that this rank may use, 0 if any rank has none.
Failure PrepareAll(muster::Communicator& world, const Options& options, WordList& words, int& gpus) {
  Failure mine = Prepare(world, options, words);
  if (mine.exit_code == 0) mine = CountGpus(options, gpus);
  constexpr int kNumbers = 3;
  const int64_t send[kNumbers] = {mine.exit_code, static_cast<int64_t>(words.fingerprint), gpus};
  std::vector<int64_t> all(kNumbers * world.world_size());
  const absl::Status gathered = world.AllGather(muster::ConstTensor(send, kNumbers, muster::DataType::kInt64),
                                                muster::MakeTensor(all.data(), static_cast<int64_t>(all.size())));
  if (!gathered.ok()) return FailCollective(gathered);
  for (int rank = 0; rank < world.world_size(); ++rank) {
    const int64_t* const of_rank = &all[kNumbers * rank];
    if (of_rank[0] != 0) return {static_cast<int>(of_rank[0]), rank == world.rank() ? mine.message : ""};
    if (of_rank[2] == 0) gpus = 0;
    if (of_rank[1] != all[1]) {
      return {kBadData,
              world.rank() != 0 ? "" : absl::StrFormat("%s is not the same file on rank %d as on rank 0", options.data, rank)};
    }
  }
  return {};
}

// `gpu`: its number, or -1 for the host.
muster::TrainerOptions TrainerOptionsOf(const Options& options, const WordList& words, int gpu) {
  muster::TrainerOptions trainer;
  trainer.device = gpu < 0 ? muster::Device::kHost : muster::Device::kCuda;
  trainer.cuda_device = gpu;
  trainer.samples = static_cast<int64_t>(words.training.size());
  trainer.batch = options.batch;
  trainer.shards = options.shards;
  trainer.accumulate = options.accumulate;
  trainer.seed = options.seed * 0x9e3779b97f4a7c15u ^ words.fingerprint;  // other words are another run
  trainer.bucket_bytes = options.bucket_bytes;
  trainer.trace = options.trace;
  trainer.checkpoint.folder = options.checkpoint_dir;
  trainer.checkpoint.every_steps = options.checkpoint_dir.empty() ? 0 : options.checkpoint_every;
  trainer.checkpoint.keep = options.checkpoint_keep;
  trainer.checkpoint.resume = options.resume;
  trainer.optimizer.kind = options.optimizer == "sgd" ? muster::OptimizerKind::kSgd : muster::OptimizerKind::kAdamW;
  trainer.optimizer.learning_rate = options.learning_rate;
  trainer.optimizer.weight_decay = options.optimizer == "sgd" ? 0 : 0.01;
  trainer.optimizer.rate_factor = [steps = options.steps](int64_t step) {  // up over the first 20th, then down to a 20th
    const double warmup = std::max<double>(1, static_cast<double>(steps) / 20);
    const double left = static_cast<double>(steps - step) / static_cast<double>(steps);
    return std::min(1.0, static_cast<double>(step + 1) / warmup) * std::max(0.05, left);
  };
  return trainer;
}

std::vector<const Word*> Select(const std::vector<Word>& words, std::span<const int64_t> numbers) {
  std::vector<const Word*> selected;
  for (const int64_t number : numbers) selected.push_back(&words[number]);
  return selected;
}

// Prints a line now and then: where training stands and how fast it goes.
class Progress {
 public:
  Progress(bool speaks, const Options& options) : speaks_(speaks), options_(options) {
    if (speaks_) std::printf("    step     loss   words/s\n");
  }
  void Add(const muster::StepResult& result) {
    loss_ += result.loss * static_cast<double>(result.weight);
    weight_ += result.weight;
    ++steps_;
    const bool due = result.step == 1 || result.step == options_.steps ||
                     result.step * 10 / options_.steps != (result.step - 1) * 10 / options_.steps;
    if (!due || !speaks_) return;
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    std::printf("%8ld %8.4f %9.0f\n", static_cast<long>(result.step), loss_ / static_cast<double>(weight_),
                static_cast<double>(steps_ * options_.batch) / seconds);
    std::fflush(stdout);
    loss_ = 0, weight_ = 0, steps_ = 0, begin_ = absl::Now();
  }

 private:
  const bool speaks_;
  const Options& options_;
  double loss_ = 0;
  int64_t weight_ = 0;
  int64_t steps_ = 0;
  absl::Time begin_ = absl::Now();
};

absl::Status TrainAll(muster::Session& session, muster::Trainer& trainer, Network& network, const WordList& words,
                      const Options& options, Score& score) {
  Progress progress(session.rank() == 0, options);
  bool flip = session.rank() == options.flip_gradient_bit;
  const absl::Time begin = absl::Now();
  while (trainer.step() < options.steps) {
    absl::StatusOr<muster::StepResult> result = trainer.Step([&](muster::Pass& pass) -> absl::StatusOr<muster::Loss> {
      const std::vector<const Word*> batch = Select(words.training, pass.samples());
      if (!std::exchange(flip, false)) return network.Train(pass, batch);
      FlippingPass flipping(pass);
      return network.Train(flipping, batch);
    });
    if (!result.ok()) return result.status();
    score.characters += result->weight;
    session.ReportStep(trainer.committed_step(), trainer.checkpoint_step());
    progress.Add(*result);
  }
  score.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  return absl::OkStatus();
}

Model::Values ValuesOf(const muster::Trainer& trainer) {
  Model::Values values;
  for (int i = 0; i < trainer.parameters(); ++i) values.push_back(trainer.value(i));
  return values;
}

absl::StatusOr<double> HeldoutLoss(muster::Trainer& trainer, Network& network, const WordList& words) {
  constexpr int64_t kWordsAtOnce = 64;
  const auto count = static_cast<int64_t>(words.heldout.size());
  absl::StatusOr<muster::Loss> loss = trainer.Evaluate(count, [&](int64_t begin, int64_t end) -> absl::StatusOr<muster::Loss> {
    muster::Loss sum;
    for (; begin < end; begin += kWordsAtOnce) {
      std::vector<const Word*> some;
      for (int64_t i = begin; i < std::min(end, begin + kWordsAtOnce); ++i) some.push_back(&words.heldout[i]);
      const absl::StatusOr<muster::Loss> part = network.Evaluate(trainer, some);
      if (!part.ok()) return part.status();
      sum.sum += part->sum;
      sum.weight += part->weight;
    }
    return sum;
  });
  if (!loss.ok()) return loss.status();
  return loss->sum / static_cast<double>(loss->weight);
}

Failure WriteFile(const std::string& path, absl::string_view bytes) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (file.fail()) return CannotWrite(path);
  return {};
}

std::string WeightBytes(const muster::Trainer& trainer) {
  std::string bytes;
  for (int i = 0; i < trainer.parameters(); ++i) {
    bytes.append(reinterpret_cast<const char*>(trainer.value(i).data()), trainer.value(i).size_bytes());
  }
  return bytes;
}

std::string ResultJson(const muster::Session& session, const muster::Trainer& trainer, const Score& score) {
  nlohmann::ordered_json result;
  result["heldout_loss"] = score.heldout;
  result["bigram_loss"] = score.bigram;
  result["steps"] = trainer.committed_step();
  result["world_size"] = session.world_size();
  result["device"] = trainer.stream() == nullptr ? "cpu" : "cuda";
  result["restarts"] = session.restarts();
  result["resumed_at_step"] = trainer.resumed_step();
  result["checkpoint_step"] = trainer.checkpoint_step();
  result["generation"] = session.generation();
  result["weights_sha256"] = trainer.ParametersSha256();
  result["samples_sha256"] = trainer.SamplesSha256();
  result["seconds"] = score.seconds;
  result["tokens_per_second"] = static_cast<double>(score.characters) / score.seconds;
  result["rank_samples"] = trainer.rank_samples();
  return result.dump(2) + "\n";
}

// What rank 0 says and writes at the end.
Failure Report(const muster::Session& session, const muster::Trainer& trainer, Model& model, const WordList& words,
               const Options& options, const Score& score) {
  std::printf("\nheld out  %.4f nats per character\nbigram    %.4f, so the model is %.4f %s\n", score.heldout, score.bigram,
              std::abs(score.bigram - score.heldout), score.heldout < score.bigram ? "better" : "worse");
  std::printf("weights   %s\nsamples   %s\n\ninvented:\n", trainer.ParametersSha256().c_str(), trainer.SamplesSha256().c_str());
  const std::vector<std::string> invented = InventWords(model, ValuesOf(trainer), words, 20, options.seed);
  for (size_t i = 0; i < invented.size(); i += 5) {
    const auto end = invented.begin() + static_cast<std::ptrdiff_t>(std::min(i + 5, invented.size()));
    std::printf("  %s\n", absl::StrJoin(invented.begin() + static_cast<std::ptrdiff_t>(i), end, "  ").c_str());
  }
  std::fflush(stdout);
  if (!options.weights.empty()) {
    if (Failure failure = WriteFile(options.weights, WeightBytes(trainer)); failure.exit_code != 0) return failure;
  }
  return options.result.empty() ? Failure{} : WriteFile(options.result, ResultJson(session, trainer, score));
}

void SayResumed(const muster::Session& session, const muster::Trainer& trainer) {
  if (session.rank() != 0) return;
  for (const std::string& damage : trainer.damaged_checkpoints()) {
    std::fprintf(stderr, "train_words: passed over a damaged checkpoint: %s\n", damage.c_str());
  }
  if (trainer.resumed_step() > 0)
    std::printf("going on from the checkpoint of step %ld\n", static_cast<long>(trainer.resumed_step()));
  std::fflush(stdout);
}

// The checkpoint's failure is known to all ranks: one of them speaks.
Failure FailTraining(const muster::Session& session, const muster::Trainer& trainer, const absl::Status& status) {
  if (trainer.checkpoint_failure().ok()) return FailCollective(status);
  return {kCannotCreate, session.rank() == 0 ? absl::StrCat("cannot write a checkpoint: ", status.message()) : ""};
}

// What the flags leave open the job may say.
void AddJobSettings(const muster::Session& session, Options& options) {
  const muster::CheckpointSettings& job = session.checkpoint();
  if (options.checkpoint_dir.empty()) options.checkpoint_dir = job.path;
  if (options.checkpoint_every == 0) options.checkpoint_every = job.every_steps > 0 ? job.every_steps : 100;
  if (options.checkpoint_keep == 0) options.checkpoint_keep = job.keep > 0 ? job.keep : 3;
  if (session.restarts() > 0) options.resume = true;
}

Failure Train(muster::Session& session, const Options& options) {
  WordList words;
  int gpus = 0;
  if (Failure failure = PrepareAll(session.world(), options, words, gpus); failure.exit_code != 0) return failure;
  const ModelShape shape{words.symbols(), options.context, options.embed, options.hidden};
  Model model(shape);
  // The backend's own GPU where it has one.
  const muster::DeviceCollectives* const collectives = session.world().capabilities().device;
  const int gpu = gpus == 0 ? -1 : collectives != nullptr ? collectives->device() : session.local_rank() % gpus;
  std::unique_ptr<Network> network = HostNetwork(model);
  if (gpu >= 0) {
    absl::StatusOr<std::unique_ptr<Network>> on_gpu = CudaNetwork(shape, gpu);
    if (!on_gpu.ok()) return Fail(EXIT_FAILURE, on_gpu.status());
    network = *std::move(on_gpu);
  }
  absl::StatusOr<std::unique_ptr<muster::Trainer>> created =
      muster::Trainer::Create(session.world(), model.Parameters(), TrainerOptionsOf(options, words, gpu));
  if (!created.ok()) {
    const absl::Status& status = created.status();
    const bool usage = absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status);
    if (!usage && !absl::IsDataLoss(status)) return FailCollective(status);
    // All ranks would say the same.
    return {usage ? kUsageError : kBadData, session.rank() == 0 ? std::string(status.message()) : ""};
  }
  muster::Trainer& trainer = **created;
  if (session.rank() == 0) {
    std::printf("%zu words to train on, %zu held out, %d symbols; %d %s, %d shards%s\n", words.training.size(),
                words.heldout.size(), words.symbols(), session.world_size(), session.world_size() == 1 ? "rank" : "ranks",
                options.shards, gpu < 0 ? "" : ", on GPUs");
  }
  SayResumed(session, trainer);
  Score score;
  const absl::Status trained = TrainAll(session, trainer, *network, words, options, score);
  if (!trained.ok()) return FailTraining(session, trainer, trained);
  const absl::StatusOr<double> heldout = HeldoutLoss(trainer, *network, words);
  if (!heldout.ok()) return FailCollective(heldout.status());
  const absl::Status finished = trainer.Finish();
  if (!trainer.checkpoint_failure().ok()) return FailTraining(session, trainer, finished);
  // A trace that cannot be written is no reason to lose what was trained.
  const bool trace_lost = !finished.ok() && !IsOfPeer(finished);
  if (!finished.ok() && !trace_lost) return FailCollective(finished);
  session.ReportStep(trainer.committed_step(), trainer.checkpoint_step());
  if (session.rank() != 0) return {};
  score.heldout = *heldout;
  score.bigram = BigramLoss(words.training, words.heldout, words.symbols());
  const Failure reported = Report(session, trainer, model, words, options, score);
  return reported.exit_code == 0 && trace_lost ? Fail(kCannotCreate, finished) : reported;
}

int Say(const Failure& failure) {
  if (!failure.message.empty()) std::fprintf(stderr, "train_words: %s\n", failure.message.c_str());
  return failure.exit_code;
}

bool IsFirstRank() {
  for (const char* name : {"RANK", "OMPI_COMM_WORLD_RANK"}) {
    if (const char* rank = std::getenv(name); rank != nullptr) return std::string(rank) == "0";
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::StatusOr<Options> options = ParseOptions(argc, argv);
  if (!options.ok() || options->help) {  // the same on every rank: one of them speaks
    if (options.ok() && IsFirstRank()) std::fputs(kUsage, stdout);
    if (!options.ok() && IsFirstRank()) {
      std::fprintf(stderr, "train_words: %s (train_words --help)\n", std::string(options.status().message()).c_str());
    }
    return options.ok() ? EXIT_SUCCESS : kUsageError;
  }
  absl::StatusOr<std::unique_ptr<muster::Session>> session = muster::Session::Create();
  if (absl::IsFailedPrecondition(session.status())) {  // what is missing is missing for every rank of a node
    return IsFirstRank() ? Say(Fail(kNotInstalled, session.status())) : kNotInstalled;
  }
  if (!session.ok()) return Say(Fail(EXIT_FAILURE, session.status()));
  Options settled = *options;
  AddJobSettings(**session, settled);
  return Say(Train(**session, settled));
}
