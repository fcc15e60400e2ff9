#include "addon/engine/owner_thread.h"

#include "torch/error.h"
#include "torch/torch_min.h"

namespace fg {

struct OwnerThread::Call {
  Call(OwnerThread* o, Napi::Env env, Napi::Object keep_alive, Work w)
      : owner(o), deferred(Napi::Promise::Deferred::New(env)), keep(Napi::Persistent(keep_alive)), work(std::move(w)) {}
  OwnerThread* owner;  // alive as long as `keep`
  Napi::Promise::Deferred deferred;
  Napi::ObjectReference keep;
  Work work;
  Deliver deliver;
  std::exception_ptr error;
  std::shared_ptr<std::atomic<bool>> abort = std::make_shared<std::atomic<bool>>(false);
  std::atomic<bool> disposed{false};
};

namespace {

Napi::Error coded_error(Napi::Env env, const std::string& message, const char* code) {
  Napi::Error error = Napi::Error::New(env, message);
  if (code) error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UserError& e) {
    return to_js(env, e);
  } catch (const CodedError& e) {
    return coded_error(env, e.what(), e.code.c_str());
  } catch (const c10::OutOfMemoryError& e) {
    return coded_error(env, e.what_without_backtrace(), "ERR_OUT_OF_MEMORY");
  } catch (const c10::Error& e) {
    return coded_error(env, e.what_without_backtrace(), nullptr);
  } catch (const std::bad_alloc&) {
    return coded_error(env, "Out of memory", "ERR_OUT_OF_MEMORY");
  } catch (const std::exception& e) {
    return coded_error(env, e.what(), nullptr);
  }
}

OwnerThread::OwnerThread(Napi::Env env, int threads) : env_(env) {
  tsfn_ = Tsfn::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "fused-grpo owner thread", 0, 1);
  tsfn_.Unref(env);  // only pending calls keep the process alive
  // Added after the thread-safe function's own hook, so that it runs before it: the thread is gone when the function
  // closes.
  napi_add_env_cleanup_hook(env, on_env_cleanup, this);
  thread_ = std::thread([this, threads] {
    at::set_num_threads(threads > 0 ? threads : at::get_num_threads());
    run();
  });
}

OwnerThread::~OwnerThread() {
  if (closed_) return;
  napi_remove_env_cleanup_hook(env_, on_env_cleanup, this);
  shut_down();
  tsfn_.Release();
}

void OwnerThread::on_env_cleanup(void* self) { static_cast<OwnerThread*>(self)->shut_down(); }

void OwnerThread::shut_down() {
  if (closed_) return;
  closed_ = disposed_ = true;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (running_) running_->abort->store(true);
    for (auto& call : queue_) call->abort->store(true);
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Napi::Object OwnerThread::submit(Napi::Env env, Napi::Object keep, Work work) {
  if (disposed_) throw UserError(UserError::Kind::error, "ERR_DISPOSED", "This model was disposed");
  auto call = std::make_unique<Call>(this, env, keep, std::move(work));
  auto out = Napi::Object::New(env);
  out.Set("promise", call->deferred.Promise());
  out.Set("abort", Napi::Function::New(env, [flag = call->abort](const Napi::CallbackInfo&) { flag->store(true); }));
  if (pending_++ == 0) tsfn_.Ref(env);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(call));
  }
  wake_.notify_all();
  return out;
}

void OwnerThread::dispose(std::function<void()> last) {
  if (disposed_) return;
  disposed_ = true;
  {
    const std::lock_guard lock(mutex_);
    last_ = std::move(last);
    stop_ = true;
    if (running_) running_->disposed = true, running_->abort->store(true);
    for (auto& call : queue_) call->disposed = true, call->abort->store(true);
  }
  wake_.notify_all();
  if (pending_ == 0) close();
}

void OwnerThread::settled(Napi::Env env) {
  if (--pending_ > 0) return;
  tsfn_.Unref(env);
  if (disposed_) close();
}

void OwnerThread::close() {
  if (closed_) return;
  closed_ = true;
  thread_.join();
  napi_remove_env_cleanup_hook(env_, on_env_cleanup, this);
  tsfn_.Release();
}

void OwnerThread::execute(Call& call) {
  try {
    if (call.disposed) throw CodedError("ERR_DISPOSED", "This model was disposed before the call ran");
    if (call.abort->load()) throw CodedError("ERR_ABORTED", "The call was aborted");
    call.deliver = call.work(*call.abort);
  } catch (const CodedError& e) {
    call.error = e.code == "ERR_ABORTED" && call.disposed
                     ? std::make_exception_ptr(CodedError("ERR_DISPOSED", "This model was disposed during the call"))
                     : std::current_exception();
  } catch (...) {
    call.error = std::current_exception();
  }
  call.work = nullptr;  // frees what the work captured, here rather than on the event loop
}

void OwnerThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) break;
    std::unique_ptr<Call> call = std::move(queue_.front());
    queue_.pop_front();
    running_ = call.get();
    lock.unlock();
    execute(*call);
    lock.lock();
    running_ = nullptr;
    lock.unlock();
    finish(std::move(call));
    lock.lock();
  }
  const std::function<void()> last = std::move(last_);
  lock.unlock();
  if (last) last();
}

void OwnerThread::finish(std::unique_ptr<Call> call) {
  auto settle = [](Napi::Env env, Napi::Function, Call* raw) {
    std::unique_ptr<Call> done(raw);
    if (static_cast<napi_env>(env) == nullptr) {  // the environment is closing: nobody waits, and no JavaScript may run
      done->keep.SuppressDestruct();
      return;
    }
    const Napi::HandleScope scope(env);
    done->owner->settled(env);
    if (done->error) {
      done->deferred.Reject(to_js_error(env, done->error).Value());
      return;
    }
    try {
      done->deferred.Resolve(done->deliver(env));
    } catch (const Napi::Error& e) {
      done->deferred.Reject(e.Value());
    } catch (...) {
      done->deferred.Reject(to_js_error(env, std::current_exception()).Value());
    }
  };
  Call* raw = call.release();
  if (tsfn_.NonBlockingCall(raw, settle) != napi_ok)
    raw->keep.SuppressDestruct();  // closing: the call is leaked, JavaScript is gone
}

}  // namespace fg
