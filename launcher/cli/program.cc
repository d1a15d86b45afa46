#include "launcher/cli/program.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

bool IsFile(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool IsExecutable(const std::string& path) { return IsFile(path) && ::access(path.c_str(), X_OK) == 0; }

// The interpreter that a script's first line names; empty: the file is no script.
std::string InterpreterOf(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (file.get() != '#' || file.get() != '!' || !std::getline(file, line)) return "";
  const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  return words.empty() ? "" : words[0];
}

// Whether the kernel knows how to execute it.
bool RunsByItself(const std::string& path) {
  if (!IsExecutable(path)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  const std::string begin(magic, sizeof magic);
  return absl::StartsWith(begin, "#!") || begin ==
                                              "\x7f"
                                              "ELF";
}

absl::StatusOr<std::string> CheckPath(const std::string& program, const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == EACCES) {
      return absl::PermissionDeniedError(absl::StrCat("cannot reach ", program, ": permission denied on a folder of its path"));
    }
    return absl::NotFoundError(absl::StrCat("program ", program, " not found",
                                            program == path ? "" : absl::StrCat(" (", path, ")"),
                                            "; check the spelling, or give its full path"));
  }
  if (S_ISDIR(status.st_mode)) {
    return absl::PermissionDeniedError(absl::StrCat(program, " is a folder, not a program; name the program inside it"));
  }
  if (!IsExecutable(path)) {
    return absl::PermissionDeniedError(
        absl::StrCat(program, " is not executable; try: chmod +x ", program, ", or name its interpreter: python3 ", program));
  }
  // The kernel would only say that something is not there.
  if (const std::string interpreter = InterpreterOf(path); !interpreter.empty() && !IsExecutable(interpreter)) {
    return absl::PermissionDeniedError(
        absl::StrCat(program, " begins with #!", interpreter, ", which is not an executable here; mend its first line"));
  }
  return path;
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& program, const std::string& working_directory,
                                        const std::string& path, const std::string& own_folder) {
  std::error_code error;
  fs::path folder = working_directory.empty() ? fs::current_path(error) : fs::absolute(working_directory, error);
  if (program.find('/') != std::string::npos) return CheckPath(program, (folder / program).lexically_normal().string());

  std::vector<std::string> folders = absl::StrSplit(path, ':');
  folders.push_back(own_folder);
  std::string not_executable;
  for (const std::string& place : folders) {
    const std::string candidate = (folder / (place.empty() ? "." : place) / program).lexically_normal().string();
    if (IsExecutable(candidate)) return CheckPath(candidate, candidate);
    if (not_executable.empty() && IsFile(candidate)) not_executable = candidate;
  }
  if (!not_executable.empty()) return CheckPath(not_executable, not_executable);
  const std::string here = (folder / program).string();
  if (IsFile(here)) {
    return absl::NotFoundError(absl::StrCat("program ", program, " not found in PATH; it is in ",
                                            working_directory.empty() ? "the current folder" : working_directory,
                                            ", so write ./", program));
  }
  return absl::NotFoundError(absl::StrCat("program ", program, " not found in PATH nor beside muster (", own_folder,
                                          "); check the spelling, or give its full path"));
}

absl::StatusOr<Startable> FindCommand(const std::vector<std::string>& command, const std::string& working_directory,
                                      const std::string& path, const std::string& own_folder, const std::string& python) {
  const std::string& program = command[0];
  auto found = FindProgram(program, working_directory, path, own_folder);
  if (!absl::EndsWith(program, ".py") || (found.ok() && RunsByItself(*found))) {
    if (!found.ok()) return found.status();
    return Startable{*std::move(found), command};
  }
  std::error_code error;
  const fs::path folder = working_directory.empty() ? fs::current_path(error) : fs::absolute(working_directory, error);
  const std::string script = found.ok() ? *found : (folder / program).lexically_normal().string();
  if (!IsFile(script)) return found.status();
  if (RunsByItself(script)) {
    MUSTER_ASSIGN_OR_RETURN(std::string checked, CheckPath(program, script));
    return Startable{std::move(checked), command};
  }
  if (::access(script.c_str(), R_OK) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(program, " cannot be read here; try: chmod +r ", program));
  }
  auto interpreter = FindProgram(python, working_directory, path, own_folder);
  if (!interpreter.ok()) {
    return absl::NotFoundError(absl::StrCat(program, " is run by ", python,
                                            ", which is not found in PATH; install it, or name another ", "in PYTHON_EXEC"));
  }
  Startable startable{*std::move(interpreter), {python}};
  startable.argv.insert(startable.argv.end(), command.begin(), command.end());
  if (found.ok()) startable.argv[1] = script;  // in PATH, where Python does not look
  return startable;
}

absl::StatusOr<std::string> OwnProgram() {
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoToStatus(error.value(), "read /proc/self/exe");
  return own.string();
}

absl::StatusOr<std::string> OwnFolder() {
  MUSTER_ASSIGN_OR_RETURN(const std::string own, OwnProgram());
  return fs::path(own).parent_path().string();
}

absl::StatusOr<std::string> FindGuard(const std::string& own_folder) {
  for (const std::string& path : {own_folder + "/muster-guard", own_folder + "/../libexec/muster/muster-guard"}) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::NotFoundError(
      absl::StrCat("muster-guard is not beside muster in ", own_folder, "; install muster anew, as a whole"));
}

}  // namespace muster
