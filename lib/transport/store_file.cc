// The store in a directory that all ranks see: a file a key, written under another name and linked into
// place, so that a reader sees a whole value or none. Nothing is removed: a key that exists already
// belongs to another job or to an earlier run, and saying so beats meeting ghosts.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

#include "base/deadline.h"
#include "transport/store.h"

namespace cgx {
namespace {

constexpr size_t kMaxFileName = 200;  // file systems take 255
constexpr int64_t kMaxPollMs = 20;

std::string cause() { return std::system_category().message(errno); }

// Keys hold any bytes; a file name holds letters, digits and a few signs, the others as %XX.
std::string file_name(const std::string& key) {
  std::string name;
  for (const char c : key) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || (c == '.' && !name.empty());
    if (plain) {
      name += c;
    } else {
      name += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
  }
  return name.empty() ? "%" : name;
}

Status write_all(int fd, const std::string& value) {
  size_t done = 0;
  while (done < value.size()) {
    const ssize_t n = ::write(fd, value.data() + done, value.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error(Code::kResource, "{}", cause());
    done += static_cast<size_t>(n);
  }
  return {};
}

// A descriptor that is closed however its scope is left.
struct Closing {
  int fd;
  ~Closing() { ::close(fd); }
};

class FileStore final : public Store {
 public:
  explicit FileStore(std::string directory) : directory_(std::move(directory)) {}

  Status set(const std::string& key, const std::string& value) override {
    CGX_ASSIGN_OR_RETURN(const std::string path, path_of(key));
    std::string temporary = directory_ + "/.new-XXXXXX";
    const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
    if (fd < 0) {
      return error(Code::kResource, "file store: cannot make a file in {}: {}", directory_, cause());
    }
    Status status = write_all(fd, value);
    if (::close(fd) != 0 && status.ok()) status = error(Code::kResource, "{}", cause());
    if (!status.ok()) {
      status = error(status.code(), "file store: cannot write to {}: {}", directory_, status.message());
    } else if (::link(temporary.c_str(), path.c_str()) != 0) {
      status =
          errno == EEXIST
              ? error(
                    Code::kInvalidArgument,
                    "file store: the key \"{}\" is set already ({} exists): an earlier run left it, or "
                    "another "
                    "communicator has the same job name. Remove {} and start again, or give another job name",
                    key, path, directory_)
              : error(Code::kResource, "file store: cannot link {}: {}", path, cause());
    }
    ::unlink(temporary.c_str());
    return status;
  }

  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    CGX_ASSIGN_OR_RETURN(const std::string path, path_of(key));
    const Deadline deadline(timeout_ms);
    for (int64_t pause_ms = 1;; pause_ms = std::min(2 * pause_ms, kMaxPollMs)) {
      const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (fd >= 0) return read_all(fd, path);
      if (errno != ENOENT) return error(Code::kResource, "file store: cannot open {}: {}", path, cause());
      if (deadline.over()) {
        return error(Code::kTimeout, "nobody has set the key \"{}\" in {} within {} ms", key, directory_,
                     timeout_ms);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(std::min(pause_ms, deadline.left_ms())));
    }
  }

 private:
  Result<std::string> path_of(const std::string& key) const {
    const std::string name = file_name(key);
    if (name.size() > kMaxFileName) {
      return error(
          Code::kInvalidArgument,
          "file store: the key \"{}\" makes a file name of {} bytes, {} at most: take a shorter job name",
          key, name.size(), kMaxFileName);
    }
    return directory_ + "/" + name;
  }

  static Result<std::string> read_all(int fd, const std::string& path) {
    const Closing kept{fd};
    std::string value;
    char part[4096];
    for (;;) {
      const ssize_t n = ::read(fd, part, sizeof part);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return error(Code::kResource, "file store: cannot read {}: {}", path, cause());
      if (n == 0) return value;
      value.append(part, static_cast<size_t>(n));
    }
  }

  std::string directory_;
};

}  // namespace

Result<std::unique_ptr<Store>> make_file_store(const std::string& directory) {
  if (directory.empty()) return error(Code::kInvalidArgument, "file store: the directory's name is empty");
  std::error_code fault;
  std::filesystem::create_directories(directory, fault);
  if (!std::filesystem::is_directory(directory)) {
    return error(Code::kInvalidArgument, "file store: {} is no directory and cannot be made one: {}",
                 directory, fault ? fault.message() : "something else has that name");
  }
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0) {
    return error(Code::kInvalidArgument, "file store: cannot write to the directory {}: {}", directory,
                 cause());
  }
  return std::unique_ptr<Store>(std::make_unique<FileStore>(directory));
}

}  // namespace cgx
