#include "launcher/mpi/pmi_table.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/mpi/mpi_events.h"
#include "launcher/mpi/pmi_line.h"
#include "muster/v1/mpi.pb.h"

namespace muster {
namespace {

constexpr char kMappingKey[] = "PMI_process_mapping";

std::set<uint32_t> SetOf(const std::vector<uint32_t>& ranks) { return {ranks.begin(), ranks.end()}; }

}  // namespace

PmiTable::PmiTable(const MpiWorld& world)
    : name_(MpiNameSpace(world.job_id, world.generation)),
      world_size_(static_cast<uint32_t>(world.places.size())),
      alone_(world.nodes.size() == 1),
      places_(world.places),
      ranks_(SetOf(world.LocalRanks())) {
  if (std::string mapping = ProcessMapping(world.places, kPmiValueBytesMax - 128); !mapping.empty()) {
    Store(kMappingKey, mapping);
  }
}

PmiTable::Actions PmiTable::Line(uint32_t rank, absl::string_view line) {
  const auto parsed = ParsePmiLine(line);
  if (!parsed.ok()) return {Drop{rank, std::string(parsed.status().message())}};
  const std::string& command = parsed->command;
  if (waiting_.contains(rank)) return {Drop{rank, absl::StrCat("the command ", command, " from within a barrier")}};
  if (command == "init") {
    if (parsed->value("pmi_version") != "1") {
      return {Reply{rank, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1"},
              Drop{rank, absl::StrCat("version ", parsed->value("pmi_version"), " of PMI; muster speaks version 1")}};
    }
    return {Joined{rank}, Reply{rank, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0"}};
  }
  if (command == "get_maxes") {
    return {Reply{rank, absl::StrCat("cmd=maxes kvsname_max=", kPmiNameBytesMax, " keylen_max=", kPmiKeyBytesMax,
                                     " vallen_max=", kPmiValueBytesMax)}};
  }
  if (command == "get_appnum") return {Reply{rank, absl::StrCat("cmd=appnum appnum=", places_[rank].application)}};
  if (command == "get_my_kvsname") return {Reply{rank, absl::StrCat("cmd=my_kvsname kvsname=", name_)}};
  if (command == "get_universe_size") return {Reply{rank, absl::StrCat("cmd=universe_size size=", world_size_)}};
  if (command == "put" || command == "get") {
    if (parsed->value("kvsname") != name_) {
      return {Reply{
          rank, absl::StrCat("cmd=", command, "_result rc=-1 msg=kvs_", parsed->value("kvsname").substr(0, 64), "_not_found")}};
    }
    return command == "put" ? Put(rank, parsed->value("key"), parsed->value("value")) : Get(rank, parsed->value("key"));
  }
  if (command == "barrier_in") return Barrier(rank);
  if (command == "finalize") return {Left{rank}, Reply{rank, "cmd=finalize_ack"}};
  if (command == "abort") {
    int exit_code = 0;
    if (!absl::SimpleAtoi(parsed->value("exitcode"), &exit_code)) exit_code = 1;
    return {Aborted{rank, exit_code}};
  }
  if (command == "spawn") return {Unsupported{rank, "MPI_Comm_spawn"}, Drop{rank, "MPI_Comm_spawn is not supported"}};
  if (command == "publish_name" || command == "unpublish_name" || command == "lookup_name") {
    const std::string result = command.substr(0, command.find('_'));
    return {Unsupported{rank, "MPI_Publish_name"},
            Reply{rank, absl::StrCat("cmd=", result, "_result rc=-1 msg=not_supported")}};
  }
  return {Drop{rank, absl::StrCat("the unknown command ", command.substr(0, 64))}};
}

bool PmiTable::Store(const std::string& key, const std::string& value) {
  auto [entry, is_new] = values_.try_emplace(key);
  const size_t before = is_new ? 0 : key.size() + entry->second.size();
  const size_t after = key.size() + value.size();
  if (bytes_ - before + after > kBytesMax) {
    if (is_new) values_.erase(entry);
    return false;
  }
  bytes_ = bytes_ - before + after;
  entry->second = value;
  return true;
}

PmiTable::Actions PmiTable::Put(uint32_t rank, const std::string& key, const std::string& value) {
  if (key.empty() || key.size() > kPmiKeyBytesMax || value.size() > kPmiValueBytesMax) {
    return {Reply{rank, "cmd=put_result rc=-1 msg=key_or_value_too_long"}};
  }
  if (key == kMappingKey || !Store(key, value)) return {Reply{rank, "cmd=put_result rc=-1 msg=refused"}};
  if (!alone_) fresh_[key] = value;
  return {Reply{rank, "cmd=put_result rc=0 msg=success"}};
}

PmiTable::Actions PmiTable::Get(uint32_t rank, const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    return {
        Reply{rank, absl::StrCat("cmd=get_result rc=-1 msg=key_", key.substr(0, kPmiKeyBytesMax), "_not_found value=unknown")}};
  }
  return {Reply{rank, absl::StrCat("cmd=get_result rc=0 msg=success value=", found->second)}};
}

PmiTable::Actions PmiTable::Barrier(uint32_t rank) {
  waiting_.insert(rank);
  if (waiting_ != ranks_) return {};
  ++barriers_;
  if (alone_) return Release();
  v1::PmiPairs pairs;
  for (const auto& [key, value] : std::exchange(fresh_, {})) {
    v1::PmiPair& pair = *pairs.add_pairs();
    pair.set_key(key);
    pair.set_value(value);
  }
  exchanging_ = true;
  return {Exchange{absl::StrCat(kPmiGathers, barriers_), pairs.SerializeAsString()}};
}

PmiTable::Actions PmiTable::Release() {
  Actions actions;
  for (const uint32_t rank : std::exchange(waiting_, {})) actions.push_back(Reply{rank, "cmd=barrier_out"});
  return actions;
}

PmiTable::Actions PmiTable::Exchanged(const std::vector<std::string>& parts) {
  if (!std::exchange(exchanging_, false)) return {};
  for (const std::string& part : parts) {
    v1::PmiPairs pairs;
    if (!pairs.ParseFromString(part)) return NotExchanged("another node sent what is no list of keys and values");
    for (const v1::PmiPair& pair : pairs.pairs()) {
      if (!Store(pair.key(), pair.value())) {
        return NotExchanged(absl::StrCat("keys and values of more than ", kBytesMax, " bytes"));
      }
    }
  }
  return Release();
}

PmiTable::Actions PmiTable::NotExchanged(const std::string& why) {
  exchanging_ = false;
  Actions actions;
  for (const uint32_t rank : std::exchange(waiting_, {})) actions.push_back(Drop{rank, why});
  return actions;
}

}  // namespace muster
