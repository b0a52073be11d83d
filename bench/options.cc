// The two option tables (what both modes share, and what an allreduce adds) and the checks on their values.
#include "options.h"

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher.h"
#include "model.h"

namespace po = boost::program_options;

namespace cgx::bench {
namespace {

// What the flags are before they are checked.
struct Raw {
  std::string min_bytes, max_bytes, step_bytes, op, dtype, cache, rank, format, launch, ranks_directory;
};

void add_size_flags(po::options_description& table, Options& options, Raw& raw) {
  table.add_options()("minbytes,b", po::value(&raw.min_bytes)->default_value("32M"),
                      "smallest size; K, M, G")                                                         //
      ("maxbytes,e", po::value(&raw.max_bytes), "largest size (as -b)")                                 //
      ("stepfactor,f", po::value(&options.step_factor)->default_value(2), "from one size to the next")  //
      ("stepbytes,i", po::value(&raw.step_bytes), "added from one size to the next, instead of -f");
}

po::options_description shared_table(Options& options, Raw& raw) {
  po::options_description table("Options");
  const std::string dtype_help = dtype_names();
  table.add_options()("help,h", po::bool_switch(&options.help), "this text")                            //
      ("iters,n", po::value(&options.iterations)->default_value(5), "timed calls a round")              //
      ("warmup_iters,w", po::value(&options.warmup)->default_value(1), "calls before the first round")  //
      ("rounds", po::value(&options.rounds)->default_value(7), "in each, every contender runs once")    //
      ("check,c", po::value(&options.checks)->default_value(1), "checked operations; 0: none")          //
      ("datatype,d", po::value(&raw.dtype)->default_value("float"), dtype_help.c_str())                 //
      ("dtype", po::value(&raw.dtype), "the same")                                                      //
      ("codec", po::value(&options.codecs)->composing(),
       "a codec spec, or all: every codec there is, with its defaults; repeat for more (none); of "
       "collectives "
       "also SPEC@transport=gloo,algorithm=ring,threads=2: by this way, whatever the other options say")  //
      ("cpu", po::value(&options.cpu_path), "force scalar, sse4, avx2 or avx512")                         //
      ("seed", po::value(&options.seed)->default_value(1), "of data and of random bits")                  //
      ("data", po::value(&options.data)->default_value("random"),
       "random (normal), or a .npy file of float32 or float16 values")  //
      ("format", po::value(&raw.format)->default_value("table"),
       "of standard output: table (as nccl-tests), osu (as the OSU benchmarks), csv, json")  //
      ("json,J", po::value(&options.json_path), "write the rows to this file as well");
  return table;
}

void add_codec_flags(po::options_description& table, Options& options, Raw& raw) {
  table.add_options()("cache", po::value(&raw.cache)->default_value("cold"),
                      "cold: buffers rotate; warm: one buffer")  //
      ("floors", po::bool_switch(&options.floors),
       "every codec, width and type, 256 KiB in L2 and 64 MiB from memory, and whether each reaches its "
       "floor");
}

std::string algorithm_names() {
  std::string names;
  for (const nlohmann::json& row : nlohmann::json::parse(cgx_algorithm_list())) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row["name"].get<std::string>());
  }
  return names;
}

void add_allreduce_flags(po::options_description& table, Options& options, Raw& raw) {
  const std::string op_help = op_names() + "; only sums and averages are compressed";
  const std::string algorithm_help = algorithm_names() + " or auto";
  table.add_options()("ngpus,g", po::value(&options.ranks),
                      "ranks, each a process started here (2); all there are where mpirun or torchrun has "
                      "started this")                                      //
      ("op,o", po::value(&raw.op)->default_value("sum"), op_help.c_str())  //
      ("launch", po::value(&raw.launch)->default_value("auto"),
       "self: start the ranks here; environment: this process is one of mpirun's, torchrun's, srun's or "
       "CGX_RANK's; auto: environment where there is such a one")  //
      ("baseline", po::value(&options.baselines)->composing(),
       "gloo, gloo16 (behind a 16-bit hook); openmpi, openmpi-shm, openmpi-tcp; PyTorch over its Gloo: "
       "torch, "
       "torch-fp16, torch-bf16, torch-powersgd (its hooks); memcpy (every rank copies the tensor once) or a "
       "codec spec; repeat for more")                                                                     //
      ("python", po::value(&options.python)->default_value("python3"), "that has PyTorch, for torch...")  //
      ("transport", po::value(&options.transport)->default_value("auto"),
       "shm, tcp, mixed (shm inside a host, tcp between), gloo or auto")  //
      ("algorithm", po::value(&options.algorithm)->default_value("auto"), algorithm_help.c_str())(
          "interface", po::value(&options.interface_name),
          "network interface of tcp, mixed, gloo and the baselines (lo, or that of netns; with ranks on "
          "several "
          "hosts as CGX_SOCKET_IFNAME and, for baselines, GLOO_SOCKET_IFNAME say)")  //
      ("launch-prefix", po::value(&options.launch_prefix),
       "words before each rank's command, {rank} for its number (what `scripts/netns run` gives)")  //
      ("meeting-directory", po::value(&options.meeting_directory),
       "where ranks on several hosts share one: baselines meet there (that for temporary files)")(
          "timeout", po::value(&options.timeout_ms)->default_value(60000), "of a collective, in ms");
}

// Not for users: what starts a rank, and what netns tells.
po::options_description hidden_table(Options& options, Raw& raw) {
  po::options_description table;
  table.add_options()("as-rank", po::value(&raw.rank))("report-fd", po::value(&options.report_fd))(
      "shared", po::value(&options.shared_path))("ranks-directory", po::value(&raw.ranks_directory))(
      "link-rate", po::value(&options.link_rate))("addresses", po::value(&options.addresses))(
      "skip", po::value(&options.skipped)->composing())("as-guest", po::value(&options.guest_of));
  return table;
}

// Inside `scripts/netns run` the ranks go into its namespaces, unless the command line says otherwise.
std::string netns_variable(const std::string& name) {
  if (name == "CGX_NETNS_PREFIX") return "launch-prefix";
  if (name == "CGX_NETNS_INTERFACE") return "interface";
  if (name == "CGX_NETNS_RATE") return "link-rate";
  if (name == "CGX_NETNS_ADDRESSES") return "addresses";
  return "";
}

void require_range(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    throw UsageError(fmt::format("--{} {}: expected {} to {}", flag, value, low, high));
  }
}

// A listed codec with its defaults; one spec for each choice where a choice has none, as with cast:fp16|bf16.
void add_listed(const nlohmann::json& row, std::vector<std::string>& specs) {
  const std::string name = row["name"];
  for (const nlohmann::json& parameter : row["params"]) {
    if (parameter["default"] != "") continue;
    std::istringstream choices(parameter["range"].get<std::string>());
    for (std::string choice; std::getline(choices, choice, '|');) {
      specs.push_back(fmt::format("{}:{}", name, choice));
    }
    return;
  }
  specs.push_back(name);
}

std::vector<std::string> without_all(const std::vector<std::string>& given) {
  std::vector<std::string> out;
  for (const std::string& spec : given) {
    if (spec != "all") {
      out.push_back(spec);
      continue;
    }
    for (const nlohmann::json& row : nlohmann::json::parse(cgx_codec_list())) add_listed(row, out);
  }
  return out;
}

Format parse_format(const std::string& name, Mode mode) {
  if (name == "osu" && mode == Mode::kCodec)
    throw UsageError("--format osu: a codec has no latency of ranks");
  constexpr std::pair<const char*, Format> kFormats[] = {
      {"table", Format::kTable}, {"osu", Format::kOsu}, {"csv", Format::kCsv}, {"json", Format::kJson}};
  for (const auto& [known, format] : kFormats) {
    if (name == known) return format;
  }
  throw UsageError(fmt::format("--format {}: expected table, osu, csv or json", name));
}

void finish(Options& options, const Raw& raw) {
  options.min_bytes = parse_bytes(raw.min_bytes.empty() ? "1" : raw.min_bytes);
  options.max_bytes = raw.max_bytes.empty() ? options.min_bytes : parse_bytes(raw.max_bytes);
  if (options.max_bytes < options.min_bytes) {
    throw UsageError(fmt::format("--maxbytes {} is below --minbytes {}", raw.max_bytes, raw.min_bytes));
  }
  if (!raw.step_bytes.empty()) options.step_bytes = parse_bytes(raw.step_bytes);
  require_range("stepfactor", static_cast<int64_t>(options.step_factor), 2, 1 << 20);
  require_range("iters", options.iterations, 1, 1000000);
  require_range("warmup_iters", options.warmup, 0, 1000000);
  require_range("rounds", options.rounds, 1, 10000);
  require_range("check", options.checks, 0, 1000);
  if (!raw.rank.empty()) options.rank = parse_rank(raw.rank);
  if (!raw.ranks_directory.empty()) options.meeting_directory = raw.ranks_directory;
  if (options.mode != Mode::kCodec) read_launcher(options, raw.launch);
  if (options.ranks == 0 && !options.ranks_given) options.ranks = 2;
  require_range("ngpus", options.ranks, 1, 16);
  require_range("timeout", options.timeout_ms, 1, 3600 * 1000);
  options.dtype = parse_dtype(raw.dtype);
  options.op = raw.op.empty() ? CGX_SUM : parse_op(raw.op);
  if (options.op == CGX_AVG && is_integer(options.dtype)) throw UsageError("--op avg is not for integers");
  if (options.codecs.empty()) options.codecs = {"none"};
  options.codecs = without_all(options.codecs);
  if (!raw.cache.empty() && raw.cache != "cold" && raw.cache != "warm") {
    throw UsageError(fmt::format("--cache {}: expected cold or warm", raw.cache));
  }
  options.warm_cache = raw.cache == "warm";
  options.format = parse_format(raw.format, options.mode);
  // Ranks that others have started may be on several hosts: world.cc knows.
  if (options.launcher.empty() && options.interface_name.empty()) options.interface_name = "lo";
  // Namespaces share the host's memory: only sockets see the link between them.
  if (!options.launch_prefix.empty() && options.transport == "auto") options.transport = "tcp";
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  const std::string mode = argv[1];
  options.mode = mode == "codec" ? Mode::kCodec : mode == "layers" ? Mode::kLayers : Mode::kAllreduce;
  options.words.assign(argv, argv + argc);
  Raw raw;
  po::options_description visible = shared_table(options, raw);
  po::options_description all;
  if (options.mode == Mode::kLayers) {
    visible.add_options()("model", po::value(&options.model)->default_value("resnet50"),
                          "resnet50, gpt2, or a file with a line a parameter: name, shape (64x3x7x7)");
  } else {
    add_size_flags(visible, options, raw);
  }
  if (options.mode == Mode::kCodec) {
    add_codec_flags(visible, options, raw);
    all.add(visible);
  } else {
    add_allreduce_flags(visible, options, raw);
    all.add(visible).add(hidden_table(options, raw));
  }
  try {
    po::variables_map values;
    po::store(po::command_line_parser(argc - 1, argv + 1).options(all).positional({}).run(), values);
    if (options.mode != Mode::kCodec) po::store(po::parse_environment(all, netns_variable), values);
    po::notify(values);
    options.ranks_given = values.count("ngpus") != 0;
  } catch (const po::error& error) {
    throw UsageError(fmt::format("{} (see cgx-bench {} --help)", error.what(), mode));
  }
  std::ostringstream text;
  text << visible;
  options.help_text = fmt::format("cgx-bench {} [options]\n\n{}", mode, text.str());
  if (!options.help) finish(options, raw);
  return options;
}

std::string general_help() {
  return "cgx-bench MODE [options]\n\n"
         "  allreduce   time and accuracy of compressed allreduces beside baselines, in processes started "
         "here\n"
         "  layers      the same for all gradients of a model, in the buckets of PyTorch's DDP: each bucket "
         "one "
         "call, and a call a layer\n"
         "  codec       encode and decode speed beside memcpy, size and accuracy\n"
         "  plans       (or --check) proves every algorithm right for 1 to 16 ranks, with symbols for "
         "elements\n\n"
         "cgx-bench MODE --help lists the options. Exit status: 0 all well; 1 something was wrong (an "
         "element\n"
         "outside its codec's bound, replicas that differ, an error); 2 a wrong command line.\n\n"
         "  cgx-bench allreduce -g 2 -b 64M --codec maxmin:bits=4 --codec none --baseline gloo\n"
         "  cgx-bench codec -b 1M -e 64M -f 8 --codec natural --codec maxmin:bits=4\n"
         "  cgx-bench allreduce -b 1M --baseline openmpi-shm --baseline openmpi-tcp --baseline torch-fp16\n"
         "  mpirun -n 4 cgx-bench allreduce -b 4 -e 64K --format osu\n"
         "  cgx-bench codec --floors\n"
         "  scripts/netns run --ranks 2 --rate 1gbit -- cgx-bench allreduce -n 1 -b 64M --baseline gloo\n";
}

const char* mode_name(Mode mode) {
  return mode == Mode::kCodec ? "codec" : mode == Mode::kLayers ? "layers" : "allreduce";
}

std::vector<uint64_t> sizes(const Options& options) {
  if (options.mode == Mode::kLayers) {
    const Bucket last = model_buckets(options.model).back();
    return {(last.first + last.count) * dtype_bytes(options.dtype)};
  }
  const uint64_t element = dtype_bytes(options.dtype);
  std::vector<uint64_t> out;
  const auto next = [&](uint64_t size) {
    return options.step_bytes != 0 ? size + options.step_bytes : size * options.step_factor;
  };
  for (uint64_t size = options.min_bytes; size <= options.max_bytes; size = next(size)) {
    const uint64_t whole = size / element * element;
    if (whole == 0) throw UsageError(fmt::format("--minbytes {} is less than one element", size));
    out.push_back(whole);
  }
  return out;
}

}  // namespace cgx::bench
