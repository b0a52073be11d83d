// See guest.h.
#include "guest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

namespace cgx::bench {
namespace {

using json = nlohmann::json;

constexpr int kPatienceSeconds = 180;  // PyTorch on a busy machine takes its time to start

[[noreturn]] void fail(const std::string& what) {
  throw BenchError(fmt::format("{}: {}", what, std::strerror(errno)));
}

}  // namespace

std::string guest_path(const std::string& directory, int number, int rank) {
  return fmt::format("{}/guest-{}-{}", directory, number, rank);
}

GuestLink::GuestLink(std::string path, const std::vector<std::string>& words) : path_(std::move(path)) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof(address.sun_path)) {
    throw BenchError(fmt::format("{} is too long for a socket: set TMPDIR to a shorter path", path_));
  }
  path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  listening_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening_ < 0 || bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listening_, 1) != 0) {
    fail(path_);
  }
  name_ = words.empty() ? "mpirun's rank" : words[0];
  if (!words.empty()) start(words);
}

GuestLink::~GuestLink() {
  if (socket_ >= 0) close(socket_);  // at which it ends
  if (listening_ >= 0) close(listening_);
  unmap();
  if (process_ < 0) return;
  for (int waited = 0; waited < 500 && waitpid(process_, nullptr, WNOHANG) == 0; ++waited) usleep(20000);
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
}

void GuestLink::start(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  process_ = fork();
  if (process_ < 0) fail("fork");
  if (process_ > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nothing < 0) _exit(127);
  dup2(nothing, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  execvp(argv[0], argv.data());
  _exit(127);
}

const json& GuestLink::ready() {
  if (socket_ >= 0) return ready_;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceSeconds);
  pollfd waiting = {listening_, POLLIN, 0};
  while (poll(&waiting, 1, 200) <= 0) {
    if (process_ > 0 && waitpid(process_, nullptr, WNOHANG) == process_) {
      process_ = -1;
      throw BenchError(fmt::format("{} ended at once", name_));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      throw BenchError(fmt::format("{} did not come within {} s", name_, kPatienceSeconds));
    }
  }
  socket_ = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket_ < 0) fail(path_);
  ready_ = json::parse(read_line());
  if (ready_.contains("error")) throw BenchError(ready_["error"].get<std::string>());
  return ready_;
}

std::string GuestLink::read_line() {
  for (;;) {
    const size_t end = unread_.find('\n');
    if (end != unread_.npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    char bytes[4096];
    const ssize_t got = read(socket_, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw BenchError(fmt::format("{} ended too early", name_));
    unread_.append(bytes, static_cast<size_t>(got));
  }
}

json GuestLink::ask(const json& request) {
  ready();
  const std::string line = request.dump() + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t wrote = send(socket_, line.data() + done, line.size() - done, MSG_NOSIGNAL);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw BenchError(fmt::format("{} ended too early", name_));
    done += static_cast<size_t>(wrote);
  }
  json answer = json::parse(read_line());
  if (answer.contains("error")) throw BenchError(answer["error"].get<std::string>());
  return answer;
}

void GuestLink::unmap() {
  if (memory_ != nullptr) munmap(memory_, 2 * buffers_ * stride_);
  memory_ = nullptr;
}

void GuestLink::load(const Load& load) {
  if (generation_ == load.generation) return;  // another baseline of this guest did it
  unmap();
  buffers_ = load.inputs.size();
  stride_ = (load.inputs[0].bytes() + 4095) / 4096 * 4096;
  const uint64_t bytes = 2 * buffers_ * stride_;
  const int fd = memfd_create("cgx-bench-guest", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail("memory to share with a guest");
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapped == MAP_FAILED) fail("memory to share with a guest");
  memory_ = static_cast<char*>(mapped);
  for (uint64_t b = 0; b < buffers_; ++b) {
    std::memcpy(memory_ + b * stride_, load.inputs[b].data(), load.inputs[b].bytes());
  }
  ask({{"load",
        {{"path", fmt::format("/proc/{}/fd/{}", getpid(), fd)},
         {"stride", stride_},
         {"buffers", buffers_},
         {"bytes", load.inputs[0].bytes()},
         {"spans", load.spans},
         {"dtype", dtype_name(load.dtype)},
         {"op", op_name(load.op)}}}});
  close(fd);
  generation_ = load.generation;
}

const void* GuestLink::output(size_t buffer) const { return memory_ + (buffers_ + buffer) * stride_; }

Guest::Guest(std::shared_ptr<GuestLink> link, const Entry& entry)
    : link_(std::move(link)), method_(entry.method), spec_(entry.spec) {
  const json& ready = link_->ready();
  transport_ = ready.at("transport").get<std::string>();
  version_ = ready.at("version").get<std::string>();
}

double Guest::timed(size_t buffer) {
  const json answer = link_->ask({{"call", buffer}, {"method", method_}});
  traffic_.wire_bytes += answer.at("wire").get<uint64_t>();
  traffic_.raw_bytes += answer.at("raw").get<uint64_t>();
  return answer.at("us").get<double>();
}

}  // namespace cgx::bench
