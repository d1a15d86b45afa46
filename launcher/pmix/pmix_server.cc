#include "launcher/pmix/pmix_server.h"

#include <pmix.h>
#include <pmix_server.h>
#include <stdlib.h>
#include <unistd.h>

#include <condition_variable>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/pmix/pmix_world.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status Failed(const char* what, pmix_status_t status) {
  return absl::InternalError(absl::StrCat(what, ": ", PMIx_Error_string(status)));
}

// Waits for the callback of a call that has been started.
class Completion {
 public:
  static void Done(pmix_status_t status, void* completion) {
    auto* const self = static_cast<Completion*>(completion);
    const std::lock_guard lock(self->mutex_);
    self->status_ = status;
    self->done_ = true;
    self->condition_.notify_all();
  }
  // What the call came to, which returned `started`.
  pmix_status_t Wait(pmix_status_t started) {
    if (started == PMIX_OPERATION_SUCCEEDED) return PMIX_SUCCESS;  // done already: nobody calls back
    if (started != PMIX_SUCCESS) return started;
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return done_; });
    return status_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool done_ = false;
  pmix_status_t status_ = PMIX_SUCCESS;
};

class Server final : public PmixServer {
 public:
  Server(EventLoop* loop, const v1::PmixWorld& world, std::function<void(v1::PmixReport report)> report)
      : loop_(loop), world_(world), report_(std::move(report)) {
    PMIX_LOAD_NSPACE(name_space_, world.name_space().c_str());
  }

  absl::Status Start();

  uint16_t port() const override { return port_; }

  void OnFenced(v1::PmixFenced fenced) override {
    auto fence = fences_.extract(fenced.id());
    if (fence.empty()) return;
    auto* const data = new std::string(std::move(*fenced.mutable_data()));
    fence.mapped().done(fenced.failed() ? PMIX_ERROR : PMIX_SUCCESS, data->data(), data->size(), fence.mapped().context,
                        &Delete, data);
  }

  void OnAsked(const v1::PmixAsked& asked) override {
    auto* const question = new Question{this, asked.id()};
    const pmix_proc_t rank = Rank(asked.rank());
    const pmix_status_t status = PMIx_server_dmodex_request(&rank, &Answered, question);
    if (status != PMIX_SUCCESS) Answered(status, nullptr, 0, question);
  }

  void OnAnswer(v1::PmixAnswer answer) override {
    auto request = requests_.extract(answer.id());
    if (request.empty()) return;
    auto* const data = new std::string(std::move(*answer.mutable_data()));
    request.mapped().done(answer.failed() ? PMIX_ERR_NOT_FOUND : PMIX_SUCCESS, data->data(), data->size(),
                          request.mapped().context, &Delete, data);
  }

  // --- On libpmix's thread ---

  pmix_status_t Fence(const pmix_proc_t* ranks, size_t count, char* data, size_t bytes, pmix_modex_cbfunc_t done,
                      void* context) {
    std::vector<uint32_t> numbers;
    for (size_t i = 0; i < count; ++i) {
      if (ranks[i].rank == PMIX_RANK_WILDCARD) {
        numbers.clear();
        break;
      }
      numbers.push_back(ranks[i].rank);
    }
    v1::PmixReport report;
    *report.mutable_fence() = fence_names_.Next(world_, std::move(numbers));
    report.mutable_fence()->set_data(data, bytes);
    free(data);  // the callee's
    loop_->Post([this, report = std::move(report), done, context]() mutable {
      report.mutable_fence()->set_id(++next_);
      fences_[next_] = {done, context};
      report_(std::move(report));
    });
    return PMIX_SUCCESS;
  }

  pmix_status_t Ask(uint32_t rank, pmix_modex_cbfunc_t done, void* context) {
    loop_->Post([this, rank, done, context] {
      requests_[++next_] = {done, context};
      v1::PmixReport report;
      report.mutable_asked()->set_id(next_);
      report.mutable_asked()->set_rank(rank);
      report_(std::move(report));
    });
    return PMIX_SUCCESS;
  }

  // libpmix answers its client when `done` is called, so the agent has the report before the client can go on.
  pmix_status_t Tell(v1::PmixReport report, pmix_op_cbfunc_t done, void* context) {
    loop_->Post([this, report = std::move(report), done, context]() mutable {
      report_(std::move(report));
      if (done != nullptr) done(PMIX_SUCCESS, context);
    });
    return PMIX_SUCCESS;
  }

 private:
  struct Pending {
    pmix_modex_cbfunc_t done = nullptr;
    void* context = nullptr;
  };
  struct Question {
    Server* server;
    uint64_t id;
  };

  static void Delete(void* data) { delete static_cast<std::string*>(data); }

  static void Answered(pmix_status_t status, char* data, size_t bytes, void* context) {
    const std::unique_ptr<Question> question(static_cast<Question*>(context));
    v1::PmixReport report;
    report.mutable_answer()->set_id(question->id);
    report.mutable_answer()->set_failed(status != PMIX_SUCCESS);
    if (status == PMIX_SUCCESS) report.mutable_answer()->set_data(data, bytes);
    question->server->loop_->Post(
        [server = question->server, report = std::move(report)]() mutable { server->report_(std::move(report)); });
  }

  pmix_proc_t Rank(uint32_t number) const {
    pmix_proc_t rank;
    PMIX_LOAD_PROCID(&rank, name_space_, number);
    return rank;
  }
  absl::Status Init();
  absl::Status RegisterWorld();
  absl::Status RegisterClients();
  absl::Status FindPort();

  EventLoop* const loop_;
  const v1::PmixWorld world_;
  const std::function<void(v1::PmixReport report)> report_;
  pmix_nspace_t name_space_ = {};
  uint16_t port_ = 0;
  FenceNames fence_names_;  // libpmix's thread
  uint64_t next_ = 0;       // this and the rest: the loop's
  std::map<uint64_t, Pending> fences_;
  std::map<uint64_t, Pending> requests_;
};

// libpmix hands no context to what it calls, and has one server a process.
Server* the_server = nullptr;

// --- What libpmix calls ---

pmix_status_t OnConnected(const pmix_proc_t* rank, void*, pmix_info_t*, size_t, pmix_op_cbfunc_t done, void* context) {
  v1::PmixReport report;
  report.mutable_joined()->set_rank(rank->rank);
  return the_server->Tell(std::move(report), done, context);
}

pmix_status_t OnFinalized(const pmix_proc_t* rank, void*, pmix_op_cbfunc_t done, void* context) {
  v1::PmixReport report;
  report.mutable_left()->set_rank(rank->rank);
  return the_server->Tell(std::move(report), done, context);
}

pmix_status_t OnAbort(const pmix_proc_t* rank, void*, int status, const char* text, pmix_proc_t*, size_t, pmix_op_cbfunc_t done,
                      void* context) {
  v1::PmixReport report;
  report.mutable_abort()->set_rank(rank->rank);
  report.mutable_abort()->set_code(status);
  if (text != nullptr) report.mutable_abort()->set_text(text);
  return the_server->Tell(std::move(report), done, context);
}

pmix_status_t OnFence(const pmix_proc_t* ranks, size_t count, const pmix_info_t*, size_t, char* data, size_t bytes,
                      pmix_modex_cbfunc_t done, void* context) {
  return the_server->Fence(ranks, count, data, bytes, done, context);
}

pmix_status_t OnDirectModex(const pmix_proc_t* rank, const pmix_info_t*, size_t, pmix_modex_cbfunc_t done, void* context) {
  return the_server->Ask(rank->rank, done, context);
}

pmix_status_t OnSpawn(const pmix_proc_t* rank, const pmix_info_t*, size_t, const pmix_app_t*, size_t, pmix_spawn_cbfunc_t,
                      void*) {
  v1::PmixReport report;
  report.mutable_notice()->set_error(true);
  report.mutable_notice()->set_text(
      absl::StrCat("rank ", rank->rank,
                   " called MPI_Comm_spawn, which muster does not support; start all programs of the "
                   "world on the command line: -np 1 A : -np 2 B"));
  the_server->Tell(std::move(report), nullptr, nullptr);
  return PMIX_ERR_NOT_SUPPORTED;
}

// --- Start ---

absl::Status Server::Start() {
  the_server = this;
  MUSTER_RETURN_IF_ERROR(Init());
  MUSTER_RETURN_IF_ERROR(RegisterWorld());
  MUSTER_RETURN_IF_ERROR(RegisterClients());
  return FindPort();
}

// Source: PMIx standard 4.1, section 11.3, "Server Initialization and Finalization".
absl::Status Server::Init() {
  static pmix_server_module_t module = {};
  module.client_connected2 = &OnConnected;
  module.client_finalized = &OnFinalized;
  module.abort = &OnAbort;
  module.fence_nb = &OnFence;
  module.direct_modex = &OnDirectModex;
  module.spawn = &OnSpawn;
  const std::string own_name = absl::StrCat(world_.name_space(), "-server");
  const std::string host = world_.hosts(static_cast<int>(world_.node()));
  const pmix_rank_t own_rank = 0;
  pmix_info_t info[5];
  PMIX_INFO_LOAD(&info[0], PMIX_SERVER_TMPDIR, world_.folder().c_str(), PMIX_STRING);
  PMIX_INFO_LOAD(&info[1], PMIX_SYSTEM_TMPDIR, world_.folder().c_str(), PMIX_STRING);
  PMIX_INFO_LOAD(&info[2], PMIX_SERVER_NSPACE, own_name.c_str(), PMIX_STRING);
  PMIX_INFO_LOAD(&info[3], PMIX_SERVER_RANK, &own_rank, PMIX_PROC_RANK);
  PMIX_INFO_LOAD(&info[4], PMIX_HOSTNAME, host.c_str(), PMIX_STRING);
  const pmix_status_t status = PMIx_server_init(&module, info, std::size(info));
  for (pmix_info_t& one : info) PMIX_INFO_DESTRUCT(&one);
  return status == PMIX_SUCCESS ? absl::OkStatus() : Failed("PMIx_server_init", status);
}

// Source: PMIx standard 4.1, section 11.4.2, "PMIx_server_register_nspace": the maps say where ranks are, the rest follows or is
// what Open MPI asks for.
absl::Status Server::RegisterWorld() {
  const PmixMaps maps = MapsOf(world_);
  char *nodes = nullptr, *ranks = nullptr;
  pmix_status_t status = PMIx_generate_regex(maps.hosts.c_str(), &nodes);
  if (status == PMIX_SUCCESS) status = PMIx_generate_ppn(maps.ranks.c_str(), &ranks);
  if (status != PMIX_SUCCESS) return Failed("PMIx_generate_regex", status);

  const auto size = static_cast<uint32_t>(world_.places_size());
  const auto applications = static_cast<uint32_t>(world_.application_workers_size());
  const auto node_count = static_cast<uint32_t>(world_.hosts_size());
  const uint32_t node = world_.node();
  const auto local_size = static_cast<uint32_t>(maps.local_ranks.size());
  const std::string peers = absl::StrJoin(maps.local_ranks, ",");
  const bool clean = true;
  std::vector<pmix_info_t> info;
  info.reserve(15 + size);
  const auto add = [&info](const char* key, const void* value, pmix_data_type_t type) {
    pmix_info_t& one = info.emplace_back();
    PMIX_INFO_CONSTRUCT(&one);
    PMIX_INFO_LOAD(&one, key, value, type);
  };
  add(PMIX_NODE_MAP, nodes, PMIX_REGEX);
  add(PMIX_PROC_MAP, ranks, PMIX_REGEX);
  add(PMIX_JOBID, world_.name_space().c_str(), PMIX_STRING);
  add(PMIX_UNIV_SIZE, &size, PMIX_UINT32);
  add(PMIX_JOB_SIZE, &size, PMIX_UINT32);
  add(PMIX_MAX_PROCS, &size, PMIX_UINT32);
  add(PMIX_JOB_NUM_APPS, &applications, PMIX_UINT32);
  add(PMIX_NUM_NODES, &node_count, PMIX_UINT32);
  add(PMIX_NODEID, &node, PMIX_UINT32);
  add(PMIX_LOCAL_SIZE, &local_size, PMIX_UINT32);
  add(PMIX_LOCAL_PEERS, peers.c_str(), PMIX_STRING);
  add(PMIX_TMPDIR, world_.folder().c_str(), PMIX_STRING);
  add(PMIX_NSDIR, world_.folder().c_str(), PMIX_STRING);
  add(PMIX_TDIR_RMCLEAN, &clean, PMIX_BOOL);  // whoever made the folder removes it
  for (uint32_t rank = 0; rank < size; ++rank) {
    const v1::PmixPlace& place = world_.places(static_cast<int>(rank));
    const std::string& host = world_.hosts(static_cast<int>(place.node()));
    const auto local_rank = static_cast<uint16_t>(place.local_rank());
    const uint32_t application = place.application(), of_node = place.node();
    pmix_data_array_t array;
    PMIX_DATA_ARRAY_CONSTRUCT(&array, 6, PMIX_INFO);
    auto* const data = static_cast<pmix_info_t*>(array.array);
    const pmix_rank_t number = rank;
    PMIX_INFO_LOAD(&data[0], PMIX_RANK, &number, PMIX_PROC_RANK);  // must be the first
    PMIX_INFO_LOAD(&data[1], PMIX_LOCAL_RANK, &local_rank, PMIX_UINT16);
    PMIX_INFO_LOAD(&data[2], PMIX_NODE_RANK, &local_rank, PMIX_UINT16);
    PMIX_INFO_LOAD(&data[3], PMIX_APPNUM, &application, PMIX_UINT32);
    PMIX_INFO_LOAD(&data[4], PMIX_HOSTNAME, host.c_str(), PMIX_STRING);
    PMIX_INFO_LOAD(&data[5], PMIX_NODEID, &of_node, PMIX_UINT32);
    add(PMIX_PROC_DATA, &array, PMIX_DATA_ARRAY);
    PMIX_DATA_ARRAY_DESTRUCT(&array);
  }
  Completion completion;
  status = completion.Wait(PMIx_server_register_nspace(name_space_, static_cast<int>(local_size), info.data(), info.size(),
                                                       &Completion::Done, &completion));
  for (pmix_info_t& one : info) PMIX_INFO_DESTRUCT(&one);
  free(nodes);
  free(ranks);
  return status == PMIX_SUCCESS ? absl::OkStatus() : Failed("PMIx_server_register_nspace", status);
}

absl::Status Server::RegisterClients() {
  for (const uint32_t number : MapsOf(world_).local_ranks) {
    const pmix_proc_t rank = Rank(number);
    Completion completion;
    const pmix_status_t status =
        completion.Wait(PMIx_server_register_client(&rank, geteuid(), getegid(), nullptr, &Completion::Done, &completion));
    if (status != PMIX_SUCCESS) return Failed("PMIx_server_register_client", status);
  }
  return absl::OkStatus();
}

// libpmix tells where it listens only by what a client's environment would be.
absl::Status Server::FindPort() {
  const std::vector<uint32_t> local_ranks = MapsOf(world_).local_ranks;
  const pmix_proc_t rank = Rank(local_ranks.empty() ? 0 : local_ranks[0]);
  char** environment = nullptr;
  const pmix_status_t status = PMIx_server_setup_fork(&rank, &environment);
  if (status != PMIX_SUCCESS) return Failed("PMIx_server_setup_fork", status);
  for (char** next = environment; next != nullptr && *next != nullptr; ++next) {
    const absl::string_view setting = *next;
    if (absl::StartsWith(setting, "PMIX_SERVER_URI")) {
      uint32_t port = 0;
      if (absl::SimpleAtoi(setting.substr(setting.rfind(':') + 1), &port)) port_ = static_cast<uint16_t>(port);
    }
    free(*next);
  }
  free(environment);
  if (port_ == 0) return absl::InternalError("libpmix does not say where it listens");
  return absl::OkStatus();
}

}  // namespace

// "OpenPMIx 4.2.2rc2 (PMIx Standard: 4.2, Stable ABI: 0.0, ...)"
std::string PmixLibrary() {
  const absl::string_view text = PMIx_Get_version();
  return std::string(absl::StripTrailingAsciiWhitespace(text.substr(0, text.find_first_of(",("))));
}

absl::StatusOr<std::unique_ptr<PmixServer>> PmixServer::Start(EventLoop* loop, const v1::PmixWorld& world,
                                                              std::function<void(v1::PmixReport report)> report) {
  auto server = std::make_unique<Server>(loop, world, std::move(report));
  MUSTER_RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace muster
