#include "torch/rank_store.h"

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "torch/error.h"
#include "torch/host_address.h"
#include "torch/torch_min.h"

namespace fg {
namespace {

std::string address(const StoreOptions& o) { return o.host + ":" + std::to_string(o.port); }

std::string seconds(std::chrono::milliseconds t) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", static_cast<double>(t.count()) / 1000);
  return text;
}

/// The first line of libtorch's words, without its stack.
std::string words(const std::exception& e) {
  const auto* ours = dynamic_cast<const c10::Error*>(&e);
  std::string text = ours ? ours->what_without_backtrace() : e.what();
  return text.substr(0, text.find('\n'));
}

[[noreturn]] void lost(const std::string& message) { throw CodedError("ERR_RANK_LOST", message); }

/// The process of rank 0 holds the meeting point to its end: its runs meet there, one after another or at once.
void hold(int port, const c10::intrusive_ptr<c10d::Store>& store) {
  static std::mutex mutex;
  static auto* held = new std::map<int, c10::intrusive_ptr<c10d::Store>>;  // never freed: others read to the last
  const std::lock_guard lock(mutex);
  held->emplace(port, store);
}

/// Why the meeting point cannot be held or reached, from libtorch's words.
std::string why_not(const StoreOptions& o, const std::string& text) {
  const std::string port = "MASTER_PORT " + std::to_string(o.port);
  if (o.serve && text.find("in use") != std::string::npos)
    return port + " is taken on this machine: choose another one";
  if (o.serve && text.find("failed to listen") != std::string::npos) {
    const size_t at = text.rfind("message: ");
    return "Rank 0 cannot listen at " + port + ": " + (at == std::string::npos ? text : text.substr(at + 9));
  }
  if (!resolves(o.host)) return "This machine knows no address for MASTER_ADDR '" + o.host + "'";
  if (o.serve)
    return "Rank 0 does not reach itself at MASTER_ADDR:MASTER_PORT, " + address(o) + ", within " + seconds(o.timeout) +
           ": MASTER_ADDR must be a name or an address of the machine of rank 0";
  if (text.find("Ping failed") != std::string::npos)
    return "Something answers at MASTER_ADDR:MASTER_PORT, " + address(o) + ", but it is not rank 0 of a run";
  return "Nobody answers at MASTER_ADDR:MASTER_PORT, " + address(o) + ", within " + seconds(o.timeout) +
         ": is rank 0 running there, and are both set to the same on all ranks?";
}

c10::intrusive_ptr<c10d::Store> connected(const StoreOptions& o) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(o.port);
  options.isServer = options.multiTenant = o.serve;
  options.waitWorkers = false;
  options.timeout = o.timeout;
  // What goes wrong becomes an error; libtorch would print it besides, with its stack.
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = 3;
  options.useLibUV = false;  // libtorch's libuv symbols would bind to Node's
  try {
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(o.host, options);
    if (o.serve) hold(o.port, store);
    return store;
  } catch (const std::exception& e) {
    lost(why_not(o, words(e)));
  }
}

/// In a thread of its own: libtorch waits without end for a word of whoever accepts the connection and says nothing.
c10::intrusive_ptr<c10d::Store> open_store(const StoreOptions& o, const std::atomic<bool>& abort) {
  auto promise = std::make_shared<std::promise<c10::intrusive_ptr<c10d::Store>>>();
  auto opened = promise->get_future();
  std::thread([promise, o] {
    try {
      promise->set_value(connected(o));
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }).detach();
  const auto end = std::chrono::steady_clock::now() + o.timeout + std::chrono::seconds(o.serve ? 5 : 1);
  while (opened.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    if (abort) throw CodedError("ERR_ABORTED", "The operation was aborted");
    if (std::chrono::steady_clock::now() < end) continue;
    if (o.serve || !accepts(o.host, o.port)) lost(why_not(o, ""));
    lost("Something takes connections at MASTER_ADDR:MASTER_PORT, " + address(o) + ", and does not answer within " +
         seconds(o.timeout) + ": it is not rank 0 of a run, or rank 0 was stopped");
  }
  return opened.get();
}

}  // namespace

/// One connection and the thread that talks over it. A thread that hangs is left behind with its Line.
struct RankStore::Line {
  StoreOptions options;
  c10::intrusive_ptr<c10d::Store> tcp, store;
  std::mutex mutex;
  std::condition_variable wake, answered;
  std::deque<std::function<void()>> questions;
  bool stop = false, hangs = false;

  static std::shared_ptr<Line> open(const StoreOptions& o, c10::intrusive_ptr<c10d::Store> tcp) {
    auto line = std::make_shared<Line>();
    line->options = o;
    line->tcp = std::move(tcp);
    line->store = c10::make_intrusive<c10d::PrefixStore>(o.prefix, line->tcp);
    std::thread([line] { line->answer(); }).detach();
    return line;
  }

  void answer() {
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [this] { return stop || !questions.empty(); });
      if (questions.empty()) return;
      const auto question = std::move(questions.front());
      questions.pop_front();
      lock.unlock();
      question();
      lock.lock();
    }
  }

  template <class T>
  struct Answer {
    bool there = false;
    T value{};
    std::exception_ptr error;
  };

  template <class T>
  T ask(const std::shared_ptr<Line>& self, std::chrono::milliseconds more, std::function<T(c10d::Store&)> question) {
    auto answer = std::make_shared<Answer<T>>();
    std::unique_lock lock(mutex);
    if (!hangs) {
      questions.push_back([self, answer, question = std::move(question)] {
        Answer<T> got;
        try {
          got.value = question(*self->store);
        } catch (...) {
          got.error = std::current_exception();
        }
        const std::lock_guard inner(self->mutex);
        *answer = std::move(got), answer->there = true;
        self->answered.notify_all();
      });
      wake.notify_all();
      answered.wait_for(lock, options.timeout + more, [&] { return answer->there; });
    }
    if (!answer->there) {
      hangs = true;
      lost("The meeting point at " + address(options) + " does not answer for " + seconds(options.timeout) +
           ": rank 0's machine, or the network to it, is gone");
    }
    if (answer->error) {
      try {
        std::rethrow_exception(answer->error);
      } catch (const std::exception&) {
        lost("The meeting point at " + address(options) + " is gone, and with it rank 0 or what launched it");
      }
    }
    return std::move(answer->value);
  }
};

RankStore::RankStore(const StoreOptions& options, const std::atomic<bool>& abort)
    : line_(Line::open(options, open_store(options, abort))) {}
RankStore::RankStore(std::shared_ptr<Line> line) : line_(std::move(line)) {}

RankStore::~RankStore() {
  const std::lock_guard lock(line_->mutex);
  line_->stop = true;
  line_->wake.notify_all();
}

void RankStore::set(const std::string& key, const std::string& value) {
  line_->ask<char>(line_, {}, [key, value](c10d::Store& s) {
    s.set(key, std::vector<uint8_t>(value.begin(), value.end()));
    return '\0';
  });
}

std::string RankStore::get(const std::string& key) {
  return line_->ask<std::string>(line_, {}, [key](c10d::Store& s) {
    if (!s.check({key})) return std::string();
    const std::vector<uint8_t> bytes = s.get(key);
    return std::string(bytes.begin(), bytes.end());
  });
}

int64_t RankStore::add(const std::string& key, int64_t value) {
  return line_->ask<int64_t>(line_, {}, [key, value](c10d::Store& s) { return s.add(key, value); });
}

void RankStore::remove(const std::string& key) {
  line_->ask<char>(line_, {}, [key](c10d::Store& s) { return static_cast<char>(s.deleteKey(key)); });
}

bool RankStore::wait(const std::string& key, std::chrono::milliseconds at_most) {
  return line_->ask<char>(line_, at_most, [key, at_most](c10d::Store& s) {
    try {
      s.wait({key}, at_most);
      return true;
    } catch (const std::exception&) {
      return s.check({key});  // its time was up; throws where the connection is gone
    }
  });
}

std::unique_ptr<RankStore> RankStore::again() const {
  StoreOptions options = line_->options;
  options.serve = false;
  static const std::atomic<bool> never{false};
  return std::make_unique<RankStore>(options, never);
}

c10::intrusive_ptr<c10d::Store> RankStore::store() const { return line_->store; }

}  // namespace fg
