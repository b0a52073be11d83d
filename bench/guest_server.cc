// A guest that is a process of mpirun's: does its rank's calls with Open MPI. It waits for requests asleep,
// so that the cores belong to whoever's turn it is, and meets the other guests in a barrier of their own just
// before it starts its clock.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>

#include "barrier.h"
#include "guest.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

class GuestServer {
 public:
  GuestServer(const Options& options, const Entry& entry)
      : options_(options),
        barrier_(options.shared_path, options.ranks, 1 + options.guest_of),
        contender_(make_openmpi(options, entry.method)) {}

  json ready() const { return {{"transport", contender_->transport()}, {"version", contender_->version()}}; }

  json answer(const json& request) {
    if (request.contains("load")) return load(request["load"]);
    if (request.contains("call")) return call(request["call"].get<size_t>());
    contender_->forget();
    return json::object();
  }

 private:
  json load(const json& what) {
    if (memory_ != nullptr) munmap(memory_, mapped_);
    stride_ = what["stride"];
    buffers_ = what["buffers"];
    spans_ = what["spans"].get<decltype(spans_)>();
    mapped_ = 2 * buffers_ * stride_;
    const std::string path = what["path"];
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) throw BenchError(fmt::format("{}: {}", path, std::strerror(errno)));
    void* mapped = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) throw BenchError(fmt::format("mmap of {}: {}", path, std::strerror(errno)));
    memory_ = static_cast<char*>(mapped);
    return json::object();
  }

  json call(size_t buffer) {
    if (memory_ == nullptr) throw BenchError("a call before its data");
    const char* in = memory_ + buffer * stride_;
    char* out = memory_ + (buffers_ + buffer) * stride_;
    const uint64_t element = dtype_bytes(options_.dtype);
    const Traffic before = contender_->traffic();
    barrier_.wait_spinning();
    const auto start = std::chrono::steady_clock::now();
    for (const auto& [first, count] : spans_) {
      contender_->allreduce(in + first * element, out + first * element, count);
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    contender_->settle();
    const Traffic after = contender_->traffic();
    return {{"us", took.count()},
            {"wire", after.wire_bytes - before.wire_bytes},
            {"raw", after.raw_bytes - before.raw_bytes}};
  }

  const Options& options_;
  RankBarrier barrier_;
  std::unique_ptr<Contender> contender_;
  char* memory_ = nullptr;
  uint64_t mapped_ = 0, stride_ = 0, buffers_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> spans_;
};

int connect_to(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  for (int attempt = 0; fd >= 0 && attempt < 6000; ++attempt) {  // a minute: its rank may be slower to start
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    if (errno != ENOENT && errno != ECONNREFUSED) break;
    usleep(10000);
  }
  throw BenchError(fmt::format("connecting to {}: {}", path, std::strerror(errno)));
}

using Stream = std::unique_ptr<FILE, int (*)(FILE*)>;

Stream open_stream(int fd, const char* mode) {
  FILE* stream = fd < 0 ? nullptr : fdopen(fd, mode);
  if (stream == nullptr) throw BenchError(fmt::format("a guest's stream: {}", std::strerror(errno)));
  return {stream, std::fclose};
}

void say(FILE* stream, const json& line) {
  std::fputs((line.dump() + "\n").c_str(), stream);
  std::fflush(stream);
}

void serve(GuestServer& server, FILE* requests, FILE* answers) {
  say(answers, server.ready());
  char* line = nullptr;
  size_t capacity = 0;
  while (getline(&line, &capacity, requests) > 0) say(answers, server.answer(json::parse(line)));
  std::free(line);
}

}  // namespace

int run_guest(const Options& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // of mpirun or its daemon
  std::signal(SIGPIPE, SIG_IGN);
  const int fd = connect_to(guest_path(options.meeting_directory, options.guest_of, options.rank));
  const Stream requests = open_stream(fd, "r"), answers = open_stream(dup(fd), "w");
  try {
    GuestServer server(options, entries(options)[static_cast<size_t>(options.guest_of)]);
    serve(server, requests.get(), answers.get());
    return 0;
  } catch (const std::exception& error) {
    say(answers.get(), {{"error", error.what()}});
    return 1;
  }
}

}  // namespace cgx::bench
