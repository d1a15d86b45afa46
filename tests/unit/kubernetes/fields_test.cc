// Each field of the table is rendered from its version on, and not in the one below.
#include "launcher/kubernetes/fields.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/kubernetes/render.h"

namespace muster::kubernetes {
namespace {

TEST(Fields, TheTableIsInOrderAndItsStagesGrow) {
  std::string before;
  for (const VersionedField& one : VersionedFields()) {
    const std::string name = absl::StrCat(one.type, ".", one.field);
    EXPECT_LT(before, name);
    before = name;
    EXPECT_LE(one.alpha, one.usable) << name;
    EXPECT_TRUE(one.stable == 0 || one.usable <= one.stable) << name;
    EXPECT_STRNE(one.source, "") << name;
    EXPECT_STRNE(one.without, "") << name;
  }
}

TEST(Fields, VersionsAreReadAndRefused) {
  EXPECT_EQ(*VersionFromText("1.28"), 28);
  EXPECT_EQ(*VersionFromText("v1.37"), 37);
  for (const char* text : {"1.27", "1.38", "33", "1.", "", "2.30", "1.30.1"}) EXPECT_FALSE(VersionFromText(text).ok()) << text;
}

void NamesIn(const Json& value, std::set<std::string>* names) {
  if (value.is_array()) {
    for (const Json& item : value) NamesIn(item, names);
  } else if (value.is_object()) {
    for (const auto& [name, member] : value.items()) {
      names->insert(name);
      NamesIn(member, names);
    }
  }
}

// A plan that asks for all that render can do.
Plan Everything() {
  Plan plan;
  plan.name = "words";
  plan.image = "muster:1";
  plan.command = {"train"};
  plan.nodes = 4;
  plan.workers = 8;
  plan.workers_min = 4;
  plan.workers_per_node = 2;
  plan.max_restarts = 2;
  plan.cpu = "2";
  plan.memory = "4Gi";
  plan.gpus = 2;
  return plan;
}

std::set<std::string> RenderedNames(const Plan& plan, Api api, int version) {
  std::set<std::string> names;
  const auto manifests = Render(plan, {.api = api, .version = version});
  if (!manifests.ok()) return names;
  for (const Manifest& manifest : *manifests) NamesIn(WithoutComments(manifest.document), &names);
  return names;
}

TEST(Fields, EachIsRenderedAtItsVersionAndNotOneBelow) {
  Plan plan = Everything();
  plan.device_class = "gpu.example.com";
  std::set<std::string> rendered;
  for (const Api api : {Api::kJob, Api::kJobSet, Api::kTrainJob}) {
    for (const VersionedField& one : VersionedFields()) {
      Plan with = std::string(one.field) == "resourceClaims" ? plan : Everything();
      if (RenderedNames(with, api, kVersionMax).count(one.field) == 0) continue;
      // Also names of older fields elsewhere.
      std::set<std::string> others = {"image", "resources", "restartPolicy"};
      if (api != Api::kJob) others.insert("successPolicy");
      if (others.count(one.field) > 0) continue;
      rendered.insert(one.field);
      if (one.usable >= kVersionMin) {
        EXPECT_EQ(RenderedNames(with, api, one.usable).count(one.field), 1u) << one.field << " " << one.usable;
      }
      if (one.usable - 1 >= kVersionMin) {
        EXPECT_EQ(RenderedNames(with, api, one.usable - 1).count(one.field), 0u) << one.field;
      }
    }
  }
  EXPECT_THAT(rendered,
              ::testing::IsSupersetOf({"backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "podReplacementPolicy",
                                       "successPolicy", "restartPolicyRules", "resourceClaims", "unhealthyPodEvictionPolicy"}));
}

TEST(Fields, ADeviceClassBelowItsVersionIsRefusedWithTheRemedy) {
  Plan plan = Everything();
  plan.device_class = "gpu.example.com";
  const auto refused = Render(plan, {.version = 33});
  EXPECT_EQ(refused.status().message(),
            "kubernetes.device_class needs Kubernetes 1.34, not 1.33; leave it out and GPUs come from a device plugin");
}

}  // namespace
}  // namespace muster::kubernetes
