// R12 and R13: messages in which one field is wrong, made field by field with checksums that fit, and
// messages with random damage. Each is refused, or says nothing that a receiver would act on; none is
// believed in its lengths.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>

#include "base/crc32c.h"
#include "codec/codec.h"
#include "codec/frame.h"
#include "comm/hello.h"
#include "options.h"
#include "transport/rendezvous.h"
#include "transport/shm_segment.h"
#include "transport/store_tcp_session.h"
#include "transport/tcp_control.h"
#include "transport/tcp_handshake.h"
#include "transport/tcp_stream.h"

namespace cgx::test {
namespace {

struct Field {
  const char* name;
  size_t offset, bytes;
};
#define FIELD(type, field) \
  Field { #field, offsetof(type, field), sizeof(type::field) }

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes.substr(0, 48)) text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return text;
}

template <typename T>
std::string text_of(const T& object) {
  return std::string(reinterpret_cast<const char*>(&object), sizeof object);
}

// `message` with each of its fields set to what breaks parsers: nothing, all, one more, one less, the sign,
// and the bytes the other way round. Those equal to the original are left out, and of equal ones all but one.
std::vector<std::string> with_bad_fields(const std::string& message, std::initializer_list<Field> fields) {
  std::vector<std::string> bad;
  for (const Field& field : fields) {
    const size_t bytes = std::min<size_t>(field.bytes, 8);
    uint64_t now = 0;
    std::memcpy(&now, message.data() + field.offset, bytes);
    const uint64_t top = uint64_t{1} << (8 * bytes - 1);
    uint64_t turned = 0;
    for (size_t i = 0; i < bytes; ++i) turned |= (now >> (8 * i) & 0xff) << (8 * (bytes - 1 - i));
    const uint64_t mask = bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
    std::set<uint64_t> values = {0,         mask, (now + 1) & mask, (now - 1) & mask,
                                 now ^ top, top,  top - 1,          turned};
    values.erase(now);
    for (const uint64_t value : values) {
      bad.push_back(message);
      std::memcpy(bad.back().data() + field.offset, &value, bytes);
    }
  }
  return bad;
}

template <typename T>
T signed_again(const std::string& bytes) {
  T object;
  std::memcpy(static_cast<void*>(&object), bytes.data(), sizeof object);
  object.crc = tcp_crc(object);
  return object;
}

std::array<TcpSocket, 2> pair_of_sockets() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  return {TcpSocket(fds[0]), TcpSocket(fds[1])};
}

constexpr size_t kPayload = 20;

std::string data_frame() {
  const std::string payload(kPayload, 'p');
  return text_of(make_tcp_header(TcpFrame::kData, 0, kPayload, crc32c(0, payload.data(), kPayload))) +
         payload;
}

// What a stream that expects 20 bytes makes of `wire`, after which the connection ends.
TcpMoved pull_of(const std::string& wire, bool* arrived) {
  auto [near, far] = pair_of_sockets();
  EXPECT_EQ(::send(far.get(), wire.data(), wire.size(), MSG_NOSIGNAL), static_cast<ssize_t>(wire.size()));
  far.reset();
  TcpPool pool;
  TcpStream stream(std::move(near), 0, 1, &pool);
  stream.expect(pool.take(kPayload), 0);
  TcpMoved moved = stream.pull();
  if (moved.wrong.ok() && !moved.closed && stream.expects()) moved = stream.pull();
  *arrived = stream.has_arrived();
  return moved;
}

int count_bad_data_frames() {
  int count = 0;
  const std::string good = data_frame();
  for (const std::string& bad : with_bad_fields(
           good, {FIELD(TcpHeader, magic), FIELD(TcpHeader, type), FIELD(TcpHeader, zero),
                  FIELD(TcpHeader, number), FIELD(TcpHeader, bytes), FIELD(TcpHeader, payload_crc)})) {
    bool arrived = true;
    const TcpMoved moved =
        pull_of(text_of(signed_again<TcpHeader>(bad)) + bad.substr(sizeof(TcpHeader)), &arrived);
    EXPECT_FALSE(arrived) << hex(bad);
    EXPECT_TRUE(moved.wrong.code() == Code::kCorrupt || moved.wrong.code() == Code::kMismatch) << hex(bad);
    EXPECT_NE(moved.wrong.message().find("rank 1"), std::string::npos) << moved.wrong.message();
    ++count;
  }
  return count;
}

struct FailureFrame {
  TcpHeader header;
  TcpFailureWords words;
};

int count_bad_control_frames() {
  int count = 0;
  FailureFrame good;
  good.words.code = static_cast<int32_t>(Code::kPeerFailed);
  good.words.origin = 1;
  std::memset(good.words.text, 'w', sizeof good.words.text);  // no zero at its end, either
  good.header = make_tcp_header(TcpFrame::kFailure, 0, sizeof good.words, 0);
  const Field fields[] = {FIELD(TcpHeader, magic), FIELD(TcpHeader, type), FIELD(TcpHeader, bytes),
                          FIELD(TcpHeader, payload_crc)};
  constexpr size_t kWordsAt = sizeof(TcpHeader);
  const auto state_of = [](FailureFrame frame, bool sign_words, int* origin, std::string* words) {
    if (sign_words) frame.header.payload_crc = crc32c(0, &frame.words, sizeof frame.words);
    frame.header.crc = tcp_crc(frame.header);
    auto [near, far] = pair_of_sockets();
    EXPECT_EQ(::send(far.get(), &frame, sizeof frame, 0), static_cast<ssize_t>(sizeof frame));
    far.reset();
    TcpControl control(std::move(near), 3);
    const TcpControl::State state = control.look();
    if (state == TcpControl::State::kFailed) static_cast<void>(control.told(4, origin, words));
    return state;
  };
  int origin = -1;
  std::string words;
  EXPECT_EQ(state_of(good, true, &origin, &words), TcpControl::State::kFailed);
  for (const Field& field : fields) {
    for (const std::string& bad : with_bad_fields(text_of(good), {field})) {
      FailureFrame frame;
      std::memcpy(&frame, bad.data(), sizeof frame);
      const bool of_crc = field.offset == offsetof(TcpHeader, payload_crc);
      const TcpControl::State state = state_of(frame, !of_crc, &origin, &words);
      const bool goodbye = frame.header.type == static_cast<uint16_t>(TcpFrame::kGoodbye);
      EXPECT_EQ(state, goodbye ? TcpControl::State::kLeft : TcpControl::State::kLost)
          << field.name << hex(bad);
      ++count;
    }
  }
  // Words are only printed, and only as of a rank that there is.
  for (const std::string& bad :
       with_bad_fields(text_of(good), {{"code", kWordsAt, 4}, {"origin", kWordsAt + 4, 4}})) {
    FailureFrame frame;
    std::memcpy(&frame, bad.data(), sizeof frame);
    EXPECT_EQ(state_of(frame, true, &origin, &words), TcpControl::State::kFailed);
    EXPECT_TRUE(origin >= 0 && origin < 4) << origin;
    EXPECT_LE(words.size(), kTcpWords);
    ++count;
  }
  return count;
}

int count_bad_hellos() {
  const TcpSelf zero = {0, 2, 3, 0x123456789abcdef0u, {{11, 12}}, ""};
  const TcpSelf one = {1, 2, 3, 0x123456789abcdef0u, {{21, 22}}, ""};
  const auto fields = {FIELD(TcpHello, magic),  FIELD(TcpHello, version), FIELD(TcpHello, byte_order),
                       FIELD(TcpHello, from),   FIELD(TcpHello, to),      FIELD(TcpHello, size),
                       FIELD(TcpHello, stream), FIELD(TcpHello, streams), FIELD(TcpHello, job_hash),
                       FIELD(TcpHello, nonce),  FIELD(TcpHello, proof),   FIELD(TcpHello, zero)};
  const TcpHello visit = *make_hello(one, 0, zero.nonce, 1, kTcpConnectMagic);
  const TcpHello answer = *make_hello(zero, 1, one.nonce, 1, kTcpAcceptMagic);
  EXPECT_EQ(fault_of_visitor(zero, visit) + fault_of_proof(zero, visit, one.nonce), "");
  EXPECT_EQ(fault_of_host(one, answer, 0, 1) + fault_of_proof(one, answer, zero.nonce), "");
  int count = 0;
  for (const std::string& bad : with_bad_fields(text_of(visit), fields)) {
    const auto hello = signed_again<TcpHello>(bad);
    // Another connection of the pair is a right one, which this rank may not have yet.
    if (hello.stream != visit.stream && (hello.stream < 3 || hello.stream == kTcpControl)) continue;
    EXPECT_NE(fault_of_visitor(zero, hello) + fault_of_proof(zero, hello, one.nonce), "") << hex(bad);
    EXPECT_NE(fault_of_host(one, hello, 0, 1), "") << hex(bad);
    count += 2;
  }
  for (const std::string& bad : with_bad_fields(text_of(answer), fields)) {
    const auto hello = signed_again<TcpHello>(bad);
    EXPECT_NE(fault_of_host(one, hello, 0, 1) + fault_of_proof(one, hello, zero.nonce), "") << hex(bad);
    ++count;
  }
  return count;
}

int count_bad_store_requests() {
  const uint64_t nonce[2] = {1, 2};
  const std::string none;
  const store_tcp::RequestHeader get = {2, 0, 3, 0, 100};
  int count = 0;
  for (const std::string& bad : with_bad_fields(
           text_of(get),
           {FIELD(store_tcp::RequestHeader, op), FIELD(store_tcp::RequestHeader, zero),
            FIELD(store_tcp::RequestHeader, key_bytes), FIELD(store_tcp::RequestHeader, value_bytes)})) {
    StoreSession session(none, nonce);
    StoreRequest request;
    session.feed(text_of(store_tcp::ClientHello{}));
    EXPECT_EQ(session.next(&request), StoreSession::Step::kTook);
    session.feed(bad);
    const StoreSession::Step step = session.next(&request);
    store_tcp::RequestHeader header;
    std::memcpy(&header, bad.data(), sizeof header);
    // A key of another length is a right request: the session then waits for that, and holds nothing for it
    // yet.
    const bool other_key =
        header.op == 2 && header.zero == 0 && header.value_bytes == 0 && header.key_bytes <= 1024;
    if (other_key) {
      EXPECT_TRUE(step == StoreSession::Step::kMore || header.key_bytes == 0) << hex(bad);
      EXPECT_LE(session.held_bytes(), sizeof header + sizeof(store_tcp::ServerHello));
    } else {
      EXPECT_EQ(step, StoreSession::Step::kBroken) << hex(bad);
    }
    ++count;
  }
  const store_tcp::ClientHello hello;
  for (const std::string& bad : with_bad_fields(
           text_of(hello), {FIELD(store_tcp::ClientHello, magic), FIELD(store_tcp::ClientHello, version)})) {
    StoreSession session(none, nonce);
    StoreRequest request;
    session.feed(bad);
    EXPECT_EQ(session.next(&request), StoreSession::Step::kBroken) << hex(bad);
    ++count;
  }
  return count;
}

int count_bad_collective_hellos() {
  Hello own;
  own.version = 1;
  own.operation = 12;
  own.fingerprint = 0x123456789abcdef0u;
  std::memset(own.text, 'w', sizeof own.text);
  int count = 0;
  for (const std::string& bad :
       with_bad_fields(text_of(own), {FIELD(Hello, magic), FIELD(Hello, version), FIELD(Hello, operation),
                                      FIELD(Hello, fingerprint)})) {
    Hello theirs;
    std::memcpy(static_cast<void*>(&theirs), bad.data(), sizeof theirs);
    EXPECT_EQ(compare_hellos(own, 0, theirs, 1).code(), Code::kMismatch) << hex(bad);
    ++count;
  }
  return count;
}

std::string codec_frame() {
  const CodecSpec spec = *parse_spec("topk:ratio=0.1|natural");
  std::vector<float> x(300);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 150;
  std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, x.size()));
  EXPECT_TRUE(encode(spec, DType::kF32, x.data(), x.size(), {}, {}, block.data()).ok());
  const std::vector<uint8_t> frame = write_frame({spec, DType::kF32, x.size(), block});
  return {frame.begin(), frame.end()};
}

Result<Frame> read(const std::string& bytes) {
  return read_frame({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

void sign_codec_frame(std::string& bytes) {
  uint16_t spec_bytes = 0;
  std::memcpy(&spec_bytes, bytes.data() + 6, 2);
  const size_t spec = std::min<size_t>(spec_bytes, bytes.size() - 32);
  const uint32_t crc = crc32c(crc32c(0, bytes.data(), 28), bytes.data() + 32, spec);
  std::memcpy(bytes.data() + 28, &crc, 4);
}

int count_bad_codec_frames() {
  int count = 0;
  const std::string good = codec_frame();
  EXPECT_TRUE(read(good).ok());
  for (std::string bad : with_bad_fields(good, {{"magic", 0, 4},
                                                {"version", 4, 1},
                                                {"dtype", 5, 1},
                                                {"spec_bytes", 6, 2},
                                                {"count", 8, 8},
                                                {"block_bytes", 16, 8},
                                                {"block_crc", 24, 4}})) {
    sign_codec_frame(bad);
    const Result<Frame> frame = read(bad);
    // A type or a count that takes a block of the same size makes another right frame.
    const bool fits =
        frame.ok() && encoded_bytes(frame->spec, frame->dtype, frame->count) == frame->block.size();
    EXPECT_TRUE(!frame.ok() || (fits && (bad[5] != good[5] || frame->count != 300))) << hex(bad);
    ++count;
  }
  return count;
}

int count_bad_segments() {
  const std::string directory = std::filesystem::temp_directory_path();
  int count = 0;
  const ShmIdentity identity = {1, 2, 99};
  auto own = OwnSegment::create(directory, identity, 1 << 16);
  if (!own.ok()) return 0;  // no O_TMPFILE there
  EXPECT_TRUE(PeerSegment::open(directory, own->name(), identity).ok());
  const std::string good(reinterpret_cast<const char*>(&own->header()), sizeof(ShmHeader));
  for (const std::string& bad : with_bad_fields(
           good, {FIELD(ShmHeader, magic), FIELD(ShmHeader, version), FIELD(ShmHeader, rank),
                  FIELD(ShmHeader, size), FIELD(ShmHeader, job_hash), FIELD(ShmHeader, pool_bytes),
                  FIELD(ShmHeader, lane_slot_bytes), FIELD(ShmHeader, segment_bytes)})) {
    std::memcpy(static_cast<void*>(&own->header()), bad.data(), offsetof(ShmHeader, cores));
    const auto peer = PeerSegment::open(directory, own->name(), identity);
    EXPECT_FALSE(peer.ok()) << hex(bad);
    ++count;
  }
  return count;
}

TEST(BadFrames, OfEveryFieldAreRefused) {
  const std::pair<const char*, int> counts[] = {{"data frames of tcp", count_bad_data_frames()},
                                                {"control frames of tcp", count_bad_control_frames()},
                                                {"hellos of tcp", count_bad_hellos()},
                                                {"requests to the store", count_bad_store_requests()},
                                                {"hellos of collectives", count_bad_collective_hellos()},
                                                {"frames of codecs", count_bad_codec_frames()},
                                                {"headers of shared memory", count_bad_segments()}};
  int total = 0;
  for (const auto& [what, count] : counts) {
    std::printf("R13: %3d bad %s\n", count, what);
    total += count;
  }
  std::printf("R13: %d in all\n", total);
  EXPECT_GE(total, 200);
}

long peak_kib() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

void damage(std::string& bytes, std::mt19937& random) {
  for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
    bytes[random() % bytes.size()] = static_cast<char>(random());
  }
  if (random() % 4 == 0) bytes.resize(random() % bytes.size());
  if (bytes.empty()) bytes = "x";
}

TEST(MutatedFrames, AreRefusedOrTheSame) {
  std::mt19937 random(7);
  const std::string frame = codec_frame();
  const std::string data = data_frame();
  const long before = peak_kib();
  const uint64_t turns = times(10000);
  for (uint64_t i = 0; i < turns; ++i) {
    std::string bad = frame;
    damage(bad, random);
    ASSERT_TRUE(bad == frame || !read(bad).ok()) << hex(bad);
    bad = data;
    damage(bad, random);
    bool arrived = false;
    const TcpMoved moved = pull_of(bad, &arrived);
    ASSERT_TRUE(bad == data || !arrived) << hex(bad);
    ASSERT_TRUE(arrived || moved.closed || !moved.wrong.ok()) << hex(bad);
  }
  std::printf("R12: %llu mutated frames, all refused; memory grew by %ld KiB\n",
              static_cast<unsigned long long>(2 * turns), peak_kib() - before);
}

// A CRC of 32 bits finds each single flipped bit, and each burst that is no longer than itself.
TEST(FlippedBits, OfAnyMessageAreFound) {
  std::mt19937 random(8);
  const uint64_t turns = times(10000);
  const std::string data = data_frame();
  for (uint64_t i = 0; i < turns; ++i) {
    std::string bad = data;
    const size_t first = random() % (8 * data.size());
    const size_t burst = i % 2 == 0 ? 1 : 1 + random() % std::min<size_t>(32, 8 * data.size() - first);
    for (size_t bit = first; bit < first + burst; ++bit) {
      const bool flip = bit == first || bit + 1 == first + burst || random() % 2 == 0;
      if (flip) bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    }
    bool arrived = false;
    ASSERT_FALSE(pull_of(bad, &arrived).wrong.ok())
        << "bits " << first << " on, " << burst << ": " << hex(bad);
    ASSERT_FALSE(arrived);
  }
  std::printf("R15: %llu frames with flipped bits, all found\n", static_cast<unsigned long long>(turns));
}

}  // namespace
}  // namespace cgx::test
