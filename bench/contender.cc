// cgx itself as a contender, through its C interface only, with a communicator of its own per codec; and a
// bare copy.
#include "contender.h"

#include <fmt/format.h>

#include <cstring>

namespace cgx::bench {

void require_ok(cgx_status status, const std::string& what) {
  if (status == CGX_OK) return;
  throw BenchError(fmt::format("{}: {}: {}", what, cgx_status_name(status), cgx_last_error()));
}

CodecPtr make_codec(const std::string& spec) {
  cgx_codec* codec = nullptr;
  if (cgx_codec_create(spec.c_str(), &codec) != CGX_OK) throw UsageError(cgx_last_error());
  return CodecPtr(codec);
}

namespace {

struct CommDeleter {
  void operator()(cgx_comm* comm) const { cgx_comm_destroy(comm); }
};

class CgxContender final : public Contender {
 public:
  CgxContender(const Options& options, const Entry& entry, int number, const Team& team)
      : codec_(make_codec(entry.spec)), dtype_(options.dtype), op_(options.op) {
    cgx_store* store = team.store();
    if (store == nullptr) {
      const std::string directory = fmt::format("{}/cgx-{}", team.directory(), number);
      require_ok(cgx_store_create_file(directory.c_str(), &store), "meeting the other ranks");
      store_.reset(store);
    }
    const std::string job = fmt::format("bench-{}", number);
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = options.rank;
    config.size = options.ranks;
    config.store = store;
    config.job = job.c_str();
    config.transport = entry.transport.c_str();
    config.algorithm = entry.algorithm.c_str();
    config.threads = entry.threads;
    config.interface_name = options.interface_name.c_str();
    config.timeout_ms = options.timeout_ms;
    config.seed = options.seed;
    cgx_comm* comm = nullptr;
    require_ok(cgx_comm_create(&config, &comm), fmt::format("codec {}", entry.name));
    comm_.reset(comm);
  }

  void allreduce(const void* in, void* out, uint64_t count) override {
    cgx_allreduce_args args = arguments(in, out, count);
    args.codec = codec_.get();
    require_ok(cgx_allreduce(comm_.get(), &args), spec());
  }

  void allreduce_layers(const void* in, void* out, uint64_t count, std::span<const Layer> layers) override {
    std::vector<cgx_segment> segments;
    for (const Layer& layer : layers) {
      segments.push_back({layer.first, layer.count, layer.compressed ? codec_.get() : nullptr, layer.id});
    }
    cgx_allreduce_args args = arguments(in, out, count);
    args.segments = segments.data();
    args.segment_count = segments.size();
    require_ok(cgx_allreduce(comm_.get(), &args), spec());
  }

  Traffic traffic() const override {
    cgx_stats stats = CGX_STATS_INIT;
    require_ok(cgx_comm_stats(comm_.get(), &stats), "statistics");
    return {stats.wire_bytes, stats.raw_bytes};
  }

  void forget() override { require_ok(cgx_comm_reset_residuals(comm_.get()), "dropping residuals"); }
  std::string spec() const override { return cgx_codec_spec(codec_.get()); }
  std::string transport() const override { return cgx_comm_transport(comm_.get()); }
  bool unbiased() const override { return cgx_codec_unbiased(codec_.get()) != 0; }
  bool is_foreign() const override { return false; }

 private:
  cgx_allreduce_args arguments(const void* in, void* out, uint64_t count) const {
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = in;
    args.output = out;
    args.count = count;
    args.dtype = dtype_;
    args.op = op_;
    return args;
  }

  CodecPtr codec_;
  StorePtr store_;  // null: the team's
  std::unique_ptr<cgx_comm, CommDeleter> comm_;
  cgx_dtype dtype_;
  cgx_op op_;
};

class CopyContender final : public Contender {
 public:
  explicit CopyContender(cgx_dtype dtype) : element_bytes_(dtype_bytes(dtype)) {}
  void allreduce(const void* in, void* out, uint64_t count) override {
    std::memcpy(out, in, count * element_bytes_);
  }
  Traffic traffic() const override { return {}; }
  void forget() override {}
  std::string spec() const override { return "none"; }
  std::string transport() const override { return "memory"; }
  bool unbiased() const override { return true; }

 private:
  uint64_t element_bytes_;
};

}  // namespace

std::unique_ptr<Contender> make_cgx(const Options& options, const Entry& entry, int number,
                                    const Team& team) {
  return std::make_unique<CgxContender>(options, entry, number, team);
}

std::unique_ptr<Contender> make_copy(const Options& options) {
  return std::make_unique<CopyContender>(options.dtype);
}

}  // namespace cgx::bench
