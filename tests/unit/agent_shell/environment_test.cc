#include "launcher/agent/environment.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

std::map<std::string, std::string> AsMap(const std::vector<std::string>& environment) {
  std::map<std::string, std::string> variables;
  for (const std::string& setting : environment) {
    const size_t equals = setting.find('=');
    EXPECT_TRUE(variables.emplace(setting.substr(0, equals), setting.substr(equals + 1)).second)
        << setting << " is there twice";
  }
  return variables;
}

WorkerPlace Place() {
  WorkerPlace place;
  place.job_id = "0123456789abcdef0123456789abcdef";
  place.socket_name = "@muster-socket";
  place.temporary_folder = "/tmp/job";
  place.master_address = "127.0.0.1";
  place.master_port = 4242;
  place.rank = 5;
  place.world_size = 8;
  place.local_rank = 1;
  place.local_world_size = 4;
  place.group_rank = 1;
  place.nodes = 2;
  place.slot = 6;
  place.restarts = 2;
  place.host = "node1";
  place.mpi = {{"muster-world", 4001, 4002}, "/dev/shm/job", true};
  return place;
}

TEST(Environment, HoldsTheNamesOfTorchrunMpirunAndMuster) {
  const auto variables = AsMap(WorkerEnvironment({"PATH=/bin"}, {}, Place()));
  std::map<std::string, std::string> expected = MpiPlaceVariables(Place().mpi.ports, "node1", "/tmp/job", 5, 8, 1, 4);
  expected.merge(MpiDefaults("/tmp/job", "/dev/shm/job", true));
  expected.merge(std::map<std::string, std::string>{
      {"PATH", "/bin"},
      {"RANK", "5"},
      {"LOCAL_RANK", "1"},
      {"WORLD_SIZE", "8"},
      {"LOCAL_WORLD_SIZE", "4"},
      {"GROUP_RANK", "1"},
      {"GROUP_WORLD_SIZE", "2"},
      {"ROLE_NAME", "default"},
      {"ROLE_RANK", "5"},
      {"ROLE_WORLD_SIZE", "8"},
      {"MASTER_ADDR", "127.0.0.1"},
      {"MASTER_PORT", "4242"},
      {"TORCHELASTIC_RUN_ID", "0123456789abcdef0123456789abcdef"},
      {"TORCHELASTIC_RESTART_COUNT", "2"},
      {"TORCHELASTIC_MAX_RESTARTS", "0"},
      {"TORCHELASTIC_ERROR_FILE", "/tmp/job/error-of-rank-5.json"},
      {"TORCHELASTIC_USE_AGENT_STORE", "False"},
      {"OMPI_COMM_WORLD_RANK", "5"},
      {"OMPI_COMM_WORLD_SIZE", "8"},
      {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
      {"OMPI_NUM_APP_CTX", "1"},
      {"OMPI_APP_CTX_NUM_PROCS", "8"},
      {"OMPI_FIRST_RANKS", "0"},
      {"MUSTER_APPLICATION", "0"},
      {"MUSTER_JOB_ID", "0123456789abcdef0123456789abcdef"},
      {"MUSTER_SOCKET", "@muster-socket"},
      {"MUSTER_SLOT", "6"},
      {"TMPDIR", "/tmp/job"},
      {"PYTHONUNBUFFERED", "1"},
      {"OMP_NUM_THREADS", "1"},
  });
  EXPECT_EQ(variables, expected);
}

TEST(Environment, SaysWhichProgramsTheWorldHas) {
  WorkerPlace place = Place();
  place.application = 1;
  place.application_workers = {3, 4, 1};
  const auto variables = AsMap(WorkerEnvironment({}, {}, place));
  EXPECT_EQ(variables.at("OMPI_NUM_APP_CTX"), "3");
  EXPECT_EQ(variables.at("OMPI_APP_CTX_NUM_PROCS"), "3 4 1");
  EXPECT_EQ(variables.at("OMPI_FIRST_RANKS"), "0 3 7");
  EXPECT_EQ(variables.at("MUSTER_APPLICATION"), "1");
}

TEST(Environment, ChosenGoesBeforeInheritedAndDefaults) {
  const auto variables =
      AsMap(WorkerEnvironment({"A=1", "B=1", "PYTHONUNBUFFERED=0", "TMPDIR=/old", "RANK=77", "EMPTY=", "odd"},
                              {"B=2", "C=x=y", "OMP_NUM_THREADS=3"}, Place()));
  EXPECT_EQ(variables.at("A"), "1");
  EXPECT_EQ(variables.at("B"), "2");
  EXPECT_EQ(variables.at("C"), "x=y");
  EXPECT_EQ(variables.at("EMPTY"), "");
  EXPECT_EQ(variables.at("PYTHONUNBUFFERED"), "0");
  EXPECT_EQ(variables.at("OMP_NUM_THREADS"), "3");
  EXPECT_EQ(variables.at("TMPDIR"), "/tmp/job");
  EXPECT_EQ(variables.at("RANK"), "5");
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {"TMPDIR=/mine"}, Place())).at("TMPDIR"), "/mine");
}

TEST(Environment, PassesNothingOnFromAnOuterLauncher) {
  const auto variables = AsMap(WorkerEnvironment(
      {"PMIX_RANK=1", "PMIX_ID=9", "PMI_FD=7", "OMPI_COMM_WORLD_NODE_RANK=3", "OMPI_MCA_btl=self"}, {}, Place()));
  EXPECT_EQ(variables.at("PMIX_RANK"), "5");
  EXPECT_FALSE(variables.contains("PMIX_ID"));
  EXPECT_FALSE(variables.contains("PMI_FD"));
  EXPECT_FALSE(variables.contains("OMPI_COMM_WORLD_NODE_RANK"));
  EXPECT_TRUE(variables.contains("OMPI_MCA_btl"));
}

TEST(Environment, GlooIsToldTheInterfaceBetweenNodesUnlessTheUserHasChosen) {
  WorkerPlace place = Place();
  EXPECT_FALSE(AsMap(WorkerEnvironment({}, {}, place)).contains("GLOO_SOCKET_IFNAME"));
  place.network_interface = "eth1";
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {}, place)).at("GLOO_SOCKET_IFNAME"), "eth1");
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {}, place)).at("TP_SOCKET_IFNAME"), "eth1");
  EXPECT_EQ(AsMap(WorkerEnvironment({"GLOO_SOCKET_IFNAME=ib0"}, {}, place)).at("GLOO_SOCKET_IFNAME"), "ib0");
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {"GLOO_SOCKET_IFNAME=ib1"}, place)).at("GLOO_SOCKET_IFNAME"), "ib1");
  place.nodes = 1;
  EXPECT_FALSE(AsMap(WorkerEnvironment({}, {}, place)).contains("GLOO_SOCKET_IFNAME"));
}

TEST(Environment, NcclIsToldWhatTheUserHasNotSaid) {
  WorkerPlace place = Place();
  place.nccl = {{"NCCL_IB_HCA", "=mlx5_0:1"},
                {"NCCL_CROSS_NIC", "0"},
                {"NCCL_SOCKET_FAMILY", "AF_INET6"},
                {"NCCL_SOCKET_IFNAME", "=eth1"}};
  const auto told = AsMap(WorkerEnvironment({"CUDA_VISIBLE_DEVICES=3,1"}, {}, place));
  for (const auto& [name, value] : place.nccl) EXPECT_EQ(told.at(name), value);
  EXPECT_EQ(told.at("CUDA_VISIBLE_DEVICES"), "3,1");
  EXPECT_FALSE(AsMap(WorkerEnvironment({}, {}, place)).contains("CUDA_VISIBLE_DEVICES"));
  // Inherited, chosen, or in a file of NCCL's; itself or one of its kin, but not its neighbours.
  EXPECT_EQ(AsMap(WorkerEnvironment({"NCCL_IB_HCA=^mlx5_9"}, {}, place)).at("NCCL_IB_HCA"), "^mlx5_9");
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {"NCCL_CROSS_NIC=1"}, place)).at("NCCL_CROSS_NIC"), "1");
  EXPECT_FALSE(AsMap(WorkerEnvironment({}, {"NCCL_NET=Socket"}, place)).contains("NCCL_IB_HCA"));
  EXPECT_EQ(AsMap(WorkerEnvironment({}, {"NCCL_NET=Socket"}, place)).at("NCCL_CROSS_NIC"), "0");
  const auto interface = AsMap(WorkerEnvironment({}, {"NCCL_SOCKET_IFNAME=ib"}, place));
  EXPECT_EQ(interface.at("NCCL_SOCKET_IFNAME"), "ib");
  EXPECT_FALSE(interface.contains("NCCL_SOCKET_FAMILY"));
  place.nccl_configured = {"NCCL_IB_HCA", "NCCL_CROSS_NIC"};
  const auto configured = AsMap(WorkerEnvironment({}, {}, place));
  EXPECT_FALSE(configured.contains("NCCL_IB_HCA") || configured.contains("NCCL_CROSS_NIC"));
  EXPECT_EQ(configured.at("NCCL_SOCKET_IFNAME"), "=eth1");
}

TEST(Environment, UnderMpirunWhatItSaysOfItselfIsNotPassedOn) {
  const std::vector<std::string> settings = {"OMPI_MCA_ess=singleton", "OMPI_MCA_orte_hnp_uri=x", "ORTE_SCHIZO_DETECTION=ORTE"};
  EXPECT_EQ(AsMap(WorkerEnvironment(settings, {}, Place())).at("OMPI_MCA_ess"), "singleton");
  std::vector<std::string> under = settings;
  under.push_back("PMIX_NAMESPACE=7");
  const auto variables = AsMap(WorkerEnvironment(under, {}, Place()));
  for (const char* name : {"OMPI_MCA_ess", "OMPI_MCA_orte_hnp_uri", "ORTE_SCHIZO_DETECTION"}) {
    EXPECT_FALSE(variables.contains(name)) << name;
  }
  EXPECT_EQ(variables.at("PMIX_NAMESPACE"), "muster-world");
}

TEST(Environment, SettingsOfLibpmixReachTheWorkersAndTheirServerAlike) {
  for (const bool under_mpirun : {false, true}) {
    std::vector<std::string> inherited = {"PMIX_MCA_ptl_base_verbose=5", "PMIX_RANK=3", "TMPDIR=/elsewhere", "HOME=/root"};
    if (under_mpirun) inherited.push_back("PMIX_NAMESPACE=7");
    const auto worker = AsMap(WorkerEnvironment(inherited, {}, Place()));
    const auto server = AsMap(PmixServerEnvironment(inherited, "/tmp/job"));
    EXPECT_EQ(worker.contains("PMIX_MCA_ptl_base_verbose"), !under_mpirun);
    EXPECT_EQ(server.contains("PMIX_MCA_ptl_base_verbose"), !under_mpirun);
    EXPECT_FALSE(server.contains("PMIX_RANK") || server.contains("PMIX_NAMESPACE"));
    EXPECT_EQ(server.at("TMPDIR"), "/tmp/job");
    EXPECT_EQ(server.at("HOME"), "/root");
    EXPECT_FALSE(AsMap(PmixServerEnvironment(inherited, "")).contains("TMPDIR"));
  }
}

TEST(Environment, SettingsOfMpiLibrariesMayBeChosenAndPlacesMayNot) {
  const auto variables =
      AsMap(WorkerEnvironment({"OMPI_MCA_schizo=ompi"}, {"OMPI_MCA_mpi_yield_when_idle=0", "PMI_ID=77"}, Place()));
  EXPECT_EQ(variables.at("OMPI_MCA_schizo"), "ompi");
  EXPECT_EQ(variables.at("OMPI_MCA_mpi_yield_when_idle"), "0");
  EXPECT_TRUE(IsPlaceVariable("PMI_ID"));
  EXPECT_FALSE(IsPlaceVariable("OMPI_MCA_mpi_yield_when_idle"));
}

TEST(Environment, OneWorkerKeepsItsThreads) {
  WorkerPlace place = Place();
  place.local_world_size = 1;
  EXPECT_FALSE(AsMap(WorkerEnvironment({}, {}, place)).contains("OMP_NUM_THREADS"));
  EXPECT_FALSE(WouldSetOmpThreads({}, {}, 1));
  EXPECT_TRUE(WouldSetOmpThreads({}, {}, 2));
  EXPECT_FALSE(WouldSetOmpThreads({"OMP_NUM_THREADS=2"}, {}, 2));
  EXPECT_FALSE(WouldSetOmpThreads({}, {"OMP_NUM_THREADS=2"}, 2));
}

TEST(Environment, ThePlaceCannotBeChosen) {
  EXPECT_TRUE(IsPlaceVariable("RANK"));
  EXPECT_TRUE(IsPlaceVariable("MUSTER_SOCKET"));
  EXPECT_TRUE(IsPlaceVariable("OMPI_COMM_WORLD_SIZE"));
  EXPECT_FALSE(IsPlaceVariable("TMPDIR"));
  EXPECT_FALSE(IsPlaceVariable("OMP_NUM_THREADS"));
  EXPECT_FALSE(IsPlaceVariable("PATH"));
}

}  // namespace
}  // namespace muster
